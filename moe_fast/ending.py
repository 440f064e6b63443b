"""How a fit ends: its result, and what a user is warned of."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import _em
from .activations import Code
from .design import Parameters, Sums
from .determined import flat_experts
from .em import Outcome
from .exceptions import ConvergenceWarning
from .linalg import from_lower_blocks, solve_normal_equations
from .result import FitResult
from .separation import may_separate, separated_experts

if TYPE_CHECKING:
    from .task import Start, Task

__all__ = ["conclude"]

_NEARLY_DEPENDENT = 0.1   # sine below which a column that nearly depends on others is blamed
_HELD_BACK = 1e-6         # gain beyond the gate's limit, per unit of weight, that is told


def conclude(task: Task, outcome: Outcome, collapsed: list[int], starts: list[Start]) -> FitResult:
    """The result of a fit that ended so, and its warnings, which point to the caller of fit."""
    design, weight = task.design, task.design.rows.total_weight
    if outcome.objective == -math.inf:
        raise ValueError(
            f"activation {design.activation} gives values that are not finite from every start; scale X or y down"
        )
    parameters = design.seen(outcome.parameters)
    of_experts, of_gate = task.dependences
    expert = of_experts.without(parameters.expert) if task.move_experts else parameters.expert
    outcome.parameters = replace(parameters, expert=expert, gate=of_gate.without(parameters.gate))
    # The gate's curvature tells a gate that separates; only a steep one can.
    steep = may_separate(outcome.parameters)
    bounded = task.move_experts and design.activation.code in (Code.SIGMOID, Code.TANH)   # and so may saturate
    sums = design.run(
        outcome.parameters,
        _em.ENTROPY | (_em.GATE_GRAM if steep else 0) | (_em.EXPERT_GRAM if bounded else 0),
    )
    model = design.model(outcome.parameters, **task.names)
    if task.held is not None:   # as they were given, to the bit
        model = replace(model, coef=task.held.coef, intercept=task.held.intercept)
    order = model.documented_order(sums.gate_weight / weight)
    where = np.argsort(order)
    separated = separated_experts(outcome.parameters, sums) if steep else ()
    held_back = steep and not separated and _is_held_back(task, outcome.parameters, sums)
    if not task.quiet:
        _warn(task, outcome, collapsed, where, held_back, flat_experts(sums) if bounded else [])
    outcome.converged = outcome.converged and not held_back
    k = task.n_experts
    n_parameters = (k - 1) * (design.n_gate_columns - len(of_gate))
    if task.move_experts:
        n_parameters += k * (design.n_columns - len(of_experts))
        n_parameters += {"per_expert": k, "shared": 1}[task.noise] if isinstance(task.noise, str) else 0
    return FitResult(
        model=model.permute(order),
        log_likelihood=float(sums.log_likelihood),
        n_parameters=n_parameters,
        n_samples=weight,
        n_iter=outcome.n_iter,
        n_passes=design.rows.reads.n_rows / design.rows.n_samples,
        converged=outcome.converged,
        history=np.array(outcome.history),
        entropy=float(sums.entropy),
        mixing_weights=sums.gate_weight[order] / weight,
        effective_sizes=sums.weight[order],
        starts=tuple(start.report(weight) for start in sorted(starts, key=lambda start: start.index)),
        penalised=bool(collapsed),
        unsupported=tuple(sorted(int(where[expert]) for expert in task.support.unsupported(outcome, collapsed))),
        redundant_features=task.redundant_features,
        redundant_gate_features=task.redundant_gate_features,
        separated=tuple(sorted(int(where[expert]) for expert in separated)),
        barrier=task.support.barrier(design) if collapsed else 0.0,
        seconds=time.perf_counter() - task.began,
        noise=task.noise if isinstance(task.noise, str) else "held",
        fit_intercept=design.fit_intercept,
        gate_intercept=design.gate_intercept,
        experts_held=not task.move_experts,
    )


def _is_held_back(task: Task, parameters: Parameters, sums: Sums) -> bool:
    """Whether the gate's limit costs likelihood, as where columns nearly depend on each other, or have a long tail.

    What is to be gained beyond it is the lesser of what the slope promises on the way to a limit twice as far, and
    what the curvature does.
    """
    gate, slope = parameters.gate, sums.gate_gradient
    at_limit = np.abs(gate) >= task.gate_limit
    on_the_way = float(np.sum(np.maximum(gate * slope, 0.0)[at_limit]))
    if on_the_way <= _HELD_BACK * sums.total:
        return False
    curvature = from_lower_blocks(sums.gate_gram, len(gate))
    move = solve_normal_equations(curvature[np.newaxis], slope.reshape(1, -1))[0]
    return 0.5 * float(move @ slope.ravel()) > _HELD_BACK * sums.total


def _warn(
    task: Task, outcome: Outcome, collapsed: list[int], where: NDArray[np.intp], held_back: bool, flat: list[int]
) -> None:
    def named(experts: list[int]) -> str:   # counted from 1, in the documented order
        numbers = ", ".join(str(number) for number in np.sort(where[experts] + 1))
        return f"expert {numbers}" if len(experts) == 1 else f"experts {numbers}"

    if collapsed:
        warnings.warn(
            f"{named(collapsed)} collapsed on rows fitted exactly, where the likelihood has no maximum; the fit "
            f"with a weak barrier on noise_std was kept. Fewer experts, or noise='shared', may suit the data "
            f"better",
            ConvergenceWarning, stacklevel=6,
        )
    unsupported = task.support.unsupported(outcome, collapsed)
    if unsupported:
        one = len(unsupported) == 1
        warnings.warn(
            f"{named(unsupported)} {'holds' if one else 'hold'} fewer rows than {'it has' if one else 'they have'} "
            f"parameters for, or {'fits' if one else 'fit'} few rows almost exactly: the data may not support "
            f"n_experts = {task.n_experts}; try fewer, or select_n_experts",
            ConvergenceWarning, stacklevel=6,
        )
    if flat:
        y, ends = task.design.rows.y, task.design.activation.g(np.array([-np.inf, np.inf]))
        warnings.warn(
            f"{named(flat)} {'is' if len(flat) == 1 else 'are'} saturated: the {task.design.activation} is flat on "
            f"all rows there, and coefficients say nothing. Its values lie between {ends[0]:.3g} and "
            f"{ends[1]:.3g}, y between {y.min():.3g} and {y.max():.3g}: scale y if it is of another range",
            ConvergenceWarning, stacklevel=6,
        )
    if held_back:
        advice = (
            "columns nearly depend on each other, as powers of a year do: subtract an offset from the column that "
            "they are made of" if task.dependences[1].least_own < _NEARLY_DEPENDENT else
            "a column may have values far out, by which its standard deviation is large: look at its largest, or "
            "take logarithms"
        )
        warnings.warn(
            f"a gate coefficient came to {task.gate_limit:.3g} per standard deviation, where it is stopped, and "
            f"the gate does not separate; {advice}",
            ConvergenceWarning, stacklevel=6,
        )
    if not outcome.converged and not task.stopped:
        if outcome.n_iter >= task.max_iter:
            advice = f"raise max_iter (now {task.max_iter}), or tol"
        elif task.deadline < np.inf:
            advice = "raise time_limit, or tol"
        else:
            advice = "no step gains more, to rounding; raise tol"
        gained = f"the last gain was {outcome.gain:.3g} per row, " if outcome.n_iter else ""
        warnings.warn(
            f"not converged after {outcome.n_iter} iterations: {gained}tol is {task.tol:.3g}; {advice}",
            ConvergenceWarning, stacklevel=6,
        )
