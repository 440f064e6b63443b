"""Does the default fit find the best optimum? A grid of problems, and every strategy on each with the same kernels.

    python bench/optimum.py --data DIR                        # everything; run again to go on where it stopped
    python bench/optimum.py --families source,sharp --half tune
    python bench/optimum.py --report                          # tables from the CSV alone
    python bench/optimum.py --quick                           # one small problem a family: does it run?

The best log-likelihood known for a problem is the best of EM from the truth (real data: the mark of datasets.py) and
of every method's sound result. A method succeeds within 1e-3 per row of it. Sound: no expert collapsed, and the data
supports each (`fit.unsupported` of the package: max(3, d + 2) rows, or n / (2k), if that is less, of few rows more
than next to nothing left of y, and as many rows as parameters unless there are rows enough for all); on real data a
gate that separates sets no mark, as its likelihood is a supremum.

Seeds are in two halves: starts are tuned on even seeds, claims are made of odd ones.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import machine
import numpy as np
import rivals
from cases import LAWS, Case, draw

import moe_fast as mf

RESULTS = Path(__file__).with_name("results") / "optimum.csv"
REACHED = 1e-3          # log-likelihood per row
REAL_SEEDS = 20         # values of random_state on real data
RIVAL_SEEDS = 4         # and for the rivals, that are to set marks there
TIME_LIMIT = 30.0       # seconds that a method may take for a problem: a rival then keeps the starts it has run
FLEXMIX_TIME_LIMIT = 60.0
TRUTH, DEFAULT = "truth", "default"
FIELDS = (
    "problem", "family", "half", "seed", "n_samples", "n_features", "n_experts", "activation", "method",
    "log_likelihood", "mark", "seconds", "n_passes", "n_starts", "converged", "sound", "separated", "error",
)  # fmt: skip

Row = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """Rows to fit, and a seed for whoever fits them."""

    name: str
    family: str
    seed: int
    X: np.ndarray
    y: np.ndarray
    n_experts: int
    activation: str = "linear"
    truth: mf.MixtureOfExperts | None = None   # of simulated rows
    mark: float = -np.inf                      # best log-likelihood known before

    @property
    def half(self) -> str:
        return half_of(self.seed)


def half_of(seed: int) -> str:
    return "report" if seed % 2 else "tune"


# ---- the grid ----


def _source() -> Iterator[tuple[Case, int]]:
    """The source's setting: unit experts, unit gates orthogonal to them, normal inputs."""
    for k in (2, 3, 4):
        for activation in ("linear", "sigmoid", "tanh", "relu", "leaky_relu"):
            for noise_std, n in ((0.05, 500), (0.1, 2000), (0.5, 8000)):
                name = f"source k={k} {activation} sigma={noise_std} n={n}"
                yield Case(name, n, 10, k, noise_std=noise_std, activation=activation), 2


def _many_experts() -> Iterator[tuple[Case, int]]:
    # The last two are few: a start of theirs takes a hundred times as long as one of the source's.
    for k, d, n, n_seeds in ((6, 15, 4000, 4), (8, 20, 6000, 4), (10, 30, 5000, 2), (12, 40, 5000, 2)):
        for noise_std in (0.1, 0.5):
            yield Case(f"many k={k} d={d} n={n} sigma={noise_std}", n, d, k, noise_std=noise_std), n_seeds


def _intercepts() -> Iterator[tuple[Case, int]]:
    """Intercepts in experts and gate, norms in [.5, 2], the last expert's noise nine times the first's."""
    for k in (2, 3, 4, 6):
        for activation in ("linear", "tanh", "relu"):
            for n in (2000, 8000):
                yield Case(
                    f"intercepts k={k} {activation} n={n}", n, 10, k, noise_std=0.05, noise_ratio=9.0,
                    activation=activation, intercept=1.0, gate_intercept=0.5, norms=(0.5, 2.0),
                ), 2  # fmt: skip


def _sharp() -> Iterator[tuple[Case, int]]:
    """Gates of norm 5 and 10, orthogonal to the experts and not; and of norm 1, not."""
    for k in (2, 3, 5):
        for norm, orthogonal in ((1.0, False), (5.0, True), (5.0, False), (10.0, True), (10.0, False)):
            name = f"sharp k={k} |w|={norm:g} {'orthogonal' if orthogonal else 'not orthogonal'}"
            yield Case(name, 4000, 10, k, gate_norm=norm, orthogonal_gate=orthogonal), 4


