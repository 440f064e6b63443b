"""Score-function moments of the rows: T2 and the whitened T3, eqs. (S.4) and (S.6) of docs/math.md.

Two passes over X, whatever the law of the inputs; nothing of the size of X, and nothing of size d^3, is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import _moments
from .inputs import GaussianMixture, InputLaw
from .rows import Rows
from .tensor import unpack_symmetric

__all__ = ["Polynomial", "Score", "second_moment", "whitened_third_moment"]

FloatArray = NDArray[np.float64]

_DEPENDENT = 1e-10   # of the largest variance of an axis: an axis below is a dependence between columns


@dataclass(frozen=True)
class Polynomial:
    """A label transform less its mean over the rows: what every moment is weighted with.

    Attributes
    ----------
    coefficients : tuple of four floats
        Of 1, y, y^2, y^3.
    """

    coefficients: tuple[float, float, float, float]

    @classmethod
    def centred(cls, rows: Rows, first: float, second: float, third: float) -> Polynomial:
        """first y + second y^2 + third y^3, less its weighted mean over the rows."""
        sums = rows.moment(_moments.POWERS)
        mean = sums[1:] / sums[0]
        return cls((float(-(first * mean[0] + second * mean[1] + third * mean[2])), first, second, third))


@dataclass(frozen=True, eq=False)
class Score:
    """The score functions of a law of x, in coordinates where x has mean zero and covariance the identity.

    S2 = sum_j r_j(x) (u_j u_j' - precision_j) with u_j = map_j (x - mean_j), and S3 likewise: eqs. (S.2), (S.3).

    Attributes
    ----------
    mean : ndarray of shape (d,)
        Of x.
    to_standard : ndarray of shape (r, d)
        Standardised x is ``to_standard @ (x - mean)``; r = d but where columns depend on each other.
    parts : list of (mean_j, map_j, precision_j)
        One a component of the law.
    resp : ndarray of shape (n_samples, n_components) or None
        r_j at every row; None for one component.
    """

    mean: FloatArray
    to_standard: FloatArray
    parts: list[tuple[FloatArray, FloatArray, FloatArray]]
    resp: FloatArray | None

    @classmethod
    def of(cls, law: InputLaw, rows: Rows) -> Score:
        """The scores of `law` at the rows."""
        if not isinstance(law, GaussianMixture):
            [(mean, W)] = law.components()
            return cls(mean, W, [(mean, W, np.eye(len(mean)))], None)
        mean = law.weights @ law.means
        centred = law.means - mean
        cov = np.einsum("j,jab->ab", law.weights, law.covariances) + (centred.T * law.weights) @ centred
        scale = np.sqrt(np.diagonal(cov))
        values, vectors = np.linalg.eigh(cov / np.outer(scale, scale))
        W = (vectors / np.sqrt(values)) @ vectors.T / scale
        back = scale[:, np.newaxis] * ((vectors * np.sqrt(values)) @ vectors.T)
        parts = [(m, back.T @ W_j.T @ W_j, back.T @ W_j.T @ W_j @ back) for m, W_j in law.components()]
        return cls(mean, W, parts, law.responsibilities(rows.X))

    @classmethod
    def of_normal(cls, rows: Rows) -> Score:
        """The scores of a normal law with the rows' mean and covariance, in its principal axes.

        Directions in which the rows do not vary, as of dependent columns, are left out.
        """
        d = rows.n_features
        shift, spread = rows.column_moments()   # near the mean and the scale; exact ones come from all rows
        sums = rows.moment(_moments.SECOND, shift=shift)
        lower = np.tril(sums[: d * d].reshape(d, d))
        gram, first, total = lower + np.tril(lower, -1).T, sums[d * d : -1] / sums[-1], sums[-1]
        scale = np.where(spread > 0.0, spread, 1.0)
        correlation = (gram / total - np.outer(first, first)) / np.outer(scale, scale)
        values, vectors = np.linalg.eigh(correlation)
        kept = values > _DEPENDENT * values[-1]
        to_standard = (vectors[:, kept] / np.sqrt(values[kept])).T / scale
        return cls(shift + first, to_standard, [(shift + first, to_standard, np.eye(len(to_standard)))], None)

    @property
    def n_axes(self) -> int:
        return len(self.to_standard)

    def weights(self, rows: Rows) -> list[FloatArray | None]:
        """How much each row counts for each component."""
        if self.resp is None:
            return [rows.weight]
        own = self.resp if rows.weight is None else self.resp * rows.weight[:, np.newaxis]
        return [np.ascontiguousarray(column) for column in own.T]


def second_moment(rows: Rows, transform: Polynomial, score: Score) -> FloatArray:
    """E[P2(y) S2(x)], the second cross moment, eq. (S.4).

    Parameters
    ----------
    rows : Rows
    transform : Polynomial
        The quadratic label transform, centred.
    score : Score

    Returns
    -------
    T2 : ndarray of shape (r, r)
        Symmetric; not divided by c2. In the standardised coordinates of `score`.

    Notes
    -----
    O(n d^2) time; one pass over X for each component of the law.
    """
    d = rows.n_features
    T2 = np.zeros((score.n_axes, score.n_axes))
    for (mean, to_score, precision), weight in zip(score.parts, score.weights(rows), strict=True):
        sums = rows.moment(_moments.SECOND, polynomial=transform.coefficients, weight=weight, shift=mean)
        lower = np.tril(sums[: d * d].reshape(d, d))
        gram = lower + np.tril(lower, -1).T
        T2 += to_score @ gram @ to_score.T - sums[-1] * precision
    return 0.5 * (T2 + T2.T) / rows.total_weight


def whitened_third_moment(
    rows: Rows, transform: Polynomial, score: Score, whitener: FloatArray
) -> FloatArray:
    """E[P3(y) S3(x)] applied to the whitener on all three sides, eq. (S.6).

    Parameters
    ----------
    rows : Rows
    transform : Polynomial
        The cubic label transform, centred.
    score : Score
    whitener : ndarray of shape (r, k)
        In the standardised coordinates of `score`.

    Returns
    -------
    T3 : ndarray of shape (k, k, k)
        Symmetric; not divided by c3.

    Notes
    -----
    O(n (d k + k^3)) time; one pass over X for each component of the law.
    """
    k = whitener.shape[1]
    T3 = np.zeros((k, k, k))
    n_packed = k * (k + 1) * (k + 2) // 6
    for (mean, to_score, precision), weight in zip(score.parts, score.weights(rows), strict=True):
        directions = np.ascontiguousarray(whitener.T @ to_score)
        sums = rows.moment(
            _moments.THIRD, polynomial=transform.coefficients, weight=weight, shift=mean, directions=directions
        )
        first, spread = sums[n_packed : n_packed + k], whitener.T @ precision @ whitener
        T3 += unpack_symmetric(sums[:n_packed], k)
        for axes in ("a,bc->abc", "b,ac->abc", "c,ab->abc"):   # sym3(first (x) spread)
            T3 -= np.einsum(axes, first, spread)
    return T3 / rows.total_weight
