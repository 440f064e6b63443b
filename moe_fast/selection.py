"""How many experts: fits over a range, compared by an information criterion or by rows held out."""

from __future__ import annotations

import importlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .activations import Activation
from .checks import check_choice, check_integer, check_positive
from .config import one_blas_thread
from .exceptions import ConvergenceWarning
from .moves import split_expert
from .race import default_starts, race
from .result import FitResult
from .rows import Rows, mean_and_error
from .task import Start, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Selection", "SelectionRow", "select_n_experts"]

FloatArray = NDArray[np.float64]
Progress = Callable[[int, int], object]

_CRITERIA = ("bic", "aic", "icl", "held_out")
_SHARE_OF_STARTS = 0.5     # of those that a fit by itself would draw: the rest are made from the fit before
_TOL = 1e-8                # of the mean log-likelihood: criteria are told apart by far more
_APART = (1.0, 0.0)        # how far a split moves the halves: at the latest the second mends a fall in likelihood


@dataclass(frozen=True)
class SelectionRow:
    """One number of experts, and how it fares.

    Attributes
    ----------
    n_experts : int
    log_likelihood : float
    n_parameters : int
    aic, bic, icl : float
        Smaller is better.
    held_out : float
        Mean log density per unit of weight of rows that the fit had not seen; NaN where it was not asked for.
    held_out_error : float
        Its standard error, from the spread over rows.
    converged, penalised : bool
        As in `FitResult`.
    sound : bool
        False where an expert lives on a spike of the likelihood, or on fewer rows than it has parameters for:
        such a number of experts is not chosen.
    seconds : float
        Of this fit on all rows, and of those on parts of them.
    """

    n_experts: int
    log_likelihood: float
    n_parameters: int
    aic: float
    bic: float
    icl: float
    held_out: float
    held_out_error: float
    converged: bool
    penalised: bool
    sound: bool
    seconds: float


