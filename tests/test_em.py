"""Does EM climb to the top? Against plain numpy, least squares and numerical differences, block by block."""

import itertools
import warnings
from dataclasses import replace
from types import SimpleNamespace

import literal
import numpy as np
import pytest

import moe_fast as mf
from moe_fast import _em, em, linalg, pace, reference
from moe_fast.activations import get_activation
from moe_fast.design import Design, Parameters
from moe_fast.em import Outcome, climb, maximise, overall_line
from moe_fast.linalg import Curvature
from moe_fast.objective import GATE_LIMIT, Objective
from moe_fast.quasi_newton import QuasiNewton
from moe_fast.rows import Rows
from moe_fast.starts import make_start

ACTIVATIONS = ["linear", "sigmoid", "tanh", "relu", "leaky_relu"]


def nearby(model, seed=0, size=0.2):
    """A start in every block some way off a model."""
    rng = np.random.default_rng(seed)

    def moved(array):
        return array + size * rng.standard_normal(array.shape)

    return mf.MixtureOfExperts(
        moved(model.coef), moved(model.intercept), moved(model.gate_coef), moved(model.gate_intercept),
        model.noise_std * np.exp(moved(np.ones_like(model.noise_std))), model.activation,
    )


def without_intercepts(model, of_experts, of_gate):
    return mf.MixtureOfExperts(
        model.coef, None if of_experts else model.intercept, model.gate_coef,
        None if of_gate else model.gate_intercept, model.noise_std, model.activation,
    )


def as_params(model):
    """A model in the layout of the reference: intercepts in column 0."""
    return reference.Params(
        np.column_stack([model.intercept, model.coef]),
        np.column_stack([model.gate_intercept, model.gate_coef]),
        model.noise_std.copy(),
    )


def as_model(params, activation, **options):
    return mf.MixtureOfExperts(
        params.coef[:, 1:], params.coef[:, 0], params.gate[:, 1:], params.gate[:, 0], params.noise_std,
        activation, **options,
    )


def assert_same_parameters(got, want, rtol):
    for name in ("coef", "intercept", "gate_coef", "gate_intercept", "noise_std"):
        wanted = getattr(want, name)
        scale = np.abs(wanted).max(initial=1.0)
        np.testing.assert_allclose(getattr(got, name), wanted, rtol=0, atol=rtol * scale, err_msg=name)


def one_iteration(X, y, start, **options):
    with pytest.warns(mf.ConvergenceWarning, match="not converged after 1 iterations"):
        return mf.fit_em(X, y, start.n_experts, init=start, newton=False, max_iter=1, **options)


# ---- one iteration ----


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_one_iteration_is_the_references(activation, weighted):
    """Kills: a gate step of half size, a noise from residuals of the wrong coefficients, unweighted sums."""
    sim = mf.make_moe(400, 4, 3, activation=activation, random_state=2)
    start = nearby(sim.model, size=0.05)
    weight = np.random.default_rng(1).uniform(0.0, 2.0, 400) if weighted else None
    fit = one_iteration(sim.X, sim.y, start, activation=activation, sample_weight=weight)
    params, history = reference.em_fit(
        sim.X, sim.y, as_params(start), activation=activation, sample_weight=weight, max_iter=1
    )
    np.testing.assert_allclose(fit.history, history, rtol=1e-12)
    want = as_model(params, activation).ordered(sim.X, sample_weight=weight)
    assert_same_parameters(fit.model, want, 1e-10)


@pytest.mark.parametrize("noise", ["shared", 0.3, np.array([0.1, 0.2, 0.4])])
@pytest.mark.parametrize(("fit_intercept", "gate_intercept"), [(True, False), (False, True), (False, False)])
def test_one_iteration_of_every_variant_is_the_references(noise, fit_intercept, gate_intercept):
    """Kills: an intercept moved that should be held, a shared noise averaged over experts instead of rows."""
    sim = mf.make_moe(300, 4, 3, mean=[1.0, -2.0, 0.5, 0.0], random_state=4)
    start = without_intercepts(nearby(sim.model), not fit_intercept, not gate_intercept)
    start = mf.MixtureOfExperts(
        start.coef, start.intercept, start.gate_coef, start.gate_intercept,
        0.3 if isinstance(noise, str) else noise,
    )
    options = {"noise": noise, "fit_intercept": fit_intercept, "gate_intercept": gate_intercept}
    fit = one_iteration(sim.X, sim.y, start, **options)
    params, _ = reference.em_fit(sim.X, sim.y, as_params(start), max_iter=1, **options)
    assert_same_parameters(fit.model, as_model(params, "linear").ordered(sim.X), 1e-10)


def test_one_iteration_with_gate_features_is_the_references():
    sim = mf.make_moe(300, 4, 3, random_state=4)
    Z = np.random.default_rng(0).standard_normal((300, 2)) * [1.0, 30.0] + [0.0, 2000.0]
    gate = np.zeros((3, 2))
    start = mf.MixtureOfExperts(sim.model.coef + 0.1, gate_coef=gate, noise_std=0.3, uses_gate_features=True)
    fit = one_iteration(sim.X, sim.y, start, gate_features=Z)
    params, _ = reference.em_fit(sim.X, sim.y, as_params(start), gate_features=Z, max_iter=1)
    # The reference takes Z as it is: its calendar-year column costs it three digits or more.
    want = as_model(params, "linear", uses_gate_features=True).ordered(sim.X, gate_features=Z)
    np.testing.assert_allclose(fit.model.gate_coef, want.gate_coef, rtol=1e-6)
    np.testing.assert_allclose(
        fit.model.gate_proba(sim.X, gate_features=Z), want.gate_proba(sim.X, gate_features=Z), atol=1e-9
    )


# ---- whole fits ----


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("seed", [4, 6])   # no row rests on a kink there, where tops are many and close
def test_whole_fits_reach_the_references_likelihood(activation, seed):
    """Kills: stopping at once (tol a thousand times as large), a Newton step that ends on a saddle."""
    sim = mf.make_moe(600, 4, 3, activation=activation, random_state=seed)
    fit = mf.fit_em(sim.X, sim.y, 3, init=sim.model, activation=activation)
    _, history = reference.em_fit(
        sim.X, sim.y, as_params(sim.model), activation=activation, max_iter=20_000, tol=1e-13
    )
    assert fit.converged
    assert abs(fit.log_likelihood - history[-1]) < 1e-8 * 600


@pytest.mark.parametrize("noise", ["shared", 0.1])
def test_whole_fits_reach_the_references_likelihood_with_other_noise(noise):
    sim = mf.make_moe(500, 4, 3, intercept=1.0, random_state=3)
    fit = mf.fit_em(sim.X, sim.y, 3, init=sim.model, noise=noise)
    _, history = reference.em_fit(sim.X, sim.y, as_params(sim.model), noise=noise, max_iter=5000, tol=1e-13)
    assert abs(fit.log_likelihood - history[-1]) < 1e-8 * 500


