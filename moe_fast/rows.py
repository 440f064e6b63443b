"""Where the rows of a fit come from: today arrays in memory or memory-mapped; hands out spans of them.

Everything above asks `Rows` for what it needs and never touches single rows, so that rows from elsewhere (blocks
read from disk, a cluster) have their place here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _moments
from .checks import check_aligned, check_matrix, check_target_varies, check_vector, check_weights

__all__ = ["Reads", "Rows", "mean_and_error"]

FloatArray = NDArray[np.float64]


@dataclass
class Reads:
    """A count of rows."""

    n_rows: int = 0


@dataclass(eq=False)
class Rows:
    """Checked rows, and a count of how many of them were read.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64, C order
    y : ndarray of shape (n_samples,)
    weight : ndarray of shape (n_samples,) or None
    gate_features : ndarray of shape (n_samples, n_gate_features) or None
        None: the gate sees X.
    n_threads : int
    reads : Reads
        Counts the rows read by passes over these rows, and over all rows taken from them.
    """

    X: NDArray[Any]
    y: FloatArray
    weight: FloatArray | None = None
    gate_features: NDArray[Any] | None = None
    n_threads: int = 1
    reads: Reads = field(default_factory=Reads)

    @classmethod
    def check(
        cls, X: Any, y: Any, sample_weight: Any = None, gate_features: Any = None, n_threads: int = 1
    ) -> Rows:
        """Rows from a user's arguments; bad ones are refused before any work."""
        check_aligned(X, y=y, sample_weight=sample_weight, gate_features=gate_features)
        X = check_matrix(X, "X")
        n_samples = len(X)
        y = check_vector(y, "y", n_samples=n_samples)
        weight = check_weights(sample_weight, n_samples)
        check_target_varies(y, weight)
        if weight is not None and not weight.all():   # a row of weight 0 is as absent
            counted = np.flatnonzero(weight)
            X, y, weight = X[counted], y[counted], weight[counted]
        if gate_features is not None:
            gate_features = check_matrix(gate_features, "gate_features", n_samples=n_samples)
            if n_samples > len(y):
                gate_features = gate_features[counted]
            if gate_features.dtype != X.dtype:   # a kernel takes one type; the narrower would lose digits
                X, gate_features = X.astype(np.float64), gate_features.astype(np.float64)
        return cls(X, y, weight, gate_features, n_threads)

    @property
    def n_samples(self) -> int:
        return len(self.y)

    @property
    def n_features(self) -> int:
        return self.X.shape[1]

    @cached_property
    def target_moments(self) -> tuple[float, float]:
        """Weighted mean and standard deviation of y."""
        mean = float(np.average(self.y, weights=self.weight))
        return mean, float(np.sqrt(np.average((self.y - mean) ** 2, weights=self.weight)))

    @cached_property
    def total_weight(self) -> float:
        return float(self.n_samples if self.weight is None else self.weight.sum())

    @property
    def unit_weight(self) -> float:
        """Mean weight of a row: what "one row" weighs in rules about numbers of rows."""
        return self.total_weight / self.n_samples

    def take(self, index: NDArray[np.intp] | slice) -> Rows:
        """A copy of some rows; what reads it counts as reading these."""

        def pick(array: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if array is None else np.ascontiguousarray(array[index])

        return Rows(
            np.ascontiguousarray(self.X[index]),
            np.ascontiguousarray(self.y[index]),
            pick(self.weight),
            pick(self.gate_features),
            self.n_threads,
            self.reads,
        )

    def sample(self, n_rows: int, rng: np.random.Generator) -> Rows:
        """n_rows rows, drawn without replacement and kept in order."""
        return self.take(np.sort(rng.choice(self.n_samples, n_rows, replace=False, shuffle=False)))

    def spans(self, longest: int) -> Iterator[slice]:
        """The rows in pieces of at most `longest`; counts them as read."""
        for first in range(0, self.n_samples, longest):
            last = min(first + longest, self.n_samples)
            self.reads.n_rows += last - first
            yield slice(first, last)

    def moment(
        self,
        order: int,
        *,
        polynomial: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0),
        weight: FloatArray | None = None,
        shift: FloatArray | None = None,
        directions: FloatArray | None = None,
    ) -> FloatArray:
        """Weighted sums over the rows, flat, as `_moments.moment_pass` lays them out.

        Parameters
        ----------
        order : {_moments.COLUMNS, _moments.SECOND, _moments.THIRD, _moments.POWERS}
            The last reads y alone, and is not counted.
        polynomial : four floats
            Row i counts with its weight times sum_m polynomial[m] y_i^m.
        weight : ndarray of shape (n_samples,), optional
            Instead of the rows' own weights.
        shift : ndarray of shape (n_features,), optional
            Subtracted from X first.
        directions : ndarray of shape (n_directions, n_features), optional
            For THIRD.
        """
        d = self.n_features
        standard = np.stack([np.zeros(d) if shift is None else shift, np.ones(d)])
        n_directions = 0 if directions is None else len(directions)
        weight = self.weight if weight is None else weight
        coefficients = np.array(polynomial, dtype=np.float64)
        total = np.zeros(_moments.sums_size(order, d, n_directions))
        sums = np.empty_like(total)
        n_read = self.reads.n_rows
        work_per_row = d * d if order == _moments.SECOND else d * (1 + n_directions)
        longest = span_rows(work_per_row)
        work = np.empty(
            _moments.work_size(order, min(longest, self.n_samples), d, n_directions, self.n_threads)
        )
        n_threads = worthwhile_threads(self.n_threads, self.n_samples, work_per_row)
        for span in self.spans(longest):
            part = None if weight is None else weight[span]
            _moments.moment_pass(
                order, self.X[span], self.y[span], part, coefficients, standard, directions,
                sums, work, n_threads,
            )
            total += sums
        if order == _moments.POWERS:
            self.reads.n_rows = n_read
        return total

    def column_moments(self) -> tuple[FloatArray, FloatArray]:
        """Weighted mean and standard deviation of the columns of X."""
        return _column_moments(self, "X")

    def gate_column_moments(self) -> tuple[FloatArray, FloatArray]:
        """The same for the gate's own features."""
        assert self.gate_features is not None
        seen = Rows(self.gate_features, self.y, self.weight, None, self.n_threads, self.reads)
        return _column_moments(seen, "gate_features")


