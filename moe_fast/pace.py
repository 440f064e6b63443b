"""Which step of the ascent comes next: EM's, a quasi-Newton step where EM creeps, or Newton's where that saves time."""

from __future__ import annotations

import math
from collections import deque
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from . import _em
from .activations import Code
from .design import Design, Parameters, Sums
from .information import flat, gradient
from .linalg import SMALL_SYSTEM, Curvature, NormalEquations, from_lower_blocks, solve_normal_equations
from .objective import Objective
from .quasi_newton import Metric, QuasiNewton

__all__ = ["NEWTON_PARAMETERS", "SMALLEST_QUASI_NEWTON", "GateCurvature", "Pace", "StepKind", "gate_serves"]

FloatArray = NDArray[np.float64]

NEWTON_PARAMETERS = 1500    # the solve costs their cube; beyond, EM and quasi-Newton steps go on alone
_NEAR = _em.NEAR         # gain per row below which EM's rate can be told
_SLOW = _em.SLOW         # gain over the gain before, above which quasi-Newton steps take over
_METRIC_SERVES = _em.METRIC_SERVES   # quasi-Newton steps that a curvature of EM serves
SMALLEST_QUASI_NEWTON = _em.SMALLEST_QUASI_NEWTON   # fraction of such a step that is worth a try
_LAP = 5                 # of their gains, which tell their rate: one alone says little
_CHORD_RATE = 0.5        # a Hessian serves on while each step brings the promised gain down to this part
_CHORDS = 4              # steps that Newton's method is expected to make, beside summing two Hessians
_GATE_SERVES = 5         # EM steps that a curvature of the gate serves, at most
_E_STEP_WORK = 2         # an E-step with its gradients costs about two weighted Grams (d = 20)
_SHORTENED = _em.SHORTENED   # part of a step, below which the kink of a ReLU expert is in its way
_PATIENCE = _em.PATIENCE     # EM steps after another kind that failed, twice as many each time


class StepKind(Enum):
    """Whose step it is."""

    EM = auto()
    QUASI_NEWTON = auto()
    NEWTON = auto()


def gate_serves(n_experts: int) -> int:
    """Iterations of EM that one curvature of the gate serves.

    It is k (k - 1) / 2 Grams, which is most of a pass with several experts, and changes little in a step; but where a
    gate comes to separate, which takes up to twice as many iterations for it.
    """
    return min(max(n_experts - 1, 1), _GATE_SERVES)


class GateCurvature:
    """The gate's curvature, by which EM moves the gate for some steps, factored once for all of them.

    Parameters
    ----------
    blocks : ndarray of shape (m (m + 1) / 2, q, q)
        For m rows of the gate.
    n_rows : int
    """

    def __init__(self, blocks: FloatArray, n_rows: int) -> None:
        self.blocks, self.matrix = blocks, from_lower_blocks(blocks, n_rows)
        self._pressed = np.zeros(len(self.matrix), dtype=bool)
        self._system: NormalEquations | None = None

    def solve(self, slope: FloatArray, pressed: NDArray[np.bool_]) -> FloatArray:
        """The move from a slope, coefficients that are pressed against their limit held."""
        if len(slope) <= SMALL_SYSTEM:
            return solve_normal_equations(self.without(pressed)[np.newaxis], slope[np.newaxis])[0]
        if self._system is None or not np.array_equal(pressed, self._pressed):
            self._system, self._pressed = NormalEquations(self.without(pressed)), pressed.copy()
        return self._system.solve(slope)

    def without(self, pressed: NDArray[np.bool_]) -> FloatArray:
        """The matrix, zeros in the rows and columns of these."""
        if not pressed.any():
            return self.matrix
        kept = ~pressed
        return self.matrix * np.outer(kept, kept)