def test_em_alone_ends_where_newton_does():
    """Kills: newton=False ignored, a Newton step that saves nothing."""
    sim = mf.make_moe(800, 4, 3, activation="sigmoid", noise_std=0.05, random_state=1)
    options = {"init": sim.model, "activation": "sigmoid", "max_iter": 5000}
    by_em = mf.fit_em(sim.X, sim.y, 3, newton=False, tol=1e-13, **options)
    by_newton = mf.fit_em(sim.X, sim.y, 3, **options)
    assert abs(by_em.log_likelihood - by_newton.log_likelihood) < 1e-8 * 800
    assert by_newton.n_iter < by_em.n_iter / 3


def test_quasi_newton_steps_save_passes_and_end_where_em_does(monkeypatch):
    """Kills: steps that are never made, or are taken though the objective falls."""
    sim = mf.make_moe(n_samples=4000, n_features=10, n_experts=3, noise_std=1.0, random_state=2)
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    start = make_start("partition", design, 3, np.random.default_rng(0))

    def run(quasi_newton):
        design.rows.reads.n_rows = 0
        end = maximise(
            design, start, Objective(), max_iter=5000, tol=1e-12, newton=False, quasi_newton=quasi_newton
        )
        return end, design.rows.reads.n_rows / 4000

    (fast, few), (slow, many) = run(True), run(False)
    assert fast.converged
    assert slow.converged
    assert fast.objective == pytest.approx(slow.objective, abs=1e-5)
    assert few < 0.4 * many
    assert np.diff(fast.history).min() > -1e-9 * abs(fast.objective)


def test_a_step_without_curvature_is_lengthened():
    """Values of x leave a steep gate room between two of them, where the likelihood is all but flat.

    Kills: steps of one length in a direction that has next to no curvature (213 iterations), no judge of the longer.
    """
    rng = np.random.default_rng(0)
    x = rng.integers(0, 20, 3000).astype(float)
    first = rng.random(3000) < 1.0 / (1.0 + np.exp(-0.8 * (x - 9.3)))
    y = np.where(first, 0.1 * x, 1.0 - 0.05 * x) + 0.3 * rng.standard_normal(3000)
    steep = mf.MixtureOfExperts(
        coef=[[0.1], [-0.05]], intercept=[0.0, 1.0], gate_coef=[[20.0], [0.0]], gate_intercept=[-190.0, 0.0],
        noise_std=[0.3, 0.3],
    )
    fit = mf.fit_em(x[:, np.newaxis], y, 2, init=steep)
    assert fit.converged
    assert fit.n_iter < 60
    assert (np.diff(fit.history) > -1e-9).all()
    assert abs(fit.model.gate_coef[0, 0]) < 1.0
    assert fit.log_likelihood == pytest.approx(-835.94928, abs=1e-3)   # as from the lines that the data came from


def test_curvatures_that_overflow_end_a_run():
    """Of a custom activation, where the likelihood is a number. Kills: LAPACK's error for them, out of the fit."""
    grows = mf.Activation("exp", np.exp, np.exp)
    sim = mf.make_moe(400, 4, 2, random_state=0)
    for seed in (1, 3, 5):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mf.ConvergenceWarning)
            fit = mf.fit_em(sim.X, sim.y, 2, activation=grows, random_state=seed)
        assert np.isfinite(fit.log_likelihood)


def test_a_step_that_falls_is_cut_to_the_top_of_its_parabola():
    """Kills: another top, limits of a cut that are not kept, a smallest step tried twice or where nothing gains."""
    def parabola(t):   # slope 6, top at 0.3
        return 6.0 * t - 10.0 * t * t

    def after(fraction, gain, smallest=1e-6, has_kinks=False):
        return _em.shorter(fraction, gain, 3.0, smallest, has_kinks)

    assert after(1.0, parabola(1.0)) == pytest.approx(0.3)
    assert after(0.7, parabola(0.7)) == pytest.approx(0.3)
    assert after(1.0, parabola(1.0), has_kinks=True) == 0.5
    assert after(1.0, -1.0) == pytest.approx(3.0 / 7.0)
    assert after(1.0, 0.0) == after(1.0, 5.0) == after(1.0, 9.0) == 0.5   # gains, but too few
    assert after(1.0, -1e9) == after(1.0, -np.inf) == 0.0625
    assert after(1e-5, -1e9) == 1e-6
    assert _em.shorter(1.0, -1.0, np.inf, 1e-6, False) == _em.shorter(1.0, -1.0, np.nan, 1e-6, False) == 0.5
    assert after(1e-6, -1.0) == after(5e-6, -1e9) == 0.0
    assert after(1.0, parabola(1.0), smallest=0.5) == 0.5   # it gains there, up to 0.6
    assert after(1.0, -20.0, smallest=0.5) == after(0.5, -1.0, smallest=0.5) == 0.0


def test_a_step_a_thousand_times_too_long_takes_few_passes(monkeypatch):
    """Kills: halving it ten times (21 passes)."""
    monkeypatch.setattr(em, "_WIDEST_GATE_STEP", 1e9)
    x = np.linspace(-2.0, 2.0, 80)
    y = np.where(x < 0.0, 1.0 + x, 3.0 - x) + 0.01 * np.cos(40.0 * x)
    design = Design(Rows.check(x[:, None], y), get_activation("linear"), gate_intercept=False)
    start = Parameters(np.array([[1.0, 1.0], [3.0, -1.0]]), np.array([[3000.0]]), np.full(2, 0.1))
    assert maximise(design, start, Objective(), max_iter=4, tol=1e-9, newton=False).objective > 283.0
    assert design.rows.reads.n_rows <= 16 * 80


def test_a_large_gates_curvature_is_factored_once_for_all_steps_that_it_serves(monkeypatch):
    """Kills: a factor for each step, one that is kept where other coefficients are held."""
    factored = []

    class Counted(linalg.NormalEquations):
        def __init__(self, matrix):
            super().__init__(matrix)
            factored.append(matrix)

    monkeypatch.setattr(pace, "NormalEquations", Counted)
    sim = mf.make_moe(2000, 9, 9, noise_std=0.3, orthogonal_gate=False, random_state=0)
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    start = make_start("random", design, 9, np.random.default_rng(0))
    outcome = maximise(design, start, Objective(), max_iter=20, tol=1e-12, newton=False)
    assert outcome.n_iter == 20
    assert len(factored) == 4
    rng = np.random.default_rng(1)
    half = rng.standard_normal((90, 70))
    curvature, slope = pace.GateCurvature((half.T @ half)[np.newaxis], 1), rng.standard_normal(70)
    for held in ([], [3], [3, 60], []):
        pressed = np.isin(np.arange(70), held)
        move = curvature.solve(np.where(pressed, 0.0, slope), pressed)
        free = np.flatnonzero(~pressed)
        np.testing.assert_allclose(move[free], np.linalg.solve((half.T @ half)[np.ix_(free, free)], slope[free]))
        assert not move[pressed].any()