def _inputs() -> Iterator[tuple[Case, int]]:
    """Seven laws of x other than standard normal."""
    for law in LAWS:
        if law != "normal":
            for k in (2, 3, 5):
                yield Case(f"inputs {law} k={k}", 4000, 8, k, noise_std=0.3, intercept=0.5, inputs=law), 2


def _small() -> Iterator[tuple[Case, int]]:
    """Few rows for what is to be estimated: n / (k d) from 5 to 10."""
    for k, d, n in ((2, 5, 80), (3, 10, 200), (4, 10, 300), (3, 20, 400), (5, 10, 400), (4, 20, 600)):
        for noise_std in (0.1, 0.5):
            yield Case(f"small k={k} d={d} n={n} sigma={noise_std}", n, d, k, noise_std=noise_std), 4


def _large() -> Iterator[tuple[Case, int]]:
    """Where time counts: 20 000 rows and more."""
    for k, d in ((3, 10), (5, 20)):
        for n in (20_000, 50_000):
            for noise_std in (0.1, 0.5):
                yield Case(f"large k={k} d={d} n={n} sigma={noise_std}", n, d, k, noise_std=noise_std), 2


SIMULATED: dict[str, Callable[[], Iterator[tuple[Case, int]]]] = {
    "source": _source,
    "many experts": _many_experts,
    "intercepts": _intercepts,
    "sharp": _sharp,
    "inputs": _inputs,
    "small": _small,
    "large": _large,
}
FAMILIES = (*SIMULATED, "data")


def problems(families: Iterable[str], halves: Iterable[str], folder: Path | None, quick: bool) -> Iterator[Problem]:
    """The grid, each problem drawn as it is come to."""
    for family in families:
        if family == "data":
            if folder is not None:
                yield from _real_problems(halves, folder, quick)
            continue
        for case, n_seeds in list(SIMULATED[family]())[: 1 if quick else None]:
            for seed in range(n_seeds):
                if half_of(seed) in halves:
                    data = draw(case.sized(min(case.n_samples, 500)) if quick else case, seed)
                    name = f"{case.name} seed={seed}"
                    yield Problem(name, family, seed, data.X, data.y, case.n_experts, case.activation, data.truth)


def _real_problems(halves: Iterable[str], folder: Path, quick: bool) -> Iterator[Problem]:
    import datasets

    for real in datasets.PROBLEMS[: 1 if quick else None]:
        X, y = real.load(folder)
        for seed in range(2 if quick else REAL_SEEDS):
            if half_of(seed) in halves:
                yield Problem(real.name, "data", seed, X, y, real.n_experts, mark=real.best)


# ---- the strategies ----


def _em(problem: Problem, **options: Any) -> mf.FitResult:
    return mf.fit_em(
        problem.X, problem.y, problem.n_experts,
        activation=problem.activation, random_state=problem.seed, time_limit=TIME_LIMIT, **options,
    )  # fmt: skip


def _default(problem: Problem) -> mf.FitResult:
    return mf.fit(
        problem.X, problem.y, problem.n_experts, activation=problem.activation, random_state=problem.seed
    )


METHODS: dict[str, Callable[[Problem], mf.FitResult]] = {
    TRUTH: lambda problem: _em(problem, init=problem.truth),
    "one random": lambda problem: _em(problem, init="random"),
    "ten random": lambda problem: _em(problem, init="random", n_init=10),
    "ten partitions": lambda problem: _em(problem, init="partition", n_init=10),
    "spectral": lambda problem: _em(problem, init="spectral"),
    DEFAULT: _default,
}
FLEXMIX = "flexmix ten"


def applies(method: str, problem: Problem) -> bool:
    """The truth is known of simulated rows, moments need a feature an expert; flexmix is slow, for linear experts."""
    if method != DEFAULT and problem.family == "data" and problem.seed >= RIVAL_SEEDS:
        return False
    if method == TRUTH:
        return problem.truth is not None
    if method == "spectral":
        return problem.X.shape[1] >= problem.n_experts
    if method == FLEXMIX:
        return problem.activation == "linear" and len(problem.y) <= 2000 and problem.seed < 2
    return True