class Pace:
    """The kind of the next step, and the curvatures that serve for several.

    A quasi-Newton step needs the gradient alone, and EM's curvature now and then. A Newton step needs the Hessian, many
    times the work; but near the maximum one Hessian serves several steps (the chord method), brought up to date by
    their gradients (BFGS), even one from a sample of the rows.

    Parameters
    ----------
    design : Design
    start : Parameters
    objective : Objective
    goal : float
        Gain that is none.
    newton, quasi_newton : bool
        Whether these steps may be made.
    curvature : Curvature, optional
        Of the maximum, known from elsewhere.
    """

    def __init__(
        self, design: Design, start: Parameters, objective: Objective, goal: float, *, newton: bool, quasi_newton: bool,
        curvature: Curvature | None,
    ) -> None:
        k = start.n_experts
        n_free = start.gate.size + (start.expert.size + k if objective.move_experts else 0)
        # Curvatures are what steps are made of, not what judges them: those of float32 rows need no more digits.
        self.precision = _em.SINGLE if design.is_single else 0
        self.newton_allowed = newton and n_free <= NEWTON_PARAMETERS
        self.has_kinks = design.activation.code == Code.LEAKY_RELU and objective.move_experts
        self.quasi_newton_allowed = quasi_newton
        self.newton_work = 2 * (_E_STEP_WORK + k * (2 * k - 1)) + _CHORDS * _E_STEP_WORK
        self.em_work = _E_STEP_WORK + k + 0.5 * k * (k - 1) / gate_serves(k)
        self.goal = goal
        self.weight = design.rows.total_weight
        self.objective = objective
        self.iteration = 0
        self.gains: deque[float] = deque(maxlen=_LAP)   # of the last steps, none of them Newton's
        self.fraction = 1.0         # of the last step
        at_once = curvature is not None and self.newton_allowed
        self.kind = StepKind.NEWTON if at_once else StepKind.EM

        self.curvature = curvature if at_once else None
        self.chord = QuasiNewton(self.curvature, widest=1.0)   # by that curvature, and what its steps told since
        self.promise = math.inf     # of the last step taken with that curvature
        self.fresh = False          # whether it was taken at the current place
        self.newton_tried = False   # with a curvature of its own
        self.no_newton_until, self.newton_patience = 0, _PATIENCE

        self.quasi = QuasiNewton()
        self.metric_steps_left = 0                  # steps that its metric may serve yet
        self.no_quasi_until, self.quasi_patience = 0, _PATIENCE

        self.gate_curvature = GateCurvature(np.empty((0, 0, 0)), 0)    # that EM steps the gate by
        self.gate_is_fresh = False                  # whether it is that of the current place
        self.gate_steps_left = 0                    # steps that it may serve yet
        self.gate_serves = gate_serves(k)
        self.majorise = False
        self.bound_changed = False

    @property
    def want(self) -> int:
        """The sums that the next step needs."""
        quasi = self.kind is StepKind.QUASI_NEWTON
        if self.kind is StepKind.NEWTON or (quasi and self.metric_steps_left > 1):
            return 0
        return (
            self.precision
            | (_em.EXPERT_GRAM if self.objective.move_experts else 0)
            | (_em.GATE_GRAM if quasi or self.gate_steps_left == 0 else 0)
            | (_em.MAJORISED if self.majorise else 0)
        )

    def lacks_sums(self, sums: Sums) -> bool:
        """Whether something that an EM step needs was not summed."""
        lacks_expert = self.objective.move_experts and not hasattr(sums, "expert_gram")
        lacks_gate = self.gate_steps_left == 0 and not hasattr(sums, "gate_gram")
        return lacks_expert or lacks_gate or self.bound_changed

    @property
    def knows_what_is_left(self) -> bool:
        """Whether a step that promised next to nothing ends the run: an old curvature may promise too little.

        So may that of a few quasi-Newton steps; where Newton's method may be tried it has the last word.
        """
        if self.kind is StepKind.QUASI_NEWTON:
            return not self.newton_allowed or self.iteration < self.no_newton_until
        return self.kind is StepKind.NEWTON or self.gate_is_fresh

    @property
    def steps_to_maximum(self) -> bool:
        """Whether the steps are Newton's, by the curvature of a maximum."""
        return self.kind is StepKind.NEWTON and self.curvature is not None and self.curvature.definite

    def look_closer(self) -> None:
        """The next step is to know the curvature of its place."""
        self.gate_steps_left = 0
        if self.kind is StepKind.QUASI_NEWTON:
            self.to_newton()

    def take_gate_gram(self, sums: Sums) -> None:
        """The gate's curvature of this place, if it was summed; else an earlier one serves on."""
        self.gate_is_fresh = hasattr(sums, "gate_gram")
        if self.gate_is_fresh:
            self.gate_curvature = GateCurvature(sums.gate_gram, len(sums.gate_gradient))
            self.gate_steps_left = self.gate_serves

    def take_metric(self, sums: Sums, parameters: Parameters) -> None:
        """EM's curvature of this place, if it was summed; else an earlier one serves on."""
        if self.quasi.metric is None or hasattr(sums, "gate_gram"):
            expert_gram = sums.expert_gram if self.objective.move_experts else None
            gate_gram = getattr(sums, "gate_gram", self.gate_curvature.blocks)
            self.quasi.metric = Metric(expert_gram, gate_gram, sums, parameters, self.objective)
            self.metric_steps_left = _METRIC_SERVES

    def take_place(self, sums: Sums, parameters: Parameters) -> None:
        """Take note of where a step of Newton's begins: with the last, what the curvature was on the way."""
        if not self.has_kinks:
            self.chord.take(flat(parameters, self.objective), gradient(sums, parameters, self.objective))

    def still_good(self, promise: float) -> bool:
        """Whether a curvature of another place, with what steps told since, still brings the promise down fast."""
        assert self.curvature is not None
        return self.fresh or (self.curvature.definite and promise < _CHORD_RATE * self.promise)

    def take_curvature(self, curvature: Curvature | None) -> None:
        self.curvature, self.fresh, self.promise = curvature, True, math.inf
        self.chord = QuasiNewton(curvature, widest=1.0)

    def take_bound(self) -> None:
        """From the next step on."""
        self.majorise = self.bound_changed = True
        self.gate_steps_left = 0

    def fall_back(self) -> bool:
        """After a step that gained nothing: the kind to try in its place; False if none is left.

        An old curvature gives way to that of this place, quasi-Newton steps and Newton's method to EM for a while,
        longer each time. At the kink of a ReLU expert a Gauss-Newton step gains at no length; there a curvature that
        bounds the sum of squares from above takes its place.
        """
        if self.kind is StepKind.QUASI_NEWTON:
            self.to_em()
            self.no_quasi_until = self.iteration + self.quasi_patience
            self.quasi_patience *= 2
            return True
        if self.kind is StepKind.NEWTON and self.curvature is not None and not self.fresh:
            self.curvature = None
            return True
        if self.kind is StepKind.NEWTON:
            self.to_em()
            self.no_newton_until = self.iteration + self.newton_patience
            self.newton_patience *= 2
            return True
        if not self.gate_is_fresh:
            self.gate_steps_left = 0
            return True
        if self.has_kinks and not self.majorise:
            self.take_bound()
            return True
        if self.newton_allowed and not self.newton_tried:   # EM alone may stall beside a better point
            self.to_newton()
            return True
        return False

    def to_em(self) -> None:
        self.kind, self.curvature, self.quasi, self.gate_steps_left = StepKind.EM, None, QuasiNewton(), 0
        self.gains.clear()

    def to_newton(self) -> None:
        self.kind, self.newton_tried, self.quasi, self.gate_steps_left = StepKind.NEWTON, True, QuasiNewton(), 0

    def after(self, iteration: int, gain: float, promise: float, sums: Sums, reached: Parameters) -> None:
        """Take note of a step that was taken, and where it led; decide which kind makes the next."""
        self.iteration = iteration
        self.promise, self.fresh = promise, False
        if self.kind is StepKind.NEWTON:
            return
        self.gains.append(gain)
        if self.has_kinks and not self.majorise and self.fraction < _SHORTENED:
            self.take_bound()
        if self.newton_is_worth_it(gain):
            self.to_newton()
            return
        if self.kind is StepKind.QUASI_NEWTON:
            self.metric_steps_left -= 1
        elif not self.creeps or self.bound_changed:   # the metric is to have the bound's curvature
            self.quasi = QuasiNewton()
            return
        self.quasi.take(flat(reached, self.objective), gradient(sums, reached, self.objective))
        if self.kind is StepKind.EM and self.quasi.has_steps:
            self.kind = StepKind.QUASI_NEWTON
            self.gains.clear()

    @property
    def creeps(self) -> bool:
        """Whether EM has become slow, and quasi-Newton steps may take over."""
        if not self.quasi_newton_allowed or self.iteration < self.no_quasi_until or len(self.gains) < 2:
            return False
        before, last = self.gains[-2], self.gains[-1]
        return before < _NEAR * self.weight and last > _SLOW * before

    def newton_is_worth_it(self, gain: float) -> bool:
        """Whether the steps that are left at the present rate cost more than Newton's method."""
        if not self.newton_allowed or self.iteration < self.no_newton_until:
            return False
        steps = 1 if self.kind is StepKind.EM else _LAP - 1
        if len(self.gains) <= steps or not self.goal < gain < _NEAR * self.weight or self.gains[-1 - steps] <= 0.0:
            return False
        rate = min((gain / self.gains[-1 - steps]) ** (1.0 / steps), 0.9999)   # gains that grow are a saddle on the way
        work = self.em_work if self.kind is StepKind.EM else _E_STEP_WORK
        return work * math.log(self.goal / gain) / math.log(rate) > self.newton_work