def moved_by(blocks, gradient, gate):
    """The EM step of a gate by its curvature's blocks."""
    return em._gate_move(pace.GateCurvature(blocks, len(gate)), gradient, gate, GATE_LIMIT)


@pytest.mark.parametrize("largest", [0.0, 3000.0])
def test_a_gate_without_curvature_moves_no_further_than_20_or_its_size(largest):
    """Kills: a move of 1e60, one cut coefficient by coefficient, one of infinite length, a limit for every move."""
    gate = np.array([[0.0, -largest]])
    allowed = max(20.0, largest)
    move = moved_by(1e-50 * np.eye(2)[np.newaxis], np.array([[1e10, -1e5]]), gate)
    np.testing.assert_allclose(move, [[allowed, -1e-5 * allowed]])
    move = moved_by(1e-305 * np.eye(2)[np.newaxis], np.array([[1e10, 0.0]]), gate)
    np.testing.assert_allclose(move, [[allowed, 0.0]])
    move = moved_by(np.eye(2)[np.newaxis], np.array([[3.0, -19.0]]), gate)
    np.testing.assert_allclose(move, [[3.0, -19.0]])


@pytest.mark.parametrize("largest", [0.0, 3000.0])
def test_a_gates_gradient_without_curvature_is_followed_as_far(largest):
    """Kills: a direction left out because it has no curvature, a step across it that is not Newton's, no limit."""
    gate = np.array([[0.0, -largest]])
    allowed = max(20.0, largest)
    gram = np.diag([1e6, 0.0])[np.newaxis]
    move = moved_by(gram, np.array([[1e3, 1e2]]), gate)
    assert move[0, 0] == pytest.approx(1e-3, rel=1e-3)
    assert 0.05 * allowed < move[0, 1] <= allowed
    # So little of the gradient may be most of what there is to gain.
    assert moved_by(np.diag([250.0, 0.0])[np.newaxis], np.array([[0.07, 6e-4]]), gate)[0, 1] > 0.1
    # Columns that depend on each other have an answer to all of a gradient that is theirs.
    move = moved_by(np.ones((1, 2, 2)), np.array([[4.0, 4.0]]), gate)
    assert move.sum() == pytest.approx(4.0)


def test_a_gate_that_meets_its_limit_stops_there_as_a_whole():
    """Kills: coefficients cut one by one, which turns the border; one held near its limit by rounding, or beyond it."""
    limit = GATE_LIMIT
    gate = np.array([[2.0, -0.7 * limit], [0.0, -limit]])
    move = np.array([[10.0, -0.6 * limit], [1.0, -5.0]])
    np.testing.assert_array_equal(em._moved_gate(gate, move, limit), [[7.0, -limit], [0.5, -limit]])
    np.testing.assert_array_equal(em._moved_gate(gate, 0.5 * move, limit), [[7.0, -limit], [0.5, -limit]])
    np.testing.assert_array_equal(em._moved_gate(gate, -move, limit), gate - move)
    there = em._moved_gate(np.array([[-9180.529521276107]]), np.array([[20165.276355285292]]), limit)   # 2e-12 short
    assert there[0, 0] == limit


def test_gate_coefficients_pressed_against_their_limit_stay_there():
    """And do not stop, nor promise for, the others. Kills: a step of theirs, one that may not come back."""
    limit = GATE_LIMIT
    gram = np.array([[2.0, 1.0], [1.0, 2.0]])[np.newaxis]
    gate = np.array([[-limit, 3.0]])
    np.testing.assert_allclose(moved_by(gram, np.array([[-5.0, 4.0]]), gate), [[0.0, 2.0]])
    np.testing.assert_allclose(moved_by(gram, np.array([[3.0, 0.0]]), gate), [[2.0, -1.0]])


def test_what_others_take_along_beyond_its_limit_stays_there_too():
    """By its gradient it would come back, by what the others do it would not. Kills: a cut that turns the border."""
    gram = np.array([[2.0, 1.5], [1.5, 2.0]])
    gate, gradient = np.array([[-GATE_LIMIT, 3.0]]), np.array([[1.0, 4.0]])
    move = moved_by(gram[np.newaxis], gradient, gate)
    np.testing.assert_allclose(move, [[0.0, 2.0]])
    here = Parameters(np.zeros((2, 2)), gate, np.ones(2))
    sums = SimpleNamespace(
        gate_gradient=gradient, expert_gradient=np.zeros((2, 2)), sum_squares=np.ones(2), weight=np.ones(2)
    )
    newton = QuasiNewton(Curvature.factor(-gram, np.ones(2)))
    for exact, other in ((False, 3.0 + 8.0 / 1.75), (True, 5.0)):   # by all of the curvature, by that of the free
        step = em._step_along(
            Outcome(here, 0.0, 0.0, sums, []), Objective(move_experts=False), newton, 0.5, exact=exact
        )
        np.testing.assert_allclose(step.at(1.0).gate, [[-GATE_LIMIT, other]])