def attempt(method: str, problem: Problem) -> Row:
    """A method's result on a problem, as a row of the CSV."""
    n, d = problem.X.shape
    row: Row = {
        "problem": problem.name, "family": problem.family, "half": problem.half, "seed": problem.seed,
        "n_samples": n, "n_features": d, "n_experts": problem.n_experts, "activation": problem.activation,
        "method": method, "mark": problem.mark,
    }  # fmt: skip
    start = time.process_time()
    try:
        if method == FLEXMIX:
            reached = rivals.flexmix(problem.X, problem.y, problem.n_experts, n_starts=10, seed=problem.seed,
                                     time_limit=FLEXMIX_TIME_LIMIT)
            # Its small components are dropped by itself, so what it returns is sound.
            return row | {
                "log_likelihood": reached.objective, "seconds": reached.seconds, "sound": True,
                "separated": False, "converged": reached.converged,
            }  # fmt: skip
        fit = METHODS[method](problem)
    except Exception as error:   # noted by name, shown in the report, and a failure of the method
        print(f"  {method} on {problem.name}: {type(error).__name__}: {error}")
        return row | {
            "log_likelihood": -np.inf, "seconds": time.process_time() - start, "sound": False, "separated": False,
            "error": f"{type(error).__name__}: {error}",
        }  # fmt: skip
    return row | {
        "log_likelihood": fit.log_likelihood, "seconds": time.process_time() - start, "n_passes": fit.n_passes,
        "n_starts": len(fit.starts), "converged": fit.converged, "separated": bool(fit.separated),
        "sound": not (fit.penalised or fit.unsupported),
    }  # fmt: skip


# ---- the report ----


def read(path: Path) -> list[Row]:
    """The CSV's rows, numbers as numbers."""
    with path.open(newline="") as lines:
        rows: list[Row] = list(csv.DictReader(lines))
    for row in rows:
        for name in ("log_likelihood", "mark", "seconds"):
            row[name] = float(row[name])
        row["n_samples"] = int(row["n_samples"])
        row["sound"], row["separated"] = row["sound"] == "True", row["separated"] == "True"
    return rows


def judge(rows: list[Row]) -> None:
    """Add to each row its gap to the best known, per row of the data, and whether it is a success."""
    best: dict[str, float] = defaultdict(lambda: -np.inf)
    for row in rows:
        if row["sound"] and not (row["family"] == "data" and row["separated"]):
            best[row["problem"]] = max(best[row["problem"]], row["log_likelihood"])
        best[row["problem"]] = max(best[row["problem"]], row["mark"])
    for row in rows:
        mark = best[row["problem"]]
        row["gap"] = (mark - row["log_likelihood"]) / row["n_samples"] if np.isfinite(mark) else 0.0
        row["success"] = row["gap"] <= REACHED and (row["sound"] or not np.isfinite(mark))


def report(rows: list[Row], n_losses: int) -> None:
    judge(rows)
    methods = [method for method in (*METHODS, FLEXMIX) if any(row["method"] == method for row in rows)]
    for half in ("tune", "report"):
        part = [row for row in rows if row["half"] == half]
        if part:
            n_problems = len({(row["problem"], row["seed"]) for row in part})
            print(f"\nseeds to {half}: {n_problems} problems (real data: a problem a value of random_state)")
            _success_table(part, methods)
    _losses(rows, n_losses)
    _against_rivals(rows)
    _times(rows)


def _success_table(rows: list[Row], methods: list[str]) -> None:
    print(f"\n{'success, seconds':18}" + "".join(f"{method:>20}" for method in methods))
    families = [family for family in FAMILIES if any(row["family"] == family for row in rows)]
    for family in (*families, "all"):
        cells = []
        for method in methods:
            mine = [row for row in rows if row["method"] == method and family in (row["family"], "all")]
            hits, seconds = sum(row["success"] for row in mine), sum(row["seconds"] for row in mine)
            cells.append(f"{hits / len(mine):8.1%} {seconds:9.1f} s" if mine else "")
        print(f"{family:18}" + "".join(f"{cell:>20}" for cell in cells))


def _losses(rows: list[Row], n_losses: int) -> None:
    losses = sorted((row for row in rows if row["method"] == DEFAULT and not row["success"]), key=lambda r: -r["gap"])
    print(f"\n{DEFAULT}: {len(losses)} losses" + (", the worst by name:" if losses else ""))
    for row in losses[:n_losses]:
        why = "" if row["sound"] else "  (not sound)"
        print(f"  {row['gap']:10.5f} per row  {row['problem']}  [{row['half']}, random_state {row['seed']}]{why}")


def _against_rivals(rows: list[Row]) -> None:
    """How far below a sound rival's result the default ever ends."""
    own = {(row["problem"], row["seed"]): row for row in rows if row["method"] == DEFAULT}
    below = []
    for row in rows:
        mine = own.get((row["problem"], row["seed"]))
        if mine and row["method"] not in (DEFAULT, TRUTH) and row["sound"] and row["gap"] < mine["gap"] - REACHED:
            below.append((mine["gap"] - row["gap"], row["problem"], row["method"]))
    print(f"\n{DEFAULT} more than {REACHED:g} per row below a sound rival: {len(below)} times")
    for gap, problem, method in sorted(below, reverse=True)[:10]:
        print(f"  {gap:10.5f}  {problem}: {method}")


