"""The small dense solves of an M-step or a Newton step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

__all__ = ["lower_pairs", "newton_direction", "solve_normal_equations"]

FloatArray = NDArray[np.float64]

# Squared sine of the angle between a column and the span of those before it, below which it is taken as dependent.
_DEPENDENT = 1e-11

_EIGENVALUES_UP_TO = 300   # parameters: an eigendecomposition still costs less than a pass over moderate data
_FLATTEST = 1e-6           # curvature, on the common scale, below which a direction is treated as this curved


def lower_pairs(n: int) -> list[tuple[int, int]]:
    """(a, b) with a >= b, in the order in which kernels pack blocks of a symmetric matrix."""
    return [(a, b) for a in range(n) for b in range(a + 1)]


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


def newton_direction(hessian: FloatArray, gradient: FloatArray, size: FloatArray) -> FloatArray | None:
    """-hessian^-1 gradient; where the Hessian is not negative definite, an ascent direction made from it.

    Parameters
    ----------
    hessian : ndarray of shape (m, m)
    gradient : ndarray of shape (m,)
    size : ndarray of shape (m,)
        Positive: roots of a typical curvature of each parameter, which put all on one scale.

    Returns
    -------
    direction : ndarray of shape (m,), or None
        None where the Hessian is indefinite and too large for the eigenvalues that the way out needs.

    Notes
    -----
    Indefinite: every eigenvalue counts with its absolute value (the saddle-free Newton method of Dauphin et al.,
    NIPS 2014), so that the step climbs out of a saddle as fast as its curvature allows.
    """
    scaled = -hessian / np.outer(size, size)
    right = gradient / size
    try:
        lower = np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        pass
    else:
        diagonal = np.diagonal(scaled)
        if (np.diagonal(lower) ** 2 > _DEPENDENT * diagonal).all():
            half = solve_triangular(lower, right, lower=True, check_finite=False)
            return solve_triangular(lower, half, lower=True, trans=1, check_finite=False) / size
    if len(gradient) > _EIGENVALUES_UP_TO:
        return None
    values, vectors = np.linalg.eigh(scaled)
    values = np.where(values > _DEPENDENT * values[-1], values, np.maximum(np.abs(values), _FLATTEST))
    return vectors @ ((vectors.T @ right) / values) / size
