"""The experiment behind ``moe-fast compare``: how the errors of experts and gate fall with EM's iterations.

Data simulated as the theory has them. In a run all methods see the same rows, all random starts are the same experts,
and nothing but what a method's name says differs. EM begun at the truth, which nobody knows, shows what can be
reached.
"""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import reference
from .fit import fit_em
from .model import MixtureOfExperts, match_experts
from .simulate import Simulation, make_moe
from .spectral import fit_spectral

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["METHODS", "SETTINGS", "Method", "Outcome", "Setting", "plot", "report", "run", "write_csv"]

FloatArray = NDArray[np.float64]

NOISE_STD = 0.1
GATE_NORM = 1.0
REACHED = 1e-3       # in log-likelihood per row: as near as this to EM from the truth counts as the optimum
BAND = (0.1, 0.9)    # quantiles over runs that the figure's bands span


@dataclass(frozen=True)
class Setting:
    """A kind of data set: a column of the figure."""

    n_experts: int
    n_features: int
    n_samples: int
    activation: str = "linear"

    def __str__(self) -> str:
        return f"{self.n_experts} {self.activation} experts, d = {self.n_features}, n = {self.n_samples}"


# k = 4 and k = 8 are known to defeat random starts when the noise is held; the other two are not.
SETTINGS = (
    Setting(n_experts=3, n_features=10, n_samples=8000),
    Setting(n_experts=4, n_features=10, n_samples=500),
    Setting(n_experts=8, n_features=16, n_samples=5000),
    Setting(n_experts=3, n_features=10, n_samples=8000, activation="tanh"),
)


@dataclass(frozen=True)
class Method:
    """A way to fit: a line of the figure."""

    start: str                  # "random", "spectral" or "truth"
    noise: str = "held"         # "held" at the true value, or "estimated" for each expert, from the target's spread
    m_step: str = "newton"      # EM's own M-step, or one "gradient" step

    def __str__(self) -> str:
        if self == TRUTH:
            return "what EM from the truth leaves"
        algorithm = "EM" if self.m_step == "newton" else "EM by gradient steps"
        return f"{self.start} start, {algorithm}, σ {self.noise}"


TRUTH = Method("truth")
METHODS = (
    Method("random"),
    Method("random", noise="estimated"),
    Method("random", m_step="gradient"),
    Method("spectral"),
    Method("spectral", noise="estimated"),
    TRUTH,
)


@dataclass(frozen=True)
class Outcome:
    """What a method did in a setting; arrays of shape (n_runs, n_iter + 1)."""

    setting: Setting
    method: Method
    coef_error: FloatArray       # root mean square over experts of the distance to the true one
    gate_error: FloatArray       # the same over the gate's rows but the last, which is zero
    log_likelihood: FloatArray   # per row


def run(
    settings: Sequence[Setting] = SETTINGS,
    *,
    n_runs: int = 20,
    n_iter: int = 100,
    n_threads: int | None = None,
    random_state: int = 0,
    progress: Callable[[str], None] | None = None,
) -> list[Outcome]:
    """Run every method in every setting.

    Parameters
    ----------
    settings : sequence of Setting
        Kinds of data set.
    n_runs : int, default 20
        Data sets of each kind, each with a random start of its own.
    n_iter : int, default 100
        Iterations of each method.
    n_threads : int, optional
        As in `fit_em`.
    random_state : int, default 0
        A run's data and start depend on this, its setting and its number alone.
    progress : callable, optional
        Called with a line of text after each run.

    Returns
    -------
    outcomes : list of Outcome
        One for each setting and method, in that order.
    """
    outcomes = []
    for setting in settings:
        paths: list[FloatArray] = []
        for r in range(n_runs):
            seed = [random_state, setting.n_experts, setting.n_features, setting.n_samples, r]
            rng = np.random.default_rng(seed)
            simulation = make_moe(
                setting.n_samples,
                setting.n_features,
                setting.n_experts,
                activation=setting.activation,
                noise_std=NOISE_STD,
                gate_norm=GATE_NORM,
                random_state=rng,
            )
            starts = _starts(simulation, rng, n_threads)
            paths.append(
                np.array([_path(simulation, method, starts[method.start], n_iter, n_threads) for method in METHODS])
            )
            if progress:
                progress(f"{setting}: run {r + 1} of {n_runs}")
        by_method = np.array(paths).transpose(1, 3, 0, 2)   # (method, quantity, run, iteration)
        outcomes += [Outcome(setting, method, *values) for method, values in zip(METHODS, by_method, strict=True)]
    return outcomes