@dataclass(frozen=True, eq=False)
class Selection:
    """The number of experts chosen, and what it was chosen from.

    Attributes
    ----------
    n_experts : int
        The number chosen.
    criterion : {"bic", "aic", "icl", "held_out"}
    table : tuple of SelectionRow
        One for each number of experts, in rising order.
    fits : dict of int to FitResult
        The fits to all rows, by number of experts.
    """

    n_experts: int
    criterion: str
    table: tuple[SelectionRow, ...]
    fits: dict[int, FitResult] = field(repr=False)

    @property
    def best(self) -> FitResult:
        """The fit with the number of experts chosen."""
        return self.fits[self.n_experts]

    def choose(self, criterion: str) -> int:
        """The number of experts by any criterion that is in the table.

        Parameters
        ----------
        criterion : {"bic", "aic", "icl", "held_out"}

        Returns
        -------
        n_experts : int
            Among sound fits, if there is one.

        Raises
        ------
        ValueError
            If the criterion is unknown, or "held_out" and rows were not held out.
        """
        check_choice(criterion, "criterion", _CRITERIA)
        if criterion == "held_out" and not self._has_held_out:
            raise ValueError('no rows were held out: call select_n_experts with criterion="held_out"')
        return _choose(self.table, criterion).n_experts

    @property
    def _has_held_out(self) -> bool:
        return not np.isnan(self.table[0].held_out)

    def summary(self) -> str:
        """The table as text, with the chosen row marked, and remarks on rows that want one.

        Returns
        -------
        text : str
        """
        heads = ["experts", "log-likelihood", "parameters", "AIC", "BIC", "ICL"]
        heads += ["held out", "std err"] if self._has_held_out else []
        lines = [[*heads, "seconds"]]
        for row in self.table:
            cells = [str(row.n_experts), f"{row.log_likelihood:.2f}", str(row.n_parameters)]
            cells += [f"{value:.2f}" for value in (row.aic, row.bic, row.icl)]
            cells += [f"{row.held_out:.4f}", f"{row.held_out_error:.4f}"] if self._has_held_out else []
            lines.append([*cells, f"{row.seconds:.2f}"])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        marks = [" ", *("*" if row.n_experts == self.n_experts else " " for row in self.table)]
        remarks = ["", *map(_remark, self.table)]
        others = [name for name in _CRITERIA if name != self.criterion and (name != "held_out" or self._has_held_out)]
        chosen = ", ".join(f"{_title(name)} {self.choose(name)}" for name in others)
        text = [f"Number of experts by {_title(self.criterion)}: {self.n_experts}   (by others: {chosen})", ""]
        for mark, cells, remark in zip(marks, lines, remarks, strict=True):
            aligned = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
            text.append("  ".join([mark, *aligned, remark]).rstrip())
        if len(self.table) > 1 and self.n_experts == self.table[-1].n_experts:
            text += ["", "the largest number tried was chosen: a larger one may be better"]
        return "\n".join(text)

    def to_frame(self) -> pd.DataFrame:
        """The table as a pandas frame, one row for each number of experts, which is its index.

        Raises
        ------
        ImportError
            Without pandas.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError("Selection.to_frame needs pandas: pip install 'moe_fast[cli]'") from error
        return pandas.DataFrame([asdict(row) for row in self.table]).set_index("n_experts")


@one_blas_thread()
def select_n_experts(
    X: ArrayLike,
    y: ArrayLike,
    n_experts: Iterable[int] = range(1, 8),
    *,
    criterion: str = "bic",
    n_folds: int = 5,
    activation: str | Activation = "linear",
    noise: str | float = "per_expert",
    fit_intercept: bool = True,
    gate: str = "softmax",
    gate_intercept: bool = True,
    gate_features: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    n_starts: int | None = None,
    time_limit: float | None = None,
    max_iter: int = 1000,
    tol: float | None = None,
    n_threads: int | None = None,
    random_state: Any = None,
    progress: Progress | None = None,
) -> Selection:
    """Fit every number of experts in a range, and choose one.

    Parameters
    ----------
    X, y, activation, fit_intercept, gate, gate_intercept, gate_features, sample_weight, max_iter, n_threads
        As for `fit`.
    n_experts : iterable of int, default range(1, 8)
        The numbers to try.
    criterion : {"bic", "aic", "icl", "held_out"}, default "bic"
        The first three choose the smallest value, and are in the table whichever is chosen; "held_out" chooses the
        largest mean log density of rows held out, and fits each number of experts `n_folds` times more.
    n_folds : int, default 5
        Parts that the rows are dealt into at random; used by "held_out" alone.
    noise : {"per_expert", "shared"} or float, default "per_expert"
        As for `fit`; a number is held for all experts.
    n_starts : int, optional
        Starts drawn for each fit, beside two for each expert of the fit before. Default: half of what `fit` draws.
    time_limit : float, optional
        Seconds, for each fit. Gives up repeatability.
    tol : float, optional
        As for `fit`; default 1e-8, and 1e-7 for float32 X, which is finer than any criterion needs.
    random_state : None, int, Generator, optional
    progress : callable, optional
        Called with the number of fits that are done and the number that there will be, after each.

    Returns
    -------
    selection : Selection

    Raises
    ------
    ValueError, TypeError
        If an argument is bad; before any work.
    KeyboardInterrupt
        On Ctrl-C, which ends all fits; there is no partial result.

    Warns
    -----
    ConvergenceWarning
        If the fit chosen did not converge, or if none is sound. The fits not chosen warn of nothing: their table
        row says how they ended.

    Notes
    -----
    Each fit also starts from the one before, with an expert split or added, and does not end below it: the
    log-likelihoods of sound fits do not fall as experts are added (but for a gate without intercepts, which a
    mixture of more experts need not contain).

    A likelihood can be raised without bound by an expert that closes in on a few rows, so a criterion made from it
    says nothing there. A fit is *sound*, and can be chosen, if it needed no barrier, every expert holds
    max(3, d + 2) rows (n / (2k), if that is less), and its residual sum of squares is more than the barrier's
    constant b, below which the barrier would be most of its noise (docs/math.md, section 4). If no fit is sound,
    all are compared, with a warning.

    Examples
    --------
    >>> import moe_fast as mf
    >>> sim = mf.make_moe(n_samples=1000, n_features=4, n_experts=2, random_state=0)
    >>> selection = mf.select_n_experts(sim.X, sim.y, range(1, 4), random_state=0)
    >>> selection.n_experts, selection.best.converged
    (2, True)
    """
    sizes = _check_sizes(n_experts)
    check_choice(criterion, "criterion", _CRITERIA)
    n_folds = check_integer(n_folds, "n_folds", 2)
    if not isinstance(noise, str):
        noise = check_positive(noise, "noise")
    if n_starts is not None:
        n_starts = check_integer(n_starts, "n_starts", 1)
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable, got {type(progress).__name__}")
    task = Task.check(
        X, y, sizes[-1], activation=activation, noise=noise, fit_intercept=fit_intercept, gate=gate,
        gate_intercept=gate_intercept, gate_features=gate_features, sample_weight=sample_weight,
        time_limit=time_limit, max_iter=max_iter, tol=tol, n_threads=n_threads, random_state=random_state,
        callback=None,
    )
    if tol is None:
        task.tol = max(task.tol, _TOL)
    n_samples = task.design.rows.n_samples
    n_parts = n_folds if criterion == "held_out" else 0
    if n_parts > n_samples or (n_parts and sizes[-1] > n_samples - -(-n_samples // n_parts)):
        raise ValueError(
            f"n_folds = {n_folds} leaves too few of the {n_samples} rows to fit {sizes[-1]} experts; "
            f"try fewer experts, or another criterion"
        )
    clock = _Clock((1 + n_parts) * len(sizes), progress)
    fits, sound = _fit_all(task, sizes, n_starts, clock)
    held_out = dict.fromkeys(sizes, (np.nan, np.nan))
    if n_parts:
        fold = task.rng.permutation(n_samples) % n_parts
        log_density = np.empty((len(sizes), n_samples))
        for part in range(n_parts):
            seen, unseen = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
            parts, _ = _fit_all(task.again(1, seen), sizes, n_starts, clock)
            log_density[:, unseen] = [_log_density(fit, task.design.rows.take(unseen)) for fit in parts.values()]
        weight = task.design.rows.weight
        held_out = {k: mean_and_error(own, weight) for k, own in zip(sizes, log_density, strict=True)}
    table = tuple(_row(k, fits[k], held_out[k], sound[k], clock.seconds[k]) for k in sizes)
    chosen = _choose(table, criterion)
    _warn(chosen)
    return Selection(chosen.n_experts, criterion, table, fits)


# ---- the fits ----


class _Clock:
    """Seconds spent on each number of experts, and the count of fits for whoever watches."""

    def __init__(self, n_fits: int, progress: Progress | None) -> None:
        self.n_done, self.n_fits, self.progress = 0, n_fits, progress
        self.seconds: defaultdict[int, float] = defaultdict(float)

    def count(self, n_experts: int, seconds: float) -> None:
        self.n_done += 1
        self.seconds[n_experts] += seconds
        if self.progress is not None:
            self.progress(self.n_done, self.n_fits)


def _fit_all(
    task: Task, sizes: list[int], n_starts: int | None, clock: _Clock
) -> tuple[dict[int, FitResult], dict[int, bool]]:
    """Fits of rising numbers of experts, each begun from the last sound one too; and which of them are sound."""
    fits: dict[int, FitResult] = {}
    sound: dict[int, bool] = {}
    smaller: FitResult | None = None
    for k in sizes:
        own = task.again(k)
        fits[k] = _fit_one(own, n_starts or max(1, int(_SHARE_OF_STARTS * default_starts(own))), smaller)
        sound[k] = _is_sound(fits[k])
        if sound[k]:
            smaller = fits[k]
        clock.count(k, fits[k].seconds)
    return fits, sound


def _fit_one(task: Task, n_starts: int, smaller: FitResult | None) -> FitResult:
    """The fit from a race, or, where that ends below the smaller mixture, from an expert of the latter split."""
    if smaller is None:
        return task.finish(race(task, "auto", n_starts))
    parameters = task.design.parameters(smaller.model)
    fit = task.finish(race(task, "auto", n_starts, parameters))
    for apart in _APART if task.design.gate_intercept else ():
        if fit.log_likelihood >= smaller.log_likelihood:
            break
        split = parameters
        while split.n_experts < task.n_experts:   # the first expert is the largest: its parts keep rows enough
            split = split_expert(task.design, split, 0, task.rng, apart)
        from_split = task.finish([Start("split", len(fit.starts), split)])
        if from_split.log_likelihood > fit.log_likelihood and _is_sound(from_split):
            fit = from_split
    return fit


def _is_sound(fit: FitResult) -> bool:
    """Whether every expert stands on rows enough, and not by the barrier."""
    return not (fit.penalised or fit.unsupported)


# ---- the choice ----


def _choose(table: tuple[SelectionRow, ...], criterion: str) -> SelectionRow:
    """The best of the sound rows, or of all if none is; of equals the fewest experts."""
    candidates = [row for row in table if row.sound] or list(table)
    sign = -1.0 if criterion == "held_out" else 1.0
    return min(candidates, key=lambda row: sign * getattr(row, criterion))


def _warn(chosen: SelectionRow) -> None:
    if not chosen.sound:
        warnings.warn(
            "in every fit an expert stands on too few rows, so the criteria say little; try fewer experts or features, "
            "or noise='shared'",
            ConvergenceWarning, stacklevel=4,
        )
    if not chosen.converged:
        warnings.warn(
            f"the fit chosen, of {chosen.n_experts} experts, has not converged; raise time_limit, if there is one, "
            f"max_iter, or tol",
            ConvergenceWarning, stacklevel=4,
        )


def _row(k: int, fit: FitResult, held_out: tuple[float, float], sound: bool, seconds: float) -> SelectionRow:
    return SelectionRow(
        k, fit.log_likelihood, fit.n_parameters, fit.aic, fit.bic, fit.icl, *held_out, fit.converged, fit.penalised,
        sound, seconds,
    )


def _log_density(fit: FitResult, rows: Rows) -> FloatArray:
    return fit.model.log_density(rows.X, rows.y, gate_features=rows.gate_features)


def _check_sizes(n_experts: Any) -> list[int]:
    """Distinct numbers of experts, rising."""
    if isinstance(n_experts, str) or not isinstance(n_experts, Iterable):
        raise TypeError(f"n_experts must be numbers of experts to try, such as range(1, 8); got {n_experts!r}")
    sizes = sorted({check_integer(k, "n_experts", 1) for k in n_experts})
    if not sizes:
        raise ValueError("n_experts is empty; wanted numbers of experts to try, such as range(1, 8)")
    return sizes


def _title(criterion: str) -> str:
    return "held-out log-likelihood" if criterion == "held_out" else criterion.upper()


def _remark(row: SelectionRow) -> str:
    remarks = []
    if not row.sound:
        remarks.append("an expert on too few rows: not to be chosen")
    if not row.converged:
        remarks.append("not converged")
    return "; ".join(remarks)
