"""The law of the inputs x, which the scores of the spectral step depend on (docs/math.md, section 3).

The theory has x standard normal. Here x may be normal with any mean and covariance, or a mixture of such. A
law is a list of components, each with the mean and the matrix W that standardise it, W (x - mean) ~ N(0, I), and
says how likely each component is at a given x.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from .checks import CONSTANT, check_choice, check_integer, check_matrix, check_vector

__all__ = ["Gaussian", "GaussianMixture", "InputLaw", "StandardNormal", "check_inputs"]

Array = NDArray[np.float64]
Component = tuple[Array, Array]   # mean (d,), W (d, d): W cov W' is the identity

_BLOCK_ROWS = 2048   # below the size from which OpenBLAS starts threads, as in model.py
# Of the correlations, over the largest: the smallest eigenvalue then has two digits left.
_SMALLEST_EIGENVALUE_RATIO = 1e-14


@dataclass(frozen=True)
class StandardNormal:
    """x ~ N(0, I).

    Parameters
    ----------
    n_features : int, optional
        May be left out where data is at hand to take it from, as in `fit_spectral`.
    """

    n_features: int | None = None

    def __post_init__(self) -> None:
        if self.n_features is not None:
            check_integer(self.n_features, "n_features", 1)

    def components(self) -> list[Component]:
        """The one component: mean zero, identity."""
        if self.n_features is None:
            raise ValueError("n_features is None; wanted the number of features: StandardNormal(n_features)")
        return [(np.zeros(self.n_features), np.eye(self.n_features))]

    def responsibilities(self, X: ArrayLike) -> None:
        """None: there is one component."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """x ~ N(mean, cov).

    Parameters
    ----------
    mean : array_like of shape (n_features,)
    cov : array_like of shape (n_features, n_features)
        Symmetric and positive definite.

    Raises
    ------
    ValueError
        If shapes disagree, or cov is not symmetric or not positive definite to working precision.
    """

    mean: Array
    cov: Array
    _to_standard: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        mean = _frozen(check_vector(self.mean, "mean"))
        cov, to_standard = _check_covariance(self.cov, "cov", mean.size)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "cov", cov)
        object.__setattr__(self, "_to_standard", to_standard)

    @property
    def n_features(self) -> int:
        return self.mean.size

    def components(self) -> list[Component]:
        """The one component: mean (n_features,), and W with W cov W' = I, symmetric where variances are equal."""
        return [(self.mean, self._to_standard)]

    def responsibilities(self, X: ArrayLike) -> None:
        """None: there is one component."""


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """x ~ sum_j weights[j] N(means[j], covariances[j]).

    Parameters
    ----------
    weights : array_like of shape (n_components,)
        Positive, adding up to one.
    means : array_like of shape (n_components, n_features)
    covariances : array_like of shape (n_components, n_features, n_features)
        Each symmetric and positive definite.

    Raises
    ------
    ValueError
        If shapes disagree, the weights are no probabilities, or a covariance is not as `Gaussian` wants it.
    """

    weights: Array
    means: Array
    covariances: Array
    _to_standard: tuple[Array, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        weights = _frozen(check_vector(self.weights, "weights"))
        if weights.min() <= 0.0 or abs(weights.sum() - 1.0) > 1e-8:
            raise ValueError(f"weights must be positive and add up to one, got {weights}")
        means = _frozen(check_matrix(self.means, "means", n_samples=weights.size).astype(np.float64))
        n_components, n_features = means.shape
        if np.shape(self.covariances) != (n_components, n_features, n_features):
            raise ValueError(
                f"covariances has shape {np.shape(self.covariances)}; wanted (n_components, n_features, "
                f"n_features) = {(n_components, n_features, n_features)}, as in means"
            )
        checked = [
            _check_covariance(cov, f"covariances[{j}]", n_features) for j, cov in enumerate(self.covariances)
        ]
        covariances, to_standard = zip(*checked, strict=True)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "means", means)
        object.__setattr__(self, "covariances", _frozen(np.stack(covariances)))
        object.__setattr__(self, "_to_standard", to_standard)

    @property
    def n_features(self) -> int:
        return self.means.shape[1]

    def components(self) -> list[Component]:
        """Mean (n_features,) and W, as those of a `Gaussian`, of every component."""
        return list(zip(self.means, self._to_standard, strict=True))

    def responsibilities(self, X: ArrayLike) -> Array | None:
        """Probability of every component given x.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)

        Returns
        -------
        resp : ndarray of shape (n_samples, n_components), or None where there is one component
            Rows add up to one. Computed in float64, by blocks of rows.
        """
        if self.weights.size == 1:
            return None
        X = check_matrix(X, "X", n_features=self.n_features)
        resp = np.empty((X.shape[0], self.weights.size))
        components = self.components()
        # log(weight / sqrt(det covariance))
        offsets = np.log(self.weights) + [np.linalg.slogdet(W).logabsdet for W in self._to_standard]
        for rows in _row_blocks(X.shape[0]):
            for j, (mean, W) in enumerate(components):
                standardised = (X[rows] - mean) @ W.T
                resp[rows, j] = offsets[j] - 0.5 * np.einsum("ia,ia->i", standardised, standardised)
            resp[rows] = scipy.special.softmax(resp[rows], axis=1)
        return resp


