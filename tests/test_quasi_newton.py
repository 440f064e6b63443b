"""Quasi-Newton steps: the metric, the recursion, and when they are made."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import moe_fast as mf
from moe_fast import _em, pace
from moe_fast.activations import get_activation
from moe_fast.design import Design, Parameters
from moe_fast.em import climb, maximise
from moe_fast.information import factored, flat, gradient
from moe_fast.objective import Objective
from moe_fast.quasi_newton import Metric, QuasiNewton
from moe_fast.rows import Rows
from moe_fast.starts import make_start

BOTH = _em.EXPERT_GRAM | _em.GATE_GRAM


def some_design(activation="linear", gate="softmax", n=300):
    sim = mf.make_moe(n, 4, 3, activation=activation, noise_std=0.5, random_state=0)
    return Design(Rows.check(sim.X, sim.y), get_activation(activation), gate=gate), sim


@pytest.mark.parametrize("gate", ["softmax", "constant"])
@pytest.mark.parametrize("noise", ["per_expert", "shared", "held", "gate alone"])
def test_the_metric_is_the_curvature_of_the_em_objective(noise, gate):
    """Against sums in numpy. Kills: a block in the wrong place or unit."""
    design, sim = some_design(gate=gate)
    here = design.parameters(sim.model) if gate == "softmax" else Parameters(
        design.expert_rows(sim.model.coef, sim.model.intercept), np.array([[0.3], [-0.2]]), sim.model.noise_std
    )
    kind = {"shared": "shared", "held": here.noise_std}.get(noise, "per_expert")
    objective = Objective(kind, move_experts=noise != "gate alone")
    sums = design.run(here, BOTH)
    vector = np.random.default_rng(1).standard_normal(len(flat(here, objective)))
    gram = sums.expert_gram if objective.move_experts else None
    solved = Metric(gram, sums.gate_gram, sums, here, objective).solve(vector)

    D, Z = design.expert_matrix, design.gate_matrix
    resp = np.empty((300, 3))
    design.run(here, 0, resp=resp)
    gate_rows = np.vstack([here.gate, np.zeros((1, Z.shape[1]))])
    proba = np.exp(Z @ gate_rows.T)
    proba /= proba.sum(axis=1, keepdims=True)
    size = len(vector)
    curvature, first = np.zeros((size, size)), 0
    if objective.move_experts:
        for j in range(3):
            part = slice(first, first + D.shape[1])
            curvature[part, part] = D.T @ (resp[:, [j]] * D) / here.noise_std[j] ** 2
            first += D.shape[1]
    q = Z.shape[1]
    for j in range(2):
        for other in range(2):
            weight = proba[:, j] * ((j == other) - proba[:, other])
            curvature[first + j * q :, first + other * q :][:q, :q] = Z.T @ (weight[:, np.newaxis] * Z)
    first += 2 * q
    if noise == "shared":
        curvature[first, first] = 2 * 300
    elif size > first:
        np.fill_diagonal(curvature[first:, first:], 2 * resp.sum(axis=0))
    np.testing.assert_allclose(curvature @ solved, vector, rtol=1e-6, atol=1e-6)


def test_columns_that_depend_on_others_do_the_metric_no_harm():
    """Kills: a factorisation that fails, a ridge that is no part of the curvature."""
    _, sim = some_design()
    twice = Design(Rows.check(np.hstack([sim.X, sim.X[:, :1], np.ones((300, 1))]), sim.y), get_activation("linear"))
    objective = Objective()
    start = make_start("partition", twice, 3, np.random.default_rng(0))
    sums = twice.run(start, BOTH)
    slope = gradient(sums, start, objective)
    move = Metric(sums.expert_gram, sums.gate_gram, sums, start, objective).solve(slope)
    assert np.isfinite(move).all()
    assert move @ slope > 0.0
    assert np.abs(move).max() < 100.0
    gate_of_no_rows = Metric(sums.expert_gram, 0.0 * sums.gate_gram, sums, start, objective)
    assert np.isfinite(gate_of_no_rows.solve(slope)).all()


class Scale:
    """A metric that divides."""

    def __init__(self, size):
        self.size = size

    def solve(self, vector):
        return vector / self.size


def quasi_after(places, slope_at, metric):
    quasi = QuasiNewton()
    quasi.metric = metric
    for place in places:
        quasi.take(place, slope_at(place))
    return quasi


def test_the_direction_answers_the_last_change_of_the_gradient_with_the_last_step():
    """The secant equation. Kills: the loops in a wrong order, a wrong sign, a step paired with another's gradient."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((6, 6))
    hessian = root @ root.T + np.eye(6)
    places = rng.standard_normal((5, 6))
    quasi = quasi_after(places, lambda u: -hessian @ u, Scale(np.arange(1.0, 7.0)))
    step = places[-1] - places[-2]
    np.testing.assert_allclose(quasi.direction(hessian @ step), step, rtol=1e-9)


