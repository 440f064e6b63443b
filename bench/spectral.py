"""When the spectral start helps: its error with and without refinements, and how often EM from it succeeds.

    python bench/spectral.py error      # error of the experts, by setting
    python bench/spectral.py transforms # error of the experts by label transforms, with wild y too
    python bench/spectral.py start      # EM from it and from random starts: how many reach the optimum, by iterations

Each part prints a table and writes results/spectral_PART.csv.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
import numpy as np
from cases import ACTIVATIONS, Case, Data, draw

import moe_fast as mf
from moe_fast.activations import get_activation
from moe_fast.moments import Score
from moe_fast.rows import Rows
from moe_fast.spectral import TRANSFORMS, spectral

RESULTS = Path(__file__).with_name("results")
REFINEMENTS = (0, 1, 2)
REACHED = 1e-3   # log-likelihood per row: as near as this is the same optimum
ITERATIONS = (5, 20, 100)

Row = dict[str, Any]

BASE = Case("base", 10_000, 10, 3, noise_std=0.1, orthogonal_experts=True)
NORMAL = {
    "n = 10 000, d = 10, k = 3, noise 0.1": BASE,
    "n = 1000": BASE.sized(1_000),
    "n = 1000, d = 20": replace(BASE, n_samples=1_000, n_features=20),
    "n = 100 000": BASE.sized(100_000),
    "d = 20": replace(BASE, n_features=20),
    "k = 2": replace(BASE, n_experts=2),
    "k = 4": replace(BASE, n_experts=4),
    "k = 5": replace(BASE, n_experts=5),
    "noise 0.5": replace(BASE, noise_std=0.5),
    "experts in random directions": replace(BASE, orthogonal_experts=False),
    "gates of norm 5": replace(BASE, gate_norm=5.0),
    "intercepts of 0.5": replace(BASE, intercept=0.5, gate_intercept=0.5),
    "norms 0.5 to 2": replace(BASE, norms=(0.5, 2.0)),
}
OTHER_LAWS = ("correlated", "skewed", "heavy tails", "uniform", "clusters", "dummies")
COSINES = (0.3, 0.5, 0.7)   # of a gate to the experts' span

QUIET = replace(BASE, noise_std=0.0)   # whose noise is drawn by `wild`
# Setting, what is done to y, and the gates' cosine.
TRANSFORMED: dict[str, tuple[Case, str, float]] = {
    "n = 10 000, d = 10, k = 3, noise 0.1": (BASE, "", 0.0),
    "outliers in 2 % of y": (BASE, "outliers", 0.0),
    "near outliers in 5 % of y": (BASE, "near outliers", 0.0),
    "noise t, 3 degrees, 0.1": (QUIET, "t 3 0.1", 0.0),
    "noise t, 3 degrees, 0.5": (QUIET, "t 3 0.5", 0.0),
    "noise t, 2 degrees, 0.1": (QUIET, "t 2 0.1", 0.0),
    "noise 0.5": (NORMAL["noise 0.5"], "", 0.0),
    "n = 1000": (NORMAL["n = 1000"], "", 0.0),
    "k = 4": (NORMAL["k = 4"], "", 0.0),
    "intercepts of 0.5": (NORMAL["intercepts of 0.5"], "", 0.0),
    "norms 0.5 to 2": (NORMAL["norms 0.5 to 2"], "", 0.0),
    "skewed inputs": (replace(BASE, inputs="skewed"), "", 0.0),
    "heavy tails inputs": (replace(BASE, inputs="heavy tails"), "", 0.0),
} | {f"gates at cosine {cosine}": (BASE, "", cosine) for cosine in COSINES}

STARTS = {
    "3 linear, d = 10, n = 8000": Case("starts", 8_000, 10, 3),
    "4 linear, d = 10, n = 500": Case("starts", 500, 10, 4),
    "8 linear, d = 16, n = 5000": Case("starts", 5_000, 16, 8),
    "3 tanh, d = 10, n = 8000": Case("starts", 8_000, 10, 3, activation="tanh"),
    "3 ReLU, d = 10, n = 8000": Case("starts", 8_000, 10, 3, activation="relu"),
    "4 linear, skewed inputs": Case("starts", 4_000, 10, 4, inputs="skewed"),
    "4 linear, gates not orthogonal": Case("starts", 4_000, 10, 4, orthogonal_gate=False),
    "4 linear, intercepts, norms 0.5 to 2": Case(
        "starts", 4_000, 10, 4, intercept=1.0, gate_intercept=1.0, norms=(0.5, 2.0)
    ),
}  # fmt: skip


def tilted(case: Case, cosine: float, seed: int) -> Data:
    """A draw whose gates have this cosine to the span of the (orthonormal) experts."""
    data = draw(case, seed)
    rng = np.random.default_rng(seed)
    inside = rng.standard_normal((case.n_experts, case.n_experts)) @ data.coef
    inside /= np.linalg.norm(inside, axis=1, keepdims=True)
    gate = cosine * inside + np.sqrt(1.0 - cosine**2) * data.gate_coef
    gate[-1] = 0.0
    labels = np.argmax(data.X @ gate.T + rng.gumbel(size=(case.n_samples, case.n_experts)), axis=1)
    mean = ACTIVATIONS[case.activation](data.X @ data.coef.T)[np.arange(case.n_samples), labels]
    return replace(data, y=mean + case.noise_std * rng.standard_normal(case.n_samples), gate_coef=gate)


def wild(data: Data, kind: str, seed: int) -> Data:
    """The same rows with outliers in y, or with noise of a t law: "t", degrees of freedom, scale."""
    rng = np.random.default_rng([seed, 1])
    n = len(data.y)
    if kind.startswith("t "):
        _, degrees, scale = kind.split()
        return replace(data, y=data.y + float(scale) * rng.standard_t(float(degrees), n))
    share, unit, start = {
        "outliers": (0.02, data.y.std(), data.y.mean()),   # at 10 to 50 standard deviations of y, on either side
        "near outliers": (0.05, data.noise_std[0], data.y),   # of the noise, which leaves them among the others
    }[kind]
    far = unit * rng.choice([-1.0, 1.0], n) * rng.uniform(10.0, 50.0, n)
    return replace(data, y=np.where(rng.random(n) < share, start + far, data.y))


def direction_error(data: Data, coef: np.ndarray) -> float:
    """n times the mean squared error of the experts scaled to norm one, experts matched."""
    found, truth = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (coef, data.coef))
    found = found[mf.match_experts(found, truth)]
    return len(data.y) * float(np.mean(np.sum((found - truth) ** 2, axis=1)))


def error(n_seeds: int) -> list[Row]:
    """Error without and with refinements; sigma is not told."""
    results = []
    print(f"n * squared error of an expert's direction, medians of {n_seeds} seeds; ratios are medians too\n")
    print(f"{'':44}" + "".join(f"{f'{r} refined':>11}" for r in REFINEMENTS) + f"{'ratio':>9}{'worst':>9}")
    for activation in ("linear", "tanh", "sigmoid", "relu", "leaky_relu"):
        settings: dict[str, tuple[Case, float]] = {name: (case, 0.0) for name, case in NORMAL.items()}
        settings |= {f"{law} inputs": (replace(BASE, inputs=law), 0.0) for law in OTHER_LAWS}
        settings |= {f"gates at cosine {cosine}": (BASE, cosine) for cosine in COSINES}
        if activation in ("sigmoid", "leaky_relu"):   # like tanh and ReLU: the first settings do
            settings = dict(list(settings.items())[:4])
        for name, (case, cosine) in settings.items():
            case = replace(case, activation=activation)
            found = np.array([_errors(case, cosine, seed) for seed in range(n_seeds)])
            middle, ratio = np.median(found, axis=0), found[:, -1] / found[:, 0]
            results.append({
                "activation": activation, "setting": name,
                **{f"refined_{r}": value for r, value in zip(REFINEMENTS, middle, strict=True)},
                "ratio": float(np.median(ratio)), "worst_over_worst": found[:, -1].max() / found[:, 0].max(),
                "better": int(np.sum(ratio < 1.0)), "seeds": n_seeds,
            })  # fmt: skip
            figures = "".join(f"{value:11.1f}" for value in middle)
            print(f"{activation:12}{name:32}{figures}{np.median(ratio):9.2f}"
                  f"{results[-1]['worst_over_worst']:9.2f}{results[-1]['better']:4}", flush=True)  # fmt: skip
    return results


def transforms(n_seeds: int) -> list[Row]:
    """Error by label transforms, with the default refinements; sigma is not told."""
    results = []
    print(f"n * squared error of an expert's direction, medians of {n_seeds} seeds, and the worst seed\n")
    print(f"{'':44}" + "".join(f"{name:>24}" for name in TRANSFORMS))
    for activation in ("linear", "tanh", "sigmoid", "relu"):
        settings = list(TRANSFORMED.items())
        for name, (case, kind, cosine) in settings[:4] if activation == "sigmoid" else settings:
            found = []
            for seed in range(n_seeds):
                own = replace(case, activation=activation)
                data = tilted(own, cosine, seed) if cosine else draw(own, seed)
                data = wild(data, kind, seed) if kind else data
                found.append([direction_error(data, _spectral(data, transforms=one).coef) for one in TRANSFORMS])
            middle, worst = np.median(found, axis=0), np.max(found, axis=0)
            results.append({
                "activation": activation, "setting": name,
                **dict(zip(TRANSFORMS, middle, strict=True)),
                **{f"{one}_worst": value for one, value in zip(TRANSFORMS, worst, strict=True)},
                "seeds": n_seeds,
            })  # fmt: skip
            figures = "".join(f"{m:12.1f}{w:12.1f}" for m, w in zip(middle, worst, strict=True))
            print(f"{activation:12}{name:38}{figures}", flush=True)
    return results


def _errors(case: Case, cosine: float, seed: int) -> list[float]:
    data = tilted(case, cosine, seed) if cosine else draw(case, seed)
    return [direction_error(data, _spectral(data, n_refinements=r).coef) for r in REFINEMENTS]


def _spectral(data: Data, **options: Any) -> mf.SpectralResult:
    inputs = "standard_normal" if data.case.inputs == "normal" else "gaussian"
    return mf.fit_spectral(
        data.X, data.y, data.n_experts, activation=data.case.activation, inputs=inputs, random_state=0, **options
    )


def _start(data: Data, n_refinements: int) -> mf.MixtureOfExperts:
    """As `fit_em(init="spectral")` makes it."""
    rows = Rows(data.X, data.y)
    return spectral(
        rows, data.n_experts, get_activation(data.case.activation), Score.of_normal(rows), np.random.default_rng(0),
        norms="common" if data.case.activation == "linear" else "unit", n_refinements=n_refinements,
    ).model  # fmt: skip


def start(n_seeds: int) -> list[Row]:
    """Everything free: how many of the data sets EM has brought to the optimum of EM from the truth, by iterations."""
    results = []
    print(f"of {n_seeds} data sets, how many EM has brought to the optimum after {ITERATIONS} iterations\n")
    for name, case in STARTS.items():
        reached: dict[str, np.ndarray] = {}
        for seed in range(n_seeds):
            data = draw(case, seed)
            options: dict[str, Any] = {"activation": case.activation, "random_state": seed}
            best = mf.fit_em(data.X, data.y, case.n_experts, init=data.truth, **options).log_likelihood
            inits: dict[str, Any] = {f"spectral, {r} refinements": _start(data, r) for r in (0, 2)}
            inits |= {"random": "random", "partition": "partition"}
            for kind, init in inits.items():
                fit = mf.fit_em(data.X, data.y, case.n_experts, init=init, max_iter=ITERATIONS[-1], **options)
                climb = np.maximum.accumulate(fit.history)
                values = np.array([climb[min(n_iter, len(climb) - 1)] for n_iter in ITERATIONS])
                hits = values >= best - REACHED * len(data.y)
                reached[kind] = reached.get(kind, np.zeros(len(ITERATIONS), int)) + hits
        print(name)
        for kind, hits in reached.items():
            print(f"    {kind:26}" + "".join(f"{hit:6}" for hit in hits), flush=True)
            results.append({
                "setting": name, "start": kind,
                **{f"after_{n_iter}": int(hit) for n_iter, hit in zip(ITERATIONS, hits, strict=True)},
                "seeds": n_seeds,
            })  # fmt: skip
    return results


PARTS = {"error": error, "transforms": transforms, "start": start}


def main() -> None:
    machine.restart_without_openblas_settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the CSV files (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", UserWarning)   # too few rows, no convergence: the figures show it
    for part in arguments.parts:
        begin = time.perf_counter()
        results = PARTS[part](arguments.seeds)
        with (arguments.out / f"spectral_{part}.csv").open("w", newline="") as lines:
            writer = csv.DictWriter(lines, list(results[0]))
            writer.writeheader()
            writer.writerows(results)
        print(f"\n{time.perf_counter() - begin:.1f} s; {arguments.out / f'spectral_{part}.csv'}\n")


if __name__ == "__main__":
    main()
