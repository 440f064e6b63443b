"""Does `fit` do what it says: weights, units, order, options, repeatability, and data that is hard or degenerate?"""

import contextlib
import itertools
import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import moe_fast as mf
from moe_fast.moves import MOVES
from moe_fast.task import Start

ARRAYS = ("coef", "intercept", "gate_coef", "gate_intercept", "noise_std")


@pytest.fixture(scope="module")
def sim():
    """Three experts well apart, with intercepts."""
    return mf.make_moe(400, 4, 3, intercept=1.0, gate_intercept=0.5, random_state=12)


@pytest.fixture(scope="module")
def fitted(sim):
    return mf.fit(sim.X, sim.y, 3, random_state=0)


@contextlib.contextmanager
def quiet():
    """Where a fit's warnings are of no interest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.ConvergenceWarning)
        yield


def from_truth(X, y, sim, **options):
    """EM from the truth: fast, and to the same top however the data is written down."""
    return mf.fit_em(X, y, 3, init=sim.model, tol=1e-13, **options)


def assert_same_model(got, want, rtol=1e-6):
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=rtol, atol=rtol, err_msg=name)


# ---- the fit as a whole ----


@pytest.mark.parametrize("activation", ["linear", "sigmoid", "tanh", "relu", "leaky_relu"])
def test_recovers_the_experts(activation):
    """Kills: a race that keeps a bad start, experts reported in the coordinates of the inside."""
    noise_std = 0.02 if activation == "sigmoid" else 0.1
    sim = mf.make_moe(1500, 4, 2, activation=activation, noise_std=noise_std, random_state=1)
    fit = mf.fit(sim.X, sim.y, 2, activation=activation, n_starts=12, random_state=0)
    assert fit.converged
    best = mf.fit_em(sim.X, sim.y, 2, init=sim.model, activation=activation)
    assert fit.log_likelihood > best.log_likelihood - 1e-3 * 1500
    p = mf.match_experts(fit.model, sim.model)
    np.testing.assert_allclose(fit.model.coef[p], sim.model.coef, atol=0.15)


def test_is_better_than_its_worst_start(sim, fitted):
    """The winner is the best of the starts reported, and there are losers. Kills: a finish of every start."""
    ends = [start.log_likelihood for start in fitted.starts if start.status != "degenerate"]
    [winner] = [start for start in fitted.starts if start.status == "winner"]
    assert winner.log_likelihood == pytest.approx(fitted.log_likelihood)
    assert winner.log_likelihood >= max(ends) - 1e-6
    assert min(ends) < fitted.log_likelihood - 10.0
    assert [start.status for start in fitted.starts].count("finished") <= 3
    assert {"spectral", "ransac", "kmeans", "segments", "partition", "random"} <= {s.kind for s in fitted.starts}
    assert [start.index for start in fitted.starts] == list(range(len(fitted.starts)))
    assert sum(start.kind not in MOVES for start in fitted.starts) == 44


def test_a_start_joins_the_histories_of_its_runs():
    """Kills: the value where one run ends and the next begins counted twice, one in the units of another weight."""
    start = Start("random", 0, parameters=None)
    start.record(SimpleNamespace(history=[-30.0, -20.0]), weight=10.0)
    start.record(SimpleNamespace(history=[-200.0, -150.0, -100.0]), weight=100.0)   # on more rows
    report = start.report(weight=100.0)
    assert report.history == (-300.0, -200.0, -150.0, -100.0)
    assert report.n_iter == 3


def test_every_start_keeps_its_history(sim, fitted):
    """Kills: runs that are left out: the race's short or long ones, the finish."""
    for start in fitted.starts:
        assert np.diff(start.history).min() >= -1e-8
        if start.status in {"finished", "winner"}:
            assert start.history[-1] == pytest.approx(start.log_likelihood)
        elif start.status != "degenerate":   # from whose likelihood the barrier takes much
            assert -1e-8 < start.log_likelihood - start.history[-1] < 10.0
    [winner] = [start for start in fitted.starts if start.status == "winner"]
    assert winner.n_iter > fitted.n_iter
    np.testing.assert_allclose(winner.history[-fitted.n_iter :], fitted.history[1:])


def test_of_large_data_races_on_a_sample():
    """Kills: a fit that is that of the sample, not of all rows."""
    sim = mf.make_moe(30_000, 4, 3, random_state=2)
    fit = mf.fit(sim.X, sim.y, 3, random_state=0)
    best = mf.fit_em(sim.X, sim.y, 3, init=sim.model)
    assert abs(fit.log_likelihood - best.log_likelihood) < 1e-8 * 30_000
    assert fit.n_passes < 100
    assert len(fit.starts) <= 12
    # One finalist is run on all rows; the others keep what they had reached on the sample.
    assert [start.status for start in fit.starts].count("winner") == 1
    assert "finished" not in {start.status for start in fit.starts}


