"""Which experts the data supports, and the scale of rules about the noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .design import Design, Sums
from .em import Outcome, overall_line

__all__ = ["Support"]

FloatArray = NDArray[np.float64]

# The barrier on noise_std: b = 2 (c s)^2 with s the residual of one overall line. c = 0.02 makes spikes on a few
# equal rows lose, and moves tonedata's optimum (noise 0.0045) by 0.03 in log-likelihood.
_BARRIER = 0.02
# Rows for each of d + 2 parameters, below which an expert that fits its rows almost exactly may be chance.
_FEW = 3
# Below this part of that residual a noise_std is on its way to zero: an expert that passes exactly through its rows.
_COLLAPSED = 1e-6
_SCALE_ROWS = 50_000      # of large data, that tell it
# Residuals of that line are those of outliers if their standard deviation, .6 of the 90 % quantile of their size where
# they are normal, is above 1.5 of it; then those beyond five times that quantile are left out, and again.
_USUAL, _DOMINATED, _FAR = 0.9, 1.5, 5.0
_TOLD_BY = 4096           # rows
_EXACT = 1e-8             # such a quantile, of that standard deviation, that is rounding


@dataclass(frozen=True, eq=False)
class Support:
    """The rules of a fit by which an expert is one, chance, or collapsed.

    Attributes
    ----------
    design : Design
        Of all rows; some of the rules are asked of others.
    n_experts : int
    noise : "per_expert", "shared", or ndarray of shape (n_experts,) of what is held
    move_experts : bool
    n_redundant : int
        Columns of the experts whose coefficients are not counted.
    """

    design: Design
    n_experts: int
    noise: str | FloatArray
    move_experts: bool
    n_redundant: int

    @cached_property
    def residual_std(self) -> float:
        """What one line for all rows leaves of y, the scale of rules about noise_std; from a sample of large data.

        Without rows far beyond the others, if what is left is mostly theirs: noise is not of the scale of outliers.
        Where most rows have one y, a rare event's zero, it is that of the others: half of them are as far, or further.
        """
        some, before = self.design.thinned(_SCALE_ROWS), 0.0
        while True:
            line, std = overall_line(some)
            few = some.thinned(_TOLD_BY)
            usual = float(np.quantile(np.abs(few.rows.y - few.expert_matrix @ line), _USUAL))
            before = before or std
            if usual <= _EXACT * before:   # most rows are on a line: no noise of theirs to tell a scale by
                return before
            if std <= _DOMINATED * usual:
                return std
            if (rest := _beside_most_common(some.rows.y)) is not None:
                return float(np.median(rest) * math.sqrt(len(rest) / some.rows.n_samples))
            near = np.flatnonzero(np.abs(some.rows.y - some.expert_matrix @ line) <= _FAR * usual)
            if len(near) == some.rows.n_samples:
                return std
            some, before = some.on(some.rows.take(near)), std

    def barrier(self, design: Design) -> float:
        """None is needed where the noise is held."""
        return self.barrier_of(design) if isinstance(self.noise, str) else 0.0

    def barrier_of(self, design: Design) -> float:
        return 2.0 * (_BARRIER * self.residual_std) ** 2 * design.rows.unit_weight

    @property
    def smallest_noise(self) -> float:
        """Below this an expert has collapsed."""
        return _COLLAPSED * self.residual_std if self.move_experts and isinstance(self.noise, str) else 0.0

    def too_small(self, design: Design, sums: Sums) -> NDArray[np.bool_]:
        """Which experts hold less than max(3, d + 2) rows, or half a fair share, n / (2k), if that is less."""
        rows = design.rows
        least = min(max(3, rows.n_features + 2), rows.n_samples / (2 * self.n_experts))
        return sums.weight < least * rows.unit_weight

    def by_chance(self, design: Design, sums: Sums) -> NDArray[np.bool_]:
        """Which experts are too small, or fit few rows almost exactly.

        Few: less than 3 (d + 2). Almost: with a residual sum of squares below the constant of the barrier, as a spike.
        """
        if not (isinstance(self.noise, str) and self.noise == "per_expert"):
            return self.too_small(design, sums)
        few = sums.weight < _FEW * (design.rows.n_features + 2) * design.rows.unit_weight
        return self.too_small(design, sums) | (few & (sums.sum_squares < self.barrier(design)))

    def is_doubtful(self, outcome: Outcome, collapsed: list[int]) -> NDArray[np.bool_]:
        """Which experts may be chance; where the barrier was needed, which holds squares up, the too small ones."""
        rule = self.too_small if collapsed else self.by_chance
        return rule(self.design, outcome.sums) & self.move_experts

    def unsupported(self, outcome: Outcome, collapsed: list[int]) -> list[int]:
        """Experts that a user is told of: the doubtful; and where rows are too few for all, those that lack them.

        The latter do not count against a fit in the race: no start could do better.
        """
        doubtful, rows, noise = self.is_doubtful(outcome, collapsed), self.design.rows, self.noise
        estimated = noise if isinstance(noise, str) else "held"
        n_own = self.design.n_columns - self.n_redundant + (estimated == "per_expert")
        n_of_experts = self.n_experts * n_own + (estimated == "shared")
        if self.move_experts and not collapsed and rows.n_samples < n_of_experts:
            doubtful |= outcome.sums.weight < n_own * rows.unit_weight
        return np.flatnonzero(doubtful).tolist()

    def is_sound(self, outcome: Outcome, collapsed: list[int]) -> bool:
        """Whether the data supports every expert; with a noise that is held, no likelihood is a spike's."""
        return not isinstance(self.noise, str) or not (collapsed or self.is_doubtful(outcome, collapsed).any())

    def is_exact(self, outcome: Outcome, collapsed: list[int]) -> bool:
        """Whether an expert fits many rows exactly: half a fair share, n / (2k)."""
        weight, squares = outcome.sums.weight[collapsed], outcome.sums.sum_squares[collapsed]
        many = weight >= self.design.rows.total_weight / (2 * self.n_experts)
        return bool((many & (squares < self.barrier(self.design))).any())


def _beside_most_common(y: FloatArray) -> FloatArray | None:
    """How far the others are from the value of more than half of the rows; None if there is none."""
    values, counts = np.unique(y, return_counts=True)
    most = values[counts.argmax()]
    return np.abs(y[y != most] - most) if len(y) < 2 * counts.max() < 2 * len(y) else None