def _times(rows: list[Row]) -> None:
    """The default's time over its rivals', by size of the data."""
    seconds = {(row["problem"], row["seed"], row["method"]): row["seconds"] for row in rows}
    sizes = {"n <= 2000": (0, 2000), "2000 < n < 20 000": (2001, 19_999), "n >= 20 000": (20_000, np.inf)}
    print(f"\n{f'time of {DEFAULT} over':22}{'one random':>14}{'ten random':>14}{'largest':>12}")
    for name, (least, most) in sizes.items():
        mine = [row for row in rows if row["method"] == DEFAULT and least <= row["n_samples"] <= most]
        ratios = {
            rival: [
                row["seconds"] / seconds[key]
                for row in mine if (key := (row["problem"], row["seed"], rival)) in seconds
            ]
            for rival in ("one random", "ten random")
        }  # fmt: skip
        one, ten = ratios["one random"], ratios["ten random"]
        if one and ten:
            print(f"{name:22}{np.median(one):14.2f}{np.median(ten):14.2f}{max(row['seconds'] for row in mine):10.2f} s")


# ---- the run ----


def run(path: Path, todo: Iterable[Problem], methods: list[str]) -> None:
    """Every method on every problem that the CSV does not have yet."""
    done = {(row["problem"], int(row["seed"]), row["method"]) for row in read(path)} if path.exists() else set()
    is_new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", buffering=1) as lines:
        writer = csv.DictWriter(lines, FIELDS, restval="")
        if is_new:
            writer.writeheader()
        for problem in todo:
            left = [m for m in methods if applies(m, problem) and (problem.name, problem.seed, m) not in done]
            rows = [attempt(method, problem) for method in left]
            writer.writerows(rows)
            if rows:
                reached = "  ".join(f"{row['method']} {row['log_likelihood']:.2f}" for row in rows)
                seconds = sum(row["seconds"] for row in rows)
                print(f"{problem.name} [{problem.seed}] {seconds:.1f} s  {reached}", flush=True)


@cache
def _methods() -> list[str]:
    return [*METHODS, FLEXMIX] if rivals.flexmix_version() else list(METHODS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(FAMILIES), help="comma-separated (default: %(default)s)")
    parser.add_argument("--half", choices=("tune", "report", "both"), default="both", help="of the seeds")
    parser.add_argument("--methods", default=",".join(_methods()), help="comma-separated (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="folder of the real data sets; without it they are left out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="CSV to go on with (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="begin the CSV anew")
    parser.add_argument("--report", action="store_true", help="only the tables, from the CSV as it is")
    parser.add_argument("--losses", type=int, default=25, help="how many to name (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one small problem a family: a check")
    arguments = parser.parse_args()
    for name, known in (("families", FAMILIES), ("methods", _methods())):
        unknown = set(getattr(arguments, name).split(",")) - set(known)
        if unknown:
            parser.error(f"unknown {name} {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if arguments.quick:   # smaller problems of the same names: never beside the real ones
        arguments.out = arguments.out.with_stem(arguments.out.stem + "_quick")
    return arguments


def _warm_up() -> None:
    """Once a process: imports, and the label transforms of each activation, which are no part of a problem's time."""
    for activation in ("linear", "sigmoid", "tanh", "relu", "leaky_relu"):
        sim = mf.make_moe(200, 3, 2, activation=activation, random_state=0)
        mf.fit(sim.X, sim.y, 2, activation=activation, n_starts=2, random_state=0)


def main() -> None:
    machine.restart_without_openblas_settings()
    start = time.process_time()
    arguments = _arguments()
    warnings.simplefilter("ignore", UserWarning)   # what did not converge, or collapsed, is in the CSV
    if not arguments.report:
        if arguments.fresh:
            arguments.out.unlink(missing_ok=True)
        halves = ("tune", "report") if arguments.half == "both" else (arguments.half,)
        _warm_up()
        todo = problems(arguments.families.split(","), halves, arguments.data, arguments.quick)
        run(arguments.out, todo, arguments.methods.split(","))
    report(read(arguments.out), arguments.losses)
    print(f"\n{time.process_time() - start:.0f} s; {arguments.out}")


if __name__ == "__main__":
    main()
