"""Whitening, and the orthogonal decomposition of a small symmetric tensor by power iteration with deflation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import _tensor

__all__ = ["Decomposition", "decompose", "unpack_symmetric", "whiten"]

FloatArray = NDArray[np.float64]

# Smallest eigenvalue a whitener divides by, relative to the largest: noise may push one to zero or below.
_SMALLEST_EIGENVALUE = 1e-8


@dataclass(frozen=True, eq=False)
class Decomposition:
    """T = sum_i eigvals[i] eigvecs[i] (x) eigvecs[i] (x) eigvecs[i].

    Attributes
    ----------
    eigvals : ndarray of shape (k,)
        In the order found: falling, but for noise.
    eigvecs : ndarray of shape (k, k)
        Unit rows.
    residual : float
        Frobenius norm of T less the sum, relative to that of T.
    """

    eigvals: FloatArray
    eigvecs: FloatArray
    residual: float


def whiten(T2: FloatArray, n_experts: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Whitener of the leading eigenspace: step 2 of docs/math.md, section 3.

    Parameters
    ----------
    T2 : ndarray of shape (d, d)
        Symmetric, already divided by c2.
    n_experts : int
        k, at most d.

    Returns
    -------
    whitener : ndarray of shape (d, k)
        W = U D^-1/2: ``W.T @ T2 @ W`` is the identity.
    unwhitener : ndarray of shape (d, k)
        B = U D^1/2: maps whitened vectors back.
    eigenvalues : ndarray of shape (d,)
        All of them, falling.
    """
    values, vectors = np.linalg.eigh(T2)
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.abs(values).max() or 1.0   # all may be negative, or zero, where rows are few
    root = np.sqrt(np.maximum(values[:n_experts], _SMALLEST_EIGENVALUE * largest))
    return vectors[:, :n_experts] / root, vectors[:, :n_experts] * root, values


def unpack_symmetric(packed: FloatArray, k: int) -> FloatArray:
    """The (k, k, k) tensor whose entries a >= b >= c are packed in that order."""
    T = np.empty((k, k, k))
    a, b, c = np.array([(a, b, c) for a in range(k) for b in range(a + 1) for c in range(b + 1)]).T
    for x, y, z in ((a, b, c), (a, c, b), (b, a, c), (b, c, a), (c, a, b), (c, b, a)):
        T[x, y, z] = packed
    return T


def decompose(
    T: FloatArray, *, n_restarts: int = 10, n_iter: int = 30, rng: np.random.Generator
) -> Decomposition:
    """Tensor power method with deflation, Algorithm 1 of Anandkumar et al.

    Parameters
    ----------
    T : ndarray of shape (k, k, k)
        Symmetric.
    n_restarts : int
        Random unit vectors tried for each component; the best after n_iter steps goes n_iter steps further.
    n_iter : int
    rng : numpy.random.Generator

    Returns
    -------
    decomposition : Decomposition

    References
    ----------
    .. [1] A. Anandkumar, R. Ge, D. Hsu, S. M. Kakade, M. Telgarsky, *Tensor decompositions for learning latent
       variable models*, JMLR 15 (2014), Algorithm 1.
    """
    k = len(T)
    left = np.array(T, dtype=np.float64, order="C")
    eigvals, eigvecs = np.empty(k), np.empty((k, k))
    values, work = np.empty(n_restarts), np.empty(k)
    for found in range(k):
        v = rng.standard_normal((n_restarts, k))
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        _tensor.power_iteration(left, v, values, work, n_iter)
        best = v[[np.argmax(values)]]
        _tensor.power_iteration(left, best, values[:1], work, n_iter)
        eigvals[found], eigvecs[found] = values[0], best[0]
        left -= eigvals[found] * np.einsum("a,b,c->abc", *eigvecs[[found] * 3])
    size = np.linalg.norm(T)
    return Decomposition(eigvals, eigvecs, float(np.linalg.norm(left) / size) if size else 0.0)