def test_log_likelihood_and_criteria(sim, fitted):
    """Kills: a barrier left in the report, BIC of the number of features, entropy counted once."""
    model, X, y = fitted.model, sim.X, sim.y
    assert fitted.log_likelihood == pytest.approx(model.log_likelihood(X, y), rel=1e-12)
    resp = model.responsibilities(X, y)
    entropy = -np.sum(resp * np.log(np.maximum(resp, 1e-300)))
    assert fitted.entropy == pytest.approx(entropy, rel=1e-9)
    np.testing.assert_allclose(fitted.effective_sizes, resp.sum(axis=0), rtol=1e-9)
    np.testing.assert_allclose(fitted.mixing_weights, model.mixing_weights(X), rtol=1e-9)
    n_parameters = 3 * 5 + 2 * 5 + 3
    assert fitted.n_parameters == n_parameters
    assert fitted.n_samples == 400
    assert fitted.aic == pytest.approx(2 * n_parameters - 2 * fitted.log_likelihood)
    assert fitted.bic == pytest.approx(n_parameters * np.log(400) - 2 * fitted.log_likelihood)
    assert fitted.icl == pytest.approx(fitted.bic + 2 * entropy)


@pytest.mark.parametrize(
    ("options", "n_parameters"),
    [
        ({}, 15 + 10 + 3),
        ({"noise": "shared"}, 15 + 10 + 1),
        ({"noise": 0.1}, 15 + 10),
        ({"noise": [0.1, 0.2, 0.1]}, 15 + 10),
        ({"fit_intercept": False}, 12 + 10 + 3),
        ({"gate_intercept": False}, 15 + 8 + 3),
        ({"gate": "constant"}, 15 + 2 + 3),
        ({"gate": "constant", "gate_intercept": False}, 15 + 3),
    ],
)
def test_options(sim, options, n_parameters):
    """Kills: an option read and forgotten, held parameters counted."""
    fit = mf.fit(sim.X, sim.y, 3, n_starts=6, random_state=0, **options)
    model = fit.model
    assert fit.n_parameters == n_parameters
    assert fit.converged
    assert fit.log_likelihood == pytest.approx(model.log_likelihood(sim.X, sim.y), rel=1e-10)
    assert model.intercept.any() == options.get("fit_intercept", True)
    assert model.gate_intercept.any() == options.get("gate_intercept", True)
    assert model.gate == options.get("gate", "softmax")
    assert model.gate_coef.shape == (3, 4 if model.gate == "softmax" else 0)
    noise = options.get("noise", "per_expert")
    if noise == "shared":
        assert np.ptp(model.noise_std) == 0.0
    elif noise == "per_expert":
        assert np.ptp(model.noise_std) > 0.0
    else:
        np.testing.assert_array_equal(np.sort(model.noise_std), np.sort(np.broadcast_to(noise, 3)))
    full = mf.fit(sim.X, sim.y, 3, n_starts=6, random_state=0)
    assert fit.log_likelihood <= full.log_likelihood + 1e-6


def test_noise_held_per_expert_belongs_to_the_starts_expert(sim):
    """Kills: held numbers that stay in place while the experts are put in order."""
    held = np.array([0.1, 0.1, 5.0])
    fit = from_truth(sim.X, sim.y, sim, noise=held)
    p = mf.match_experts(fit.model, sim.model)
    assert fit.model.noise_std[p].tolist() == held.tolist()


def test_constant_gate_is_the_shares_of_the_experts(sim):
    """At the top of a constant gate mixing weights are mean responsibilities."""
    fit = mf.fit(sim.X, sim.y, 3, gate="constant", n_starts=6, random_state=0)
    resp = fit.model.responsibilities(sim.X, sim.y)
    np.testing.assert_allclose(fit.mixing_weights, resp.mean(axis=0), atol=1e-5)
    assert np.ptp(fit.model.gate_proba(sim.X), axis=0).max() == 0.0


def test_gate_features(sim):
    """Kills: a gate that sees X all the same; names of the wrong columns."""
    pandas = pytest.importorskip("pandas")
    Z = pandas.DataFrame(sim.X[:, 1:3] * [1.0, 10.0] + [0.0, 1990.0], columns=["slope", "year"])
    fit = mf.fit(sim.X, sim.y, 3, gate_features=Z, n_starts=6, random_state=0)
    model = fit.model
    assert model.uses_gate_features
    assert model.gate_feature_names == ("slope", "year")
    assert model.gate_coef.shape == (3, 2)
    assert fit.n_parameters == 15 + 6 + 3
    assert fit.log_likelihood == pytest.approx(model.log_likelihood(sim.X, sim.y, gate_features=Z), rel=1e-10)
    with pytest.raises(ValueError, match="gate_features"):
        model.predict(sim.X)
    # All columns of X as gate features: the same model as without.
    same = mf.fit_em(sim.X, sim.y, 3, gate_features=sim.X.copy(), init="kmeans", random_state=0, tol=1e-13)
    plain = mf.fit_em(sim.X, sim.y, 3, init="kmeans", random_state=0, tol=1e-13)
    np.testing.assert_allclose(same.model.gate_coef, plain.model.gate_coef, atol=1e-6)
    assert same.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-12)


def test_gate_features_of_another_type(sim):
    """A kernel takes one type of matrix; the narrower is widened."""
    wide = mf.fit_em(sim.X, sim.y, 3, gate_features=sim.X[:, :2], init="kmeans", random_state=0)
    narrow = sim.X[:, :2].astype(np.float32)
    mixed = mf.fit_em(sim.X, sim.y, 3, gate_features=narrow, init="kmeans", random_state=0)
    assert mixed.log_likelihood == pytest.approx(wide.log_likelihood, rel=1e-5)


# ---- a model as the start ----


