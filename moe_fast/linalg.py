"""The small dense solves of an M-step or a Newton step, and lines through a few rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from . import _solve

__all__ = [
    "DEPENDENT", "SMALL_SYSTEM", "Curvature", "NormalEquations", "from_lower_blocks", "least_squares", "lines_through",
    "lower_pairs", "solve_normal_equations",
]

FloatArray = NDArray[np.float64]

# Squared sine of the angle between a column and the span of those before it, below which it is taken as dependent.
DEPENDENT = 1e-11

_VANISHING = 1e-15   # of the largest root of a diagonal entry: a column without curvature

SMALL_SYSTEM = 64   # columns up to which our own Cholesky beats the calls into LAPACK

_EIGENVALUES_UP_TO = 300   # parameters: an eigendecomposition still costs less than a pass over moderate data
_FLATTEST = 1e-6           # curvature, on the common scale, below which a direction is treated as this curved


def lower_pairs(n: int) -> list[tuple[int, int]]:
    """(a, b) with a >= b, in the order in which kernels pack blocks of a symmetric matrix."""
    return [(a, b) for a in range(n) for b in range(a + 1)]


def from_lower_blocks(blocks: FloatArray, n: int) -> FloatArray:
    """The symmetric matrix, (n p, n p), of which `blocks`, (n (n + 1) / 2, p, p), are the lower ones in that order."""
    p = blocks.shape[-1]
    matrix = np.empty((n, p, n, p))
    for (a, b), block in zip(lower_pairs(n), blocks, strict=True):
        matrix[a, :, b, :] = matrix[b, :, a, :] = block
    return matrix.reshape(n * p, n * p)


def solve_normal_equations(matrices: FloatArray, right: FloatArray, *, minimum_norm: bool = True) -> FloatArray:
    """Solve stacked symmetric positive semi-definite systems.

    Parameters
    ----------
    matrices : ndarray of shape (m, p, p)
    right : ndarray of shape (m, p)
        In the range of its matrix, as normal equations are.
    minimum_norm : bool
        Which solution where a matrix is singular: that of minimum norm, or up to `SMALL_SYSTEM` columns a cheaper one,
        with zeros for unknowns whose columns depend on others.

    Returns
    -------
    solution : ndarray of shape (m, p)
    """
    m, p = right.shape
    solution = np.zeros_like(right)
    if right.size == 0:
        return solution
    if p <= SMALL_SYSTEM:
        left_out = np.empty(m, dtype=np.intc)
        _solve.solve_small(matrices, right, solution, left_out, np.empty((p, p)), np.empty(p), DEPENDENT)
        left = left_out > 0 if minimum_norm else np.zeros(m, dtype=bool)
    else:
        left = np.ones(m, dtype=bool)
    for one in np.flatnonzero(left):
        solution[one] = NormalEquations(matrices[one]).solve(right[one])
    return solution


class NormalEquations:
    """A symmetric positive semi-definite matrix, factored for any number of right sides in its range.

    Solutions are those of minimum norm.
    """

    def __init__(self, matrix: FloatArray) -> None:
        size = np.sqrt(np.diagonal(matrix))
        self._shape = size.shape
        self._kept = np.flatnonzero(size > _VANISHING * size.max())   # of a column without curvature it is zero
        self._size = size[self._kept]
        scaled = matrix[np.ix_(self._kept, self._kept)] / np.outer(self._size, self._size)
        self._lower = _cholesky(scaled)
        if self._lower is None:
            values, vectors = np.linalg.eigh(scaled)
            clear = values > DEPENDENT * values.max(initial=0.0)
            self._values, self._vectors = values[clear], vectors[:, clear]

    def solve(self, right: FloatArray) -> FloatArray:
        """For one right side, (p,)."""
        solution, scaled = np.zeros(self._shape), right[self._kept] / self._size
        if self._lower is not None:
            solution[self._kept] = lapack.dpotrs(self._lower.T, scaled)[0] / self._size
        else:
            solution[self._kept] = self._vectors @ ((self._vectors.T @ scaled) / self._values) / self._size
        return solution


def _cholesky(scaled: FloatArray) -> Any:
    """The lower factor of a matrix on one scale, None if it is not clearly positive definite."""
    if not len(scaled):
        return None
    try:
        lower = np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        return None
    return lower if np.diagonal(lower).min() ** 2 > DEPENDENT else None


def least_squares(D: FloatArray, y: FloatArray) -> FloatArray:
    """The line through rows, (p,). By normal equations: it needs no more digits than they keep, and no minimum norm."""
    return solve_normal_equations((D.T @ D)[np.newaxis], (D.T @ y)[np.newaxis], minimum_norm=False)[0]


def lines_through(D: FloatArray, y: FloatArray, rows: NDArray[np.intp]) -> FloatArray:
    """The line through each of some sets of rows, (n_sets, p)."""
    subsets = D[rows]
    right = np.einsum("tip,ti->tp", subsets, y[rows])
    return solve_normal_equations(subsets.transpose(0, 2, 1) @ subsets, right, minimum_norm=False)


class Curvature:
    """A factored second derivative, which gives Newton directions for as many gradients as wanted.

    Attributes
    ----------
    definite : bool
        Whether it is clearly negative definite, as near a maximum. If not, every eigenvalue counts with its absolute
        value (the saddle-free Newton method of Dauphin et al., NIPS 2014), so that a step climbs out of a saddle as
        fast as its curvature allows.
    """

    def __init__(self, size: FloatArray, lower: Any, eigen: tuple[Any, Any] | None) -> None:
        self._size, self._lower, self._eigen = size, lower, eigen
        self.definite = lower is not None

    @classmethod
    def factor(cls, hessian: FloatArray, size: FloatArray) -> Curvature | None:
        """Factor a Hessian.

        Parameters
        ----------
        hessian : ndarray of shape (m, m)
        size : ndarray of shape (m,)
            Positive: roots of a typical curvature of each parameter, which put all on one scale.

        Returns
        -------
        curvature : Curvature or None
            None where the Hessian is indefinite and too large for the eigenvalues that the way out needs, or has
            entries that are no numbers.
        """
        if not np.isfinite(hessian).all():
            return None
        scaled = -hessian / np.outer(size, size)
        # A column of zeros has neither curvature nor slope: any curvature leaves its coefficients where they are.
        flat = np.flatnonzero(np.diagonal(scaled) == 0.0)
        flat = flat[~scaled[flat].any(axis=1)]
        scaled[flat, flat] = 1.0
        try:
            lower = np.linalg.cholesky(scaled)
        except np.linalg.LinAlgError:
            pass
        else:
            if (np.diagonal(lower) ** 2 > DEPENDENT * np.diagonal(scaled)).all():
                return cls(size, lower, None)
        if len(size) > _EIGENVALUES_UP_TO:
            return None
        values, vectors = np.linalg.eigh(scaled)
        values = np.where(values > DEPENDENT * values[-1], values, np.maximum(np.abs(values), _FLATTEST))
        return cls(size, None, (values, vectors))

    def times(self, ratio: float) -> Curvature:
        """That of so many times as many rows like these."""
        return Curvature(math.sqrt(ratio) * self._size, self._lower, self._eigen)

    def solve(self, vector: FloatArray) -> FloatArray:
        """-hessian^-1 times a vector: of a gradient, an ascent direction."""
        if not len(vector):   # LAPACK refuses what is empty
            return vector
        right = vector / self._size
        if self._lower is not None:
            # L as the upper triangle of its transpose, which LAPACK takes without a copy.
            return lapack.dpotrs(self._lower.T, right)[0] / self._size
        assert self._eigen is not None
        values, vectors = self._eigen
        return vectors @ ((vectors.T @ right) / values) / self._size
