"""The task of a fit: its checked arguments, and the finish from a start to an end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _em
from .activations import Code, get_activation
from .checks import (
    check_choice,
    check_flag,
    check_held_noise,
    check_integer,
    check_positive,
    check_random_state,
    check_target_size,
    check_vector,
    feature_names,
)
from .collinearity import Dependence, dependences, warn_of_redundant
from .config import resolve_threads
from .density import log_density, may_be_better
from .design import Design, Parameters
from .em import Outcome, State, maximise
from .ending import conclude
from .information import factored
from .linalg import Curvature
from .model import MixtureOfExperts
from .objective import GATE_LIMIT, Objective
from .pace import NEWTON_PARAMETERS
from .result import FitResult, StartReport
from .rows import Reads, Rows
from .starts import LINEAR_ONLY
from .support import Support

__all__ = ["Callback", "Start", "Task"]

FloatArray = NDArray[np.float64]
Callback = Callable[[State], object]

# Largest coefficient of the gate, per standard deviation of the part of a column that those before it do not give.
_GATE_LIMIT_OF_OWN = 1e3

# Of large data, climbed on first: the maximum and curvature of so many rows are those of all, but for errors of a few
# per cent, which the passes over all rows take out.
_SAMPLE_ROWS = 50_000
_SAMPLE_ROWS_PER_PARAMETER = 100
_SAMPLE_TOL = 1e-6
_LARGE = 20_000           # rows from which this is worth it
_SAME = 1e-6              # log-likelihoods so close, per unit of weight, are one optimum

# A noise that will be held is estimated for so many iterations, from this part of the standard deviation of y.
_ANNEALING_ITER, _ANNEALING_TOL = 30, 1e-7
_WIDE = 0.5
# A run further behind than so many iterations gain at the rate of its last 20, or 5 near its end, is lost.
_RUNS_ON = 200
_LAP, _LAP_NEAR_END = 20, 5
_PROMISES = 30            # or than so many times what Newton's last step promised, near its end
_SPARE = 10     # starts that are finished too, one by one, until one of them is sound


@dataclass
class Chase:
    """A callback that ends a run which will not come up to another's value.

    Attributes
    ----------
    to_beat : float
        The objective of the other run.
    stop : callable
        Asked first.
    near_end : bool
        Whether the run begins near a maximum: its gains then only fall, and what Newton's method promises is to be had.
    lost : bool
        Whether the run was ended for this reason.
    """

    to_beat: float
    stop: Callable[[State], bool]
    near_end: bool = False
    lost: bool = False
    _before: float = -math.inf

    def __call__(self, state: State) -> bool:
        if self.stop(state):
            return True
        behind, lap = self.to_beat - state.objective, _LAP_NEAR_END if self.near_end else _LAP
        if state.iteration % lap == 0:
            gain, self._before = state.objective - self._before, state.objective
            self.lost = behind > max(_RUNS_ON / lap * gain, 0.0)   # a gain of rounding may be below zero
        if self.near_end and behind > _PROMISES * state.promised:
            self.lost = True
        return self.lost


@dataclass
class Start:
    """A start on its way: where it stands, and what the report will say of it."""

    kind: str
    index: int
    parameters: Parameters
    value: float = -np.inf          # objective per unit of weight
    log_likelihood: float = -np.inf  # per unit of weight
    history: list[float] = field(default_factory=list)    # values before its first iteration and after each
    status: str = "finished"
    reached: bool = False           # whether it was run on to an optimum in the race
    curvature: Curvature | None = None   # of the objective near its maximum, per unit of weight

    def join(self, other: Start) -> None:
        """Be where another is, which has gone on for both."""
        self.parameters, self.curvature = other.parameters, other.curvature
        self.value, self.log_likelihood, self.history = other.value, other.log_likelihood, other.history.copy()
        self.status = "degenerate" if other.status == "degenerate" else "duplicate"

    def keep(self, curvature: Curvature | None, design: Design) -> None:
        """Take note of the curvature of these rows' objective, if it is that of a maximum."""
        self.curvature = None
        if curvature is not None and curvature.definite:
            self.curvature = curvature.times(1.0 / design.rows.total_weight)

    def curvature_of(self, design: Design) -> Curvature | None:
        """The curvature that was noted, for as many rows as these."""
        return None if self.curvature is None else self.curvature.times(design.rows.total_weight)

    @property
    def n_iter(self) -> int:
        return max(len(self.history) - 1, 0)

    def record(self, outcome: Outcome, weight: float) -> None:
        """Add a run, on rows of this weight, to the history; it begins where the last one ended."""
        values = outcome.history[1:] if self.history else outcome.history
        self.history += [value / weight for value in values]

    def report(self, weight: float) -> StartReport:
        history = tuple(float(value * weight) for value in self.history)
        return StartReport(
            self.kind, self.index, float(self.log_likelihood * weight), self.n_iter, self.status, history
        )