@pytest.mark.parametrize("function", [mf.fit, mf.fit_em])
def test_a_fitted_model_as_init_stays_where_it_is(sim, fitted, function):
    """Kills: an init model read in the wrong coordinates, or replaced by a start of its own."""
    again = function(sim.X, sim.y, 3, init=fitted.model)
    assert again.n_iter <= 3
    assert again.log_likelihood == pytest.approx(fitted.log_likelihood, abs=1e-7)
    assert again.log_likelihood >= fitted.log_likelihood - 1e-9
    assert_same_model(again.model, fitted.model, 1e-4)
    assert [start.kind for start in again.starts] == ["model"]


def test_init_model_and_no_iteration_gives_the_model_back(sim):
    """Coefficients there and back through the standard columns of the inside."""
    scale, shift = np.array([1.0, 1e3, 1e-3, 1.0]), np.array([0.0, 1e4, 5.0, -3.0])
    coef, gate_coef = sim.model.coef / scale, sim.model.gate_coef / scale
    model = mf.MixtureOfExperts(
        coef, sim.model.intercept - coef @ shift, gate_coef, sim.model.gate_intercept - gate_coef @ shift,
        sim.model.noise_std,
    )
    with pytest.warns(mf.ConvergenceWarning, match="max_iter"):
        fit = mf.fit_em(sim.X * scale + shift, sim.y, 3, init=model, max_iter=0)
    p = mf.match_experts(fit.model, model)
    assert_same_model(fit.model.permute(p), model, 1e-9)
    assert fit.n_iter == 0


def test_fit_gate_moves_the_gate_alone(sim):
    """Kills: an expert or a noise that moves by a hair, the count of what is held."""
    start = mf.MixtureOfExperts(sim.model.coef, sim.model.intercept, noise_std=[0.1, 0.2, 0.3])
    fit = mf.fit_gate(sim.X, sim.y, start)
    p = mf.match_experts(fit.model, start)
    np.testing.assert_allclose(fit.model.coef[p], start.coef, rtol=1e-13)
    np.testing.assert_allclose(fit.model.intercept[p], start.intercept, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(fit.model.noise_std[p], start.noise_std)
    assert np.abs(fit.model.gate_coef).max() > 0.3
    assert np.abs(fit.model.gate_intercept).max() > 0.1
    assert fit.n_parameters == 10
    assert fit.converged
    assert fit.log_likelihood > start.log_likelihood(sim.X, sim.y) + 10.0
    flat = mf.fit_gate(sim.X, sim.y, start, gate_intercept=False)
    assert not flat.model.gate_intercept.any()
    assert flat.n_parameters == 8


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_fit_gate_of_other_activations(activation):
    sim = mf.make_moe(500, 4, 2, activation=activation, gate_norm=2.0, random_state=0)
    start = mf.MixtureOfExperts(sim.model.coef, noise_std=0.1, activation=activation)
    fit = mf.fit_gate(sim.X, sim.y, start)
    joint = mf.fit_em(sim.X, sim.y, 2, init=sim.model, activation=activation)
    p = mf.match_experts(fit.model, sim.model)
    np.testing.assert_allclose(fit.model.permute(p).gate_coef, sim.model.gate_coef, atol=0.6)
    assert fit.model.log_likelihood(sim.X, sim.y) <= joint.log_likelihood


# ---- weights ----


def test_weight_two_is_the_row_twice(sim):
    """Kills: weights in the noise but not in the gate, or the other way round."""
    weight = np.random.default_rng(0).integers(0, 4, 400).astype(float)
    weighted = from_truth(sim.X, sim.y, sim, sample_weight=weight)
    rows = np.repeat(np.arange(400), weight.astype(int))
    repeated = from_truth(sim.X[rows], sim.y[rows], sim)
    assert_same_model(weighted.model, repeated.model)
    assert weighted.log_likelihood == pytest.approx(repeated.log_likelihood, rel=1e-10)
    assert weighted.bic == pytest.approx(repeated.bic, rel=1e-10)
    assert weighted.entropy == pytest.approx(repeated.entropy, rel=1e-5)
    assert weighted.n_samples == rows.size


@pytest.mark.parametrize("init", ["spectral", "ransac", "kmeans", "segments", "partition", "random"])
def test_a_row_of_weight_zero_is_as_absent(sim, init):
    """Also for the starts: wild rows of weight zero are not seen. Kills: an unweighted mean or quantile."""
    rng = np.random.default_rng(1)
    X = np.vstack([sim.X, rng.standard_normal((100, 4)) * 1e3])
    y = np.concatenate([sim.y, rng.standard_normal(100) * 1e6])
    weight = np.concatenate([np.ones(400), np.zeros(100)])
    with quiet():
        weighted = mf.fit_em(X, y, 3, sample_weight=weight, init=init, max_iter=5, random_state=0)
        plain = mf.fit_em(sim.X, sim.y, 3, init=init, max_iter=5, random_state=0)
    np.testing.assert_allclose(weighted.history, plain.history, rtol=1e-7)
    assert weighted.n_samples == 400
    assert_same_model(weighted.model, plain.model, 1e-5)


def test_rows_of_weight_zero_leave_the_race_alone(sim, fitted):
    rng = np.random.default_rng(1)
    X = np.vstack([sim.X, rng.standard_normal((100, 4)) * 1e3])
    y = np.concatenate([sim.y, rng.standard_normal(100) * 1e6])
    fit = mf.fit(X, y, 3, sample_weight=np.repeat([1.0, 0.0], [400, 100]), random_state=0)
    assert fit.log_likelihood == pytest.approx(fitted.log_likelihood, abs=1e-5)
    assert len(fit.starts) == len(fitted.starts)


@pytest.mark.parametrize("c", [1e-6, 3.0, 1e6])
def test_all_weights_times_c(sim, c):
    """Multiplies the log-likelihood and changes nothing else. Kills: rules in rows that are rules in weight."""
    weight = np.random.default_rng(2).uniform(0.2, 2.0, 400)
    one = mf.fit(sim.X, sim.y, 3, sample_weight=weight, n_starts=6, random_state=0)
    many = mf.fit(sim.X, sim.y, 3, sample_weight=c * weight, n_starts=6, random_state=0)
    assert many.log_likelihood == pytest.approx(c * one.log_likelihood, rel=1e-6)
    assert_same_model(many.model, one.model, 1e-3)
    assert many.penalised == one.penalised
    assert [s.kind for s in many.starts if s.status == "winner"]


# ---- rows, experts and units ----


def test_permuting_rows(sim):
    order = np.random.default_rng(0).permutation(400)
    one, other = from_truth(sim.X, sim.y, sim), from_truth(sim.X[order], sim.y[order], sim)
    assert_same_model(other.model, one.model)
    assert other.log_likelihood == pytest.approx(one.log_likelihood, rel=1e-12)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_permuting_the_experts_of_the_start(sim, order):
    """Also the last one, whose gate is zero. Kills: an order that depends on the start's."""
    one = from_truth(sim.X, sim.y, sim)
    other = mf.fit_em(sim.X, sim.y, 3, init=sim.model.permute(order), tol=1e-13)
    assert_same_model(other.model, one.model)


def test_experts_come_by_falling_mixing_weight(sim, fitted):
    weights = fitted.mixing_weights
    assert (np.diff(weights) < 0.0).all()
    np.testing.assert_allclose(weights, fitted.model.gate_proba(sim.X).mean(axis=0), rtol=1e-9)
    assert fitted.model.ordered(sim.X) == fitted.model
    assert not fitted.model.gate_coef[-1].any()
    assert fitted.model.gate_intercept[-1] == 0.0


def test_scaling_and_shifting_X(sim, fitted):
    """A calendar year, a population, a tiny unit: same fit in other units. Kills: starts or barrier in raw units."""
    scale, shift = np.array([10.0, 1e6, 1e-6, 1.0]), np.array([1990.0, 1e7, 0.0, -5.0])
    fit = mf.fit(sim.X * scale + shift, sim.y, 3, random_state=0)
    assert fit.log_likelihood == pytest.approx(fitted.log_likelihood, abs=1e-5)
    np.testing.assert_allclose(fit.model.coef * scale, fitted.model.coef, atol=1e-4)
    np.testing.assert_allclose(fit.model.intercept + fit.model.coef @ shift, fitted.model.intercept, atol=1e-4)
    np.testing.assert_allclose(fit.model.gate_coef * scale, fitted.model.gate_coef, atol=1e-2)
    assert fit.converged


def test_scaling_X_without_intercepts(sim):
    """Kills: columns centred though no intercept can take the shift up."""
    scale = np.array([10.0, 1e6, 1e-6, 1.0])
    options = {"fit_intercept": False, "gate_intercept": False, "n_starts": 12, "random_state": 0}
    fit, plain = mf.fit(sim.X * scale, sim.y, 3, **options), mf.fit(sim.X, sim.y, 3, **options)
    assert fit.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-5)
    np.testing.assert_allclose(fit.model.coef * scale, plain.model.coef, atol=1e-4)