def test_steps_along_the_axes_of_a_parabola_teach_all_of_it():
    """Kills: fewer pairs than said, a metric that is forgotten."""
    curvature = np.array([1.0, 5.0, 0.2, 3.0])
    places = np.vstack([np.zeros(4), np.cumsum(np.eye(4), axis=0)])
    quasi = quasi_after(places, lambda u: -curvature * u, Scale(np.ones(4)))
    slope = np.array([1.0, -2.0, 3.0, 0.5])
    np.testing.assert_allclose(quasi.direction(slope), slope / curvature, rtol=1e-12)


def test_a_step_over_a_saddle_is_not_remembered():
    """Kills: pairs of negative curvature, after which a direction may lead down."""
    quasi = quasi_after([np.zeros(2), np.array([1.0, 0.0])], lambda u: u * np.array([1.0, -1.0]), Scale(np.ones(2)))
    assert not quasi.has_steps


def test_a_flat_way_lengthens_steps_within_a_limit():
    """Kills: lengths without a limit, steps shorter than EM's."""
    for curvature, length in ((0.5, 2.0), (1e-6, 20.0), (4.0, 1.0)):
        places = [np.zeros(2), np.array([1.0, 0.0])]
        quasi = quasi_after(places, lambda u, by=curvature: -by * u, Scale(np.ones(2)))
        np.testing.assert_allclose(quasi.direction(np.array([0.0, 1.0])), [0.0, length], rtol=1e-12)


@pytest.fixture
def passes(monkeypatch):
    """What each pass was asked for."""
    run, asked = Design.run, []

    def note(self, parameters, want, **options):
        asked.append(want)
        return run(self, parameters, want, **options)

    monkeypatch.setattr(Design, "run", note)
    return asked


def creeping(activation="linear"):
    """A design, and a start from where EM creeps."""
    sim = mf.make_moe(4000, 10, 3, activation=activation, noise_std=1.0, random_state=2)
    design = Design(Rows.check(sim.X, sim.y), get_activation(activation))
    return design, make_start("partition", design, 3, np.random.default_rng(0))


def test_a_metric_serves_ten_steps(passes, monkeypatch):
    """Kills: one in every step, one that serves for ever, one step less or more, Grams that no step needs."""
    design, start = creeping()
    made, after, take = [], pace.Pace.after, pace.Pace.take_metric
    last = [0]
    monkeypatch.setattr(pace.Pace, "after", lambda self, *given: (after(self, *given), last.append(given[0]))[0])

    def note(self, *given):
        before = self.quasi.metric
        take(self, *given)
        if self.quasi.metric is not before:
            made.append(last[-1])

    monkeypatch.setattr(pace.Pace, "take_metric", note)
    maximise(design, start, Objective(), max_iter=45, tol=1e-12, newton=False, quasi_newton=True)
    assert np.diff(made[-4:]).tolist() == [10, 10, 10]
    assert sum(want == BOTH for want in passes[-31:]) == 3


@pytest.mark.parametrize("activation", ["linear", "tanh", "sigmoid"])
@pytest.mark.parametrize("noise", ["per_expert", "shared", "held"])
@pytest.mark.parametrize(("n_experts", "gate"), [(2, "softmax"), (4, "softmax"), (3, "constant")])
def test_the_kernels_climb_goes_the_same_way(activation, noise, n_experts, gate):
    """Step by step. Kills: in the kernel, all that the tests of the steps kill in Python."""
    sim = mf.make_moe(1000, 6, n_experts, activation=activation, noise_std=0.7, intercept=0.5, random_state=n_experts)
    design = Design(Rows.check(sim.X, sim.y), get_activation(activation), gate=gate)
    start = make_start("partition", design, n_experts, np.random.default_rng(0))
    start = replace(start, noise_std=np.full(n_experts, 0.7))
    objective = Objective(start.noise_std if noise == "held" else noise, barrier=0.1)
    options = {"max_iter": 35, "tol": 1e-10, "quasi_newton": True}
    one = climb(design, start, objective, **options)
    other = maximise(design, start, objective, newton=False, **options)
    assert one.n_iter == other.n_iter
    assert one.converged == other.converged
    np.testing.assert_allclose(one.history, other.history, rtol=1e-9)


