"""Quasi-Newton steps in the metric of EM, eq. (M.7) of docs/math.md: what takes over where EM creeps.

EM steps by the curvature of its own objective, which leaves out what the unknown experts of the rows cost; the less is
known of them, the shorter its steps. The gradients of the last steps tell what was left out (limited-memory BFGS, D. C.
Liu and J. Nocedal, Math. Programming 45, 1989; begun from EM's curvature as M. Jamshidian and R. I. Jennrich do, JRSS B
59, 1997). A step needs the gradient alone, a fraction of an EM iteration's pass.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from . import _em
from .design import Parameters, Sums
from .linalg import Curvature, from_lower_blocks
from .objective import Objective

__all__ = ["Metric", "QuasiNewton"]

FloatArray = NDArray[np.float64]

_PAIRS = _em.PAIRS      # steps whose gradients are remembered
_RIDGE = _em.RIDGE      # of each curvature, so that columns that depend on others do no harm
_CURVED = _em.CURVED    # of a step's promise: less curvature than that along it is none, or is that of a saddle
_WIDEST = _em.WIDEST    # most that a step is lengthened over EM's


class Metric:
    """EM's curvature, block by block: of each expert, of the gate, of log noise_std."""

    def __init__(
        self, expert_gram: FloatArray | None, gate_gram: FloatArray, sums: Sums, parameters: Parameters,
        objective: Objective,
    ) -> None:
        blocks: list[FloatArray] = []
        if expert_gram is not None:
            blocks += list(expert_gram / (parameters.noise_std**2)[:, np.newaxis, np.newaxis])
        g, q = parameters.gate.shape
        if g * q:
            blocks.append(from_lower_blocks(gate_gram, g))
        self._factors = [_factor(block) for block in blocks]
        weight = np.maximum(sums.weight, 1e-9 * sums.total)
        self._noise = np.empty(0)
        if objective.moves_noise:
            self._noise = np.array([2.0 * sums.total]) if objective.shares_noise else 2.0 * weight

    def solve(self, vector: FloatArray) -> FloatArray:
        """Its inverse times a vector in the order of `information.gradient`."""
        solution, first = np.empty_like(vector), 0
        for size, lower in self._factors:
            part = slice(first, first + len(size))
            solution[part] = lapack.dpotrs(lower.T, vector[part] / size)[0] / size
            first += len(size)
        solution[first:] = vector[first:] / self._noise
        return solution


def _factor(block: FloatArray) -> tuple[FloatArray, FloatArray]:
    diagonal = np.diagonal(block)
    size = np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
    scaled = block / np.outer(size, size)
    np.fill_diagonal(scaled, 1.0 + _RIDGE)
    try:
        return size, np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        return size, np.eye(len(block))


class QuasiNewton:
    """The last steps, and the direction that their gradients make of the next.

    Parameters
    ----------
    metric : Metric or Curvature, optional
        EM's curvature, or that of the likelihood: what the direction is without steps.
    widest : float
        Most that the last step may lengthen the direction by. EM's curvature is too large; that of the likelihood may
        be so or not.
    """

    def __init__(self, metric: Metric | Curvature | None = None, widest: float = _WIDEST) -> None:
        self.metric = metric
        self._widest = widest
        self._pairs: deque[tuple[FloatArray, FloatArray, float]] = deque(maxlen=_PAIRS)
        self._last: tuple[FloatArray, FloatArray] | None = None
        self._length = 1.0

    @property
    def has_steps(self) -> bool:
        return bool(self._pairs)

    def take(self, place: FloatArray, gradient: FloatArray) -> None:
        """A place that was reached, in the order of `information.flat`, and the gradient there."""
        if self._last is not None:
            step, change = place - self._last[0], self._last[1] - gradient
            curved = float(step @ change)
            if curved > _CURVED * abs(float(step @ gradient)):
                self._pairs.append((step, change, curved))
                if self.metric is not None and self._widest > 1.0:
                    length = curved / float(change @ self.metric.solve(change))
                    self._length = min(max(length, 1.0), self._widest)
        self._last = place, gradient

    def direction(self, gradient: FloatArray) -> FloatArray:
        """The two-loop recursion."""
        assert self.metric is not None
        left, shares = gradient.copy(), []
        for step, change, curved in reversed(self._pairs):
            shares.append(float(step @ left) / curved)
            left -= shares[-1] * change
        move = self._length * self.metric.solve(left)
        for (step, change, curved), share in zip(self._pairs, reversed(shares), strict=True):
            move += (share - float(change @ move) / curved) * step
        return move
