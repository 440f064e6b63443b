"""Does select_n_experts find the number of experts that simulated rows came from?

    python bench/selection.py --seeds 50          # run again to go on where it stopped
    python bench/selection.py --report            # the table from the CSV alone

Rows from mf.make_moe, n = 5000, d = 6, experts and gate of norm one, sigma = 0.1, for 1 to 5 experts; 1 to 7 are tried,
with default options. One selection gives the choices of BIC, AIC and ICL alike. A seed is run for each number
of experts before the next seed, so that a run that is stopped has as many of each.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from pathlib import Path

import machine

import moe_fast as mf

RESULTS = Path(__file__).with_name("results") / "selection.csv"
N_SAMPLES, N_FEATURES, NOISE_STD = 5000, 6, 0.1
TRUE, TRIED = range(1, 6), range(1, 8)
CRITERIA = ("bic", "aic", "icl")
FIELDS = ("true", "seed", *CRITERIA, "unsound", "not_converged", "cpu_seconds", "seconds", "cpu", "cores", "moe_fast")


def select(n_experts: int, seed: int) -> dict[str, object]:
    sim = mf.make_moe(N_SAMPLES, N_FEATURES, n_experts, noise_std=NOISE_STD, random_state=seed)
    cpu, wall = time.process_time(), time.perf_counter()
    selection = mf.select_n_experts(sim.X, sim.y, TRIED, random_state=seed)
    return {
        "true": n_experts,
        "seed": seed,
        **{criterion: selection.choose(criterion) for criterion in CRITERIA},
        "unsound": sum(not row.sound for row in selection.table),
        "not_converged": sum(not row.converged for row in selection.table),
        "cpu_seconds": f"{time.process_time() - cpu:.2f}",
        "seconds": f"{time.perf_counter() - wall:.2f}",
        **{name: value for name, value in machine.describe().items() if name in FIELDS},
    }


def report(rows: list[dict[str, str]]) -> str:
    """Markdown: for each number of experts how often each criterion finds it."""
    by_true = defaultdict(list)
    for row in rows:
        by_true[int(row["true"])].append(row)
    lines = ["| experts | data sets | BIC | ICL | AIC | CPU seconds, median |", "|---|---|---|---|---|---|"]
    for true, own in sorted(by_true.items()):
        found = [sum(int(row[name]) == true for row in own) for name in ("bic", "icl", "aic")]
        cpu = sorted(float(row["cpu_seconds"]) for row in own)[len(own) // 2]
        lines.append(f"| {true} | {len(own)} | {' | '.join(map(str, found))} | {cpu:.1f} |")
    return "\n".join(lines)


def read() -> list[dict[str, str]]:
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as lines:
        return list(csv.DictReader(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    machine.restart_without_openblas_settings()
    done = {(int(row["true"]), int(row["seed"])) for row in read()}
    if not arguments.report:
        with RESULTS.open("a", newline="") as out:
            writer = csv.DictWriter(out, FIELDS)
            if not done:
                writer.writeheader()
            for seed in range(arguments.seeds):
                for n_experts in TRUE:
                    if (n_experts, seed) not in done:
                        writer.writerow(select(n_experts, seed))
                        out.flush()
    print(report(read()))


if __name__ == "__main__":
    main()
