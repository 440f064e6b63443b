"""The spectral step: the experts from moments, without knowing the gate.

Makkuva, Oh, Kannan, Viswanath, *Breaking the gridlock in mixture-of-experts*, ICML 2019. Reads like the box of
docs/math.md, section 3.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .activations import Activation, Code, get_activation, label_transform
from .checks import check_choice, check_integer, check_positive, check_random_state, check_target_size, feature_names
from .config import one_blas_thread, resolve_threads
from .inputs import InputLaw, check_inputs
from .labels import Labels, NoiseLaw, PolynomialLabels, TabulatedLabels, robust_labels
from .model import MixtureOfExperts
from .moment_fit import Norms, refine
from .moments import Score, second_moment, whitened_third_moment
from .rows import Rows
from .tensor import decompose, whiten

__all__ = ["SpectralResult", "fit_spectral"]

FloatArray = NDArray[np.float64]

TRANSFORMS = ("cubic", "least_variance", "robust")
# The k-th eigenvalue of T2 must stand this much clear of the largest of the rest, which are noise about zero.
_CLEAR = 1.5
# A column whose mean and standard deviation are further than this from 0 and 1, beyond chance, is not N(0, 1).
_FAR_MEAN, _FAR_STD = 0.5, 2.0
_STANDARD_ROWS = 1 << 14   # that tell it
_LARGEST_STANDARD = 1e20   # of a column that is taken as N(0, 1): its powers in the moments are numbers yet
_LARGEST_NOISE = 1e50    # as of y
_SMALLEST_NOISE = 1e-3   # of the standard deviation of y, where the estimate comes out at zero or below


@dataclass(frozen=True, eq=False)
class SpectralResult:
    """What the moments say of the experts.

    Attributes
    ----------
    coef : ndarray of shape (n_experts, n_features)
        In the units of X. Expert norms are one in standardised inputs where `unit_norm`.
    intercept : ndarray of shape (n_experts,)
        What centring the inputs implies: zero for standard normal inputs.
    mixing_weights : ndarray of shape (n_experts,)
        Mean gate probabilities, from the eigenvalues: lambda^-2, made to add up to one.
    noise_std : float
        Given, or estimated from E[y^2]; with robust transforms that of all but the wild rows.
    eigenvalues : ndarray of shape (n_features,)
        Of T2 / c2, falling.
    tensor_eigenvalues : ndarray of shape (n_experts,)
        Of the whitened T3 / c3; p^-1/2 in theory.
    residual : float
        Part of the whitened T3 that the decomposition leaves, 0 to 1.
    model : MixtureOfExperts
        The experts with a gate of zero: a start for EM.
    """

    coef: FloatArray
    intercept: FloatArray
    mixing_weights: FloatArray
    noise_std: float
    eigenvalues: FloatArray
    tensor_eigenvalues: FloatArray
    residual: float
    model: MixtureOfExperts


@one_blas_thread()
def fit_spectral(
    X: ArrayLike,
    y: ArrayLike,
    n_experts: int,
    *,
    activation: str | Activation = "linear",
    noise_std: float | None = None,
    inputs: str | InputLaw = "standard_normal",
    unit_norm: bool = True,
    sample_weight: ArrayLike | None = None,
    n_restarts: int = 10,
    n_power_iter: int = 30,
    n_refinements: int = 2,
    transforms: str = "cubic",
    n_threads: int | None = None,
    random_state: Any = None,
) -> SpectralResult:
    """Estimate the experts from score-function moments, without knowing the gate.

    Parameters
    ----------
    X : array_like of shape (n_samples, n_features)
        Inputs; n_features must be at least n_experts. C-ordered float32 or float64 is used as it is.
    y : array_like of shape (n_samples,)
        Targets.
    n_experts : int
    activation : str or Activation, default "linear"
        g; must have a label transform, as `label_transform` says.
    noise_std : float, optional
        Common standard deviation of the noise. Default: estimated from E[y^2], with unit experts.
    inputs : {"standard_normal", "gaussian", "mixture"} or a law, default "standard_normal"
        The law of x: "gaussian" takes mean and covariance from X, "mixture" fits a Gaussian mixture (extra
        ``sklearn``); or a `Gaussian` or `GaussianMixture` that is known.
    unit_norm : bool, default True
        Experts have norm one in standardised inputs. False, for the linear activation only: norms are
        estimated, on the assumption that they are equal or the gate is nearly constant.
    sample_weight : array_like of shape (n_samples,), optional
    n_restarts, n_power_iter : int
        Random starts of the tensor power method for each expert, and its iterations.
    n_refinements : int, default 2
        Steps of the generalised method of moments after the decomposition: 0 is the algorithm of [1]_, 2 have a half
        to a fifth of its squared error (docs/spectral.md). None is made where the law of x is a mixture.
    transforms : {"cubic", "least_variance", "robust"}, default "cubic"
        What y is put through before its moments with x are taken. "cubic": the polynomials of [1]_. "least_variance":
        the transforms of least variance for normal noise of `noise_std`, from a table; they gain for ReLU, and are the
        polynomials, cut off, for the linear activation. "robust": the same for noise that is a mixture of normal
        laws, as normal, t and Laplace noise and outliers are. It is fitted to y alone [3]_, with `noise_std`, if given,
        the smallest of its scales: rows with a wild y have next to no weight.
    n_threads : int, optional
    random_state : None, int, Generator, optional

    Returns
    -------
    result : SpectralResult

    Raises
    ------
    ValueError
        If n_features < n_experts, the activation has no label transform, or an argument is bad; if y is beyond 1e50
        (with robust transforms 1e150), or X is taken as standard normal and is beyond 1e20; with transforms from a
        table also if the noise is more than about 100 times what g varies by, and with robust ones if y is the same in
        nearly all rows.
    TypeError
        If an argument is of the wrong kind.

    Warns
    -----
    UserWarning
        If T2 has no n_experts clear eigenvalues: too few rows, or fewer experts. If X is taken as standard normal and a
        column has another mean or standard deviation.

    Notes
    -----
    The method of [1]_; two passes over X, and one for each refinement. Tables take 0.1 to 1 s, whatever the rows, and
    three numbers a row. The estimate is a start, not the answer: its mean squared error is
    hundreds of times that of maximum likelihood (docs/math.md). Exact in theory for normal x, unit experts, one
    noise, and gates orthogonal to the experts.

    References
    ----------
    .. [1] A. V. Makkuva, S. Oh, S. Kannan, P. Viswanath, *Breaking the gridlock in mixture-of-experts:
       consistent and efficient algorithms*, ICML 2019, Algorithm 1.
    .. [2] L. P. Hansen, *Large sample properties of generalized method of moments estimators*, Econometrica 50 (1982).
    .. [3] J. Kiefer, J. Wolfowitz, *Consistency of the maximum likelihood estimator in the presence of infinitely many
       incidental parameters*, Annals of Mathematical Statistics 27 (1956).
    """
    activation = get_activation(activation)
    names = feature_names(X)
    rows = Rows.check(X, y, sample_weight, n_threads=resolve_threads(n_threads))
    n_experts = check_integer(n_experts, "n_experts", 1)
    if rows.n_features < n_experts:
        raise ValueError(
            f"n_experts = {n_experts} is more than the n_features = {rows.n_features} of X: moments tell at most "
            f"n_features experts apart; use fit or fit_em, which have other starts"
        )
    if not unit_norm and activation.code != Code.LINEAR:
        raise ValueError(f"unit_norm=False is for the linear activation only, got activation {activation}")
    if noise_std is not None:
        noise_std = check_positive(noise_std, "noise_std", below=_LARGEST_NOISE)
    n_restarts = check_integer(n_restarts, "n_restarts", 1)
    n_power_iter = check_integer(n_power_iter, "n_power_iter", 1)
    n_refinements = check_integer(n_refinements, "n_refinements", 0)
    transforms = check_choice(transforms, "transforms", TRANSFORMS)
    check_target_size(rows.y, wild_rows=transforms == "robust")
    rng = check_random_state(random_state)
    law = check_inputs(inputs, rows.X, rows.weight, rng)
    if isinstance(inputs, str) and inputs == "standard_normal":
        _check_standard(rows)
    result = spectral(
        rows, n_experts, activation, Score.of(law, rows), rng,
        noise_std=noise_std, norms="unit" if unit_norm else "free", n_restarts=n_restarts, n_power_iter=n_power_iter,
        n_refinements=n_refinements, transforms=transforms, feature_names=names,
    )
    rest = np.abs(result.eigenvalues[n_experts:]).max(initial=0.0)
    if result.eigenvalues[n_experts - 1] < _CLEAR * rest or result.eigenvalues[n_experts - 1] <= 0.0:
        shown = ", ".join(f"{value:.3g}" for value in result.eigenvalues[: n_experts + 3])
        warnings.warn(
            f"T2 has no {n_experts} clear eigenvalues (the largest: {shown}); with {rows.n_samples} rows the moments "
            f"do not tell {n_experts} experts apart. It is a start for EM at best: use more rows, or fewer experts",
            stacklevel=3,
        )
    return result


def _check_standard(rows: Rows) -> None:
    """Warn if X, taken as standard normal, has a column of another scale or place; refuse one whose powers overflow."""
    some = rows.take(slice(None, None, -(-rows.n_samples // _STANDARD_ROWS)))
    mean, std = some.column_moments()
    chance = 4.0 / math.sqrt(some.n_samples)
    widest = _FAR_STD * (1.0 + chance)
    far = (np.abs(mean) > _FAR_MEAN + chance) | (std > widest) | (std < 1.0 / widest)
    if not far.any():
        return
    column = int(np.argmax(far))
    found = (
        f"inputs='standard_normal' takes X as N(0, I), but its column {column} (they count from 0) has mean "
        f"{mean[column]:.3g} and standard deviation {std[column]:.3g}: use inputs='gaussian', which takes both from X"
    )
    if max(np.abs(mean).max(), std.max()) > _LARGEST_STANDARD:
        raise ValueError(found)
    warnings.warn(found, stacklevel=4)


def spectral(
    rows: Rows,
    n_experts: int,
    activation: Activation,
    score: Score,
    rng: np.random.Generator,
    *,
    noise_std: float | None = None,
    norms: Norms = "unit",
    n_restarts: int = 10,
    n_power_iter: int = 30,
    n_refinements: int = 2,
    transforms: str = "cubic",
    feature_names: list[str] | None = None,
) -> SpectralResult:
    """`fit_spectral` on checked arguments, for any score functions with at least n_experts axes.

    Experts come back with norm one (norms="unit"), with one norm that is estimated ("common"), or with a norm each
    ("free"); the last two for the linear activation only.
    """
    transform = label_transform(activation)
    mean_square = float(np.average(rows.y**2, weights=rows.weight))
    linear = activation.code == Code.LINEAR
    noise_variance = max(mean_square - transform.mean_g2, 0.0) if noise_std is None else noise_std**2
    # For linear g the first serves any common norm a: 3 E[y^2] = 3 (a^2 + s^2), and beta0 = -3 is that of norm one.
    beta = -3.0 * mean_square if linear and noise_std is None else transform.beta(math.sqrt(noise_variance))

    labels: Labels
    if transforms == "cubic":
        labels = PolynomialLabels(activation, transform, beta, noise_variance)
    elif transforms == "robust":
        labels, mean_square = robust_labels(activation, rows, noise_std)
    elif linear:   # He_m(y / E[y^2]^1/2), whatever part of y is noise
        labels = TabulatedLabels.of(activation, NoiseLaw.normal(0.0), math.sqrt(mean_square))
    else:
        labels = TabulatedLabels.of(activation, NoiseLaw.normal(math.sqrt(noise_variance)))
    _, c2, c3 = labels.factors

    # 1, 2: T2, its leading eigenspace, and the whitener
    weighed, quadratic = labels.weighting(rows, 2)
    T2 = second_moment(weighed, quadratic, score) / c2
    whitener, unwhitener, eigenvalues = whiten(T2, n_experts)
    # 3, 4: T3 in the whitened space, and its orthogonal components
    weighed, cubic = labels.weighting(rows, 3)
    T3 = whitened_third_moment(weighed, cubic, score, whitener) / c3
    parts = decompose(T3, n_restarts=n_restarts, n_iter=n_power_iter, rng=rng)

    standard_coef = parts.eigvals[:, np.newaxis] * (parts.eigvecs @ unwhitener.T)
    # p^-1/2 is at least one; noise may push an eigenvalue to zero or below.
    weights = np.maximum(parts.eigvals, 1.0) ** -2.0
    weights /= weights.sum()
    lengths = np.linalg.norm(standard_coef, axis=1)
    # Linear experts of any common norm are told as well as those of norm one.
    fitted: Norms = "common" if linear and norms == "unit" else norms
    if fitted != "free":
        standard_coef = standard_coef / np.where(lengths > 0.0, lengths, 1.0)[:, np.newaxis]
    if fitted == "common":
        standard_coef *= math.sqrt(min(float(weights @ lengths**2), mean_square / labels.unit**2))

    # 5: the first three moments together, every entry as its variance deserves
    if score.resp is None and lengths.all():
        for _ in range(n_refinements):
            if isinstance(labels, PolynomialLabels) and linear and noise_std is None:
                energy = float(weights @ np.sum(standard_coef**2, axis=1))
                labels = replace(labels, noise_variance=max(mean_square - energy, 0.0))
            standard_coef, weights = refine(rows, score, standard_coef, weights, labels, fitted)
    standard_coef = standard_coef * labels.unit
    # 6
    if norms == "unit" and lengths.all():
        standard_coef = standard_coef / np.linalg.norm(standard_coef, axis=1, keepdims=True)
    if noise_std is None:
        energy = transform.mean_g2 if norms == "unit" else float(weights @ np.sum(standard_coef**2, axis=1))
        noise_std = math.sqrt(max(mean_square - energy, _SMALLEST_NOISE**2 * mean_square))
    coef = standard_coef @ score.to_standard
    order = np.argsort(-weights, kind="stable")
    coef, weights = coef[order], weights[order]
    intercept = -coef @ score.mean
    model = MixtureOfExperts(
        coef, intercept, noise_std=noise_std, activation=activation, feature_names=feature_names
    )
    return SpectralResult(
        coef, intercept, weights, noise_std, eigenvalues, parts.eigvals[order], parts.residual, model
    )