@pytest.mark.parametrize("seed", [6, 9, 61])
def test_gates_within_narrow_limits(monkeypatch, seed):
    """Features that depend on each other, so that coefficients at their limit are taken along. The end is a maximum
    within the limits. Kills: those left in by one implementation, in EM's steps or quasi-Newton ones.
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((400, 3))
    X[:, 1] = X[:, 0] + 0.3 * X[:, 1]
    X[:, 2] = X[:, 0] - X[:, 1] + 0.3 * X[:, 2]
    log_odds = X @ np.array([[12.0, -12.0, 6.0], [-12.0, 8.0, 10.0], [0.0, 0.0, 0.0]]).T
    labels = np.argmax(log_odds + rng.gumbel(size=(400, 3)), axis=1)
    y = np.choose(labels, [3.0 + X[:, 0], -3.0 + X[:, 1], X[:, 2]]) + 1.5 * rng.standard_normal(400)
    design = Design(Rows.check(X, y), get_activation("linear"))
    start = replace(make_start("kmeans", design, 3, rng), gate=np.zeros((2, 4)))
    objective, options = Objective(gate_limit=2.0), dict(max_iter=300, tol=1e-11, quasi_newton=True)
    taken_along, press = [], em._press
    monkeypatch.setattr(em, "_press", lambda *given: taken_along.append(press(*given)) or taken_along[-1])
    other = maximise(design, start, objective, newton=False, **options)
    assert any(taken_along)
    one = climb(design, start, objective, **options)
    np.testing.assert_allclose(one.history, other.history, rtol=1e-9)
    assert other.converged
    gate, slope = other.parameters.gate, other.sums.gate_gradient
    at_limit = np.abs(gate) == 2.0
    assert at_limit.any()
    assert np.abs(slope[~at_limit]).max() < 1e-3
    assert (gate * slope)[at_limit].min() > 0.0


def test_a_step_of_newton_leaves_pressed_coefficients_out():
    """Kills: their gradient in what the others do, a way back for them, their share in the promise."""
    limit = GATE_LIMIT
    here = Parameters(np.zeros((2, 2)), np.array([[-limit, 3.0]]), np.ones(2))
    sums = SimpleNamespace(
        gate_gradient=np.array([[-5.0, 4.0]]), expert_gradient=np.zeros((2, 2)), sum_squares=np.ones(2),
        weight=np.ones(2),
    )
    newton = QuasiNewton(Curvature.factor(-np.array([[2.0, 1.0], [1.0, 2.0]]), np.ones(2)))
    step = em._step_along(Outcome(here, 0.0, 0.0, sums, []), Objective(move_experts=False), newton, 0.5)
    np.testing.assert_allclose(step.at(1.0).gate, [[-limit, 3.0 + 8.0 / 3.0]])
    assert step.promise == pytest.approx(0.5 * 4.0 * 8.0 / 3.0)


@pytest.mark.parametrize("move_experts", [True, False])
@pytest.mark.parametrize("newton", [True, False])
def test_a_run_converges_where_no_gradient_of_the_gate_is_left(newton, move_experts):
    """From gates that are steps in wrong places. Kills: directions without curvature left out of what is to gain."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-3.0, 3.0, 300)
    x += 0.3 * np.sign(x)   # no row at the step: where its gate has no curvature at all
    expert = np.array([[0.0, 1.0], [1.0, -1.0], [-1.0, 0.5]])
    labels = np.where(x < -1.5, 0, np.where(x < 0.0, 1, 2))
    y = expert[labels, 0] + expert[labels, 1] * x + 0.1 * rng.standard_normal(300)
    design = Design(Rows.check(x[:, np.newaxis], y), get_activation("linear"))
    n_converged = 0
    for order in itertools.permutations(range(3)):
        for steep in ([300.0, -300.0], [-300.0, 0.5]):
            model = mf.MixtureOfExperts(
                expert[list(order), 1:], expert[list(order), 0], noise_std=np.full(3, 0.1),
                gate_coef=np.array([*steep, 0.0])[:, np.newaxis],
            )
            start, objective = design.parameters(model), Objective(move_experts=move_experts)
            ends = [maximise(design, start, objective, max_iter=500, tol=1e-9, newton=newton)]
            if move_experts and not newton:
                ends.append(climb(design, start, objective, max_iter=500, tol=1e-9))
            for end in ends:
                assert not end.converged or np.abs(end.sums.gate_gradient).max() < 1e-5 * 300
                n_converged += end.converged / len(ends)
    assert n_converged >= 11   # of 12; an expert may collapse on the way


@pytest.mark.parametrize(("n_experts", "serves"), [(2, 1), (4, 3), (9, 5)])
def test_a_curvature_of_the_gate_serves_some_iterations(monkeypatch, n_experts, serves):
    """Kills: one summed in every pass, one that serves for ever, one less or more."""
    sim = mf.make_moe(2000, 10, n_experts, random_state=0)
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    start = make_start("partition", design, n_experts, np.random.default_rng(0))
    run, summed = Design.run, []

    def note(self, parameters, want):
        summed.append(bool(want & _em.GATE_GRAM))
        return run(self, parameters, want)

    monkeypatch.setattr(Design, "run", note)
    assert maximise(design, start, Objective(), max_iter=11, tol=1e-12, newton=False).n_iter == 11
    assert summed == [n_pass % serves == 0 for n_pass in range(12)]


def test_where_an_old_curvature_of_the_gate_misleads_that_of_the_place_takes_over(monkeypatch):
    """Kills: a run that ends there, one that goes on with the old one."""
    sim = mf.make_moe(500, 5, 4, random_state=0)
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    start = replace(design.parameters(sim.model), gate=np.zeros((3, 6)))
    objective, move, known = Objective(move_experts=False), em._gate_move, []

    def backwards_if_old(curvature, *place):
        is_old = any(curvature is other for other in known)
        known.append(curvature)
        return -move(curvature, *place) if is_old else move(curvature, *place)

    expected = maximise(design, start, objective, max_iter=100, tol=1e-9, newton=False)
    monkeypatch.setattr(em, "_gate_move", backwards_if_old)
    outcome = maximise(design, start, objective, max_iter=100, tol=1e-9, newton=False)
    assert outcome.converged
    assert outcome.log_likelihood == pytest.approx(expected.log_likelihood, abs=1e-5)


def test_fit_gate_reaches_the_references_gate():
    sim = mf.make_moe(500, 4, 3, gate_norm=2.0, random_state=5)
    start = mf.MixtureOfExperts(sim.model.coef, noise_std=sim.model.noise_std)
    fit = mf.fit_gate(sim.X, sim.y, start)
    params, history = reference.gate_fit(sim.X, sim.y, as_params(start), tol=1e-13)
    assert abs(fit.log_likelihood - history[-1]) < 1e-8 * 500
    want = as_model(params, "linear").ordered(sim.X)
    np.testing.assert_allclose(fit.model.gate_coef, want.gate_coef, atol=1e-4)


def test_fit_gate_of_one_expert_on_large_data():
    """No parameter is free. Kills: a curvature of none, noted on a sample, that LAPACK refuses."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((24_000, 2))
    model = mf.MixtureOfExperts(np.ones((1, 2)), noise_std=0.1)
    fit = mf.fit_gate(X, X.sum(axis=1) + 0.1 * rng.standard_normal(len(X)), model)
    assert fit.converged
    assert fit.n_parameters == 0


# ---- the objective never falls ----


@pytest.mark.parametrize("newton", [False, True])
@pytest.mark.parametrize("noise", ["per_expert", "shared", "held"])
@pytest.mark.parametrize("barrier", [0.0, 0.5])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_objective_never_falls(activation, barrier, noise, newton):
    """Kills: the barrier left out of the noise's M-step, a line search that takes any step, noise bound to kurtosis."""
    sim = mf.make_moe(300, 4, 3, activation=activation, noise_std=0.2, random_state=7)
    design = Design(Rows.check(sim.X, sim.y), sim.model.activation)
    noise = np.full(3, 0.2) if noise == "held" else noise
    start = make_start("random", design, 3, np.random.default_rng(0))
    if not isinstance(noise, str):
        start = Parameters(start.expert, start.gate, noise)
    outcome = maximise(design, start, Objective(noise, barrier), max_iter=60, tol=1e-12, newton=newton)
    history = np.array(outcome.history)
    assert len(history) > 5
    assert history[-1] > history[0] + 10.0
    assert np.diff(history).min() >= -1e-13 * (np.abs(history).max() + 300)
    # What is reported is the objective, as plain numpy has it.
    model = design.model(outcome.parameters)
    log_likelihood = reference.em_statistics_blocks(
        sim.X, sim.y, as_params(model), activation=activation
    )["log_likelihood"]
    counted = {"per_expert": 3, "shared": 1}[noise] if isinstance(noise, str) else 0
    penalty = 0.5 * barrier * np.sum(model.noise_std[:counted] ** -2.0)
    np.testing.assert_allclose(outcome.log_likelihood, log_likelihood, rtol=1e-12)
    np.testing.assert_allclose(history[-1], log_likelihood - penalty, rtol=1e-12)