# Multiplications that cost as much as to wake a thread.
THREAD_WORK = 1 << 18


def mean_and_error(values: FloatArray, weight: FloatArray | None) -> tuple[float, float]:
    """Weighted mean of a value a row, and its standard error when rows are drawn at random."""
    weight = np.ones_like(values) if weight is None else weight
    mean = float(np.average(values, weights=weight))
    return mean, float(np.sqrt(np.sum((weight * (values - mean)) ** 2)) / weight.sum())


def worthwhile_threads(n_threads: int, n_rows: int, work_per_row: int) -> int:
    """As many threads as have enough to do."""
    return max(1, min(n_threads, n_rows * work_per_row // THREAD_WORK))


def span_rows(work_per_row: int) -> int:
    """Rows of one kernel call: about 0.1 s of work at most, so that Python sees Ctrl-C between calls."""
    return max(1 << 11, (1 << 31) // max(work_per_row, 1) // 256 * 256)


# Enough rows to put columns on a common scale, which is all that standardising is for.
_STANDARD_ROWS = 1 << 17
_LARGEST_SCALE = 1e50   # of a column: its third moments, times powers of y, are numbers yet


def _column_moments(rows: Rows, name: str) -> tuple[FloatArray, FloatArray]:
    step = -(-rows.n_samples // _STANDARD_ROWS)
    if step > 1:
        rows = rows.take(slice(None, None, step))
    d = rows.n_features
    shift = rows.X[0].astype(np.float64)   # near the data, so that no digits are lost in the variance
    sums = rows.moment(_moments.COLUMNS, shift=shift)
    mean, mean_square = sums[:d] / sums[-1], sums[d : 2 * d] / sums[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        std = np.sqrt(np.maximum(mean_square - mean**2, 0.0))
    too_large = np.flatnonzero(~(np.maximum(np.abs(shift + mean), std) <= _LARGEST_SCALE))
    if too_large.size:
        raise ValueError(
            f"column {too_large[0]} of {name} (they count from 0) has values beyond {_LARGEST_SCALE:g}: scale it down"
        )
    return shift + mean, std