@pytest.mark.parametrize(("scale", "shift"), [(1e6, 0.0), (1e-6, 0.0), (1.0, 1e4), (-2.0, 100.0)])
def test_scaling_and_shifting_y(sim, fitted, scale, shift):
    """Kills: a floor of noise_std in absolute units."""
    fit = mf.fit(sim.X, scale * sim.y + shift, 3, random_state=0)
    moved = fitted.log_likelihood - 400 * np.log(abs(scale))
    assert fit.log_likelihood == pytest.approx(moved, abs=1e-4)
    np.testing.assert_allclose(fit.model.noise_std, abs(scale) * fitted.model.noise_std, rtol=1e-3)
    np.testing.assert_allclose(fit.model.coef, scale * fitted.model.coef, atol=1e-3 * abs(scale))


@pytest.mark.parametrize("seed", range(6))
def test_a_tiny_noise_is_found_in_float32(seed):
    """Kills: an M-step that takes what Grams in single precision say of the residuals after it for exact.

    The first step goes from a noise of one to one of 1e-4; that far down such a Gram says anything, zero too.
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((3000, 6)).astype(np.float32)
    noise = 1e-4 * rng.standard_normal(3000)
    fit = mf.fit_em(X, X @ rng.standard_normal(6) + noise, 1, random_state=seed, n_threads=1)
    assert not fit.penalised
    np.testing.assert_allclose(fit.model.noise_std, noise.std(), rtol=0.01)


def test_float32_X_is_close_to_float64(sim, fitted):
    fit = mf.fit(sim.X.astype(np.float32), sim.y, 3, random_state=0)
    assert fit.log_likelihood == pytest.approx(fitted.log_likelihood, abs=1e-2)
    assert fit.model.coef.dtype == np.float64


# ---- repeatability ----


@pytest.mark.parametrize("random_state", [0, 123])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_same_seed_same_bits_for_any_number_of_threads(random_state, dtype):
    """1000 rows are four tiles of rows, so two threads share every pass."""
    sim = mf.make_moe(1000, 4, 3, dtype=dtype, random_state=1)
    runs = [
        mf.fit(sim.X, sim.y, 3, n_starts=8, random_state=random_state, n_threads=n_threads)
        for n_threads in (1, 2, 1, 2)
    ]
    bits = {b"".join(getattr(run.model, name).tobytes() for name in ARRAYS) for run in runs}
    assert len(bits) == 1
    assert len({run.history.tobytes() for run in runs}) == 1
    assert len({run.starts for run in runs}) == 1


def test_other_seeds_make_other_starts(sim):
    ends = {mf.fit_em(sim.X, sim.y, 3, init="random", random_state=seed).history[0] for seed in range(4)}
    assert len(ends) == 4


def test_a_generator_moves_on(sim):
    rng = np.random.default_rng(0)
    first, second = (mf.fit_em(sim.X, sim.y, 3, init="random", random_state=rng) for _ in range(2))
    assert first.history[0] != second.history[0]


def test_n_init_keeps_the_best(sim):
    """With a shared noise, which no single expert can collapse. Kills: the first or the last start kept."""
    with quiet():
        many = mf.fit_em(sim.X, sim.y, 5, noise="shared", init="random", n_init=8, random_state=4)
    ends = [start.log_likelihood for start in many.starts]
    assert len(ends) == 8
    assert max(ends) > min(ends) + 1.0
    winner = int(np.argmax(ends))
    assert 0 < winner < 7
    assert many.starts[winner].status == "winner"
    assert many.log_likelihood == pytest.approx(ends[winner], rel=1e-9)


# ---- stopping ----


def test_max_iter_warns_and_says_what_to_do(sim):
    with pytest.warns(mf.ConvergenceWarning, match=r"not converged after 3 iterations.*raise max_iter \(now 3\)"):
        fit = mf.fit_em(sim.X, sim.y, 3, max_iter=3, random_state=0)
    assert not fit.converged
    assert fit.n_iter == 3
    assert fit.history.shape == (4,)
    assert "NOT CONVERGED" in fit.summary()


def test_tol_decides_when_to_stop(sim):
    loose = mf.fit_em(sim.X, sim.y, 3, init="random", tol=1e-2, random_state=0)
    tight = mf.fit_em(sim.X, sim.y, 3, init="random", tol=1e-12, random_state=0)
    assert loose.converged
    assert tight.converged
    assert loose.n_iter < tight.n_iter
    assert loose.log_likelihood < tight.log_likelihood


def test_callback_sees_every_iteration(sim):
    states = []
    fit = mf.fit_em(sim.X, sim.y, 3, random_state=0, callback=states.append)
    assert [state.iteration for state in states] == list(range(1, fit.n_iter + 1))
    np.testing.assert_array_equal([state.objective for state in states], fit.history[1:])
    last = states[-1]
    assert last.log_likelihood == pytest.approx(last.model.log_likelihood(sim.X, sim.y), rel=1e-12)


@pytest.mark.parametrize("function", [mf.fit, mf.fit_em])
def test_callback_stops(sim, function):
    """And nothing is warned of: it was the user's wish. Kills: a return value that is not looked at."""
    fit = function(sim.X, sim.y, 3, random_state=0, tol=1e-15, callback=lambda state: state.iteration == 2)
    assert len(fit.history) - 1 == 2
    assert not fit.converged
    assert np.isfinite(fit.log_likelihood)


