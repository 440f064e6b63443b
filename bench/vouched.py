"""Is it safe to end a race early where moments vouch for its optimum? `fit` with that rule, and without it.

    python bench/vouched.py --data DIR

The rule (docs/starts.md): on a sample of large data three kinds of start are enough if they end at one optimum, the
spectral one where it began. Data of the model; of more and of fewer experts than are fitted; inputs, norms and
intercepts that the spectral start's theory does not have; real data. Counts the fits that ended so, those of them more
than 1e-3 per row below, and above, the best of three fits without the rule, the first with the same random_state, and
the median of their times over that one's. Writes results/vouched.csv.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import machine
import numpy as np
from cases import Case, draw

import moe_fast as mf
from moe_fast import race

RESULTS = Path(__file__).with_name("results") / "vouched.csv"
REACHED = 1e-3   # log-likelihood per row
SEEDS = 4

Problem = tuple[str, np.ndarray, np.ndarray, int, str, int]   # group, X, y, experts to fit, activation, random_state


def simulated(seed: int) -> Iterator[Problem]:
    """Data of 2 to 6 experts, and how many to fit to them."""

    def case(n_true: int, n_samples: int, noise_std: float, **options: Any) -> Case:
        name = f"vouched {n_true} {n_samples} {noise_std} {options}"
        return Case(name, n_samples, 10, n_true, noise_std=noise_std, **options)

    numbers = {
        "as many as there are": ((2, 2), (3, 3), (5, 5)), "more than there are": ((2, 3),),
        "fewer than there are": ((4, 2), (5, 2), (6, 2), (4, 3), (5, 3), (6, 3), (5, 4), (6, 4)),
    }   # fmt: skip
    for group, pairs in numbers.items():
        for n_true, n_fitted in pairs:
            for n_samples in (6000, 20_000):
                for noise_std in (0.1, 0.5):
                    data = draw(case(n_true, n_samples, noise_std), seed)
                    yield group, data.X, data.y, n_fitted, "linear", seed
    for activation in ("sigmoid", "tanh", "relu"):
        for noise_std in (0.1, 0.5):
            data = draw(case(3, 8000, noise_std, activation=activation), seed)
            yield "other activations", data.X, data.y, 3, activation, seed
    for n_true in (2, 3, 4):
        options = {"norms": (0.5, 2.0), "intercept": 1.0, "gate_intercept": 0.5, "noise_ratio": 9.0}
        data = draw(case(n_true, 8000, 0.05, **options), seed)
        yield "norms, intercepts, noise", data.X, data.y, n_true, "linear", seed
    for law in ("correlated", "heavy tails", "skewed", "uniform", "clusters", "dummies"):
        data = draw(case(3, 8000, 0.3, inputs=law), seed)
        yield "inputs not normal", data.X, data.y, 3, "linear", seed


def real(folder: Path, seed: int) -> Iterator[Problem]:
    """The two large sets."""
    for problem in datasets.PROBLEMS:
        if problem.name.startswith(("CPS1988", "diamonds")):
            X, y = problem.load(folder)
            yield "CPS1988 and diamonds", X, y, problem.n_experts, "linear", seed


def fitted(problem: Problem, vouched: float, later: int = 0) -> tuple[float, float, int]:
    """Log-likelihood per row, processor seconds, and starts drawn; with a later random_state."""
    _, X, y, n_experts, activation, seed = problem
    seed += 1000 * later
    race._VOUCHED = vouched
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = mf.fit(X, y, n_experts, activation=activation, random_state=seed, n_threads=1)
    return result.log_likelihood / len(y), time.process_time() - began, len(result.starts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the real data sets; without it, simulated data only")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    machine.restart_without_openblas_settings()
    rule = race._VOUCHED
    groups: dict[str, list[tuple[bool, float, float]]] = {}
    for seed in range(arguments.seeds):
        problems = [*simulated(seed), *(real(arguments.data, seed) if arguments.data else ())]
        for problem in problems:
            without, longer, n_without = fitted(problem, 0.0)
            value, seconds, n_starts = fitted(problem, rule)
            is_vouched = n_starts < n_without
            if is_vouched:
                without = max(without, fitted(problem, 0.0, later=1)[0], fitted(problem, 0.0, later=2)[0])
            groups.setdefault(problem[0], []).append((is_vouched, value - without, seconds / longer))
    found = []
    print(f"{'':24}{'fits':>6}{'vouched for':>13}{'below':>7}{'above':>7}{'time':>8}")
    for group, fits in groups.items():
        ended = [fit for fit in fits if fit[0]]
        row = {
            "group": group, "fits": len(fits), "vouched": len(ended),
            "below": sum(gain < -REACHED for _, gain, _ in ended), "above": sum(gain > REACHED for _, gain, _ in ended),
            "time_ratio": float(np.median([ratio for _, _, ratio in ended])) if ended else np.nan, **machine.describe(),
        }   # fmt: skip
        found.append(row)
        print(f"{group:24}{row['fits']:6}{row['vouched']:13}{row['below']:7}{row['above']:7}{row['time_ratio']:8.2f}")
    with RESULTS.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    main()
