"""Would BLAS be faster for many features? Second moments by the kernel, and by symmetric updates of BLAS.

    python bench/crossover.py

Both on one thread and to the same sums. BLAS takes blocks of rows, those of positive and of negative weight apart, each
times the root of its weight, so that `dsyrk` does half the flops of a general product. Writes results/crossover.csv.
"""

from __future__ import annotations

import csv
from pathlib import Path

import machine
import numpy as np
from scipy.linalg.blas import dsyrk
from timing import Outcome, race

from moe_fast import _moments
from moe_fast.rows import Rows

RESULTS = Path(__file__).with_name("results") / "crossover.csv"
SIZES = ((20, 500_000), (50, 100_000), (100, 100_000), (200, 50_000), (400, 20_000), (800, 8_000))   # (d, n)
_BLOCK = 2048
_AGREE = 1e-9


def signed_updates(X: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """sum_i weight_i x_i x_i', the lower triangle."""
    gram = np.zeros((X.shape[1], X.shape[1]), order="F")
    for first in range(0, len(X), _BLOCK):
        block, of_block = X[first : first + _BLOCK], weight[first : first + _BLOCK]
        for sign in (1.0, -1.0):
            kept = sign * of_block > 0.0
            scaled = block[kept] * np.sqrt(sign * of_block[kept])[:, np.newaxis]
            gram = dsyrk(sign, scaled.T, beta=1.0, c=gram, overwrite_c=1, lower=1)
    return gram


def main() -> None:
    machine.restart_without_openblas_settings()
    found = []
    for d, n in SIZES:
        rng = np.random.default_rng(0)
        X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
        rows, weight = Rows(X, y, n_threads=1), y**2 - 1.0

        def by_kernel(rows=rows, d=d) -> Outcome:
            sums = rows.moment(_moments.SECOND, polynomial=(-1.0, 0.0, 1.0, 0.0))
            return Outcome(float(np.linalg.norm(np.tril(sums[: d * d].reshape(d, d)))))

        def by_blas(X=X, weight=weight) -> Outcome:
            return Outcome(float(np.linalg.norm(np.tril(signed_updates(X, weight)))))

        with machine.blas_threads(1):
            timings = race({"moe_fast": by_kernel, "dsyrk": by_blas}, repeats=7, allowance=10.0)
        own, blas = timings["moe_fast"], timings["dsyrk"]
        if abs(own.outcome.objective - blas.outcome.objective) > _AGREE * own.outcome.objective:
            raise RuntimeError(f"d = {d}: the sums differ")
        found.append({
            "n_features": d, "n_samples": n, "moe_fast_seconds": own.median, "dsyrk_seconds": blas.median,
            "ratio": blas.median / own.median, **machine.describe(),
        })   # fmt: skip
        print(f"d={d:4} n={n:7}: kernel {1e3 * own.median:7.1f} ms, dsyrk {1e3 * blas.median:7.1f} ms, "
              f"{blas.median / own.median:.2f} times as long")   # fmt: skip
    with RESULTS.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(found[0]))
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    main()
