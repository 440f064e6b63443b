"""The spectral estimate refined by the generalised method of moments: docs/math.md, section 3, step 5.

Whitening and the tensor power method take every entry of a moment as equally well known, and leave the first moment
out. Here the first three are fitted together, each entry as its variance deserves; and the variances are lowered first:
from the label transforms is taken what the experts found so far say of their mean, whose moments are known exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from .labels import Labels
from .moments import Score
from .rows import Rows, worthwhile_threads

__all__ = ["Norms", "refine"]

FloatArray = NDArray[np.float64]
Norms = Literal["unit", "common", "free"]

_BLOCK_ROWS = 1024        # whose temporaries share a level-2 cache
_SPAN_ROWS = 32 * _BLOCK_ROWS   # summed by one thread in one go
_PILOT_ROWS = 1 << 14     # enough to know a variance by
_SHRINK = 0.05            # of a covariance of moments towards its diagonal
_N_GAUSS_NEWTON = 3
_LONGEST_STEP = 0.5       # relative to an expert's norm
_DEPENDENT = 1e-6         # singular values below are none, relative to the largest
_SMALLEST_SHARE = 0.1     # of 1/k: with less, an expert's moments are noise


@dataclass(frozen=True, eq=False)
class _Span:
    """Coordinates in the experts' span, and the places of the distinct entries of symmetric tensors there."""

    axes: FloatArray   # (r, k), orthonormal columns
    pairs: NDArray[np.intp]     # (2, k (k + 1) / 2)
    triples: NDArray[np.intp]   # (3, k (k + 1) (k + 2) / 6)

    @classmethod
    def of(cls, experts: FloatArray) -> _Span:
        k = len(experts)
        pairs, triples = (
            np.array(list(itertools.combinations_with_replacement(range(k), order))).T for order in (2, 3)
        )
        return cls(np.linalg.qr(experts.T)[0], pairs, triples)

    def pack(self, tensors: list[FloatArray]) -> FloatArray:
        """Distinct entries of tensors of order one, two and three, on their last axes."""
        (a, b), (c, d, e) = self.pairs, self.triples
        first, second, third = tensors
        return np.concatenate([first, second[..., a, b], third[..., c, d, e]], axis=-1)

    def hermite2(self, v: FloatArray) -> FloatArray:
        """Distinct entries of v v' - I, one column a row of the data."""
        a, b = self.pairs
        values: FloatArray = v[a] * v[b]
        values[a == b] -= 1.0
        return values

    def hermite3(self, v: FloatArray) -> FloatArray:
        """The same of the third score, v (x) v (x) v - sym3(v (x) I)."""
        a, b, c = self.triples
        values: FloatArray = v[a] * v[b] * v[c]
        for one, two, other in ((a, b, c), (a, c, b), (b, c, a)):
            values[one == two] -= v[other[one == two]]
        return values