InputLaw = StandardNormal | Gaussian | GaussianMixture


def check_inputs(
    inputs: str | InputLaw, X: NDArray[Any], sample_weight: Array | None, random_state: np.random.Generator
) -> InputLaw:
    """The law that the argument ``inputs`` names.

    Parameters
    ----------
    inputs : {"standard_normal", "gaussian", "mixture"} or a law
        "gaussian" takes the weighted mean and covariance of X; "mixture" fits a mixture of Gaussians by
        scikit-learn, its number of components chosen by BIC.
    X : ndarray of shape (n_samples, n_features)
        As returned by `check_matrix`.
    sample_weight : ndarray of shape (n_samples,), or None
        As returned by `check_weights`.
    random_state : numpy.random.Generator
        Used by "mixture" only.

    Raises
    ------
    ImportError
        For "mixture", without scikit-learn.
    ValueError
        If the name is unknown, the law has another number of features than X, or X has linearly dependent
        columns.

    Notes
    -----
    "gaussian" reads X twice, by blocks, without a copy of X. "mixture" fits at most 10 000 rows drawn from X.
    """
    n_features = X.shape[1]
    if isinstance(inputs, InputLaw):
        law = StandardNormal(n_features) if inputs == StandardNormal() else inputs
        if law.n_features != n_features:
            raise ValueError(f"inputs is a law of {law.n_features} features; wanted {n_features}, as in X")
        return law
    if not isinstance(inputs, str):
        kind = type(inputs).__name__
        raise TypeError(f"inputs must be a name, StandardNormal, Gaussian or GaussianMixture; got {kind}")
    check_choice(inputs, "inputs", ("standard_normal", "gaussian", "mixture"))
    if inputs == "standard_normal":
        return StandardNormal(n_features)
    gaussian = _estimate_gaussian(X, sample_weight)
    return gaussian if inputs == "gaussian" else _fit_mixture(X, sample_weight, gaussian, random_state)


def _estimate_gaussian(X: NDArray[Any], sample_weight: Array | None) -> Gaussian:
    """Weighted mean and covariance of the rows, in two passes: the second sums products of centred values."""
    n_samples, n_features = X.shape
    weights = np.ones(n_samples) if sample_weight is None else sample_weight
    total = weights.sum()
    mean = sum((weights[rows] @ X[rows] for rows in _row_blocks(n_samples)), np.zeros(n_features)) / total
    cov = np.zeros((n_features, n_features))
    for rows in _row_blocks(n_samples):
        centred = (X[rows] - mean) * np.sqrt(weights[rows, np.newaxis])
        cov += centred.T @ centred
    is_constant = np.sqrt(np.diagonal(cov) / total) <= CONSTANT * np.abs(mean)
    cov[is_constant] = cov[:, is_constant] = 0.0   # which may be rounding
    try:
        return Gaussian(mean, cov / total)
    except ValueError as error:
        raise ValueError(
            f"X has constant or linearly dependent columns, for inputs='gaussian' and 'mixture': {error}; drop "
            f"columns, or use inputs='standard_normal'"
        ) from None


