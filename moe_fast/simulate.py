"""Data drawn from a mixture of experts with known parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .activations import Activation
from .checks import check_integer, check_matrix, check_random_state, check_vector
from .model import MixtureOfExperts

__all__ = ["Simulation", "make_moe"]


@dataclass(frozen=True, eq=False)
class Simulation:
    """Simulated rows and the model they came from.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        Inputs.
    y : ndarray of shape (n_samples,)
        Targets, float64.
    labels : ndarray of shape (n_samples,)
        The expert each target came from.
    model : MixtureOfExperts
        The truth.
    """

    X: NDArray[Any]
    y: NDArray[np.float64]
    labels: NDArray[np.intp]
    model: MixtureOfExperts


def make_moe(
    n_samples: int = 1000,
    n_features: int = 5,
    n_experts: int = 3,
    *,
    activation: str | Activation = "linear",
    noise_std: ArrayLike = 0.1,
    gate_norm: float = 1.0,
    orthogonal_gate: bool = True,
    orthogonal_experts: bool = False,
    intercept: float = 0.0,
    gate_intercept: float = 0.0,
    expert_norms: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    cov: ArrayLike | None = None,
    dtype: DTypeLike = np.float64,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
) -> Simulation:
    """Draw a mixture of experts at random, and rows from it.

    The defaults are the setting of the theory: normal inputs, experts of norm one, no intercepts, one noise,
    and a gate orthogonal to the experts.

    Parameters
    ----------
    n_samples, n_features, n_experts : int
        Sizes.
    activation : str or Activation, default "linear"
        The function g of the experts.
    noise_std : float or array_like of shape (n_experts,), default 0.1
        Standard deviation of the noise.
    gate_norm : float, default 1.0
        Euclidean norm of each row of the gate but the last, which is zero. 0 makes the gate blind to X.
    orthogonal_gate : bool, default True
        Draw the gate orthogonal to all experts. Needs n_features > n_experts.
    orthogonal_experts : bool, default False
        Draw the experts orthogonal to each other. Needs n_features >= n_experts.
    intercept, gate_intercept : float, default 0.0
        Standard deviations of the intercepts of the experts and of the gate, drawn from a normal law.
    expert_norms : float or array_like of shape (n_experts,), optional
        Euclidean norms of the experts, in the units of X. Default: one.
    mean : array_like of shape (n_features,), optional
        Mean of X. Default: zeros.
    cov : array_like of shape (n_features, n_features), optional
        Covariance of X, positive definite. Default: the identity. The experts and the gate are drawn as
        without it: their norms and angles are those in the units of X.
    dtype : {float64, float32}, default float64
        Type of X. The targets belong to X as rounded to it.
    random_state : None, int, Generator or RandomState, optional
        Where randomness comes from; the same int gives the same data.

    Returns
    -------
    simulation : Simulation
        With ``X``, ``y``, ``labels`` and ``model``.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of its range, or the dimension leaves no room for orthogonal directions.
    """
    n_samples = check_integer(n_samples, "n_samples", 1)
    n_features = check_integer(n_features, "n_features", 1)
    n_experts = check_integer(n_experts, "n_experts", 1)
    gate_norm = _check_not_negative(gate_norm, "gate_norm")
    intercept = _check_not_negative(intercept, "intercept")
    gate_intercept = _check_not_negative(gate_intercept, "gate_intercept")
    if np.dtype(dtype) not in (np.float64, np.float32):
        raise ValueError(f"dtype must be float64 or float32, got {np.dtype(dtype)}")
    rng = check_random_state(random_state)

    experts = _unit_rows(rng, n_experts, n_features)
    if orthogonal_experts:
        if n_features < n_experts:
            raise ValueError(
                f"orthogonal_experts=True needs n_features >= n_experts, got {n_features} and {n_experts}"
            )
        experts = np.linalg.qr(experts.T)[0].T

    gate = _unit_rows(rng, n_experts, n_features)
    if orthogonal_gate and n_experts > 1:
        if n_features <= n_experts:
            raise ValueError(
                f"orthogonal_gate=True needs n_features > n_experts, got {n_features} and {n_experts}; "
                "pass orthogonal_gate=False"
            )
        basis = np.linalg.qr(experts.T)[0]
        for _ in range(2):   # twice: what rounding leaves along the experts goes in the second round
            gate -= (gate @ basis) @ basis.T
            gate /= np.linalg.norm(gate, axis=1, keepdims=True)
    gate[-1] = 0.0

    norms = np.ones(n_experts) if expert_norms is None else np.asarray(expert_norms, dtype=np.float64)
    if norms.shape not in ((), (n_experts,)) or not (np.isfinite(norms) & (norms >= 0)).all():
        raise ValueError(
            f"expert_norms must be one number or {n_experts}, none of them negative, got {expert_norms!r}"
        )

    gate_shift = gate_intercept * rng.standard_normal(n_experts)
    model = MixtureOfExperts(
        coef=experts * norms.reshape(-1, 1),
        intercept=intercept * rng.standard_normal(n_experts),
        gate_coef=gate_norm * gate,
        gate_intercept=np.append(gate_shift[:-1], 0.0),
        noise_std=noise_std,
        activation=activation,
    )
    X = rng.standard_normal((n_samples, n_features))
    if cov is not None:
        X = X @ _cholesky(cov, n_features).T
    if mean is not None:
        X += check_vector(mean, "mean", n_samples=n_features)
    X = X.astype(dtype, copy=False)
    y, labels = model.sample(X, rng)
    return Simulation(X, y, labels, model)


def _unit_rows(rng: np.random.Generator, n_rows: int, n_features: int) -> NDArray[np.float64]:
    rows = rng.standard_normal((n_rows, n_features))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _check_not_negative(value: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not 0 <= value < np.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value!r}")
    return float(value)


def _cholesky(cov: ArrayLike, n_features: int) -> NDArray[np.float64]:
    cov = check_matrix(cov, "cov", n_features=n_features, n_samples=n_features).astype(np.float64)
    if not np.allclose(cov, cov.T, rtol=1e-8, atol=0.0):
        raise ValueError("cov must be symmetric")
    try:
        return np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        least = np.linalg.eigvalsh(cov)[0]
        raise ValueError(f"cov must be positive definite, its least eigenvalue is {least:.3g}") from None
