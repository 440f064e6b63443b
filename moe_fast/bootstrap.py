"""Standard errors and intervals by refitting: to rows drawn again, or to targets drawn from the model."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import check_choice, check_integer, check_positive, check_random_state
from .config import one_blas_thread
from .exceptions import ConvergenceWarning
from .inference import Estimates, FreeParameters, warn_if_no_maximum
from .model import MixtureOfExperts, match_experts
from .result import FitResult
from .rows import Rows
from .task import Task

__all__ = ["Bootstrap", "bootstrap"]

FloatArray = NDArray[np.float64]
Progress = Callable[[int, int], object]


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap(Estimates):
    """Standard errors and percentile intervals of a fitted model, from `bootstrap`.

    Has all that `Inference` has: ``standard_errors``, ``conf_int()``, ``covariance``, ``summary()``. Standard errors
    are standard deviations over the refits, intervals their quantiles; z and p are from the standard errors.

    Attributes
    ----------
    kind : {"case", "parametric"}
        What was drawn: rows, or targets.
    replicates : ndarray of shape (n_resamples, n_parameters)
        The free parameters of every refit, its experts in the order of the model's. NaN: coefficients of a redundant
        column, and all coefficients where the rows drawn make another redundant; covariances and quantiles are of the
        refits that have them.
    n_not_converged, n_collapsed, n_separated : int
        Refits that did not converge, in which an expert collapsed (and the penalised fit was kept), and whose gate
        separates experts. They are among the replicates.
    seconds : float
        Wall time.
    """

    kind: str
    replicates: FloatArray
    n_not_converged: int
    n_collapsed: int
    n_separated: int
    seconds: float

    @property
    def _source(self) -> str:
        return f"{self.kind} bootstrap ({len(self.replicates)})"

    def _interval(self, level: float) -> FloatArray:
        ends = np.full((self.replicates.shape[1], 2), np.nan)
        known = ~np.isnan(self.replicates).all(axis=0)
        ends[known] = np.nanquantile(self.replicates[:, known], [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0).T
        return ends


@one_blas_thread()
def bootstrap(
    fit: FitResult | MixtureOfExperts,
    X: ArrayLike,
    y: ArrayLike,
    n_resamples: int = 200,
    *,
    kind: str = "case",
    gate_features: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    noise: str | None = None,
    fit_intercept: bool | None = None,
    gate_intercept: bool | None = None,
    experts_held: bool | None = None,
    max_iter: int = 1000,
    tol: float | None = None,
    time_limit: float | None = None,
    n_threads: int | None = None,
    random_state: Any = None,
    progress: bool | Progress = False,
) -> Bootstrap:
    """Standard errors and percentile intervals by refitting, each time from the fitted model.

    Parameters
    ----------
    fit, X, y, gate_features, noise, fit_intercept, gate_intercept, experts_held
        As for `infer`.
    n_resamples : int, default 200
        Refits. Standard errors settle with some 200, the ends of intervals with 1000.
    kind : {"case", "parametric"}, default "case"
        "case": rows are drawn with replacement; right whatever the noise is. "parametric": targets are drawn from
        the model at the rows as they are; right if the model is.
    sample_weight : array_like of shape (n_samples,), optional
        The weights of the fit. They count rows: as many are drawn as the weights add up to (rounded). For
        "parametric" they must be whole numbers.
    max_iter, tol, n_threads
        As for `fit_em`, of each refit.
    time_limit : float, optional
        Seconds after which no refit is begun; what there is is kept, with a warning.
    random_state : None, int, Generator, optional
    progress : bool or callable, default False
        Called with (resamples done, n_resamples) after each; returning True stops and keeps what there is, with a
        warning. True: a line that counts, on the standard error stream.

    Returns
    -------
    bootstrap : Bootstrap

    Raises
    ------
    ValueError, TypeError
        If an argument is bad; before any work.
    KeyboardInterrupt
        On Ctrl-C, at once: nothing is kept.

    Warns
    -----
    ConvergenceWarning
        If the model is no maximum of the likelihood of these rows and targets, as by `infer`. Once, if refits did not
        converge, collapsed, separated experts, or lacked what tells a column's coefficients; how many. If resamples
        could not be fitted, as those of one y: they are left out. And if it was stopped early.

    Notes
    -----
    Starting from the fitted model, a refit finds the optimum next to it, so that errors are those around this optimum;
    that another might have won is not among them. Experts keep their numbers: refits are put in the model's order by
    `match_experts`, on coefficients of standardised columns. What the rows leave undetermined does not show here, as
    refits choose alike among many solutions; `infer` names such parameters.

    Examples
    --------
    >>> import moe_fast as mf
    >>> sim = mf.make_moe(n_samples=500, n_features=2, n_experts=2, orthogonal_gate=False, random_state=0)
    >>> fit = mf.fit(sim.X, sim.y, n_experts=2, random_state=0)
    >>> boot = mf.bootstrap(fit, sim.X, sim.y, 50, random_state=0)
    >>> boot.standard_errors.coef.shape, boot.replicates.shape
    ((2, 2), (50, 11))
    """
    began = time.perf_counter()
    free = FreeParameters.check(
        fit, noise=noise, fit_intercept=fit_intercept, gate_intercept=gate_intercept, experts_held=experts_held
    )
    n_resamples = check_integer(n_resamples, "n_resamples", 2)
    check_choice(kind, "kind", ("case", "parametric"))
    deadline = np.inf if time_limit is None else began + check_positive(time_limit, "time_limit")
    if not isinstance(progress, bool) and not callable(progress):
        raise TypeError(f"progress must be True, False or callable, got {type(progress).__name__}")
    report: Progress | None = _count if progress is True else progress or None
    rng = check_random_state(random_state)
    model, rows = free.model, free.rows(X, y, gate_features, sample_weight)
    log_likelihood = model.log_likelihood(
        rows.X, rows.y, gate_features=rows.gate_features, sample_weight=rows.weight
    )
    draw = _Cases(rows) if kind == "case" else _Targets(rows, model)
    design = free.design(rows)
    anchor = design.expert_rows(model.coef, model.intercept)

    def refit(drawn: Rows) -> FitResult:
        task = Task.check(
            drawn.X, drawn.y, model.n_experts, activation=model.activation,
            noise=free.noise if free.noise != "held" and not free.experts_held else model.noise_std,
            fit_intercept=bool(free.fit_intercept or free.experts_held), gate=model.gate,
            gate_intercept=bool(free.gate_intercept), gate_features=drawn.gate_features, sample_weight=drawn.weight,
            time_limit=None, max_iter=max_iter, tol=tol, n_threads=n_threads, random_state=rng, callback=None,
            held=model if free.experts_held else None, quiet=True,   # what is to be said is counted
        )
        return task.finish([task.start_from(model)])

    # First of the rows as they are: bad options are refused before any is drawn, and rows that are not the fit's told.
    again = refit(rows)
    gain = again.log_likelihood - log_likelihood
    warn_if_no_maximum(fit, 2.0 * gain, log_likelihood, rows.total_weight, stacklevel=4)
    refits = _Refits(free, _n_redundant(again))
    stopped = False
    while refits.n_done < n_resamples and not stopped and time.perf_counter() < deadline:
        try:
            result = refit(draw(rng))
        except ValueError as error:   # of the rows that were drawn: these arguments have been taken before
            refits.refused.append(str(error))
        else:
            experts = design.expert_rows(result.model.coef, result.model.intercept)
            refits.take(result, match_experts(experts, anchor))
        stopped = report is not None and report(refits.n_done, n_resamples) is True
    n_refits = len(refits.replicates)
    if n_refits < 2:
        refused = refits.refused
        why = f"{len(refused)} were refused: {refused[0]}" if refused else "raise time_limit, or let it run on"
        raise ValueError(f"{n_refits} refits before the end; {why}")

    notes = refits.notes()
    if refits.n_done < n_resamples:
        notes.append(f"Stopped after {n_refits} of {n_resamples} refits.")
    if notes:
        warnings.warn(" ".join(notes), ConvergenceWarning, stacklevel=3)
    values = np.array(refits.replicates)
    n_not_converged, n_collapsed, n_separated, _ = refits.odd.tolist()
    covariance = np.ma.cov(np.ma.masked_invalid(values), rowvar=False)   # each of the refits that have both
    return Bootstrap(
        free=free, covariance=np.atleast_2d(covariance.filled(np.nan)), log_likelihood=log_likelihood,
        n_samples=rows.total_weight, notes=tuple(notes), kind=kind, replicates=values,
        n_not_converged=n_not_converged, n_collapsed=n_collapsed, n_separated=n_separated,
        seconds=time.perf_counter() - began,
    )


class _Refits:
    """What refits came to, and how many were odd."""

    _REMARKS = (
        "did not converge",
        "had an expert that collapsed: the fit with a weak barrier on noise std was kept",
        "had a gate that separates experts without error: its coefficients have no finite optimum",
        "lacked rows that tell a column from others: coefficients are not of them",
    )

    def __init__(self, free: FreeParameters, n_redundant: int) -> None:
        self._free, self._n_redundant = free, n_redundant
        self.replicates: list[FloatArray] = []
        self.odd = np.zeros(len(self._REMARKS), np.intp)
        self.refused: list[str] = []    # resamples of one y, or of fewer rows than experts

    @property
    def n_done(self) -> int:
        return len(self.replicates) + len(self.refused)

    def take(self, result: FitResult, order: NDArray[np.intp]) -> None:
        vector = self._free.vector(result.model.permute(order))
        vector[self._free.of_columns(result.redundant_features, result.redundant_gate_features)] = np.nan
        lacking = _n_redundant(result) > self._n_redundant
        if lacking:   # the others, as intercepts and dummies where the reference level is missing, mean something else
            vector[~self._free.is_noise] = np.nan
        self.replicates.append(vector)
        self.odd += not result.converged, result.penalised, bool(result.separated), lacking

    def notes(self) -> list[str]:
        notes = [
            f"{count} of {len(self.replicates)} refits {what}."
            for count, what in zip(self.odd, self._REMARKS, strict=True) if count
        ]
        if self.refused:
            notes.append(f"{len(self.refused)} resamples could not be fitted, and are left out: {self.refused[0]}.")
        return notes


def _n_redundant(fit: FitResult) -> int:
    return len(fit.redundant_features) + len(fit.redundant_gate_features)


class _Cases:
    """Rows drawn with replacement, as weights: row i as many times as it was drawn."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._n_drawn = round(rows.total_weight)
        if self._n_drawn < 2:
            raise ValueError(
                f"sample_weight adds up to {rows.total_weight:.3g}; weights count rows, and so few cannot be drawn"
            )
        weight = np.ones(rows.n_samples) if rows.weight is None else rows.weight
        self._chance = weight / weight.sum()

    def __call__(self, rng: np.random.Generator) -> Rows:
        counts = rng.multinomial(self._n_drawn, self._chance)
        return replace(self._rows.take(np.flatnonzero(counts)), weight=counts[counts > 0].astype(np.float64))


class _Targets:
    """The rows as they are, each as many times as its weight says, with targets drawn from the model."""

    def __init__(self, rows: Rows, model: MixtureOfExperts) -> None:
        self._model, self._rows = model, rows
        if rows.weight is not None:
            times = np.rint(rows.weight)
            if not np.array_equal(times, rows.weight):
                raise ValueError("kind='parametric' needs sample_weight in whole numbers, which count rows")
            repeated = rows.take(np.repeat(np.arange(rows.n_samples), times.astype(np.intp)))
            self._rows = replace(repeated, weight=None)

    def __call__(self, rng: np.random.Generator) -> Rows:
        rows = self._rows
        y, _ = self._model.sample(rows.X, rng, gate_features=rows.gate_features)
        return replace(rows, y=y)


def _count(done: int, n_resamples: int) -> None:
    if 100 * done // n_resamples > 100 * (done - 1) // n_resamples:   # a hundred times at most
        end = "\n" if done == n_resamples else ""
        print(f"\rbootstrap: {done} of {n_resamples} refits", end=end, file=sys.stderr, flush=True)