def test_a_callback_that_stops_ends_all_starts(sim):
    calls = []

    def stop(state):
        calls.append(state.iteration)
        return True

    mf.fit_em(sim.X, sim.y, 3, n_init=5, random_state=0, callback=stop)
    assert calls == [1] * 5


@pytest.mark.parametrize("function", [mf.fit, mf.fit_em])
def test_ctrl_c_leaves_cleanly(sim, fitted, function):
    """Kills: an interrupt swallowed by a broad except; arrays left changed."""
    X, y = sim.X.copy(), sim.y.copy()

    def interrupt(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        function(X, y, 3, random_state=0, callback=interrupt)
    np.testing.assert_array_equal(X, sim.X)
    np.testing.assert_array_equal(y, sim.y)
    again = mf.fit(X, y, 3, random_state=0)
    assert again.log_likelihood == fitted.log_likelihood


def test_an_error_in_a_callback_comes_out(sim):
    def broken(state):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        mf.fit_em(sim.X, sim.y, 3, callback=broken, random_state=0)


def test_time_limit_ends_the_race(sim):
    with pytest.warns(mf.ConvergenceWarning) as warned:
        fit = mf.fit(sim.X, sim.y, 6, time_limit=1e-4, random_state=0)
    assert any("raise time_limit" in str(warning.message) for warning in warned)
    assert len(fit.starts) == 1
    assert np.isfinite(fit.log_likelihood)


def test_a_long_time_limit_changes_nothing(sim, fitted):
    assert mf.fit(sim.X, sim.y, 3, time_limit=1000.0, random_state=0).log_likelihood == fitted.log_likelihood


# ---- what goes in and what comes out ----


def test_inputs_are_never_written_to(sim):
    """Read-only arrays of every argument. Kills: an in-place standardisation."""
    arrays = {
        "X": sim.X.copy(), "y": sim.y.copy(), "sample_weight": np.linspace(0.5, 1.5, 400),
        "gate_features": sim.X[:, :2].copy(), "noise": np.array([0.1, 0.1, 0.1]),
    }
    before = {name: array.copy() for name, array in arrays.items()}
    for array in arrays.values():
        array.flags.writeable = False
    mf.fit(n_experts=3, n_starts=6, random_state=0, **arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


def test_the_init_model_is_never_written_to(sim):
    before = mf.MixtureOfExperts.from_dict(sim.model.to_dict())
    mf.fit_em(sim.X, sim.y, 3, init=sim.model)
    mf.fit_gate(sim.X, sim.y, sim.model)
    assert sim.model == before


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_memory_maps(tmp_path, sim, dtype):
    X = np.asarray(sim.X, dtype)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", sim.y)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r"), np.load(tmp_path / "y.npy", mmap_mode="r")
    options = {"n_starts": 4, "random_state": 0}
    assert mf.fit(*mapped, 3, **options).model == mf.fit(X, sim.y, 3, **options).model


@pytest.mark.parametrize("kind", ["list", "fortran", "strided", "swapped", "integer y"])
def test_other_layouts_give_the_same_fit(sim, kind):
    y = np.round(10 * sim.y)
    X = {
        "list": sim.X.tolist(), "fortran": np.asfortranarray(sim.X), "strided": np.repeat(sim.X, 2, axis=0)[::2],
        "swapped": sim.X.astype(">f8"), "integer y": sim.X,
    }[kind]
    other = y.astype(int) if kind == "integer y" else y
    options = {"n_starts": 4, "random_state": 0}
    assert mf.fit(X, other, 3, **options).model == mf.fit(sim.X, y, 3, **options).model


def test_pandas_names_reach_the_model(sim):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(sim.X, columns=["age", "size", "year", "rate"])
    target = pandas.Series(sim.y, name="wage", index=np.arange(400) + 7)
    fit = mf.fit(frame, target, 3, n_starts=4, random_state=0)
    assert fit.model.feature_names == ("age", "size", "year", "rate")
    assert fit.model.target_name == "wage"
    for word in ("age", "wage", "rate"):
        assert word in fit.summary()
    assert mf.fit(sim.X, sim.y, 3, n_starts=4, random_state=0).log_likelihood == fit.log_likelihood


def test_polars_names_reach_the_model(sim):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    frame = polars.DataFrame(sim.X, schema=["age", "size", "year", "rate"])
    fit = mf.fit(frame, polars.Series("wage", sim.y), 3, n_starts=4, random_state=0)
    assert fit.model.feature_names == ("age", "size", "year", "rate")
    assert fit.model.target_name == "wage"


def test_results_pickle_small(fitted):
    """Kills: a result that keeps X, the design or the responsibilities."""
    content = pickle.dumps(fitted)
    assert len(content) < 40_000   # most of it histories of some hundred starts
    again = pickle.loads(content)
    assert again.model == fitted.model
    assert again.summary() == fitted.summary()


def test_a_users_own_activation(sim):
    """Works everywhere; here arctan, against the same g given with a derivative."""
    own = mf.Activation("arctan", np.arctan)
    exact = mf.Activation("arctan", np.arctan, lambda t: 1.0 / (1.0 + t * t))
    data = mf.make_moe(400, 3, 2, activation=exact, random_state=0)
    fit = mf.fit(data.X, data.y, 2, activation=own, n_starts=8, random_state=0)
    best = mf.fit_em(data.X, data.y, 2, init=data.model, activation=exact)
    assert fit.log_likelihood > best.log_likelihood - 1e-3 * 400
    assert fit.converged


# ---- hard and degenerate data ----


def test_fewer_features_than_experts(sim):
    """No spectral start, and no complaint: the other kinds run."""
    x = np.linspace(-3.0, 3.0, 240)
    labels = np.arange(240) % 3
    y = np.choose(labels, [2.0 * x, -2.0 * x, 4.0 + 0.0 * x]) + 0.1 * np.random.default_rng(0).standard_normal(240)
    fit = mf.fit(x[:, None], y, 3, random_state=0)
    assert "spectral" not in {start.kind for start in fit.starts}
    np.testing.assert_allclose(np.sort(fit.model.coef[:, 0]), [-2.0, 0.0, 2.0], atol=0.05)


@pytest.mark.filterwarnings("ignore::moe_fast.CollinearityWarning")
@pytest.mark.parametrize("column", ["constant", "zero", "copy", "sum"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_columns_that_tell_nothing_new(sim, fitted, column, fit_intercept):
    """Kills: a spectral start that takes a singular covariance for bad input, a singular normal matrix."""
    more = {
        "constant": np.full(400, 7.0), "zero": np.zeros(400), "copy": 2.0 * sim.X[:, 1], "sum": sim.X.sum(axis=1)
    }[column]
    X = np.column_stack([sim.X, more])
    fit = mf.fit(X, sim.y, 3, fit_intercept=fit_intercept, n_starts=12, random_state=0)
    assert fit.converged
    assert all(np.isfinite(getattr(fit.model, name)).all() for name in ARRAYS)
    if fit_intercept or column == "constant":
        assert fit.log_likelihood == pytest.approx(fitted.log_likelihood, abs=1e-3)


def test_rows_barely_above_the_parameters(sim):
    """20 rows for 6 parameters, 16 for 17: fits that are finite, whatever they mean."""
    fit = mf.fit(sim.X[:20], sim.y[:20], 1)
    assert fit.converged
    with quiet():
        fit = mf.fit(sim.X[:16], sim.y[:16], 2, random_state=0)
    assert np.isfinite(fit.log_likelihood)
    assert all(np.isfinite(getattr(fit.model, name)).all() for name in ARRAYS)


@pytest.mark.parametrize("n_experts", [1, 2])
def test_no_more_rows_than_features(n_experts):
    """The minimum-norm solution, and a warning. Kills: what a random start has beside the rows' span, left in."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((8, 12)), rng.standard_normal(8)
    with pytest.warns(mf.ConvergenceWarning, match=r"expert 1.* collapsed|may not support n_experts = 2"):
        fit = mf.fit(X, y, n_experts, random_state=0)
    assert fit.penalised or (n_experts == 2 and fit.unsupported)
    assert np.isfinite(fit.log_likelihood)
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    span = np.linalg.pinv(standard) @ standard
    for raw in (fit.model.coef, fit.model.gate_coef):
        rows = raw * X.std(axis=0)
        np.testing.assert_allclose(rows @ span, rows, atol=1e-8 * (1.0 + np.abs(rows).max()))
    if n_experts == 1:
        np.testing.assert_allclose(fit.model.predict(X), y, atol=1e-6)
        centred = X - X.mean(axis=0)
        shortest = np.linalg.pinv(centred / X.std(axis=0)) @ (y - y.mean()) / X.std(axis=0)
        np.testing.assert_allclose(fit.model.coef[0], shortest, atol=1e-6)


def test_as_many_experts_as_rows(sim):
    with quiet():
        fit = mf.fit(sim.X[:4], sim.y[:4], 4, random_state=0)
    assert np.isfinite(fit.log_likelihood)


@pytest.mark.parametrize("n_experts", [1, 2])
@pytest.mark.parametrize("noise", ["per_expert", "shared"])
def test_exactly_fitted_data(n_experts, noise):
    """Zero noise: the coefficients are right, the collapse is named, all numbers are finite.

    Kills: a noise so small that densities overflow and no step is taken.
    """
    rng = np.random.default_rng(3)
    X = rng.standard_normal((200, 3))
    experts = np.array([[1.0, 2.0, 3.0], [-2.0, 0.0, 1.0]])[:n_experts]
    labels = rng.integers(n_experts, size=200)
    y = np.einsum("ij,ij->i", X, experts[labels]) + 5.0
    with pytest.warns(mf.ConvergenceWarning, match=r"expert 1.* collapsed.*noise='shared'|barrier"):
        fit = mf.fit(X, y, n_experts, noise=noise, random_state=0)
    p = mf.match_experts(fit.model.coef, experts)
    np.testing.assert_allclose(fit.model.coef[p], experts, atol=1e-3)
    assert fit.penalised
    assert fit.barrier > 0.0
    assert np.isfinite([fit.log_likelihood, fit.entropy, *fit.model.noise_std]).all()


def test_exactly_fitted_data_with_noise_held(sim):
    """Held at a number there is nothing that could collapse, and nothing to warn of."""
    y = sim.model.expert_means(sim.X)[np.arange(400), sim.labels]
    fit = mf.fit(sim.X, y, 3, noise=0.1, n_starts=12, random_state=0)
    assert fit.converged
    assert not fit.penalised
    p = mf.match_experts(fit.model, sim.model)
    np.testing.assert_allclose(fit.model.coef[p], sim.model.coef, atol=0.05)


def spiky(n_samples=120, n_equal=10):
    """A noisy parabola, ten of whose rows have the very same y."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-2.0, 2.0, n_samples))
    y = x**2 + 0.3 * rng.standard_normal(n_samples)
    y[rng.choice(n_samples, n_equal, replace=False)] = 1.0
    return x[:, None], y


def test_a_spike_of_equal_values_does_not_win():
    """An expert of noise zero on ten equal rows has an infinite likelihood. Kills: a rule on rows alone."""
    X, y = spiky()
    fit = mf.fit(X, y, 2, random_state=0)
    assert fit.model.noise_std.min() > 0.05
    assert not fit.penalised
    assert fit.effective_sizes.min() > 20.0


def test_an_expert_that_collapses_is_named():
    """Started on the spike, EM alone falls into it: the barrier's fit is kept and the expert named."""
    X, y = spiky()
    start = mf.MixtureOfExperts(
        [[0.0], [0.0]], [1.0, 1.5], gate_coef=[[0.0], [0.0]], noise_std=[1e-3, 1.0]
    )
    with pytest.warns(mf.ConvergenceWarning, match="expert 2 collapsed"):
        fit = mf.fit_em(X, y, 2, init=start)
    assert fit.penalised
    assert "collapsed" in fit.summary()
    assert np.argmin(fit.model.noise_std) == 1
    assert fit.log_likelihood == pytest.approx(fit.model.log_likelihood(X, y), rel=1e-10)
    # b = 2 (0.02 s)^2, s what one line leaves: found to be strong enough for spikes and too weak for real noise.
    residual = y - np.polyval(np.polyfit(X[:, 0], y, 1), X[:, 0])
    assert fit.barrier == pytest.approx(2.0 * 0.02**2 * np.mean(residual**2), rel=1e-9)


def test_an_expert_of_too_few_rows_is_named():
    """Five rows far off, fewer than an expert of four features has parameters for."""
    sim = mf.make_moe(200, 4, 1, orthogonal_gate=False, random_state=0)
    y = sim.y.copy()
    y[:4] += 50.0
    start = mf.MixtureOfExperts(
        np.vstack([sim.model.coef[0]] * 2), [0.0, 50.0], noise_std=[0.1, 0.1]
    )
    with pytest.warns(mf.ConvergenceWarning, match=r"expert 2 (holds fewer rows|collapsed)"):
        mf.fit_em(sim.X, y, 2, init=start)


def test_a_real_small_noise_is_found():
    """A third of the rows on one line to 0.004, the rest spread: no spike, so no barrier in the end."""
    rng = np.random.default_rng(0)
    X = rng.uniform(1.0, 3.0, (150, 1))
    tight = rng.random(150) < 0.35
    y = np.where(tight, X[:, 0] + 0.004 * rng.standard_normal(150), 2.0 + 0.3 * rng.standard_normal(150))
    fit = mf.fit(X, y, 2, random_state=0)
    assert not fit.penalised
    assert 0.003 < fit.model.noise_std.min() < 0.006


def test_a_separated_gate_is_flagged():
    """Experts on either side of x0 = 0: the gate is a step. Kills: a flag that is never set, a norm not capped."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 2))
    y = np.where(X[:, 0] > 0.0, 5.0 + X[:, 1], -5.0 - X[:, 1]) + 0.1 * rng.standard_normal(300)
    fit = mf.fit(X, y, 2, random_state=0)
    assert fit.separated == (0, 1)
    assert fit.converged
    assert np.isfinite(fit.model.gate_coef).all()
    assert "separates experts 1, 2" in fit.summary()
    assert np.abs(fit.model.gate_proba(X) - 0.5).min() > 0.49


def test_a_gate_that_separates_by_a_hair_is_stopped_and_converged():
    """The nearest rows are 0.0005 apart, so its likelihood still rises where its norm is capped; no fault of the fit's.

    Kills: a promise that can never be kept taken for a fit that has not converged.
    """
    X = np.random.default_rng(0).uniform(-1.0, 1.0, (4000, 1))
    y = np.where(X[:, 0] > 0.0, 3.0, -3.0) + 0.1 * np.random.default_rng(1).standard_normal(4000)
    model = mf.MixtureOfExperts([[0.0], [0.0]], [3.0, -3.0], gate_coef=[[60.0], [0.0]], noise_std=0.1)
    gate = mf.fit_gate(X, y, model)
    assert gate.converged
    assert gate.separated == (0, 1)
    joint = mf.fit_em(X, y, 2, init=model)
    assert joint.converged
    assert joint.separated == (0, 1)
    assert joint.n_iter < 100


def test_nearly_collinear_columns_are_no_separation():
    """Kills: steep coefficients taken for steep log odds."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(600)
    X = np.column_stack([x, x + 1e-4 * rng.standard_normal(600)])
    first = rng.random(600) < 1.0 / (1.0 + np.exp(-x))
    y = np.where(first, 1.0 + x, -1.0 - x) + 0.1 * rng.standard_normal(600)
    fit = mf.fit(X, y, 2, random_state=0)
    assert np.abs(fit.model.gate_coef).max() > 100.0
    assert fit.separated == ()


def test_only_the_experts_the_gate_separates_are_flagged():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((400, 2))
    left = X[:, 0] < 0.0
    mixed = np.where(rng.random(400) < 0.5, 2.0 * X[:, 1], 8.0 - 2.0 * X[:, 1])
    y = np.where(left, mixed, -20.0 + X[:, 1]) + 0.1 * rng.standard_normal(400)
    start = mf.MixtureOfExperts([[0.0, 2.0], [0.0, -2.0], [0.0, 1.0]], [0.0, 8.0, -20.0], noise_std=0.1)
    fit = mf.fit_em(X, y, 3, init=start)
    far = int(np.argmin(fit.model.intercept))
    assert far in fit.separated


def test_a_steep_gate_with_rows_in_between_is_not_flagged():
    """Log odds of 60 a unit of x, and rows near enough to zero to tell. Kills: steepness alone taken for a step."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1.0, 1.0, (4000, 1))
    model = mf.MixtureOfExperts([[1.0], [-1.0]], [3.0, -3.0], gate_coef=[[60.0], [0.0]], noise_std=0.1)
    fit = mf.fit_gate(X, model.sample(X, 1)[0], model)
    assert np.abs(fit.model.gate_coef * X.std()).max() > 30.0
    assert fit.separated == ()


def test_a_mild_gate_is_not_flagged(fitted):
    assert fitted.separated == ()
    assert np.abs(fitted.model.gate_coef).max() < 10.0


def test_no_gain_is_told_of_no_iteration(sim):
    """Kills: an infinite last gain."""
    with pytest.warns(mf.ConvergenceWarning, match="not converged after 0 iterations: tol is 1e-10; raise max_iter"):
        mf.fit_em(sim.X, sim.y, sim.model.n_experts, max_iter=0, random_state=0)


def test_a_dummy_that_separates_is_told():
    """EM converges where its log odds are 23 or so. Kills: only gates far steeper than that looked at."""
    rng = np.random.default_rng(1)
    x, flag = rng.standard_normal(300), np.arange(300) % 2
    y = np.where(flag, 2.0 * x, 5.0 - x) + 0.1 * rng.standard_normal(300)
    fit = mf.fit(x[:, np.newaxis], y, 2, gate_features=flag[:, np.newaxis], random_state=0)
    assert fit.separated == (0, 1)