@pytest.mark.parametrize("newton", [False, True])
@pytest.mark.parametrize("noise", ["per_expert", "shared"])
def test_at_the_top_the_noise_holds_the_barrier(noise, newton):
    """noise_std^2 = (residual squares + b) / weight. Kills: a barrier that only the objective knows of."""
    sim = mf.make_moe(300, 4, 2, noise_std=0.2, random_state=7)
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    start, barrier = design.parameters(sim.model), 5.0
    outcome = maximise(design, start, Objective(noise, barrier), max_iter=500, tol=1e-13, newton=newton)
    assert outcome.converged
    model = design.model(outcome.parameters)
    sums = reference.em_statistics_blocks(sim.X, sim.y, as_params(model))
    squares, weight = sums["sum_squares"], sums["weight"]
    if noise == "shared":
        squares, weight = squares.sum(), weight.sum()
    np.testing.assert_allclose(model.noise_std**2, (squares + barrier) / weight, rtol=1e-5)


def test_newton_knows_of_the_barrier():
    """Where EM is slow. Kills: a gradient or a Hessian without it, whose steps fall and give way to EM."""
    sim = mf.make_moe(800, 4, 3, activation="sigmoid", noise_std=0.05, random_state=1)
    design = Design(Rows.check(sim.X, sim.y), sim.model.activation)
    start, objective = design.parameters(sim.model), Objective(barrier=1.0)
    by_em = maximise(design, start, objective, max_iter=3000, tol=1e-13, newton=False)
    by_newton = maximise(design, start, objective, max_iter=3000, tol=1e-10)
    assert by_newton.converged
    assert by_newton.objective == pytest.approx(by_em.objective, abs=1e-6)
    assert by_newton.n_iter < by_em.n_iter / 5


# ---- at the end the gradient is zero, block by block ----


def scaled_gradient(f, point, step=1e-6):   # so short that few rows cross the kink of a ReLU
    """Central differences over the root of the curvature: sqrt(2 x gain) that each entry alone still promises."""
    middle, gradient = f(point), literal.gradient(f, point, step)
    curvature = np.empty_like(gradient)
    for index in np.ndindex(point.shape):
        moved = point.copy()
        moved[index] += step
        above = f(moved)
        moved[index] -= 2 * step
        curvature[index] = abs(above - 2 * middle + f(moved)) / step**2
    return gradient / np.sqrt(curvature + 1e-12)


def block_gradients(model, X, y, activation, weight=None):
    """The log-likelihood's gradient in each block of parameters, from plain numpy's values alone."""
    here = as_params(model)

    def value(coef=here.coef, gate=here.gate[:-1], noise_std=here.noise_std):
        params = reference.Params(coef, np.vstack([gate, np.zeros_like(gate[:1])]), noise_std)
        return reference.em_statistics_blocks(
            X, y, params, weight, activation=activation, hessian=False
        )["log_likelihood"]

    blocks = {
        "experts": scaled_gradient(lambda c: value(coef=c), here.coef),
        "gate": scaled_gradient(lambda c: value(gate=c), here.gate[:-1]),
        "noise": scaled_gradient(lambda c: value(noise_std=c), here.noise_std),
    }
    return {name: np.abs(block).max() for name, block in blocks.items()}


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_block_moves_and_ends_with_a_zero_gradient(activation, dtype, weighted, n_threads):
    """Kills: a gate that never trains, a noise that stays at its start, a wrong sign in any block's step."""
    sim = mf.make_moe(500, 4, 3, activation=activation, dtype=dtype, random_state=8)
    weight = np.random.default_rng(1).uniform(0.0, 2.0, 500) if weighted else None
    start = nearby(sim.model, size=0.1)
    fit = mf.fit_em(
        sim.X, sim.y, 3, init=start, activation=activation, sample_weight=weight, n_threads=n_threads
    )
    assert fit.converged
    before = block_gradients(start, sim.X, sim.y, activation, weight)
    after = block_gradients(fit.model, sim.X, sim.y, activation, weight)
    tol = 1e-7 if dtype == np.float32 else 1e-10
    for name in before:
        assert before[name] > 1.0, name
        assert after[name] < 2.0 * np.sqrt(2.0 * tol * 500), name
    start = start.permute(mf.match_experts(start, fit.model))
    for name in ("coef", "intercept", "gate_coef", "gate_intercept", "noise_std"):
        assert np.abs(getattr(fit.model, name) - getattr(start, name)).max() > 1e-3, name


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("seed", [1, 2, 3, 5])
@pytest.mark.parametrize("start", ["truth", "spectral"])
def test_a_row_on_a_kink_stops_neither_the_others_nor_the_gate(activation, seed, start):
    """No entry of the experts may be moved either way with profit, the rest is at its top, and EM in plain numpy,
    which climbs kinks by bounds, gains no more. Kills: an end where the first step without a gain is met.
    """
    sim = mf.make_moe(600, 4, 3, activation=activation, random_state=seed)
    init = sim.model if start == "truth" else "spectral"
    fit = mf.fit_em(sim.X, sim.y, 3, init=init, activation=activation, random_state=0)
    assert fit.converged
    assert np.diff(fit.history).min() >= -1e-13 * (abs(fit.history).max() + 600)
    here, top = as_params(fit.model), fit.log_likelihood
    for index in np.ndindex(here.coef.shape):
        for step in (1e-4, -1e-4):
            coef = here.coef.copy()
            coef[index] += step
            params = reference.Params(coef, here.gate, here.noise_std)
            moved = reference.em_statistics_blocks(sim.X, sim.y, params, activation=activation, hessian=False)
            assert moved["log_likelihood"] < top + 1e-6
    gradients = block_gradients(fit.model, sim.X, sim.y, activation)
    assert max(gradients["gate"], gradients["noise"]) < 2.0 * np.sqrt(2e-10 * 600)
    _, history = reference.em_fit(sim.X, sim.y, here, activation=activation, max_iter=200)
    assert history[-1] < top + 1e-6


# ---- known answers ----


@pytest.mark.parametrize("weighted", [False, True])
def test_one_expert_is_least_squares(weighted):
    """Kills: a ridge that is not there, the noise divided by n less rank."""
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((80, 3)) + 5.0, rng.uniform(0.1, 2.0, 80) if weighted else np.ones(80)
    y = X @ [1.0, -2.0, 0.5] + 3.0 + rng.standard_normal(80)
    fit = mf.fit(X, y, 1, sample_weight=w)
    D = np.column_stack([np.ones(80), X])
    root = np.sqrt(w)
    beta = np.linalg.lstsq(D * root[:, None], y * root, rcond=None)[0]
    np.testing.assert_allclose([*fit.model.intercept, *fit.model.coef[0]], beta, rtol=1e-10)
    variance = w @ (y - D @ beta) ** 2 / w.sum()
    np.testing.assert_allclose(fit.model.noise_std, np.sqrt(variance), rtol=1e-10)
    np.testing.assert_allclose(fit.log_likelihood, -0.5 * w.sum() * (np.log(2 * np.pi * variance) + 1), rtol=1e-12)
    assert fit.converged
    assert fit.n_parameters == 5
    np.testing.assert_allclose(fit.mixing_weights, [1.0], rtol=1e-14)


