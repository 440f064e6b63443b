"""Real data sets, and the best optimum known for each: see README.md here for where the files come from.

The model is the default one: linear experts with intercepts, a noise each, a softmax gate with intercept over the same
features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

Columns = Callable[[pd.DataFrame], tuple[list[pd.Series], pd.Series]]


@dataclass(frozen=True)
class RealProblem:
    """A data set, the features and target taken from it, a number of experts, and the mark to reach."""

    name: str
    file: str
    columns: Columns
    n_experts: int
    best: float    # total log-likelihood of the best sound optimum known; a lower bound for the two large sets

    def load(self, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        """X and y."""
        features, target = self.columns(pd.read_csv(folder / self.file))
        X = np.column_stack([np.asarray(feature, dtype=float) for feature in features])
        return np.ascontiguousarray(X), np.asarray(target, dtype=float)


def _plain(target: str, *features: str) -> Columns:
    return lambda table: ([table[name] for name in features], table[target])


def _np_reg_square(table: pd.DataFrame) -> tuple[list[pd.Series], pd.Series]:
    return [table.x, table.x**2], table.yn


def _wages(table: pd.DataFrame) -> tuple[list[pd.Series], pd.Series]:
    features = [
        table.education, table.experience, table.experience**2, table.ethnicity == "cauc", table.smsa == "yes",
    ]
    return features, np.log(table.wage)


def _prices(table: pd.DataFrame) -> tuple[list[pd.Series], pd.Series]:
    table = table[(table.x > 0) & (table.y > 0) & (table.z > 0)]
    return [np.log(table.carat), table.depth, table.table], np.log(table.price)


_TONE = "tonedata.csv", _plain("tuned", "stretchratio")
_CO2 = "CO2data.csv", _plain("CO2", "GNP")
_MOTORCYCLE = "mcycle.csv", _plain("accel", "times")
_WAGES = "CPS1988.csv", _wages
_DIAMONDS = "diamonds.csv", _prices

PROBLEMS = (
    RealProblem("tonedata k=2", *_TONE, 2, 145.6503),
    RealProblem("tonedata k=3", *_TONE, 3, 239.5508),
    RealProblem("CO2data k=2", *_CO2, 2, -66.2966),
    RealProblem("CO2data k=3", *_CO2, 3, -59.0919),
    RealProblem("NPreg x, x^2 k=2", "NPreg.csv", _np_reg_square, 2, -640.3203),
    RealProblem("NPreg x k=2", "NPreg.csv", _plain("yn", "x"), 2, -701.1040),
    RealProblem("faithful k=2", "faithful.csv", _plain("waiting", "eruptions"), 2, -851.3149),
    RealProblem("mcycle k=3", *_MOTORCYCLE, 3, -580.5171),
    RealProblem("mcycle k=4", *_MOTORCYCLE, 4, -550.2449),
    RealProblem("ais k=2", "ais.csv", _plain("Bfat", "BMI", "LBM"), 2, -526.3160),
    RealProblem("CPS1988 k=2", *_WAGES, 2, -22780.63),
    RealProblem("CPS1988 k=3", *_WAGES, 3, -22281.928),
    RealProblem("diamonds k=2", *_DIAMONDS, 2, -1881.822),
    RealProblem("diamonds k=3", *_DIAMONDS, 3, -832.760),
)
BY_NAME = {problem.name: problem for problem in PROBLEMS}
