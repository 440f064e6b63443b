"""Maximum likelihood from a given start: EM, and Newton's method once EM has come near.

Reads like the box of docs/math.md, section 4. One pass over the rows at the current parameters gives the
log-likelihood and all that the next step needs, so that an iteration is one pass; the log-likelihood of the next
pass judges the step, which is shortened until it is no fall.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from . import _em
from .activations import Code
from .design import Design, Parameters, Sums
from .information import factored, gradient, moved
from .linalg import Curvature, solve_normal_equations
from .objective import Objective
from .pace import SMALLEST_QUASI_NEWTON, GateCurvature, Pace, StepKind, gate_serves
from .quasi_newton import QuasiNewton

__all__ = ["Outcome", "State", "climb", "maximise", "overall_line"]

FloatArray = NDArray[np.float64]

_SMALLEST = _em.SMALLEST_FRACTION   # of a step: what does not gain there gains nowhere in its direction
_ROUNDING = 1e-14        # of the absolute log-likelihood plus one a row: a fall by less is rounding
_FLAT = 1e-7             # promised gain a row that is none if no step has any of it, as where an expert saturates
_SMALLEST_NEWTON = 0.5   # of a step of Newton's
_AS_A_LINE = 1.5         # gain over its promise, above which there was no curvature: a line gains twice the promise
_LONGER, _LENGTHENINGS = 4.0, 10    # such a step is taken so many times as long, and again, while that gains
_SINGLE_ERROR = 1e-5     # of the residual squares: what Grams in single precision cannot tell of what a step leaves
_CALL = 1 << 27          # multiplications of a call of the kernel: a tenth of a second, so that Python sees Ctrl-C
_HAND_OVERS, _HANDED_OVER_ITER = 3, 5    # from the kernel's climb, and iterations each time
_TINY = _em.TINY_NOISE       # noise above zero whatever happens
_EXACT = 1e-8            # of the root mean square of y: a line that leaves less leaves next to nothing
_NO_ROWS = _em.NO_ROWS       # share of the weight below which an expert holds nothing
_WIDEST_GATE_STEP = _em.GATE_STEP   # most that a gate coefficient moves by in an EM step, or the size of the largest
_UNANSWERED = _em.UNANSWERED        # part of the gate's promise that a gradient without curvature may have to gain


@dataclass(frozen=True)
class State:
    """Where a fit stands: what a callback is given.

    Attributes
    ----------
    iteration : int
    objective, log_likelihood : float
        The first includes the barrier, if there is one.
    design : Design
    parameters : Parameters
        In the design's coordinates; `model` is in the user's.
    promised : float
        What the last step was to gain, if it was Newton's by the curvature of a maximum: about what was left to gain
        before it. Infinity for other steps.
    """

    iteration: int
    objective: float
    log_likelihood: float
    design: Design = field(repr=False)
    parameters: Parameters = field(repr=False)
    promised: float = field(repr=False, default=math.inf)

    @property
    def model(self):
        """The current model, experts in the order of the start."""
        return self.design.model(self.parameters)


@dataclass
class Outcome:
    """Where `maximise` ended.

    Attributes
    ----------
    parameters : Parameters
    objective, log_likelihood : float
    sums : Sums
        Of the last pass, at `parameters`.
    history : list of float
        The objective before the first iteration and after each.
    converged : bool
    gain : float
        Of the last iteration, per unit of weight.
    collapsed : tuple of int
        Experts whose noise went to zero, if that ended the run.
    curvature : Curvature or None
        The last one that Newton's method used.
    """

    parameters: Parameters
    objective: float
    log_likelihood: float
    sums: Sums
    history: list[float]
    converged: bool = False
    gain: float = math.inf
    collapsed: tuple[int, ...] = ()
    curvature: Curvature | None = None

    @property
    def n_iter(self) -> int:
        return len(self.history) - 1


def maximise(
    design: Design,
    start: Parameters,
    objective: Objective,
    curvature: Curvature | None = None,
    *,
    max_iter: int,
    tol: float,
    newton: bool = True,
    quasi_newton: bool = False,
    smallest_noise: float = 0.0,
    callback: Callable[[State], object] | None = None,
) -> Outcome:
    """Climb the objective from `start` until it gains no more.

    Parameters
    ----------
    design : Design
    start : Parameters
    objective : Objective
    curvature : Curvature, optional
        The second derivative near the maximum, known from elsewhere: Newton's method begins at once.
    max_iter : int
        Iterations, of EM and Newton's method together.
    tol : float
        On the gain per unit of weight, and on the gain that each block's gradient and curvature promise.
    newton : bool
        Whether Newton's method, and quasi-Newton steps, may take over where EM is slow.
    quasi_newton : bool
        Whether quasi-Newton steps may, if Newton's method may not.
    smallest_noise : float
        An expert whose noise falls below has collapsed, and the run ends there.
    callback : callable, optional
        Called with a `State` after each iteration; returning True ends the run.

    Returns
    -------
    outcome : Outcome
        The objective never falls from one iteration to the next, but for rounding.
    """
    weight = design.rows.total_weight
    pace = Pace(
        design, start, objective, tol * weight, newton=newton, quasi_newton=newton or quasi_newton, curvature=curvature
    )
    current = _evaluate(design, start, objective, pace.want)
    current.history.append(current.objective)
    if current.objective == -math.inf:   # a custom activation that overflows there: no place to climb from
        return current
    current.collapsed = _collapsed(start, objective, smallest_noise)
    if current.collapsed:   # from so small a noise no step gains
        return current
    for iteration in range(1, max_iter + 1):
        while True:
            current, step = _next_step(design, current, objective, pace, smallest_noise)
            proposal = None if step is None else _line_search(design, current, step, objective, pace)
            if proposal is not None or not pace.fall_back():
                break
        if step is None or proposal is None:
            # Not even a tiny step gains: the top, where rounding hides what is left to gain.
            current.gain = 0.0
            current.converged = step is not None and step.promise <= max(tol, _FLAT) * weight
            break
        gain = proposal.objective - current.objective
        proposal.history = [*current.history, proposal.objective]
        proposal.gain = gain / weight
        current = proposal
        if callback is not None and callback(
            State(
                iteration, current.objective, current.log_likelihood, design, current.parameters,
                step.promise if pace.steps_to_maximum else math.inf,
            )
        ):
            break
        current.collapsed = _collapsed(current.parameters, objective, smallest_noise)
        if current.collapsed:
            break
        if gain <= tol * weight and step.promise <= tol * weight:
            if pace.knows_what_is_left:
                current.converged = True
                break
            pace.look_closer()
        pace.after(iteration, gain, step.promise, current.sums, current.parameters)
    current.curvature = pace.curvature
    return current


def climb(
    design: Design, start: Parameters, objective: Objective, *, max_iter: int, tol: float,
    quasi_newton: bool = False, callback: Callable[[State], object] | None = None,
) -> Outcome:
    """`maximise` with ``newton=False``: the same steps, where passes are short.

    Where passes are short, many of them are one call of the kernel, and the callback is asked between calls. Where the
    kernel's step gains at no length, as at a kink, a few are handed over a few times; then the run ends early.
    Arguments and result are those of `maximise`.
    """
    if not (design.is_brief(start.n_experts) and objective.move_experts):
        return maximise(
            design, start, objective, max_iter=max_iter, tol=tol, newton=False, quasi_newton=quasi_newton,
            callback=callback,
        )
    weight = design.rows.total_weight
    serves = gate_serves(start.n_experts)   # a call begins with a new curvature
    most = serves * max(1, _CALL // (serves * design.pass_work(start.n_experts)))
    parameters, history, n_handed_over = start, [-math.inf], 0
    while True:
        parameters, values, sums, ended = design.climb(
            parameters, objective, min(max_iter + 1 - len(history), most), serves, quasi_newton,
            goal=tol * weight, rounding=_ROUNDING,
        )
        history[-1:] = values.tolist()
        outcome = Outcome(parameters, history[-1], sums.log_likelihood, sums, history, ended == _em.CONVERGED)
        left = max_iter - outcome.n_iter
        if outcome.converged or left == 0 or outcome.objective == -math.inf:
            return outcome
        if ended == _em.LAST_ITERATION:
            state = State(outcome.n_iter, outcome.objective, outcome.log_likelihood, design, parameters)
            if callback is not None and callback(state):
                return outcome
            continue
        if n_handed_over == _HAND_OVERS:
            return outcome
        n_handed_over += 1
        with np.errstate(over="ignore", invalid="ignore"):   # near a noise of zero, where a start is given up
            outcome = maximise(
                design, parameters, objective, max_iter=min(left, _HANDED_OVER_ITER), tol=tol, newton=False
            )
        history[-1:] = outcome.history
        outcome.history = history
        if outcome.converged or outcome.gain == 0.0 or outcome.n_iter == max_iter:
            return outcome
        parameters = outcome.parameters


def _collapsed(parameters: Parameters, objective: Objective, smallest_noise: float) -> tuple[int, ...]:
    """Experts whose noise, if it moves, is below that."""
    small = parameters.noise_std < smallest_noise
    return tuple(np.flatnonzero(small).tolist()) if objective.moves_noise else ()


# ---- one iteration ----


@dataclass
class _Step:
    """A proposal: parameters at a fraction of the way, and the gain a quadratic model promises for the whole."""

    at: Callable[[float], Parameters]
    promise: float
    smallest: float = _SMALLEST   # the smallest fraction of it that is worth a try
    lengthens: bool = False    # whether its length is a guess: a direction has no curvature, or one the wrong way


def _next_step(
    design: Design, current: Outcome, objective: Objective, pace: Pace, smallest_noise: float
) -> tuple[Outcome, _Step | None]:
    """The step that `pace` chooses, and the current place with the sums that step was made from."""
    if pace.kind is StepKind.EM:
        if pace.lacks_sums(current.sums):
            current = _with_sums(design, current, objective, pace.want)
            pace.bound_changed = False
        if not current.sums.finite:   # a likelihood that is a number, curvatures that overflow
            return current, None
        pace.take_gate_gram(current.sums)
        pace.gate_steps_left -= 1
        return current, _em_step(current, objective, design, smallest_noise, pace.gate_curvature)
    if pace.kind is StepKind.QUASI_NEWTON:
        pace.take_metric(current.sums, current.parameters)
        return current, _step_along(current, objective, pace.quasi, SMALLEST_QUASI_NEWTON)
    if pace.curvature is not None:
        step = _newton_step(current, objective, pace)
        if pace.still_good(step.promise):
            return current, step
    current = _with_sums(design, current, objective, _em.INFORMATION | pace.precision)
    pace.take_curvature(factored(current.sums, current.parameters, objective))
    if pace.curvature is None:
        return current, None
    return current, _newton_step(current, objective, pace, lengthens=not pace.curvature.definite)


def _em_step(
    current: Outcome, objective: Objective, design: Design, smallest_noise: float, gate_curvature: GateCurvature
) -> _Step:
    """The M-step: weighted least squares (linear) or Gauss-Newton for the experts, Newton for the gate."""
    parameters, sums = current.parameters, current.sums
    limit = objective.gate_limit
    gate_move = _gate_move(gate_curvature, sums.gate_gradient, parameters.gate, limit)
    promise = 0.5 * float(np.sum(gate_move * sums.gate_gradient))
    if not objective.move_experts:
        return _Step(lambda t: replace(parameters, gate=_moved_gate(parameters.gate, t * gate_move, limit)), promise)

    expert_move = solve_normal_equations(sums.expert_gram, sums.expert_gradient)
    explained = np.sum(expert_move * sums.expert_gradient, axis=1)
    promise += 0.5 * float(np.sum(explained / parameters.noise_std**2))
    linear = design.activation.code == Code.LINEAR
    # Linear: the residual squares at the new coefficients, exactly. Others: those at the old ones, an upper bound
    # if the step lowers them; the next iteration takes up the rest.
    least = _SINGLE_ERROR * sums.sum_squares if design.is_single else 0.0
    squares = np.maximum(sums.sum_squares - explained, least) if linear else sums.sum_squares
    # Far enough below smallest_noise to be noticed as collapsed, with densities that are still numbers.
    noise_std = _update_noise(squares, sums.weight, parameters.noise_std, objective, 0.5 * smallest_noise)
    promise += _noise_promise(noise_std, parameters.noise_std, sums.weight, objective)

    def at(t: float) -> Parameters:
        # The experts' step is exact for linear ones, so only the gate's is ever shortened.
        share = 1.0 if linear else t
        return Parameters(
            parameters.expert + share * expert_move, _moved_gate(parameters.gate, t * gate_move, limit), noise_std
        )

    return _Step(at, promise)


def _gate_move(curvature: GateCurvature, gate_gradient: FloatArray, gate: FloatArray, limit: float) -> FloatArray:
    """Newton's step for the gate: the full curvature of a multinomial logistic regression with soft labels.

    Scaled down so that no coefficient moves by more than 20, or the largest there is: a gate that is a step in the
    wrong place has much gradient and next to no curvature. Where some of the gradient has no curvature at all, and so
    no answer, it is Levenberg's step with a ridge that keeps it as short. Coefficients pressed against their limit stay
    there.
    """
    n_rows, q = gate_gradient.shape
    if n_rows * q == 0:
        return np.zeros_like(gate_gradient)
    slope = gate_gradient.flatten()
    pressed = _pressed(gate, gate_gradient, limit).ravel()
    while True:
        slope[pressed] = 0.0
        move = _bounded_move(curvature, slope, pressed, gate)
        if not _press(pressed, gate.ravel(), move, limit):
            return move.reshape(n_rows, q)


def _bounded_move(
    curvature: GateCurvature, slope: FloatArray, pressed: NDArray[np.bool_], gate: FloatArray
) -> FloatArray:
    """`_gate_move` from a slope, with some coefficients held."""
    move = curvature.solve(slope, pressed)
    allowed, widest = max(_WIDEST_GATE_STEP, np.abs(gate).max()), np.abs(move).max()
    with np.errstate(over="ignore", invalid="ignore"):   # no number is no answer
        left = np.abs(np.where(pressed, 0.0, slope - curvature.matrix @ move)).max()
        answered = left * allowed <= _UNANSWERED * (move @ slope)
    if not answered:
        ridged = curvature.without(pressed) + math.sqrt(slope @ slope) / allowed * np.eye(len(slope))
        move = solve_normal_equations(ridged[np.newaxis], slope[np.newaxis])[0]
    elif widest > allowed:
        move *= allowed / widest
    return move


def _moved_gate(gate: FloatArray, move: FloatArray, limit: float) -> FloatArray:
    """The gate after a move, which goes no further than where the first coefficient comes to its limit.

    Were each cut by itself, those of a steep border would no longer lie on one line, and no length would gain.
    """
    there = gate + move
    beyond = np.abs(there) > limit
    if not beyond.any():
        return there
    coming = beyond & (np.abs(gate) < limit)
    if coming.any():
        shares = np.full(gate.shape, np.inf)
        shares[coming] = (np.copysign(limit, move[coming]) - gate[coming]) / move[coming]
        there = gate + shares.min() * move
        first = np.unravel_index(np.argmin(shares), gate.shape)
        there[first] = math.copysign(limit, move[first])   # rounding would leave next to no way to go
    return np.clip(there, -limit, limit)


def _pressed(gate: FloatArray, way: FloatArray, limit: float) -> NDArray[np.bool_]:
    """Which coefficients are at their limit and would go on that way, were they let: there the gate separates."""
    return (np.abs(gate) >= limit) & (gate * way > 0.0)


def _press(pressed: NDArray[np.bool_], gate: FloatArray, move: FloatArray, limit: float) -> bool:
    """Press those too that a move of the others takes along beyond their limit; whether there are any.

    Cut there, they would turn a steep border, and no length of the move would gain.
    """
    taken_along = _pressed(gate, move, limit) & ~pressed
    pressed |= taken_along
    return bool(taken_along.any())


def _update_noise(
    squares: FloatArray, weight: FloatArray, old: FloatArray, objective: Objective, floor: float
) -> FloatArray:
    if not objective.moves_noise:
        return old
    floor = max(floor, _TINY)
    if objective.shares_noise:
        return np.full_like(old, max(math.sqrt((squares.sum() + objective.barrier) / weight.sum()), floor))
    # An expert without rows keeps its noise: the barrier over no weight would send it to infinity.
    holds_rows = weight > _NO_ROWS * weight.sum()
    held = np.where(holds_rows, weight, 1.0)
    return np.where(holds_rows, np.maximum(np.sqrt((squares + objective.barrier) / held), floor), old)


def _noise_promise(new: FloatArray, old: FloatArray, weight: FloatArray, objective: Objective) -> float:
    """Gain from moving the noise alone: weight (u - 1 - log u) / 2 with u the ratio of variances."""
    if not objective.moves_noise:
        return 0.0
    u = (new / old) ** 2
    return 0.5 * float(np.sum(weight * (u - 1.0 - np.log(u))))


def _newton_step(current: Outcome, objective: Objective, pace: Pace, lengthens: bool = False) -> _Step:
    """By the curvature that `pace` has, corrected by the steps that were made with it."""
    pace.take_place(current.sums, current.parameters)
    return _step_along(current, objective, pace.chord, _SMALLEST_NEWTON, lengthens, exact=True)


def _step_along(
    current: Outcome, objective: Objective, quasi: QuasiNewton, smallest: float, lengthens: bool = False,
    exact: bool = False,
) -> _Step:
    """A step on the log-likelihood itself, in (experts, gate, log noise_std), the gate within its limit.

    With `exact` it is the step of those that are free, by their own part of the curvature.
    """
    parameters = current.parameters
    slope = gradient(current.sums, parameters, objective)
    n_before = parameters.expert.size if objective.move_experts else 0
    of_gate = slice(n_before, n_before + parameters.gate.size)
    gate, limit = parameters.gate.ravel(), objective.gate_limit
    pressed = _pressed(gate, current.sums.gate_gradient.ravel(), limit)
    while True:
        slope[of_gate][pressed] = 0.0
        direction = quasi.direction(slope)
        if exact and pressed.any():
            held = n_before + np.flatnonzero(pressed)
            back = np.stack([quasi.direction(unit) for unit in np.eye(len(slope))[held]], axis=1)
            direction -= back @ np.linalg.lstsq(back[held], direction[held], rcond=None)[0]
        direction[of_gate][pressed] = 0.0
        if not _press(pressed, gate, direction[of_gate], limit):
            break

    def at(t: float) -> Parameters:
        move = t * direction
        there = moved(parameters, objective, move)
        return replace(there, gate=_moved_gate(parameters.gate, move[of_gate].reshape(parameters.gate.shape), limit))

    return _Step(at, 0.5 * float(direction @ slope), smallest, lengthens)


def _line_search(
    design: Design, current: Outcome, step: _Step, objective: Objective, pace: Pace
) -> Outcome | None:
    """The whole step if the objective does not fall, else the first of ever shorter ones that gains.

    None if there is none. A shortened step must gain beyond rounding: at a kink of a ReLU expert steps of any length
    neither gain nor fall, and would go on for ever.
    """
    slack = _ROUNDING * (abs(current.objective) + design.rows.total_weight)
    least = current.objective - slack
    fraction = 1.0
    while fraction > 0.0:
        proposal = _evaluate(design, step.at(fraction), objective, pace.want)
        if proposal.objective >= least:
            pace.fraction = fraction
            if step.lengthens and proposal.objective - current.objective > _AS_A_LINE * step.promise:
                return _lengthened(design, proposal, fraction, step, objective, pace)
            return proposal
        least = current.objective + slack
        gain = proposal.objective - current.objective
        fraction = _em.shorter(fraction, gain, step.promise, step.smallest, pace.has_kinks)
    return None


def _lengthened(
    design: Design, proposal: Outcome, fraction: float, step: _Step, objective: Objective, pace: Pace
) -> Outcome:
    """The longest of this fraction of the step, four times it, 16 times, ... up to which each gains over the last."""
    for _ in range(_LENGTHENINGS):
        fraction *= _LONGER
        longer = _evaluate(design, step.at(fraction), objective, pace.want)
        if longer.objective <= proposal.objective:
            break
        proposal = longer
    return proposal


def _evaluate(design: Design, parameters: Parameters, objective: Objective, want: int) -> Outcome:
    sums = design.run(parameters, want)
    value = sums.log_likelihood - objective.penalty(parameters.noise_std)
    if not (sums.finite and math.isfinite(value)):   # a step into overflow: no good, whatever it is
        value = -math.inf
    return Outcome(parameters, value, sums.log_likelihood, sums, [])


def _with_sums(design: Design, current: Outcome, objective: Objective, want: int) -> Outcome:
    """The same place, with other sums."""
    fresh = _evaluate(design, current.parameters, objective, want)
    return replace(current, sums=fresh.sums)


def overall_line(design: Design) -> tuple[FloatArray, float]:
    """One linear expert for all rows, by weighted least squares.

    Returns
    -------
    expert : ndarray of shape (p,)
    residual_std : float
        What the line leaves of y; never quite zero, so that a scale of noise may be made from it.
    """
    p = design.n_columns
    line = Parameters(np.zeros((1, p)), np.empty((0, design.n_gate_columns)), np.ones(1))
    if design.fit_intercept:   # a large offset of y is no scale of its noise
        line.expert[0, 0] = np.average(design.rows.y, weights=design.rows.weight)
    # Twice: the second time from the solution, so that the residuals are not a difference of large sums.
    least = 0.0
    for _ in range(2):
        sums = design.run(line, _em.EXPERT_GRAM, linear=True)
        least = max(least, _EXACT * math.sqrt(sums.sum_squares[0] / sums.total))
        move = solve_normal_equations(sums.expert_gram, sums.expert_gradient)
        line = replace(line, expert=line.expert + move)
    explained = float(np.sum(move * sums.expert_gradient))
    squares = max(float(sums.sum_squares[0]) - explained, 0.0)
    return line.expert[0], max(math.sqrt(squares / sums.total), least)