def test_in_the_kernel_too_em_takes_over_from_steps_that_gain_nothing(monkeypatch):
    """Kills: a kernel that ends there, or forgets to sum what EM needs."""
    sim = mf.make_moe(1000, 6, 4, activation="sigmoid", noise_std=0.7, intercept=0.5, random_state=4)
    design = Design(Rows.check(sim.X, sim.y), get_activation("sigmoid"))
    given_up, fall_back = [], pace.Pace.fall_back
    monkeypatch.setattr(pace.Pace, "fall_back", lambda self: given_up.append(self.kind) or fall_back(self))
    options = {"max_iter": 25, "tol": 1e-10, "quasi_newton": True}
    for seed in range(12):
        start = make_start("random", design, 4, np.random.default_rng(seed))
        one = climb(design, start, Objective(), **options)
        other = maximise(design, start, Objective(), newton=False, **options)
        np.testing.assert_allclose(one.history, other.history, rtol=1e-9)
    assert pace.StepKind.QUASI_NEWTON in given_up   # or nothing was tested


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_experts_with_kinks_make_them_too(activation):
    """Kills: EM alone, which creeps where rows rest on kinks; other steps in the kernel; an end that is lower."""
    shares = []
    for seed in range(6):
        sim = mf.make_moe(200, 4, 2, activation=activation, noise_std=0.5, random_state=seed)
        design = Design(Rows.check(sim.X, sim.y), get_activation(activation))
        start = design.parameters(sim.model)
        options = {"max_iter": 1000, "tol": 1e-10}
        em_alone = maximise(design, start, Objective(), newton=False, **options)
        other = maximise(design, start, Objective(), newton=False, quasi_newton=True, **options)
        one = climb(design, start, Objective(), quasi_newton=True, **options)
        shared = min(len(one.history), len(other.history), 40)   # later, on a kink, rounding decides
        np.testing.assert_allclose(one.history[:shared], other.history[:shared], rtol=1e-6)
        assert other.converged
        assert np.diff(other.history).min() > -1e-9
        shares.append(other.n_iter / em_alone.n_iter)
    assert np.median(shares) < 0.6


@pytest.mark.parametrize(("n_samples", "seed"), [(200, 20), (400, 4)])
def test_the_metric_of_rows_that_come_to_a_kink_has_the_bounds_curvature(n_samples, seed):
    """A step is cut short where quasi-Newton steps would begin. Kills: a metric of sums from before, in one of two."""
    sim = mf.make_moe(n_samples, 4, 3, activation="relu", noise_std=0.5, random_state=seed)
    design = Design(Rows.check(sim.X, sim.y), get_activation("relu"))
    start = make_start("random", design, 3, np.random.default_rng(seed))
    other = maximise(design, start, Objective(), newton=False, quasi_newton=True, max_iter=72, tol=1e-9)
    one = climb(design, start, Objective(), quasi_newton=True, max_iter=72, tol=1e-9)
    np.testing.assert_allclose(one.history, other.history, rtol=1e-7)


def test_the_gate_of_held_experts_has_no_kinks():
    """Its likelihood is smooth. Kills: steps halved, and no curvature learned, because of experts that stay."""
    design, start = creeping("relu")
    rules = {"newton": True, "quasi_newton": True, "curvature": None}
    assert pace.Pace(design, start, Objective(), 1e-9, **rules).has_kinks
    assert not pace.Pace(design, start, Objective(move_experts=False), 1e-9, **rules).has_kinks


def test_after_a_step_that_gains_nothing_em_goes_on_for_a_while(monkeypatch):
    """Kills: a run that ends there, one that tries again at once, patience that does not grow."""
    design, start = creeping()
    monkeypatch.setattr(QuasiNewton, "direction", lambda self, slope: -slope)
    kinds, after = [], pace.Pace.after
    monkeypatch.setattr(
        pace.Pace, "after", lambda self, *arguments: (kinds.append(self.kind), after(self, *arguments))[1]
    )
    tried, fall_back = [], pace.Pace.fall_back

    def note(self):
        tried.append((self.iteration, self.kind))
        return fall_back(self)

    monkeypatch.setattr(pace.Pace, "fall_back", note)
    end = maximise(design, start, Objective(), max_iter=60, tol=1e-12, newton=False, quasi_newton=True)
    assert end.n_iter == 60
    assert set(kinds) == {pace.StepKind.EM}
    when = [iteration for iteration, kind in tried if kind is pace.StepKind.QUASI_NEWTON]
    assert [later - before for before, later in pairwise(when)] == [5, 9, 17]


