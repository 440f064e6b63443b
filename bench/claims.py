"""Statistical claims: what the estimates reach, against theory and against the best optimum known.

    python bench/claims.py moments             # population moments: error * sqrt(n) is constant
    python bench/claims.py constants           # n * squared error of the spectral step
    python bench/claims.py bounds              # Spectral + EM against the Cramer-Rao bound
    python bench/claims.py eight               # k=8 d=16 n=5000, sigma held: Spectral + EM against random starts
    python bench/claims.py efficiency          # all parameters free: `fit` against EM from the truth
    python bench/claims.py data --data DIR     # real data: value, time and hits of `fit`
    python bench/claims.py all --data DIR

Each part prints a table and writes results/claims_PART.csv. --seeds says how many data sets (real data: values of
random_state) a number is from.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import machine
import numpy as np
from cases import Case, Data, draw

import moe_fast as mf
from moe_fast import reference
from moe_fast.activations import get_activation, label_transform
from moe_fast.inputs import StandardNormal
from moe_fast.moments import Polynomial, Score, second_moment, whitened_third_moment
from moe_fast.rows import Rows

RESULTS = Path(__file__).with_name("results")
ACTIVATIONS = ("linear", "tanh", "sigmoid", "relu", "leaky_relu")
NOISE_STD = 0.1
REACHED = 1e-3   # log-likelihood per row: as near as this is the same optimum

# k=3, d=10, sigma=.1: what the spectral step should reach, and the Cramer-Rao bound of n E|error|^2 for an expert of
# norm one and for the whole gate (docs/math.md, section 6). Leaky ReLU has no bound.
CONSTANTS = {
    "linear": "80", "tanh": "100", "sigmoid": "207", "relu": "750", "leaky_relu": "783",
}  # fmt: skip
EXPERT_BOUNDS = {"linear": 0.312, "tanh": 0.729, "sigmoid": 10.76, "relu": 0.683}
GATE_BOUNDS = {"linear": 171.0, "tanh": 197.0, "sigmoid": 325.0, "relu": 270.0}

Row = dict[str, Any]


def theory(activation: str, n_samples: int) -> Case:
    """k=3, d=10, sigma=.1: orthonormal experts, unit gates orthogonal to them."""
    return Case(
        f"theory {activation}", n_samples, 10, 3, noise_std=NOISE_STD, activation=activation, orthogonal_experts=True
    )


# ---- population moments ----


def moments(n_seeds: int) -> list[Row]:
    """Relative error of the kernels' T2 and T3, times sqrt(n): the same for every n.

    Root mean square and median over seeds: ReLU's T3 has heavy tails, and at small n the two are far apart.
    """
    results = []
    print(f"relative error of T2 and T3 times sqrt(n), {n_seeds} seeds\n")
    print(f"{'':12}{'n':>9}{'T2 rms':>10}{'median':>10}{'T3 rms':>10}{'median':>10}")
    for activation in ACTIVATIONS:
        for n in (1_000, 10_000, 100_000, 1_000_000):
            errors = np.sqrt(n) * np.array([_moment_errors(data) for data in _draws(theory(activation, n), n_seeds)])
            rms, middle = np.sqrt(np.mean(errors**2, axis=0)), np.median(errors, axis=0)
            results.append({
                "activation": activation, "n_samples": n, "T2_rms": rms[0], "T2_median": middle[0],
                "T3_rms": rms[1], "T3_median": middle[1], "seeds": n_seeds,
            })  # fmt: skip
            figures = rms[0], middle[0], rms[1], middle[1]
            print(f"{activation:12}{n:9}" + "".join(f"{figure:10.2f}" for figure in figures), flush=True)
    return results


def _moment_errors(data: Data) -> tuple[float, float]:
    rows = Rows(data.X, data.y)
    transform = label_transform(get_activation(data.case.activation))
    quadratic = Polynomial.centred(rows, transform.gamma, 1.0, 0.0)
    cubic = Polynomial.centred(rows, transform.beta(NOISE_STD), transform.alpha, 1.0)
    score = Score.of(StandardNormal(data.X.shape[1]), rows)
    share = _mean_gate_proba(data.gate_coef)
    frame = data.coef.T    # orthonormal: T3 is seen along the experts
    exact_T2 = transform.c2 * (data.coef.T * share) @ data.coef
    exact_T3 = np.zeros((len(share),) * 3)
    exact_T3[np.diag_indices(len(share), 3)] = transform.c3 * share
    T2, T3 = second_moment(rows, quadratic, score), whitened_third_moment(rows, cubic, score, frame)
    return _relative(T2, exact_T2), _relative(T3, exact_T3)


def _relative(value: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(value - exact) / np.linalg.norm(exact))


def _mean_gate_proba(gate_coef: np.ndarray, n_nodes: int = 60) -> np.ndarray:
    """E[softmax(W x)] for x ~ N(0, I), by quadrature over the k - 1 logits."""
    free = gate_coef[:-1]
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    grid = np.stack(np.meshgrid(*[nodes] * len(free), indexing="ij"), axis=-1).reshape(-1, len(free))
    weight = np.prod(np.stack(np.meshgrid(*[weights] * len(free), indexing="ij"), axis=-1), axis=-1).ravel()
    odds = np.exp(grid @ np.linalg.cholesky(free @ free.T).T)
    odds = np.column_stack([odds, np.ones(len(odds))])
    return weight @ (odds / odds.sum(axis=1, keepdims=True)) / weight.sum()


# ---- the spectral step ----


def constants(n_seeds: int) -> list[Row]:
    """n * mean over experts of |a - estimate|^2, median over seeds."""
    results = []
    print(f"n * squared error of the spectral step, k=3 d=10 sigma=.1 n=10000, median of {n_seeds} seeds\n")
    print(f"{'':12}{'orthonormal experts':>21}{'random directions':>19}   to reach")
    for activation in ACTIVATIONS:
        medians = []
        for case in (theory(activation, 10_000), Case(f"random {activation}", 10_000, 10, 3, activation=activation)):
            found = [n_squared_error(data, _spectral(data).coef) for data in _draws(case, n_seeds)]
            medians.append(float(np.median(found)))
        aim = CONSTANTS.get(activation, "")
        results.append(
            {"activation": activation, "orthonormal": medians[0], "random": medians[1], "aim": aim, "seeds": n_seeds}
        )
        print(f"{activation:12}{medians[0]:21.1f}{medians[1]:19.1f}   {aim}", flush=True)
    return results


def _draws(case: Case, n_seeds: int) -> Iterator[Data]:
    return (draw(case, seed) for seed in range(n_seeds))


def _spectral(data: Data) -> mf.SpectralResult:
    return mf.fit_spectral(
        data.X, data.y, data.n_experts, activation=data.case.activation, noise_std=NOISE_STD, random_state=0
    )


def n_squared_error(data: Data, coef: np.ndarray) -> float:
    """n * mean over experts of the squared error, experts matched."""
    coef = coef[mf.match_experts(coef, data.coef)]
    return len(data.y) * float(np.mean(np.sum((coef - data.coef) ** 2, axis=1)))


# ---- Spectral + EM ----

_THEORY = {"fit_intercept": False, "gate_intercept": False}


def spectral_em(data: Data) -> mf.FitResult:
    """Spectral step, EM for the gate, joint EM: sigma held at its true value, no intercepts."""
    gated = mf.fit_gate(data.X, data.y, _spectral(data).model, gate_intercept=False).model
    return mf.fit_em(
        data.X, data.y, data.n_experts, init=gated, activation=data.case.activation, noise=NOISE_STD, **_THEORY
    )


def random_model(data: Data, seed: int) -> mf.MixtureOfExperts:
    """Experts of norm one in random directions, a flat gate, sigma at its true value."""
    start = reference.random_start(data.X, data.y, data.n_experts, rng=np.random.default_rng(seed))
    return mf.MixtureOfExperts(start.coef[:, 1:], noise_std=NOISE_STD, activation=data.case.activation)


def bounds(n_seeds: int) -> list[Row]:
    """n * squared error of Spectral + EM over its bound; experts are normalised first."""
    results = []
    print(f"Spectral + EM over the Cramer-Rao bound, k=3 d=10 sigma=.1 held, n=10000, {n_seeds} seeds\n")
    heads = "n |error|^2", "bound", "ratio", "s.e.", "ratio - 2 s.e.", "gate", "over its bound"
    print(" " * 12 + "".join(f"{head:>16}" for head in heads))
    for activation in ACTIVATIONS:
        experts, gates = [], []
        for data in _draws(theory(activation, 10_000), n_seeds):
            model = spectral_em(data).model
            model = model.permute(mf.match_experts(model.coef, data.coef))
            unit = model.coef / np.linalg.norm(model.coef, axis=1, keepdims=True)
            experts.append(n_squared_error(data, unit))
            gates.append(len(data.y) * float(np.sum((model.gate_coef - data.gate_coef) ** 2)))
        error, gate = float(np.mean(experts)), float(np.mean(gates))
        bound, gate_bound = EXPERT_BOUNDS.get(activation, np.nan), GATE_BOUNDS.get(activation, np.nan)
        ratio, spread = error / bound, float(np.std(experts, ddof=1) / np.sqrt(n_seeds) / bound)
        results.append({
            "activation": activation, "error": error, "bound": bound, "ratio": ratio, "standard_error": spread,
            "lower": ratio - 2 * spread, "gate_error": gate, "gate_ratio": gate / gate_bound, "seeds": n_seeds,
        })  # fmt: skip
        figures = error, bound, ratio, spread, ratio - 2 * spread, gate, gate / gate_bound
        print(f"{activation:12}" + "".join(f"{figure:16.3f}" for figure in figures), flush=True)
    return results


def eight(n_seeds: int) -> list[Row]:
    """Share of data sets where the end is EM's from the truth, within 1e-3 per row.

    From a model given, sigma is held from the first iteration, as in the source; from a kind of start named, `fit_em`
    estimates it for a while first.
    """
    case = Case("eight experts", 5_000, 16, 8, noise_std=NOISE_STD)

    def held(data: Data, init: str | mf.MixtureOfExperts, seed: int) -> mf.FitResult:
        return mf.fit_em(data.X, data.y, 8, init=init, noise=NOISE_STD, random_state=seed, **_THEORY)

    methods: dict[str, Callable[[Data, int], mf.FitResult]] = {
        "Spectral + EM": lambda data, seed: held(data, "spectral", seed),
        "random start": lambda data, seed: held(data, "random", seed),
        "Spectral + EM, sigma held throughout": lambda data, seed: spectral_em(data),
        "random start, sigma held throughout": lambda data, seed: held(data, random_model(data, seed), seed),
    }
    results, reached = [], dict.fromkeys(methods, 0)
    for seed, data in enumerate(_draws(case, n_seeds)):
        truth = mf.fit_em(data.X, data.y, 8, init=data.truth, noise=NOISE_STD, **_THEORY).log_likelihood
        for method, run in methods.items():
            start = time.perf_counter()
            gap = (truth - run(data, seed).log_likelihood) / len(data.y)
            taken = time.perf_counter() - start
            results.append({"method": method, "seed": seed, "gap": gap, "seconds": taken})
            reached[method] += gap <= REACHED
    print("k=8 d=16 n=5000, sigma held at .1: share at the optimum of EM from the truth\n")
    for method, hits in reached.items():
        seconds = np.median([row["seconds"] for row in results if row["method"] == method])
        print(f"{method:38}{hits} of {n_seeds} ({hits / n_seeds:.0%}), median {1e3 * seconds:.0f} ms")
    return results


def efficiency(n_seeds: int) -> list[Row]:
    """Free norms, intercepts and a noise each: squared error of `fit` over that of EM from the truth."""
    results = []
    print(f"error of a of `fit` over that of EM from the truth, all free, k=3 d=10 n=10000, {n_seeds} seeds\n")
    print(f"{'':12}{'fit':>10}{'truth':>10}{'ratio':>9}{'s.e.':>8}{'ratio - 2 s.e.':>16}")
    for activation in ACTIVATIONS:
        case = Case(
            f"free {activation}", 10_000, 10, 3, activation=activation, intercept=0.5, gate_intercept=0.5,
            norms=(0.5, 2.0), noise_ratio=3.0,
        )  # fmt: skip
        pairs = []
        for data in _draws(case, n_seeds):
            options = {"activation": activation, "random_state": 0}
            fits = mf.fit(data.X, data.y, 3, **options), mf.fit_em(data.X, data.y, 3, init=data.truth, **options)
            pairs.append([n_squared_error(data, fit.model.coef) for fit in fits])
        own, truth = np.transpose(pairs)
        ratio = own.mean() / truth.mean()
        # Of a ratio of means, by its linear part.
        spread = np.std(own - ratio * truth, ddof=1) / np.sqrt(n_seeds) / truth.mean()
        results.append({
            "activation": activation, "fit": own.mean(), "truth": truth.mean(), "ratio": ratio,
            "standard_error": spread, "lower": ratio - 2 * spread, "seeds": n_seeds,
        })  # fmt: skip
        print(
            f"{activation:12}{own.mean():10.3f}{truth.mean():10.3f}{ratio:9.3f}{spread:8.3f}{ratio - 2 * spread:16.3f}",
            flush=True,
        )
    return results


# ---- real data ----


def data(n_seeds: int, folder: Path) -> list[Row]:
    """What `fit` reaches with its defaults, how often, and how fast."""
    import datasets

    results = []
    print(f"`fit` with its defaults on real data, random_state 0 to {n_seeds - 1}\n")
    print(f"{'':18}{'best known':>13}{'best':>13}{'median':>13}{'hits':>10}{'median s':>10}{'slowest s':>11}")
    for problem in datasets.PROBLEMS:
        X, y = problem.load(folder)
        fits = [mf.fit(X, y, problem.n_experts, random_state=seed) for seed in range(n_seeds)]
        sound = np.array([not (fit.penalised or fit.separated) for fit in fits])
        values, seconds = np.array([fit.log_likelihood for fit in fits]), np.array([fit.seconds for fit in fits])
        mark = max(problem.best, values[sound].max(initial=-np.inf))
        hits = int(np.sum(values >= mark - REACHED * len(y)))
        for seed, fit in enumerate(fits):
            results.append({
                "problem": problem.name, "seed": seed, "log_likelihood": fit.log_likelihood,
                "best_known": problem.best, "mark": mark, "hit": fit.log_likelihood >= mark - REACHED * len(y),
                "seconds": fit.seconds, "n_passes": fit.n_passes, "converged": fit.converged,
                "penalised": fit.penalised, "separated": bool(fit.separated),
            })  # fmt: skip
        print(
            f"{problem.name:18}{problem.best:13.4f}{values.max():13.4f}{np.median(values):13.4f}"
            f"{hits:5} of {n_seeds:<2}{np.median(seconds):9.3f}{seconds.max():11.3f}",
            flush=True,
        )
    return results


# How many seeds the claims are made of.
PARTS: dict[str, tuple[Callable[..., list[Row]], int]] = {
    "moments": (moments, 20),
    "constants": (constants, 20),
    "bounds": (bounds, 50),
    "eight": (eight, 40),
    "efficiency": (efficiency, 50),
    "data": (data, 20),
}


def main() -> None:
    machine.restart_without_openblas_settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "all"])
    parser.add_argument("--seeds", type=int, help="instead of what the claim is about")
    parser.add_argument("--data", type=Path, help="folder of the real data sets")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the CSV files (default: %(default)s)")
    arguments = parser.parse_args()
    parts = list(PARTS) if "all" in arguments.parts else arguments.parts
    if "data" in parts and arguments.data is None:
        parser.error("real data: name their folder by --data")
    arguments.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", UserWarning)   # what did not converge shows in the figures
    for part in parts:
        run, n_seeds = PARTS[part]
        start = time.perf_counter()
        folder = (arguments.data,) if part == "data" else ()
        print()
        results = run(arguments.seeds or n_seeds, *folder)
        with (arguments.out / f"claims_{part}.csv").open("w", newline="") as lines:
            writer = csv.DictWriter(lines, list(results[0]))
            writer.writeheader()
            writer.writerows(results)
        print(f"\n{time.perf_counter() - start:.1f} s; {arguments.out / f'claims_{part}.csv'}")


if __name__ == "__main__":
    main()