def _starts(simulation: Simulation, rng: np.random.Generator, n_threads: int | None) -> dict[str, MixtureOfExperts]:
    """A model for each kind of start; gates of zeros but for the truth."""
    truth = simulation.model
    directions = rng.standard_normal(truth.coef.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)   # too few rows for a clear spectral start show in its error
        spectral = fit_spectral(
            simulation.X,
            simulation.y,
            truth.n_experts,
            activation=truth.activation,
            noise_std=NOISE_STD,
            n_threads=n_threads,
            random_state=rng,
        )
    experts = {"random": directions / np.linalg.norm(directions, axis=1, keepdims=True), "spectral": spectral.coef}
    models = {
        start: MixtureOfExperts(coef, noise_std=NOISE_STD, activation=truth.activation)
        for start, coef in experts.items()
    }
    return {**models, "truth": truth}


def _path(
    simulation: Simulation, method: Method, start: MixtureOfExperts, n_iter: int, n_threads: int | None
) -> FloatArray:
    """Errors of experts and gate, and log-likelihood per row, at the start and after each iteration."""
    fit = _gradient_em if method.m_step == "gradient" else _em
    points: list[tuple[float, float, float]] = []
    fit(simulation, method, start, n_iter, n_threads, lambda model: points.append(_quality(model, simulation)))
    points += points[-1:] * (n_iter + 1 - len(points))   # a fit that has converged stays where it is
    return np.array(points)


def _quality(model: MixtureOfExperts, simulation: Simulation) -> tuple[float, float, float]:
    truth = simulation.model
    model = model.permute(match_experts(model, truth))
    coef_error = np.linalg.norm(model.coef - truth.coef) / np.sqrt(truth.n_experts)
    gate_error = np.linalg.norm(model.gate_coef - truth.gate_coef) / np.sqrt(truth.n_experts - 1)
    return float(coef_error), float(gate_error), model.log_likelihood(simulation.X, simulation.y) / len(simulation.y)


def _em(
    simulation: Simulation,
    method: Method,
    start: MixtureOfExperts,
    n_iter: int,
    n_threads: int | None,
    record: Callable[[MixtureOfExperts], None],
) -> None:
    noise: str | float = NOISE_STD
    if method.noise == "estimated":
        # From the target's own spread: while the noise is large, experts are free to move.
        noise, spread = "per_expert", float(np.std(simulation.y))
        start = MixtureOfExperts(start.coef, noise_std=spread, activation=start.activation)
    record(start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)   # to stop before convergence is meant
        fit_em(
            simulation.X,
            simulation.y,
            start.n_experts,
            init=start,
            activation=start.activation,
            noise=noise,
            fit_intercept=False,
            gate_intercept=False,
            max_iter=n_iter,
            n_threads=n_threads,
            newton=False,
            callback=lambda state: record(state.model),
        )


def _gradient_em(
    simulation: Simulation,
    method: Method,
    start: MixtureOfExperts,
    n_iter: int,
    n_threads: int | None,
    record: Callable[[MixtureOfExperts], None],
) -> None:
    params = reference.Params(
        np.column_stack([start.intercept, start.coef]),
        np.column_stack([start.gate_intercept, start.gate_coef]),
        start.noise_std,
    )
    record(start)
    for _ in range(n_iter):
        sums = reference.em_statistics_blocks(
            simulation.X, simulation.y, params, activation=start.activation, hessian=False
        )
        params = reference.gradient_step(sums, params, NOISE_STD, fit_intercept=False, gate_intercept=False)
        record(
            MixtureOfExperts(
                params.coef[:, 1:],
                gate_coef=params.gate[:, 1:],
                noise_std=params.noise_std,
                activation=start.activation,
            )
        )