_FIT_ROWS = 10_000       # enough for the start that the mixture serves, and a second or two for scikit-learn
_MAX_COMPONENTS = 6


def _fit_mixture(
    X: NDArray[Any], sample_weight: Array | None, gaussian: Gaussian, rng: np.random.Generator
) -> Gaussian | GaussianMixture:
    """The mixture at which BIC stops falling, fitted to X as `gaussian` standardises it.

    scikit-learn takes no weights, so weighted rows are drawn in proportion to them.
    """
    try:
        from sklearn import mixture
    except ImportError:
        raise ImportError(
            "inputs='mixture' needs scikit-learn: pip install 'moe_fast[sklearn]'; or pass a GaussianMixture"
        ) from None
    n_samples, n_features = X.shape
    if sample_weight is not None:
        rows = rng.choice(n_samples, size=min(n_samples, _FIT_ROWS), p=sample_weight / sample_weight.sum())
    elif n_samples > _FIT_ROWS:
        rows = rng.choice(n_samples, size=_FIT_ROWS, replace=False)
    else:
        rows = np.arange(n_samples)
    [(mean, W)] = gaussian.components()
    standardised = (X[rows] - mean) @ W.T

    seed = int(rng.integers(2**31))
    n_parameters = 1 + n_features + n_features * (n_features + 1) // 2   # of one component
    most = min(_MAX_COMPONENTS, len(rows) // (2 * n_parameters))
    best, best_bic = None, np.inf
    with threadpool_limits(1):   # same bits whatever the threads, which cost more than they save here
        for n_components in range(1, most + 1):
            fit = mixture.GaussianMixture(n_components, max_iter=1000, random_state=seed).fit(standardised)
            bic = fit.bic(standardised)
            if bic >= best_bic:
                break
            best, best_bic = fit, bic
    if best is None or best.n_components == 1:
        return gaussian
    back = np.linalg.inv(W)
    return GaussianMixture(best.weights_, mean + best.means_ @ back.T, back @ best.covariances_ @ back.T)


def _check_covariance(cov: ArrayLike, name: str, n_features: int) -> tuple[Array, Array]:
    """A covariance as a read-only float64 array, and W: its correlations' symmetric inverse root, in X's units."""
    matrix = check_matrix(cov, name, n_samples=n_features, n_features=n_features).astype(np.float64)
    variances = np.diagonal(matrix)
    if not (variances > 0.0).all():
        raise ValueError(f"{name} is not positive definite: it has a variance of {variances.min():.3g}")
    scale = np.sqrt(variances)
    correlation = matrix / np.outer(scale, scale)
    asymmetry = np.abs(correlation - correlation.T).max()
    if asymmetry > 1e-8:
        raise ValueError(f"{name} is not symmetric: correlations differ from their transpose by up to {asymmetry:.3g}")
    values, vectors = np.linalg.eigh(0.5 * (correlation + correlation.T))
    if values[0] <= _SMALLEST_EIGENVALUE_RATIO * values[-1]:
        raise ValueError(
            f"{name} is not positive definite to working precision: "
            f"the eigenvalues of its correlations go from {values[0]:.3g} to {values[-1]:.3g}"
        )
    root = vectors * values**-0.25
    return _frozen(0.5 * (matrix + matrix.T)), _frozen(root @ root.T / scale)


def _frozen(array: Array) -> Array:
    array = array.copy()
    array.flags.writeable = False
    return array


def _row_blocks(n_samples: int) -> Iterator[slice]:
    for start in range(0, n_samples, _BLOCK_ROWS):
        yield slice(start, start + _BLOCK_ROWS)