def test_one_expert_of_another_activation_is_nonlinear_least_squares():
    from scipy.optimize import least_squares

    sim = mf.make_moe(300, 2, 1, activation="tanh", orthogonal_gate=False, noise_std=0.3, random_state=0)
    fit = mf.fit(sim.X, sim.y, 1, activation="tanh", random_state=0)
    best = least_squares(
        lambda b: np.tanh(b[0] + sim.X @ b[1:]) - sim.y, np.array([0.0, *sim.model.coef[0]]), xtol=1e-12
    )
    np.testing.assert_allclose([*fit.model.intercept, *fit.model.coef[0]], best.x, atol=1e-5)


@pytest.mark.statistical
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_truth_is_a_fixed_point_as_n_grows(activation):
    """From the truth every block moves by a multiple of 1/sqrt(n). Kills: any biased M-step.

    A hundred times the rows should move a tenth as far; a fifth is allowed.
    """

    def moves(n_samples):
        sim = mf.make_moe(n_samples, 3, 2, activation=activation, gate_norm=2.0, random_state=8)
        fit = mf.fit_em(sim.X, sim.y, 2, init=sim.model, activation=activation)
        model = fit.model.permute(mf.match_experts(fit.model, sim.model))
        return np.array([
            np.linalg.norm(getattr(model, name) - getattr(sim.model, name))
            for name in ("coef", "intercept", "gate_coef", "gate_intercept", "noise_std")
        ])

    few, many = moves(1000), moves(100_000)
    assert (many < 0.2 * few.max()).all()
    assert np.linalg.norm(many) < 0.2 * np.linalg.norm(few)
    assert (many[[0, 1, 4]] < 0.05).all()


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_overall_line_is_least_squares(fit_intercept):
    rng = np.random.default_rng(2)
    X, w = rng.standard_normal((50, 2)) + 3.0, rng.uniform(0.0, 1.0, 50)
    y = X @ [2.0, -1.0] + 4.0 + rng.standard_normal(50)
    design = Design(Rows.check(X, y, w), get_activation("linear"), fit_intercept)
    line, residual_std = overall_line(design)
    D = design.expert_matrix * np.sqrt(w)[:, None]
    beta, squares, *_ = np.linalg.lstsq(D, y * np.sqrt(w), rcond=None)
    np.testing.assert_allclose(line, beta, rtol=1e-10)
    np.testing.assert_allclose(residual_std, np.sqrt(squares[0] / w.sum()), rtol=1e-10)


def test_overall_line_takes_no_difference_of_large_sums():
    """Residuals of 0.1 beside a y of 1e6. Kills: one pass, whose residual squares cancel."""
    rng = np.random.default_rng(2)
    X, noise = rng.standard_normal((50, 2)), 0.1 * rng.standard_normal(50)
    y = 1e6 + X @ [2.0, -1.0] + noise
    D = np.column_stack([np.ones(50), X])
    left = noise - D @ np.linalg.lstsq(D, noise, rcond=None)[0]
    _, residual_std = overall_line(Design(Rows.check(X, y), get_activation("linear")))
    np.testing.assert_allclose(residual_std, np.sqrt(np.mean(left**2)), rtol=1e-6)


def test_overall_line_of_y_far_from_zero():
    """Kills: an offset of y taken for a scale of its noise, and then of the barrier."""
    rng = np.random.default_rng(0)
    X, noise = rng.standard_normal((500, 2)), rng.standard_normal(500)
    design = Design(Rows(X, 1e9 + X[:, 0] + noise), get_activation("linear"))
    assert overall_line(design)[1] == pytest.approx(noise.std(), rel=0.02)


def test_overall_line_through_every_row_still_leaves_a_scale():
    """Kills: a barrier and a limit of collapse that are zero on exact data."""
    X = np.arange(20.0)[:, None]
    _, residual_std = overall_line(Design(Rows.check(X, 3.0 * X[:, 0] + 1.0), get_activation("linear")))
    assert 0.0 < residual_std < 1e-6


def test_a_start_that_has_collapsed_is_named():
    """No step gains from there. Kills: a look at what steps lead to alone."""
    line = np.linspace(-1.0, 1.0, 40)[:, np.newaxis]
    design = Design(Rows.check(line, line[:, 0] ** 2), get_activation("linear"))
    start = Parameters(np.array([[0.0, 1.0], [1.0, 0.0]]), np.zeros((1, 2)), np.array([1e-9, 0.1]))
    for noise, collapsed in (("per_expert", (0,)), (start.noise_std, ())):
        outcome = maximise(design, start, Objective(noise), max_iter=0, tol=1e-8, smallest_noise=1e-6)
        assert outcome.collapsed == collapsed