# ---- what came out ----


def iterations_to_optimum(outcome: Outcome, truth: Outcome) -> FloatArray:
    """Iterations of each run until its likelihood is that of EM from the truth; NaN where it never is."""
    near = outcome.log_likelihood >= truth.log_likelihood[:, -1:] - REACHED
    return np.where(near.any(axis=1), near.argmax(axis=1), np.nan)


def report(outcomes: Sequence[Outcome]) -> str:
    """A table: runs at the optimum, after how many iterations, and the mean errors at the end."""
    lines = []
    for setting, truth, group in _by_setting(outcomes):
        n_runs, n_points = truth.coef_error.shape
        lines.append(f"{setting}: {n_runs} runs of {n_points - 1} iterations")
        lines.append(f"  {'':48}{'at optimum':>10}{'iterations':>12}{'expert error':>14}{'gate error':>12}")
        for outcome in group:
            reached, median = _reached(outcome, truth)
            lines.append(
                f"  {outcome.method!s:48}{f'{reached}/{n_runs}':>10}{median:>12}"
                f"{outcome.coef_error[:, -1].mean():>14.4f}{outcome.gate_error[:, -1].mean():>12.4f}"
            )
        lines.append("")
    lines += [
        f"at optimum: log-likelihood per row within {REACHED:g} of EM from the truth; iterations: their median",
        "errors: means over runs at the end; root mean square distance over experts, and over the gate's rows",
    ]
    return "\n".join(lines)


def write_csv(outcomes: Sequence[Outcome], path: str | os.PathLike[str]) -> None:
    """Write every run's numbers, one row an iteration."""
    columns = ["n_experts", "n_features", "n_samples", "activation", "start", "noise", "m_step"]
    columns += ["run", "iteration", "coef_error", "gate_error", "log_likelihood"]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for outcome in outcomes:
            setting, method = outcome.setting, outcome.method
            about = [setting.n_experts, setting.n_features, setting.n_samples, setting.activation]
            about += [method.start, method.noise, method.m_step]
            values = np.stack([outcome.coef_error, outcome.gate_error, outcome.log_likelihood], axis=2)
            for r, iteration in np.ndindex(values.shape[:2]):
                writer.writerow([*about, r, iteration, *(f"{value:.8g}" for value in values[r, iteration])])


def _by_setting(outcomes: Sequence[Outcome]) -> list[tuple[Setting, Outcome, list[Outcome]]]:
    """(setting, EM from the truth, the other methods) for each setting."""
    groups = []
    for setting in dict.fromkeys(outcome.setting for outcome in outcomes):
        here = {outcome.method: outcome for outcome in outcomes if outcome.setting == setting}
        groups.append((setting, here.pop(TRUTH), list(here.values())))
    return groups


def _reached(outcome: Outcome, truth: Outcome) -> tuple[int, str]:
    """How many runs reached the optimum, and in how many iterations (median), as text."""
    needed = iterations_to_optimum(outcome, truth)
    reached = np.isfinite(needed)
    return int(reached.sum()), f"{np.median(needed[reached]):.0f}" if reached.any() else "-"


# ---- the figure ----

# Okabe and Ito's colours, told apart by colour-blind readers too: one for each kind of start or M-step.
_COLOURS = {"random": "#D55E00", "gradient": "#CC79A7", "spectral": "#0072B2", "truth": "black"}


def _style(method: Method) -> dict[str, Any]:
    colour = _COLOURS["gradient" if method.m_step == "gradient" else method.start]
    return {"color": colour, "linestyle": "-" if method.noise == "held" else "--", "label": str(method)}