def refine(
    rows: Rows,
    score: Score,
    experts: FloatArray,
    shares: FloatArray,
    labels: Labels,
    norms: Norms,
) -> tuple[FloatArray, FloatArray]:
    """One step of the generalised method of moments, eqs. (S.9) to (S.12) of docs/math.md.

    Parameters
    ----------
    rows : Rows
    score : Score
        Of a normal law of x: its mean and its standardised coordinates are used.
    experts : ndarray of shape (k, r)
        In the standardised coordinates of `score`, none zero.
    shares : ndarray of shape (k,)
        Mean gate probabilities, adding up to one.
    labels : Labels
        The label transforms; experts are in their unit.
    norms : {"unit", "common", "free"}
        Experts have norm one, one norm that is estimated, or a norm each.

    Returns
    -------
    experts, shares : ndarray
        As they were given, better.

    Notes
    -----
    One pass over X; the variances are those of 16 384 rows at most. O(n d k^2) time, nothing of the size of X.

    References
    ----------
    .. [1] L. P. Hansen, *Large sample properties of generalized method of moments estimators*, Econometrica 50 (1982).
    """
    shares = _floored(shares)
    span = _Span.of(experts)
    inner = experts @ span.axes
    lengths = np.linalg.norm(inner, axis=1)
    directions = span.axes.T @ score.to_standard

    def residuals(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        v = directions @ x.T
        return labels.residuals(y, inner @ v, shares, lengths), v

    # A mean that the residuals keep, as where the theory does not hold, would only add to the variance.
    pilot = rows.take(slice(None, None, -(-rows.n_samples // _PILOT_ROWS)))
    [offset] = _sum_blocks(pilot, score, lambda x, y, w: (residuals(x, y)[0] @ w,))
    offset = offset[:, np.newaxis] / pilot.total_weight

    def spreads(x: FloatArray, y: FloatArray, w: FloatArray) -> tuple[FloatArray, ...]:
        r, v = residuals(x, y)
        r -= offset
        inside = np.concatenate([r[0] * v, r[1] * span.hermite2(v), r[2] * span.hermite3(v)])
        outside = _outer_weights(r, v, span)
        return (w * inside) @ inside.T, (w * outside) @ outside.T

    def crosses(x: FloatArray, y: FloatArray, w: FloatArray) -> tuple[FloatArray, ...]:
        r, v = residuals(x, y)
        r = w * (r - offset)
        return _outer_weights(r, v, span) @ x, r[1:] @ x, r.sum(axis=1)

    inside, outside = (sums / pilot.total_weight for sums in _sum_blocks(pilot, score, spreads))
    cross, extra, mean = (sums / rows.total_weight for sums in _sum_blocks(rows, score, crosses))
    cross, extra = cross @ score.to_standard.T, extra @ score.to_standard.T

    moments = _inner_moments(cross @ span.axes, extra[1] @ span.axes, mean, span)
    new_inner, new_shares = _fit_inside(moments, inside, labels.factors, inner, shares, span, norms)
    along = cross - (cross @ span.axes) @ span.axes.T
    outer = _fit_outside(along, outside, labels.factors, new_inner, new_shares, span)
    experts = new_inner @ span.axes.T + outer
    if norms != "free":
        experts *= np.linalg.norm(new_inner, axis=1, keepdims=True) / np.linalg.norm(experts, axis=1, keepdims=True)
    return experts, new_shares


def _sum_blocks(
    rows: Rows, score: Score, block_sums: Callable[[FloatArray, FloatArray, FloatArray], tuple[FloatArray, ...]]
) -> list[FloatArray]:
    """block_sums(x, y, w) of blocks of centred rows, added in block order: the same bits for every n_threads."""

    def span_sums(span: slice) -> list[FloatArray]:
        total: list[FloatArray] = []
        for first in range(span.start, span.stop, _BLOCK_ROWS):
            block = slice(first, min(first + _BLOCK_ROWS, span.stop))
            y = rows.y[block]
            weight = np.ones(len(y)) if rows.weight is None else rows.weight[block]
            sums = block_sums(rows.X[block] - score.mean, y, weight)
            total = [a + b for a, b in zip(total, sums, strict=True)] if total else list(sums)
        return total

    spans = list(rows.spans(_SPAN_ROWS))
    n_threads = min(len(spans), worthwhile_threads(rows.n_threads, rows.n_samples, rows.n_features))
    if n_threads == 1:
        return reduce(_added, map(span_sums, spans))
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            return reduce(_added, pool.map(span_sums, spans))
        except BaseException:   # Ctrl-C too: what has not begun is not waited for
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _added(total: list[FloatArray], sums: list[FloatArray]) -> list[FloatArray]:
    return [a + b for a, b in zip(total, sums, strict=True)]


def _outer_weights(r: FloatArray, v: FloatArray, span: _Span) -> FloatArray:
    """What x is weighted with for the moments with one index outside the span: orders one, two and three."""
    return np.concatenate([r[:1], r[1] * v, r[2] * span.hermite2(v)])


def _inner_moments(cross: FloatArray, third: FloatArray, mean: FloatArray, span: _Span) -> FloatArray:
    """Residual moments inside the span, packed, from those of `_outer_weights` with x, and mean(r_3 x)."""
    k = len(third)
    first, second = cross[0], cross[1 : 1 + k] - mean[1] * np.eye(k)
    cubic = np.empty((k, k, k))
    a, b = span.pairs
    cubic[a, b] = cubic[b, a] = cross[1 + k :]
    mixed = np.multiply.outer(third, np.eye(k))
    cubic -= mixed + mixed.transpose(1, 0, 2)
    return span.pack([first, second, cubic])


def _fit_inside(
    moments: FloatArray,
    spread: FloatArray,
    factors: tuple[float, float, float],
    inner: FloatArray,
    shares: FloatArray,
    span: _Span,
    norms: Norms,
) -> tuple[FloatArray, FloatArray]:
    """Experts in their span and shares that fit the moments best, by Gauss-Newton steps: eq. (S.11)."""
    k = len(inner)
    whiten = _whitening(spread)
    wanted = moments + span.pack(_tensors(factors, inner, shares))
    for _ in range(_N_GAUSS_NEWTON):
        d_inner, d_shares = _directions(inner, norms)
        slopes = span.pack(_derivatives(factors, inner, shares, d_inner, d_shares)).T
        left = wanted - span.pack(_tensors(factors, inner, shares))
        size = np.linalg.lstsq(whiten(slopes), whiten(left), rcond=_DEPENDENT)[0]
        step = np.tensordot(size, d_inner, axes=1)
        length = np.linalg.norm(step, axis=1) / np.linalg.norm(inner, axis=1)
        size *= _LONGEST_STEP / max(length.max(), _LONGEST_STEP)
        norm = np.linalg.norm(inner, axis=1, keepdims=True)
        if norms == "common":   # its direction is the last but those of the shares
            norm = norm + size[k * (k - 1)]
        inner = inner + np.tensordot(size, d_inner, axes=1)
        if norms != "free":   # a step along the sphere leaves it
            inner *= norm / np.linalg.norm(inner, axis=1, keepdims=True)
        shares = _floored(shares + size @ d_shares)
    return inner, shares


def _directions(inner: FloatArray, norms: Norms) -> tuple[FloatArray, FloatArray]:
    """Ways in which experts (n, k, k) and shares (n, k) may change, at most one of the two at a time."""
    k = len(inner)
    experts: list[FloatArray] = []
    for j in range(k):
        # The first column is along the expert, the others are along the sphere.
        basis = np.linalg.qr(inner[j][:, np.newaxis], mode="complete")[0].T
        for axis in basis if norms == "free" else basis[1:]:
            experts.append(np.zeros((k, k)))
            experts[-1][j] = axis
    if norms == "common":
        experts.append(inner / np.linalg.norm(inner, axis=1, keepdims=True))
    between = np.linalg.qr(np.ones((k, 1)), mode="complete")[0].T[1:]   # shares add up to one
    n_experts, n_shares = len(experts), len(between)
    d_inner = np.concatenate([np.reshape(experts, (n_experts, k, k)), np.zeros((n_shares, k, k))])
    return d_inner, np.concatenate([np.zeros((n_experts, k)), between])


def _tensors(factors: tuple[float, float, float], inner: FloatArray, shares: FloatArray) -> list[FloatArray]:
    """c_m sum_j p_j a_j^(x)m for m = 1, 2, 3; shares (k,), or (n, k) for n of each."""
    square = inner[:, :, np.newaxis] * inner[:, np.newaxis]
    cube = square[..., np.newaxis] * inner[:, np.newaxis, np.newaxis]
    return [c * np.tensordot(shares, power, axes=1) for c, power in zip(factors, (inner, square, cube), strict=True)]


def _derivatives(
    factors: tuple[float, float, float],
    inner: FloatArray,
    shares: FloatArray,
    d_inner: FloatArray,
    d_shares: FloatArray,
) -> list[FloatArray]:
    """Of `_tensors` along n changes of experts (n, k, k) and shares (n, k)."""
    c1, c2, c3 = factors
    k = len(inner)
    square = inner[:, :, np.newaxis] * inner[:, np.newaxis]
    change = np.swapaxes(shares[:, np.newaxis] * d_inner, 1, 2)
    pair, triple = change @ inner, (change @ square.reshape(k, k * k)).reshape(-1, k, k, k)
    first, second, third = _tensors(factors, inner, d_shares)
    return [
        first + c1 * change.sum(axis=2),
        second + c2 * (pair + np.swapaxes(pair, 1, 2)),
        third + c3 * (triple + triple.transpose(0, 2, 1, 3) + triple.transpose(0, 2, 3, 1)),
    ]


def _fit_outside(
    moments: FloatArray,
    spread: FloatArray,
    factors: tuple[float, float, float],
    inner: FloatArray,
    shares: FloatArray,
    span: _Span,
) -> FloatArray:
    """The part (k, r) of the experts outside the span: in every direction weighted least squares, eq. (S.12)."""
    c1, c2, c3 = factors
    a, b = span.pairs
    design = np.concatenate([c1 * shares[np.newaxis], c2 * shares * inner.T, c3 * shares * inner.T[a] * inner.T[b]])
    whiten = _whitening(spread)
    outer = np.linalg.lstsq(whiten(design), whiten(moments), rcond=_DEPENDENT)[0]
    size = np.linalg.norm(outer, axis=1, keepdims=True) / np.linalg.norm(inner, axis=1, keepdims=True)
    capped: FloatArray = outer * (_LONGEST_STEP / np.maximum(size, _LONGEST_STEP))
    return capped


def _whitening(spread: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Multiplication by the inverse root of a covariance, shrunk to its diagonal: few rows tell it badly."""
    scale = np.sqrt(np.maximum(np.diag(spread), np.finfo(np.float64).tiny))
    correlation = (1.0 - _SHRINK) * spread / np.outer(scale, scale)
    np.fill_diagonal(correlation, 1.0)
    root = cholesky(correlation, lower=True)

    def whiten(values: FloatArray) -> FloatArray:
        scaled: FloatArray = values.T / scale
        return solve_triangular(root, scaled.T, lower=True)

    return whiten


def _floored(shares: FloatArray) -> FloatArray:
    shares = np.maximum(shares, _SMALLEST_SHARE / len(shares))
    return shares / shares.sum()