def test_a_collapse_ends_the_run_and_is_named():
    """Expert 1 starts on rows that lie on one line exactly."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1.0, 1.0, (60, 1))
    y = np.where(np.arange(60) < 20, 2.0 * X[:, 0] + 5.0, rng.standard_normal(60))
    design = Design(Rows.check(X, y), get_activation("linear"))
    start = design.parameters(mf.MixtureOfExperts([[0.0], [2.0]], [0.0, 5.0], noise_std=[1.0, 0.1]))
    outcome = maximise(design, start, Objective(), max_iter=100, tol=1e-10, smallest_noise=1e-6)
    assert outcome.collapsed == (1,)
    assert not outcome.converged
    assert np.isfinite(outcome.log_likelihood)
    held = maximise(design, start, Objective(barrier=0.01), max_iter=100, tol=1e-10, smallest_noise=1e-6)
    assert held.collapsed == ()
    assert held.converged


# ---- many iterations in one call ----


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("gate", ["softmax", "constant", "features"])
@pytest.mark.parametrize("noise", ["per_expert", "shared", "held"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_climb_takes_the_steps_of_maximise(activation, gate, noise, dtype):
    """Kills: a system of another layout, the barrier forgotten, a noise shared or held that moves alone."""
    sim = mf.make_moe(300, 4, 3, activation=activation, intercept=1.0, dtype=dtype, random_state=0)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, 300)
    rows = Rows.check(sim.X, sim.y, weight, sim.X[:, :2] if gate == "features" else None)
    design = Design(rows, get_activation(activation), True, "constant" if gate == "constant" else "softmax")
    start = make_start("kmeans", design, 3, np.random.default_rng(0))
    if noise == "shared":
        start = replace(start, noise_std=np.full(3, start.noise_std[0]))
    objective = Objective(np.array([0.2, 0.3, 0.4]) if noise == "held" else noise, barrier=0.5)
    assert design.is_brief(3)
    one = climb(design, start, objective, max_iter=12, tol=1e-7)
    other = maximise(design, start, objective, max_iter=12, tol=1e-7, newton=False)
    assert one.n_iter == other.n_iter >= 2
    assert one.converged == other.converged
    rtol = 1e-12 if dtype == np.float64 else 1e-5   # maximise takes curvatures of float32 rows in single precision
    np.testing.assert_allclose(one.history, other.history, rtol=rtol, atol=100.0 * rtol)
    for name in ("expert", "gate", "noise_std"):
        own, expected = getattr(one.parameters, name), getattr(other.parameters, name)
        np.testing.assert_allclose(own, expected, rtol=1e4 * rtol, atol=100.0 * rtol)
    np.testing.assert_allclose(one.sums.weight, other.sums.weight, rtol=100.0 * rtol)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=rtol, abs=100.0 * rtol)


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_a_climb_keeps_a_curvature_of_the_gate_as_maximise_does(activation):
    """Kills: one that serves an iteration more or less, one of another place after a bound was taken."""
    sim = mf.make_moe(1000, 8, 6, activation=activation, noise_std=0.05, intercept=1.0, random_state=0)
    design = Design(Rows.check(sim.X, sim.y), get_activation(activation))
    start = make_start("kmeans", design, 6, np.random.default_rng(0))
    assert design.is_brief(6)
    one = climb(design, start, Objective(), max_iter=25, tol=1e-9)
    other = maximise(design, start, Objective(), max_iter=25, tol=1e-9, newton=False)
    np.testing.assert_allclose(one.history, other.history, rtol=1e-9, atol=1e-7)


def test_a_climb_solves_for_a_gate_of_many_columns():
    """84, as where five experts are grown to be pruned. Kills: space for fewer, such a design left to Python."""
    sim = mf.make_moe(600, 20, 5, noise_std=0.1, random_state=0)
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    start = make_start("kmeans", design, 5, np.random.default_rng(0))
    assert design.is_brief(5)
    assert not design.is_brief(8)   # 147
    one = climb(design, start, Objective(), max_iter=12, tol=1e-9)
    other = maximise(design, start, Objective(), max_iter=12, tol=1e-9, newton=False)
    np.testing.assert_allclose(one.history, other.history, rtol=1e-9)


def test_a_climb_takes_the_bound_where_maximise_does(monkeypatch):
    """Where a step was much shortened, as at a kink. Kills: a kernel that goes on with shortened steps."""
    sim = mf.make_moe(1000, 8, 4, activation="relu", noise_std=0.05, intercept=1.0, random_state=10)
    design = Design(Rows.check(sim.X, sim.y), get_activation("relu"))
    start = make_start("random", design, 4, np.random.default_rng(10))
    one = climb(design, start, Objective(), max_iter=30, tol=1e-9)
    other = maximise(design, start, Objective(), max_iter=30, tol=1e-9, newton=False)
    np.testing.assert_allclose(one.history, other.history, rtol=1e-12)
    monkeypatch.setattr(pace, "_SHORTENED", 0.0)
    without = maximise(design, start, Objective(), max_iter=30, tol=1e-9, newton=False)
    assert abs(without.history[-1] - other.history[-1]) > 1e-6 * abs(other.history[-1])   # else nothing was seen


def test_em_ends_by_a_curvature_of_its_last_place(monkeypatch):
    """Kills: an end where an old curvature of the gate, which is too large, promises less than there is."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 5))
    labels = np.argmax(8.0 * X[:, :4], axis=1)   # borders without noise: the gate's curvature falls at each step
    y = np.einsum("ij,ij->i", X, rng.standard_normal((4, 5))[labels]) + 0.1 * rng.standard_normal(600)
    design = Design(Rows.check(X, y), get_activation("linear"))
    start = replace(make_start("kmeans", design, 4, rng), gate=np.zeros((3, 6)))
    fresh, take = [], em.Pace.take_gate_gram
    monkeypatch.setattr(
        em.Pace, "take_gate_gram", lambda self, sums: take(self, sums) or fresh.append(self.gate_is_fresh)
    )
    outcome = maximise(design, start, Objective(), max_iter=1000, tol=1e-6, newton=False)
    assert outcome.converged
    assert fresh[-1]
    assert not all(fresh)