def test_a_quasi_newton_run_that_nears_its_end_gives_way_to_newton():
    """Kills: Newton's method never called where few steps are left at a slow rate; called at once."""
    design, start = creeping()
    slow = pace.Pace(design, start, Objective(), 1e-8 * 4000, newton=True, quasi_newton=True, curvature=None)
    slow.kind = pace.StepKind.QUASI_NEWTON
    slow.iteration = 50
    slow.gains.extend([4.0, 3.9, 3.8, 3.7])
    assert not slow.newton_is_worth_it(3.7)   # too few to tell
    slow.gains.append(3.6)
    assert slow.newton_is_worth_it(3.6)
    slow.gains.extend([4.0, 1.0, 0.2, 0.04, 0.01])
    assert not slow.newton_is_worth_it(0.01)


def test_newtons_method_has_the_last_word(monkeypatch):
    """Kills: a run that ends by the promise of a few quasi-Newton steps, one that never ends where Newton may not."""
    monkeypatch.setattr(pace.Pace, "newton_is_worth_it", lambda self, gain: False)
    kinds, look = [], pace.Pace.look_closer
    monkeypatch.setattr(pace.Pace, "look_closer", lambda self: (kinds.append(self.kind), look(self))[1])
    design, start = creeping()
    end = maximise(design, start, Objective(), max_iter=200, tol=1e-9)
    assert end.converged
    assert end.curvature.definite
    assert pace.StepKind.QUASI_NEWTON in kinds
    kinds.clear()
    assert maximise(design, start, Objective(), max_iter=200, tol=1e-9, newton=False, quasi_newton=True).converged
    assert pace.StepKind.QUASI_NEWTON not in kinds


def test_a_new_curvature_forgets_the_steps_of_the_last():
    """Kills: pairs of another place, beside a Hessian that knows this one."""
    design, sim = some_design()
    here = design.parameters(sim.model)
    of_here = pace.Pace(design, here, Objective(), 1e-8, newton=True, quasi_newton=True, curvature=None)
    curvature = factored(design.run(here, _em.INFORMATION), here, Objective())
    of_here.take_curvature(curvature)
    for shift in (0.0, 0.01, 0.02):
        there = replace(here, expert=here.expert + shift)
        of_here.take_place(design.run(there, BOTH), there)
    assert of_here.chord.has_steps
    of_here.take_curvature(curvature)
    assert not of_here.chord.has_steps
    assert of_here.chord.metric is curvature


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_steps_of_newton_correct_a_curvature_from_elsewhere(monkeypatch, activation):
    """Twice too much, as of half the rows. Kills: steps by it as it came (12 of them), a Hessian of the place taken.

    With ReLU experts differences of gradients tell no curvature, and none is made of them.
    """
    sim = mf.make_moe(4000, 4, 3, activation=activation, noise_std=0.3, random_state=0)
    design = Design(Rows.check(sim.X, sim.y), get_activation(activation))
    near = maximise(design, design.parameters(sim.model), Objective(), max_iter=200, tol=1e-9)
    curvature = factored(design.run(near.parameters, _em.INFORMATION), near.parameters, Objective())
    start = replace(near.parameters, expert=near.parameters.expert + 0.01)
    run, wanted = Design.run, []
    monkeypatch.setattr(Design, "run", lambda *args: wanted.append(args[2]) or run(*args))
    corrected, take_place = [], pace.Pace.take_place
    monkeypatch.setattr(
        pace.Pace, "take_place", lambda self, *args: take_place(self, *args) or corrected.append(self.chord.has_steps)
    )
    end = maximise(design, start, Objective(), curvature.times(2.0), max_iter=200, tol=1e-9)
    assert end.converged
    assert end.objective == pytest.approx(near.objective, abs=1e-4)
    if activation == "linear":
        assert not any(want & _em.INFORMATION for want in wanted)
        assert end.n_iter <= 7
    assert any(corrected) == (activation == "linear")
