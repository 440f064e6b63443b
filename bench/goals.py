"""What was to be reached, and what was: from the CSV that run.py wrote.

    python bench/goals.py

Prints a line for each goal, missed ones too; a goal whose rows are not in the CSV is "not measured".
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).with_name("results") / "run.csv"
OWN, BLOCKS, FULL = "moe_fast", "numpy blocks", "numpy full"
MILLION_20, MILLION_10 = "n=1e6 d=20 k=3", "n=1e6 d=10 k=3"
WIDE_100, WIDE_200 = "n=2e5 d=100 k=5", "n=1e5 d=200 k=10"
GRADIENT, CURVATURE, INFORMATION = "EM, gate gradient", "EM, gate curvature", "information"

Row = dict[str, str]


class Results:
    """The rows of one run."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows
        self._most_threads = max(int(row["threads"]) for row in rows)

    def get(
        self, column: str, case: str, step: str, library: str = OWN, dtype: str = "float64", threads: int | None = None
    ) -> float:
        """A number; LookupError if it was not measured. `threads` is by default the most of the run."""
        wanted = {
            "case": case, "step": step, "library": library, "dtype": dtype,
            "threads": str(threads or self._most_threads),
        }  # fmt: skip
        for row in self._rows:
            if all(row[name] == value for name, value in wanted.items()):
                return float(row[column])
        raise LookupError(str(wanted))

    def over_limit(self, case: str, step: str) -> float:
        return self.get("over_limit", case, step)

    def faster(self, case: str, step: str, rival: str) -> float:
        """How many times as long the rival takes."""
        return self._time(case, step, rival) / self._time(case, step, OWN)

    def fewer_passes(self, case: str) -> float:
        """Plain EM's passes over the package's."""
        step = "fit_em, k-means start"
        return self.get("passes", case, step, f"{OWN}, EM alone") / self.get("passes", case, step)

    def threads_help(self, case: str, step: str) -> float:
        """Time of one thread over that of all."""
        return self._time(case, step, OWN, threads=1) / self._time(case, step, OWN)

    def float32_helps(self, case: str, step: str) -> float:
        return self._time(case, step, OWN) / self._time(case, step, OWN, dtype="float32")

    def _time(self, case: str, step: str, library: str, **which: object) -> float:
        return self.get("seconds_median", case, step, library, **which)   # type: ignore[arg-type]


@dataclass(frozen=True)
class Goal:
    """A number, and the bound it should keep."""

    what: str
    value: Callable[[Results], float]
    at_most: float | None = None
    at_least: float | None = None

    def line(self, results: Results) -> str:
        sign, bound = ("<=", self.at_most) if self.at_most is not None else (">=", self.at_least)
        assert bound is not None
        try:
            value = self.value(results)
        except LookupError:
            return f"{self.what:72}{sign} {bound:<7g} not measured"
        kept = value <= bound if sign == "<=" else value >= bound
        return f"{self.what:72}{sign} {bound:<7g} {value:9.3g}   {'reached' if kept else 'MISSED'}"


def _limit(case: str, step: str, bound: float) -> Goal:
    return Goal(f"{step}, {case}: times the limit", lambda r: r.over_limit(case, step), at_most=bound)


def _faster(case: str, step: str, rival: str, bound: float) -> Goal:
    return Goal(f"{step}, {case}: faster than {rival}", lambda r: r.faster(case, step, rival), at_least=bound)


GOALS = (
    _limit(MILLION_20, "moments", 2.5),
    _limit(MILLION_10, "moments", 2.5),
    _faster(MILLION_20, "moments", BLOCKS, 6),
    _faster(MILLION_10, "moments", BLOCKS, 6),
    _limit(WIDE_100, "moments", 1.6),
    _limit(WIDE_200, "moments", 1.6),
    _limit(MILLION_20, GRADIENT, 2.5),
    _faster(MILLION_20, GRADIENT, BLOCKS, 5),
    _faster(MILLION_20, GRADIENT, FULL, 8),
    _limit(MILLION_20, CURVATURE, 2.5),
    _limit(WIDE_100, GRADIENT, 1.6),
    _faster(MILLION_20, "fit_em, spectral start", FULL, 20),
    Goal("fit_em, spectral start: passes over all of X",
         lambda r: r.get("passes", MILLION_20, "fit_em, spectral start"), at_most=15),
    _faster("S4", "fit, defaults", "flexmix", 300),
    _faster("S4", "fit, defaults", BLOCKS, 10),
    _faster("S4", "fit, defaults", FULL, 10),
    Goal("diamonds k=3: plain EM's passes over ours", lambda r: r.fewer_passes("diamonds k=3"), at_least=5),
    Goal("CPS1988 k=3: plain EM's passes over ours", lambda r: r.fewer_passes("CPS1988 k=3"), at_least=5),
    *(
        Goal(f"{step}, {MILLION_20}: all threads against one", lambda r, s=step: r.threads_help(MILLION_20, s),
             at_least=1.8)
        for step in ("moments", GRADIENT, CURVATURE, INFORMATION)
    ),
    *(
        Goal(f"{step}, 1000 rows: all threads against one", lambda r, s=step: r.threads_help("n=1000 d=5 k=3", s),
             at_least=1)
        for step in (GRADIENT, CURVATURE, INFORMATION)
    ),
    *(
        Goal(f"{step}, {MILLION_20}: float32 against float64", lambda r, s=step: r.float32_helps(MILLION_20, s),
             at_least=1.4)
        for step in (GRADIENT, CURVATURE)
    ),
    *(
        Goal(f"{task}, {MILLION_20} {dtype}: bytes a row and expert",
             lambda r, t=task, d=dtype: r.get("peak_bytes_a_row_expert", MILLION_20, t, dtype=d), at_most=16)
        for task in ("memory of fit", "memory of fit_em", "memory of fit_spectral")
        for dtype in ("float64", "float32")
    ),
    Goal("fit_em, true start, n=500 d=3 k=2: milliseconds",
         lambda r: 1e3 * r.get("seconds_median", "n=500 d=3 k=2", "fit_em, true start"), at_most=3),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, default=RESULTS)
    with parser.parse_args().csv.open(newline="") as lines:
        results = Results(list(csv.DictReader(lines)))
    for goal in GOALS:
        print(goal.line(results))


if __name__ == "__main__":
    main()
