"""Columns that say nothing new: constant ones, and combinations of the columns before them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from . import _moments
from .design import Design
from .exceptions import CollinearityWarning
from .linalg import DEPENDENT
from .rows import Rows

__all__ = ["Dependence", "dependences", "warn_of_redundant"]

FloatArray = NDArray[np.float64]

_ROWS = 4096              # of large data, looked at first: columns independent there are so on all rows
_ROWS_PER_COLUMN = 4
_N_NAMED = 8              # columns that a warning names


@dataclass(frozen=True, eq=False)
class Dependence:
    """Which columns of a design matrix are combinations of those before them.

    Attributes
    ----------
    columns : ndarray of int
        Rising; the intercept comes first in the matrix, and is never among them.
    onto : ndarray of shape (p, p), or None
        ``coefficients @ onto`` has zeros for these columns, and gives the same linear predictors; where there are no
        more rows than columns it is the shortest that gives them. None: the coefficients stay.
    least_own : float
        The smallest sine of an angle between another column and the span of those before it: one if all are
        orthogonal, or where there are no more rows than columns.
    """

    columns: NDArray[np.intp]
    onto: FloatArray | None
    least_own: float = 1.0

    @classmethod
    def of(cls, gram: FloatArray) -> Dependence:
        """From the columns' inner products, by Cholesky's elimination in the order of the columns."""
        p = len(gram)
        diagonal = np.diagonal(gram)
        if diagonal.min(initial=1.0) > 0.0:   # nearly always there is no such column, which LAPACK tells fast
            size = np.sqrt(diagonal)
            try:
                lower = np.linalg.cholesky(gram / np.outer(size, size))
            except np.linalg.LinAlgError:
                pass
            else:
                own = np.diagonal(lower).min(initial=1.0)
                if own**2 > DEPENDENT:
                    return cls.none(float(own))
        left = gram.copy()
        redundant = np.zeros(p, bool)
        least_own = 1.0
        for j in range(p):
            redundant[j] = left[j, j] <= DEPENDENT * gram[j, j]
            if not redundant[j]:
                least_own = min(least_own, math.sqrt(left[j, j] / gram[j, j]))
                rest = slice(j + 1, p)
                left[rest, rest] -= np.outer(left[rest, j], left[j, rest]) / left[j, j]
        columns, kept = np.flatnonzero(redundant), np.flatnonzero(~redundant)
        onto = np.diag((~redundant).astype(np.float64))
        onto[np.ix_(columns, kept)] = np.linalg.solve(gram[np.ix_(kept, kept)], gram[np.ix_(kept, columns)]).T
        return cls(columns, onto, least_own)

    @classmethod
    def none(cls, least_own: float = 1.0) -> Dependence:
        return cls(np.empty(0, np.intp), None, least_own)

    @classmethod
    def minimum_norm(cls, matrix: FloatArray) -> Dependence:
        """Of no more rows than columns, which do not say which columns are redundant: none is."""
        return cls(np.empty(0, np.intp), np.linalg.pinv(matrix) @ matrix)

    def without(self, coefficients: FloatArray) -> FloatArray:
        """The coefficients, (m, p), with those of the redundant columns moved onto the others."""
        return coefficients if self.onto is None else coefficients @ self.onto

    def __len__(self) -> int:
        return len(self.columns)


def dependences(design: Design) -> tuple[Dependence, Dependence]:
    """Of the experts' columns and of the gate's.

    Of large data a sample is looked at; all rows are read, in one pass, only where that finds redundant columns.
    """
    some = design.thinned(max(_ROWS, _ROWS_PER_COLUMN * max(design.n_columns, design.n_gate_columns)))
    experts = _dependence(some.expert_matrix, some.rows.y)
    if some is not design and len(experts):
        experts = Dependence.of(_expert_gram(design))
    if design.Z is None:
        return experts, experts
    gate = _dependence(some.gate_matrix, some.rows.y)
    if some is not design and len(gate):
        gate = Dependence.of(_gate_gram(design))
    return experts, gate


def _dependence(matrix: FloatArray, y: FloatArray) -> Dependence:
    n_rows, p = matrix.shape
    if n_rows <= p:
        return Dependence.minimum_norm(matrix)
    found = Dependence.of(matrix.T @ matrix)
    # Rows that are there twice, with one y, say no more than one of double weight.
    is_short = len(found) > 0 and len(np.unique(np.column_stack([matrix, y]), axis=0)) <= p
    return Dependence.minimum_norm(matrix) if is_short else found


def _expert_gram(design: Design) -> FloatArray:
    return _gram_of_all(design.rows, design.standard, design.fit_intercept)


def _gate_gram(design: Design) -> FloatArray:
    assert design.Z is not None
    rows = design.rows if design.Z is design.rows.X else replace(design.rows, X=design.Z)
    return _gram_of_all(rows, design.gate_standard, design.gate_intercept)


def _gram_of_all(rows: Rows, standard: FloatArray, intercept: bool) -> FloatArray:
    """Inner products of the design's columns, (p, p), in one pass."""
    shift, scale = standard
    d = len(scale)
    sums = rows.moment(_moments.SECOND, shift=shift)
    lower = np.tril(sums[: d * d].reshape(d, d))
    gram = (lower + np.tril(lower, -1).T) * np.outer(scale, scale)
    if not intercept:
        return gram
    first = sums[d * d : -1] * scale
    return np.block([[sums[-1:, np.newaxis], first[np.newaxis]], [first[:, np.newaxis], gram]])


def warn_of_redundant(argument: str, columns: Sequence[int], names: Sequence[str] | None, stacklevel: int) -> None:
    """Warn, once for an argument, naming its redundant columns."""
    if not columns:
        return
    labels = [str(b) if names is None else repr(names[b]) for b in columns[:_N_NAMED]]
    more = f" and {len(columns) - _N_NAMED} more" if len(columns) > _N_NAMED else ""
    counted = " (columns count from 0)" if names is None else ""
    plural = len(columns) > 1
    warnings.warn(
        f"column{'s' if plural else ''} {', '.join(labels)}{more} of {argument}{counted} "
        f"{'are' if plural else 'is'} constant or a combination of the columns before: "
        f"{'their coefficients are' if plural else 'its coefficient is'} set to zero, and not counted as "
        f"{'parameters' if plural else 'a parameter'}",
        CollinearityWarning, stacklevel=stacklevel + 1,
    )