@dataclass
class Task:
    """Checked arguments of a fit, and the steps that fits are made of."""

    design: Design
    n_experts: int
    noise: str | FloatArray
    tol: float
    max_iter: int
    rng: np.random.Generator
    names: dict[str, Any]
    dependences: tuple[Dependence, Dependence]   # of the experts' columns, and of the gate's
    callback: Callback | None = None
    deadline: float = np.inf
    newton: bool = True
    held: MixtureOfExperts | None = None     # whose experts and noise do not move
    began: float = field(default_factory=time.perf_counter)
    stopped: bool = False            # by the callback
    quiet: bool = False              # warns of nothing: who asked for the fit says what is to be said

    @classmethod
    def check(
        cls, X: Any, y: Any, n_experts: Any, *, activation: Any, noise: Any, fit_intercept: Any, gate: Any,
        gate_intercept: Any, gate_features: Any, sample_weight: Any, time_limit: Any, max_iter: Any, tol: Any,
        n_threads: Any, random_state: Any, callback: Any, newton: Any = True,
        held: MixtureOfExperts | None = None, quiet: bool = False,
    ) -> Task:
        began = time.perf_counter()
        n_experts = check_integer(n_experts, "n_experts", 1)
        activation = get_activation(activation)
        check_choice(gate, "gate", ("softmax", "constant"))
        fit_intercept = check_flag(fit_intercept, "fit_intercept")
        gate_intercept = check_flag(gate_intercept, "gate_intercept")
        newton = check_flag(newton, "newton")
        if gate == "constant" and gate_features is not None:
            raise ValueError('gate_features were given, but gate="constant" has no features')
        noise = _check_noise(noise, n_experts)
        max_iter = check_integer(max_iter, "max_iter", 0)
        if tol is not None:
            tol = check_positive(tol, "tol")
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable, got {type(callback).__name__}")
        deadline = np.inf if time_limit is None else began + check_positive(time_limit, "time_limit")
        rng = check_random_state(random_state)
        names = {
            "feature_names": feature_names(X),
            "gate_feature_names": None if gate_features is None else feature_names(gate_features),
            "target_name": y.name if isinstance(getattr(y, "name", None), str) else None,
        }
        rows = Rows.check(X, y, sample_weight, gate_features, resolve_threads(n_threads))
        check_target_size(rows.y)
        if not isinstance(noise, str) and held is None:
            check_held_noise(noise, rows.y)
        if n_experts > rows.n_samples:
            raise ValueError(
                f"n_experts = {n_experts} is more than the {rows.n_samples} rows"
                + (" of positive weight" if sample_weight is not None else "")
            )
        design = Design(rows, activation, fit_intercept, gate, gate_intercept)
        if tol is None:
            tol = 1e-7 if rows.X.dtype == np.float32 else 1e-10
        found = dependences(design)
        if held is None and any(len(dependence) for dependence in found):
            design = design.without(*found)
        task = cls(
            design, n_experts, noise, tol, max_iter, rng, names, found, callback, deadline, newton, held, began,
            quiet=quiet,
        )
        if not quiet:
            task.warn_of_redundant_features()
        return task

    @cached_property
    def gate_limit(self) -> float:
        """Largest coefficient of the gate: a column's own part may be a small one, as of a power of a year."""
        return max(GATE_LIMIT, _GATE_LIMIT_OF_OWN / self.dependences[1].least_own)

    @property
    def redundant_features(self) -> tuple[int, ...]:
        """Columns of X whose coefficients in the experts are zero: combinations of the columns before them."""
        return tuple((self.dependences[0].columns - self.design.fit_intercept).tolist())

    @property
    def redundant_gate_features(self) -> tuple[int, ...]:
        """The same for the columns that the gate sees."""
        return tuple((self.dependences[1].columns - self.design.gate_intercept).tolist())

    def warn_of_redundant_features(self) -> None:
        names, gate_names = self.names["feature_names"], self.names["gate_feature_names"]
        of_experts, of_gate = self.redundant_features if self.move_experts else (), self.redundant_gate_features
        warn_of_redundant("X", of_experts, names, stacklevel=5)
        if self.design.rows.gate_features is not None:
            warn_of_redundant("gate_features", of_gate, gate_names, stacklevel=5)
        elif of_gate != of_experts:
            warn_of_redundant("X, in the gate,", of_gate, names, stacklevel=5)

    def again(self, n_experts: int, index: NDArray[np.intp] | None = None) -> Task:
        """The same fit of another number of experts, quietly, and on some of the rows if an index is given.

        It has a clock, a count of rows read, and random numbers of its own. A held noise must be one number.
        """
        rows = self.design.rows if index is None else self.design.rows.take(index)
        now = time.perf_counter()
        return replace(
            self,
            design=self.design.on(replace(rows, reads=Reads())),
            n_experts=n_experts,
            noise=self.noise if isinstance(self.noise, str) else np.full(n_experts, self.noise[0]),
            rng=np.random.default_rng(self.rng.integers(2**32, size=4)),
            began=now,
            deadline=now + (self.deadline - self.began),
            quiet=True,
        )

    @property
    def move_experts(self) -> bool:
        return self.held is None

    # ---- starts ----

    @property
    def holds_noise(self) -> bool:
        return self.move_experts and not isinstance(self.noise, str)

    def check_kind(self, init: Any, kinds: tuple[str, ...]) -> None:
        if not isinstance(init, str):
            raise TypeError(
                f"init must be one of {', '.join(kinds)}, or a model (result.model of a fit); "
                f"got {init!r:.60}"
            )
        check_choice(init, "init", kinds)
        if init in LINEAR_ONLY and self.design.activation.code != Code.LINEAR:
            raise ValueError(f"init={init!r} is for linear experts, got activation {self.design.activation}")
        n_features = self.design.rows.n_features
        if init == "spectral" and n_features < self.n_experts:
            raise ValueError(
                f"init='spectral' needs at least as many features as experts; got {n_features} features and "
                f"n_experts = {self.n_experts}"
            )

    def start_from(self, model: MixtureOfExperts, argument: str = "init") -> Start:
        """A start from a user's model, which must be of this fit's shape. A gate of zeros fits any gate."""
        design = self.design
        flat = not model.gate_coef.any()
        shapes = {
            "n_experts": (model.n_experts, self.n_experts),
            "n_features": (model.n_features, design.rows.n_features),
        }
        if not flat:
            shapes["n_gate_features"] = model.n_gate_features, design.gate_standard.shape[1]
        for name, (has, wanted) in shapes.items():
            if has != wanted:
                raise ValueError(f"{argument} is a model with {name} = {has}; this fit has {name} = {wanted}")
        if model.activation != design.activation:
            raise ValueError(
                f"{argument} is a model with activation {model.activation}; this fit has {design.activation}"
            )
        own_features = design.rows.gate_features is not None
        if not flat and model.uses_gate_features != own_features:
            described = "has features of its own" if model.uses_gate_features else "sees X"
            given = "were" if own_features else "were not"
            raise ValueError(f"the gate of {argument} {described}, but gate_features {given} given")
        for name in ("feature_names",) if flat else ("feature_names", "gate_feature_names"):
            of_model, of_fit = getattr(model, name), self.names[name]
            if of_model is not None and of_fit is not None and list(of_model) != list(of_fit):
                raise ValueError(f"{argument} is a model with {name} {list(of_model)}; this fit has {list(of_fit)}")
        expert = design.expert_rows(model.coef, model.intercept)
        gate = np.zeros((self.n_experts - 1, design.n_gate_columns))
        if not flat:
            gate = design.parameters(model).gate
        elif design.gate_intercept:
            gate[:, 0] = model.gate_intercept[:-1]
        for flag, name, values in (
            (design.fit_intercept, "fit_intercept", model.intercept),
            (design.gate_intercept, "gate_intercept", model.gate_intercept),
        ):
            if not flag and values.any():
                raise ValueError(f"{argument} is a model with intercepts, but {name} is False")
        return Start("model", 0, self.admissible(Parameters(expert, gate, model.noise_std.copy())))

    def admissible(self, parameters: Parameters) -> Parameters:
        """These with the noise as this fit has it, held or shared, and the gate within its limit."""
        noise_std = parameters.noise_std
        if not isinstance(self.noise, str):
            noise_std = self.noise
        elif self.noise == "shared":
            noise_std = np.full(self.n_experts, float(np.sqrt(np.mean(noise_std**2))))
        return Parameters(parameters.expert, self.within_limit(parameters.gate), noise_std)

    def within_limit(self, gate: FloatArray) -> FloatArray:
        """A gate scaled down as a whole where it is beyond its limit.

        So its borders stay where they are: cut one by one its coefficients would turn a steep border.
        """
        steepest = float(np.abs(gate).max(initial=0.0))
        return gate * (self.gate_limit / steepest) if steepest > self.gate_limit else gate

    @cached_property
    def n_parameters(self) -> int:
        """Of experts, gate and noise, whatever of them is held."""
        k, design = self.n_experts, self.design
        return k * (design.n_columns + 1) + (k - 1) * design.n_gate_columns

    # ---- what it is about ----

    @cached_property
    def support(self) -> Support:
        """Which experts the rows support."""
        return Support(self.design, self.n_experts, self.noise, self.move_experts, len(self.dependences[0]))

    def objective(self, barrier: float = 0.0) -> Objective:
        return Objective(self.noise, barrier, self.move_experts, self.gate_limit)

    def out_of_time(self, state: State | None = None) -> bool:
        return time.perf_counter() > self.deadline

    def watch(self, state: State) -> bool:
        if self.callback is not None and self.callback(state):
            self.stopped = True
        return self.stopped or self.out_of_time(state)

    # ---- the finish ----

    def finish(self, starts: list[Start], give_up: bool = True) -> FitResult:
        """Run the starts that are still in the race to the end, without the barrier, and report the best.

        With `give_up` those that fall behind are given up; without, each goes on to its end while there is time.
        """
        design = self.design
        running = [start for start in starts if start.status == "finished"] or starts[:1]
        sample = self.sample
        if sample is not None and give_up:
            running = self.may_still_win(running, sample)
            for start in running:
                self.approach(start, sample)
            running = self.still_in(running, sample)
        # Without the barrier all of them may end with an expert by chance, or collapsed on a few rows of one y; then
        # others that came near, best first. Not where one collapsed on many rows: data without noise has its best fit
        # there, and others that are merely worse.
        spare = [start for start in starts if start.reached and start.status == "eliminated"]
        spare.sort(key=lambda start: -start.value)
        weight = design.rows.total_weight
        ends: list[tuple[Outcome, list[int]]] = []
        sound: list[bool] = []
        to_beat = -math.inf
        candidates = [*running, *spare[:_SPARE]]
        for start in candidates:
            done = any(sound) or self.out_of_time() or any(self.support.is_exact(*end) for end in ends)
            if len(ends) >= len(running) and done:
                break
            if not give_up:
                if ends and self.out_of_time():
                    start.status = "eliminated"
                    continue
                if sample is not None:
                    self.approach(start, sample)
            outcome, collapsed = self.finish_one(start, to_beat)
            start.log_likelihood = outcome.log_likelihood / weight
            start.record(outcome, weight)
            ends.append((outcome, collapsed))
            sound.append(self.support.is_sound(outcome, collapsed))
            if sound[-1] and give_up:
                to_beat = max(to_beat, outcome.objective)
            elif not sound[-1]:
                start.status = "degenerate"
        # Where none is sound they are judged with the barrier: a spike's likelihood is no merit.
        judge = self.objective(0.0 if any(sound) else self.support.barrier(design))
        values = [end.log_likelihood - judge.penalty(end.parameters.noise_std) for end, _ in ends]
        winner = max(range(len(ends)), key=lambda one: (sound[one], values[one]))
        candidates[winner].status = "winner"
        return conclude(self, *ends[winner], starts)

    def may_still_win(self, running: list[Start], sample: Design) -> list[Start]:
        """The first, and those of which other rows than the race's do not say that they will not overtake it."""
        if len(running) == 1:
            return running
        of_first = log_density(sample, running[0].parameters)
        for start in running[1:]:
            if not may_be_better(sample, start.parameters, of_first):
                start.status = "eliminated"
        return [start for start in running if start is running[0] or start.status == "finished"]

    def still_in(self, running: list[Start], sample: Design) -> list[Start]:
        """Of starts climbed on a sample: the best, and those that may be better on all rows."""
        if len(running) == 1:
            return running
        best = max(running, key=lambda start: start.value)
        kept, of_best = [best], log_density(sample, best.parameters)
        for start in sorted(running, key=lambda start: -start.value):
            distinct = all(abs(start.value - other.value) > _SAME for other in kept)
            if distinct and math.isfinite(start.value) and may_be_better(sample, start.parameters, of_best):
                kept.append(start)
            elif start is not best:
                start.status = "eliminated" if distinct else "duplicate"
        return kept

    def anneal(self, design: Design, start: Start) -> None:
        """Before a small noise is held: EM for a while with the noise estimated, from large.

        Experts that begin wrong and sure of their rows cannot move; while the noise is large they can.
        """
        spread = design.rows.target_moments[1]
        wide = np.maximum(start.parameters.noise_std, _WIDE * spread)
        free = Objective("per_expert", self.support.barrier_of(design), gate_limit=self.gate_limit)
        outcome = maximise(
            design, replace(start.parameters, gate=self.within_limit(start.parameters.gate), noise_std=wide), free,
            max_iter=_ANNEALING_ITER, tol=_ANNEALING_TOL, newton=False, callback=self.out_of_time,
        )
        start.parameters = outcome.parameters
        start.record(outcome, design.rows.total_weight)

    def finish_one(self, start: Start, to_beat: float = -math.inf) -> tuple[Outcome, list[int]]:
        """The unpenalised maximum from this start; where experts collapse, the penalised one, and which they are.

        The run ends early where it will not come up to `to_beat`.
        """
        design = self.design
        parameters = self.admissible(start.parameters)
        chase = Chase(to_beat, self.watch, near_end=start.reached or start.curvature is not None)
        climb = partial(maximise, design, max_iter=self.max_iter, tol=self.tol, newton=self.newton)
        outcome = climb(
            parameters, self.objective(), start.curvature_of(design), smallest_noise=self.support.smallest_noise,
            callback=chase,
        )
        if chase.lost:
            start.status = "eliminated"
        small = np.flatnonzero(self.support.too_small(design, outcome.sums)).tolist()
        if not outcome.collapsed and not small:
            return outcome, []
        if not isinstance(self.noise, str) or not self.move_experts:
            return outcome, []
        penalised = climb(parameters, self.objective(self.support.barrier(design)), callback=self.watch)
        if not outcome.collapsed and self.support.too_small(design, penalised.sums).any():
            return outcome, []    # few rows with the barrier too: a small expert, not a spike
        return penalised, list(outcome.collapsed) or small

    @cached_property
    def sample(self) -> Design | None:
        """Some rows of large data, to climb on first; None where there are too few to be worth it."""
        design, n_free = self.design, self.n_parameters
        n = design.rows.n_samples
        n_rows = max(min(_SAMPLE_ROWS, n // 4), _SAMPLE_ROWS_PER_PARAMETER * n_free)
        too_few = n < max(_LARGE, 2 * n_rows)
        if not self.newton or n_free > NEWTON_PARAMETERS or self.max_iter == 0 or too_few:
            return None
        return design.sample(n_rows, self.rng)

    def approach(self, start: Start, sample: Design) -> None:
        """Climb on a sample of large data until that no longer helps.

        The maximum of the sample is near that of all rows, and so is its second derivative: from there a few passes for
        the gradient alone finish the fit. Nothing is taken from a sample in which an expert collapses.
        """
        objective = self.objective()
        outcome = maximise(
            sample, self.admissible(start.parameters), objective, start.curvature_of(sample),
            max_iter=self.max_iter, tol=_SAMPLE_TOL, smallest_noise=self.support.smallest_noise, callback=self.watch,
        )
        start.record(outcome, sample.rows.total_weight)
        if outcome.objective == -math.inf or outcome.collapsed or self.support.too_small(sample, outcome.sums).any():
            start.value = -np.inf
            return
        start.parameters, start.value = outcome.parameters, outcome.objective / sample.rows.total_weight
        self.take_curvature(start, sample, objective)

    def take_curvature(self, start: Start, design: Design, objective: Objective) -> None:
        """Note the curvature where the start is, with which Newton's method will begin."""
        sums = design.run(start.parameters, _em.INFORMATION)
        start.keep(factored(sums, start.parameters, objective), design)


def _check_noise(noise: Any, n_experts: int) -> str | FloatArray:
    if isinstance(noise, str):
        return check_choice(noise, "noise", ("per_expert", "shared"))
    if np.ndim(noise) == 0:
        return np.full(n_experts, check_positive(noise, "noise"))
    held = check_vector(noise, "noise")
    if held.shape != (n_experts,):
        raise ValueError(f"noise has shape {held.shape}, expected (n_experts,) = ({n_experts},) or one number")
    if not (held > 0.0).all():
        raise ValueError(f"noise must be positive, got {held.tolist()}")
    return held.copy()