def plot(outcomes: Sequence[Outcome]) -> Figure:
    """Draw the errors by iteration, a column each setting, and how often each method reached the optimum.

    Parameters
    ----------
    outcomes : sequence of Outcome
        As `run` gives them.

    Returns
    -------
    figure : matplotlib Figure
        Not known to pyplot; save it with its `savefig`.
    """
    from matplotlib.figure import Figure

    groups = _by_setting(outcomes)
    figure = Figure(figsize=(4.2 * len(groups) + 1.0, 10.5), layout="constrained")
    axes = figure.subplots(3, len(groups), squeeze=False, height_ratios=[3, 3, 1.5], sharey="row")
    for (upper, middle, lower), (setting, truth, group) in zip(axes.T, groups, strict=True):
        upper.set_title(str(setting).replace(", d", "\nd"))
        _draw_errors(upper, group, truth, "coef_error")
        _draw_errors(middle, group, truth, "gate_error")
        middle.set_xlabel("iteration")
        _draw_reached(lower, group, truth)
    axes[0, 0].set_ylabel("error of the experts")
    axes[1, 0].set_ylabel("error of the gate")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.supxlabel(_conditions(outcomes[0]), fontsize="medium", ha="left", x=0.01)
    return figure


def _draw_errors(ax: Axes, outcomes: Sequence[Outcome], truth: Outcome, which: str) -> None:
    for outcome in outcomes:
        errors = getattr(outcome, which)
        iterations = np.arange(errors.shape[1])
        style = _style(outcome.method)
        low, high = np.quantile(errors, BAND, axis=0)
        ax.fill_between(iterations, low, high, color=style["color"], alpha=0.12, linewidth=0)
        ax.plot(iterations, errors.mean(axis=0), linewidth=2.0, **style)
    ax.axhline(getattr(truth, which)[:, -1].mean(), **{**_style(TRUTH), "linestyle": ":"})
    ax.set_yscale("log")
    ax.grid(alpha=0.3)


def _draw_reached(ax: Axes, outcomes: Sequence[Outcome], truth: Outcome) -> None:
    n_runs = len(truth.coef_error)
    for row, outcome in enumerate(outcomes):
        style = _style(outcome.method)
        reached, median = _reached(outcome, truth)
        filled = outcome.method.noise == "held"
        ax.barh(
            row,
            reached / n_runs,
            edgecolor=style["color"],
            facecolor=style["color"] if filled else "none",
            hatch="" if filled else "////",
        )
        after = f", median {median} iterations" if reached else ""
        box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5}
        ax.text(0.02, row, f"{reached} of {n_runs}{after}", va="center", fontsize="small", bbox=box)
    ax.set(xlim=(0, 1), ylim=(len(outcomes) - 0.4, -0.6), yticks=[], xlabel="share of runs that reach the optimum")


def _conditions(outcome: Outcome) -> str:
    n_runs, n_points = outcome.coef_error.shape
    low, high = BAND
    return "\n".join(
        [
            f"Data: x ~ N(0, I), σ = {NOISE_STD:g}; experts of norm 1 in random directions; gate rows of norm "
            f"{GATE_NORM:g} orthogonal to them; no intercepts, in data or fits. {n_runs} data sets a column, each with "
            f"a random start (experts of norm 1); {n_points - 1} iterations.",
            "EM: exact M-step for linear experts, a Gauss-Newton step for others, a full Newton step for the gate, "
            "which starts at zero. σ held: at its true value. σ estimated: of each expert, from sd(y). "
            "Gradient steps: of size 1 on the mean per row.",
            f"Lines: mean over runs; bands: {low:.0%} to {high:.0%} quantile. Error: root mean square over experts "
            "(gate: rows but the last) of the distance to the truth, experts matched. "
            f"Optimum: log-likelihood per row within {REACHED:g} of EM from the truth.",
        ]
    )
