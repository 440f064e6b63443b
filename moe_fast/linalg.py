"""The small dense solves of an M-step or a Newton step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

__all__ = ["newton_direction", "solve_normal_equations"]

FloatArray = NDArray[np.float64]

# Squared sine of the angle between a column and the span of those before it, below which it is taken as dependent.
_DEPENDENT = 1e-11


def solve_normal_equations(matrices: FloatArray, right: FloatArray) -> FloatArray:
    """Solve stacked symmetric positive semi-definite systems, with the minimum norm where they are singular.

    Parameters
    ----------
    matrices : ndarray of shape (m, p, p)
    right : ndarray of shape (m, p)
        In the range of its matrix, as normal equations are.

    Returns
    -------
    solution : ndarray of shape (m, p)
    """
    size = np.sqrt(np.einsum("mii->mi", matrices))
    if size.size == 0:
        return np.zeros_like(right)
    if size.min() > 0.0:
        scaled = matrices / (size[:, :, None] * size[:, None, :])
        try:
            lower = np.linalg.cholesky(scaled)
        except np.linalg.LinAlgError:
            pass
        else:
            if np.einsum("mii->mi", lower).min() ** 2 > _DEPENDENT:
                return np.linalg.solve(scaled, (right / size)[:, :, None])[:, :, 0] / size
    return np.stack([_minimum_norm(matrix, r, s) for matrix, r, s in zip(matrices, right, size, strict=True)])


def _minimum_norm(matrix: FloatArray, right: FloatArray, size: FloatArray) -> FloatArray:
    size = np.where(size > 0.0, size, 1.0)
    values, vectors = np.linalg.eigh(matrix / np.outer(size, size))
    kept = values > _DEPENDENT * max(values[-1], 0.0)
    vectors = vectors[:, kept]
    return vectors @ ((vectors.T @ (right / size)) / values[kept]) / size


def newton_direction(hessian: FloatArray, gradient: FloatArray) -> FloatArray | None:
    """-hessian^-1 gradient where the Hessian is clearly negative definite, else None.

    Parameters
    ----------
    hessian : ndarray of shape (m, m)
    gradient : ndarray of shape (m,)
    """
    diagonal = -np.diagonal(hessian)
    if diagonal.size == 0 or not diagonal.min() > 0.0:
        return None
    size = np.sqrt(diagonal)
    try:
        lower = np.linalg.cholesky(-hessian / np.outer(size, size))
    except np.linalg.LinAlgError:
        return None
    if np.diagonal(lower).min() ** 2 <= _DEPENDENT:
        return None
    half = solve_triangular(lower, gradient / size, lower=True, check_finite=False)
    return solve_triangular(lower, half, lower=True, trans=1, check_finite=False) / size