def test_a_climb_leaves_its_start_alone_and_counts_its_passes():
    sim = mf.make_moe(300, 4, 3, random_state=0)
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    start = make_start("kmeans", design, 3, np.random.default_rng(0))
    before = start.expert.copy(), start.gate.copy(), start.noise_std.copy()
    n_read = design.rows.reads.n_rows
    outcome = climb(design, start, Objective(), max_iter=5, tol=1e-7)
    assert design.rows.reads.n_rows - n_read >= 300 * (outcome.n_iter + 1)
    for array, old in zip((start.expert, start.gate, start.noise_std), before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_a_climb_goes_on_where_columns_depend_on_each_other(monkeypatch):
    """In the kernel, by one of the solutions. Kills: a run that stays at its start, one handed over to Python."""
    sim = mf.make_moe(300, 3, 2, random_state=0)
    design = Design(Rows.check(np.column_stack([sim.X, sim.X[:, 0]]), sim.y), get_activation("linear"))
    start = make_start("kmeans", design, 2, np.random.default_rng(0))
    other = maximise(design, start, Objective(), max_iter=10, tol=1e-9, newton=False)
    monkeypatch.setattr("moe_fast.em.maximise", None)
    one = climb(design, start, Objective(), max_iter=10, tol=1e-9)
    np.testing.assert_allclose(one.history, other.history, rtol=1e-10)


def test_a_climb_goes_on_where_a_gate_separates(monkeypatch):
    """Its curvature vanishes. Kills: a step of infinite length, an objective that falls, a hand-over."""
    x = np.r_[np.linspace(-2.0, -1.0, 40), np.linspace(1.0, 2.0, 40)]
    y = np.where(x < 0.0, 1.0 + x, 3.0 - x) + 0.01 * np.cos(40.0 * x)
    design = Design(Rows.check(x[:, None], y), get_activation("linear"))
    start = Parameters(np.array([[1.0, 1.0], [3.0, -1.0]]), np.array([[0.0, -2.0]]), np.full(2, 0.1))
    monkeypatch.setattr("moe_fast.em.maximise", None)
    outcome = climb(design, start, Objective(), max_iter=200, tol=1e-12)
    assert np.all(np.diff(outcome.history) >= -1e-9)
    assert np.abs(outcome.parameters.gate).max() > 20.0
    assert outcome.sums.weight == pytest.approx([40.0, 40.0], abs=1e-2)


def test_a_steep_gate_of_the_wrong_sign_moves_as_far_in_a_climb_as_in_maximise():
    """Much gradient and next to no curvature. Kills: a limit in one of the two, moves halved a dozen times."""
    x = np.linspace(-2.0, 2.0, 80)
    y = np.where(x < 0.0, 1.0 + x, 3.0 - x) + 0.01 * np.cos(40.0 * x)
    design = Design(Rows.check(x[:, None], y), get_activation("linear"), gate_intercept=False)
    start = Parameters(np.array([[1.0, 1.0], [3.0, -1.0]]), np.array([[3000.0]]), np.full(2, 0.1))
    one = climb(design, start, Objective(), max_iter=4, tol=1e-9)
    n_passes = design.rows.reads.n_rows / 80
    other = maximise(design, start, Objective(), max_iter=4, tol=1e-9, newton=False)
    np.testing.assert_allclose(one.history, other.history, rtol=1e-9)
    assert one.history[-1] > 270.0
    assert n_passes <= 7   # 22, halved from a move of 1e4


@pytest.mark.parametrize("quasi_newton", [False, True])
def test_a_climb_converges_where_a_gate_is_pressed_against_its_limit(quasi_newton):
    """Two rows of two experts all but touch. Kills: a promise of what may not move, in one of the two."""
    rng = np.random.default_rng(0)
    x = np.r_[np.linspace(-2.0, -1e-5, 40), np.linspace(1e-5, 2.0, 200)]
    right = np.where(rng.random(240) < 0.5, 8.0 - x, 8.0 + x)   # two experts that EM is slow to tell apart
    y = np.where(x < 0.0, 1.0 + x, right) + np.where(x < 0.0, 0.3, 1.2) * rng.standard_normal(240)
    design = Design(Rows.check(x[:, np.newaxis], y), get_activation("linear"), gate_intercept=False)
    start = Parameters(
        np.array([[1.0, 1.0], [8.0, -1.0], [8.0, 1.0]]), np.array([[-1e4], [0.3]]), np.full(3, 0.3)
    )
    one = climb(design, start, Objective(), max_iter=200, tol=1e-9, quasi_newton=quasi_newton)
    other = maximise(
        design, start, Objective(), max_iter=200, tol=1e-9, newton=False, quasi_newton=quasi_newton
    )
    for end in (one, other):
        assert end.converged
        assert end.n_iter < (20 if quasi_newton else 100)
        assert end.parameters.gate[0, 0] == -1e4
        assert end.sums.gate_gradient[0, 0] < -1e-6   # it would go on
    np.testing.assert_allclose(one.history, other.history, rtol=1e-9)


@pytest.mark.parametrize("move_experts", [True, False])
def test_a_gate_that_comes_to_its_limit_goes_on_along_it(move_experts):
    """Beside a border, with an intercept. Kills: steps in which a pressed coefficient comes back as others move, a
    gate cut askew that gains at no length, the gate's slopes looked for among the experts', a pressed coefficient
    that turns the others in one of the two implementations.
    """
    rng = np.random.default_rng(0)
    x = np.sort(np.r_[rng.uniform(-2.0, 0.299, 100), 0.2998, 0.3002, rng.uniform(0.301, 2.0, 300)])
    right = np.where(rng.random(x.size) < 0.5, 8.0 - x, 8.0 + x)
    y = np.where(x < 0.3, 1.0 + x, right) + np.where(x < 0.3, 0.3, 1.2) * rng.standard_normal(x.size)
    design = Design(Rows.check(x[:, np.newaxis], y), get_activation("linear"))
    mean, std = design.gate_standard[:, 0]
    lines = np.array([[1.0 + mean, std], [8.0 - mean, -std], [8.0 + mean, std]])
    start = Parameters(lines, np.array([[-4067.0, -9989.0], [0.07, 0.19]]), np.array([0.3, 1.2, 1.2]))
    objective = Objective(move_experts=move_experts)
    ends = [maximise(design, start, objective, max_iter=100, tol=1e-8, newton=newton) for newton in (True, False)]
    if move_experts:
        steps = dict(max_iter=100, tol=1e-8, quasi_newton=True)
        ends += [climb(design, start, objective, **steps), maximise(design, start, objective, newton=False, **steps)]
        np.testing.assert_allclose(ends[2].history, ends[3].history, rtol=1e-9)
        at_limit = replace(start, gate=np.array([[-4072.0, -1e4], [0.07, 0.19]]))
        one = climb(design, at_limit, objective, **steps)
        other = maximise(design, at_limit, objective, newton=False, **steps)
        np.testing.assert_allclose(one.history, other.history, rtol=1e-9)
    for end in ends:
        assert end.converged
        assert end.parameters.gate[0, 1] == -GATE_LIMIT
        assert end.objective == pytest.approx(ends[0].objective, abs=1e-3)
        assert np.abs(end.sums.gate_gradient).max() < 0.1


def test_a_climb_has_the_same_bits_on_any_number_of_threads(monkeypatch):
    """Kills: threads that the kernel's climb does not get, or whose sums depend on which was first."""
    asked, kernel = [], _em.em_climb
    monkeypatch.setattr(_em, "em_climb", lambda *args: asked.append(args[-1]) or kernel(*args))
    sim = mf.make_moe(5000, 5, 3, random_state=0)
    ends = []
    for n_threads in (1, 2, 3, 4, 8):
        design = Design(Rows.check(sim.X, sim.y, n_threads=n_threads), get_activation("linear"))
        start = make_start("partition", design, 3, np.random.default_rng(0))
        ends.append(climb(design, start, Objective(), max_iter=10, tol=1e-9))
    assert asked == [1, 2, 3, 3, 3]   # a quarter of a million multiplications each
    for end in ends[1:]:
        assert end.history == ends[0].history
        assert end.parameters.expert.tobytes() == ends[0].parameters.expert.tobytes()


def test_a_climb_asks_the_callback_between_calls_of_the_kernel(monkeypatch):
    """Kills: a time limit that short passes do not see; calls that begin anew, or lose an iteration between them."""
    sim = mf.make_moe(300, 5, 4, random_state=0)
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    start = make_start("partition", design, 4, np.random.default_rng(0))
    whole = climb(design, start, Objective(), max_iter=7, tol=1e-12)
    monkeypatch.setattr("moe_fast.em._CALL", 5 * design.pass_work(4))   # a curvature of the gate serves three
    states = []
    parts = climb(design, start, Objective(), max_iter=7, tol=1e-12, callback=states.append)
    assert [state.iteration for state in states] == [3, 6]
    assert states[1].objective == whole.history[6]
    assert parts.history == whole.history
    assert climb(design, start, Objective(), max_iter=7, tol=1e-12, callback=lambda state: True).n_iter == 3


def test_a_climb_of_more_rows_asks_the_callback():
    """Kills: a time limit that a long run does not see."""
    sim = mf.make_moe(25_000, 5, 3, random_state=0)
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    assert not design.is_brief(3)
    start = make_start("partition", design, 3, np.random.default_rng(0))
    assert climb(design, start, Objective(), max_iter=10, tol=1e-9, callback=lambda state: True).n_iter == 1
