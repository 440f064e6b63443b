"""How often confidence intervals cover the truth: experts, gate and noise, from the information and robust.

    python bench/coverage.py                            # 1000 fits a case: the table of docs/inference.md
    python bench/coverage.py --fits 100 --cases linear,relu

A fit starts at the truth, so that what is measured is the intervals and not the search. Each fit has a truth and rows
of its own, but for "uneven noise", where the model is wrong and the truth is what it comes to on a million rows.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np

import moe_fast as mf

OUT = Path(__file__).with_name("results") / "coverage.csv"
LEVEL, REACH = 0.95, 1.959963984540054
BLOCKS = ("experts", "gate", "noise", "noise symmetric")
COVARIANCES = ("observed", "sandwich")
MILLION = 1_000_000


@dataclass(frozen=True)
class Case:
    """Three experts, four features, intercepts; the gate's norm is one."""

    activation: str = "linear"
    expert_norms: float = 1.0
    noise_std: tuple[float, ...] = (0.2, 0.3, 0.4)
    n_samples: int = 2000
    uneven: bool = False   # noise that grows with the first feature, which the model does not have

    def draw(self, seed: int) -> mf.Simulation:
        return mf.make_moe(
            self.n_samples, 4, 3, activation=self.activation, expert_norms=self.expert_norms, noise_std=self.noise_std,
            orthogonal_gate=False, intercept=1.0, gate_intercept=0.5, random_state=seed,
        )  # fmt: skip


CASES = {
    "linear": Case(),
    "tanh": Case("tanh", 2.0, (0.08, 0.1, 0.12)),
    "sigmoid": Case("sigmoid", 4.0, (0.04, 0.05, 0.06)),
    "relu": Case("relu", 2.0),
    "leaky_relu": Case("leaky_relu", 2.0),
    "linear 300 rows": Case(n_samples=300),
    "linear uneven noise": Case(uneven=True),
}


def uneven(model: mf.MixtureOfExperts, n_samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose noise is sqrt((1 + x^2) / 2) times what the model says, x the first feature."""
    X = rng.standard_normal((n_samples, model.n_features))
    y, labels = model.sample(X, rng)
    mean = np.take_along_axis(model.expert_means(X), labels[:, None], axis=1)[:, 0]
    return X, mean + (y - mean) * np.sqrt(0.5 * (1.0 + X[:, 0] ** 2))


def covered(found: mf.Inference, truth: mf.MixtureOfExperts) -> dict[str, np.ndarray]:
    """For each block, 1 where the interval covers, 0 where not, NaN where there is none."""

    def inside(ends: np.ndarray, value: np.ndarray) -> np.ndarray:
        hit = ((ends[..., 0] <= value) & (value <= ends[..., 1])).astype(float)
        return np.where(np.isnan(ends[..., 0]), np.nan, hit).ravel()

    ends, noise, error = found.conf_int(LEVEL), found.model.noise_std, found.standard_errors.noise_std
    plain = noise[:, None] + np.array([-REACH, REACH]) * error[:, None]
    return {
        "experts": np.concatenate([inside(ends.intercept, truth.intercept), inside(ends.coef, truth.coef)]),
        "gate": np.concatenate([
            inside(ends.gate_intercept[:-1], truth.gate_intercept[:-1]),
            inside(ends.gate_coef[:-1], truth.gate_coef[:-1]),
        ]),
        "noise": inside(ends.noise_std, truth.noise_std),
        "noise symmetric": inside(plain, truth.noise_std),
    }  # fmt: skip


def measure(name: str, n_fits: int) -> list[dict[str, Any]]:
    case = CASES[name]
    began = time.perf_counter()
    hits: dict[tuple[str, str], list[np.ndarray]] = {(c, b): [] for c in COVARIANCES for b in BLOCKS}
    n_odd = 0
    if case.uneven:
        drawn = case.draw(0).model
        wide = uneven(drawn, MILLION, np.random.default_rng(0))
        fixed = mf.fit_em(*wide, 3, init=drawn).model
        fixed = fixed.permute(mf.match_experts(fixed, drawn))
    for seed in range(n_fits):
        if case.uneven:
            truth, (X, y) = fixed, uneven(drawn, case.n_samples, np.random.default_rng(1 + seed))
        else:
            sim = case.draw(seed)
            truth, X, y = sim.model, sim.X, sim.y
        with warnings.catch_warnings():   # fits that collapse or do not converge are counted
            warnings.simplefilter("ignore")
            fit = mf.fit_em(X, y, 3, init=truth, activation=case.activation)
            n_odd += not fit.converged or fit.penalised
            model = fit.model.permute(mf.match_experts(fit.model, truth))
            for covariance in COVARIANCES:
                for block, hit in covered(mf.infer(model, X, y, covariance=covariance), truth).items():
                    hits[covariance, block].append(hit)
    results = []
    for (covariance, block), found in hits.items():
        values = np.array(found)
        by_fit = np.nanmean(values, axis=1)
        by_fit = by_fit[~np.isnan(by_fit)]
        results.append({
            "case": name, "n_samples": case.n_samples, "fits": n_fits, "covariance": covariance, "block": block,
            "coverage": np.nanmean(values), "std_err": by_fit.std(ddof=1) / np.sqrt(len(by_fit)),
            "intervals": int((~np.isnan(values)).sum()), "undetermined": int(np.isnan(values).sum()),
            "not_converged_or_collapsed": n_odd, "seconds": round(time.perf_counter() - began, 1),
            "moe_fast": machine.describe()["moe_fast"],
        })  # fmt: skip
    return results


def table(results: list[dict[str, Any]]) -> str:
    """In percent; a row a case and covariance."""
    lines = [f"| case | covariance | {' | '.join(BLOCKS)} |", "|---" * (2 + len(BLOCKS)) + "|"]
    found = {(row["case"], row["covariance"], row["block"]): row["coverage"] for row in results}
    for name, covariance in dict.fromkeys((row["case"], row["covariance"]) for row in results):
        cells = [f"{100 * found[name, covariance, block]:.1f}" for block in BLOCKS]
        lines.append(f"| {name} | {covariance} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    machine.restart_without_openblas_settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=int, default=1000, help="a case (default: %(default)s)")
    parser.add_argument("--cases", help=f"comma-separated (default: all): {', '.join(CASES)}")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    for name in arguments.cases.split(",") if arguments.cases else CASES:
        results += measure(name, arguments.fits)
        print(table([row for row in results if row["case"] == name]), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(results[0]))
        writer.writeheader()
        writer.writerows(results)
    print(f"\n{table(results)}")


if __name__ == "__main__":
    main()
