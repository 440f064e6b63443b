"""What a first reader of the package tripped over: each was once a wrong result or a crash."""

import warnings

import numpy as np
import pytest

import moe_fast as mf


@pytest.fixture(scope="module")
def sim():
    return mf.make_moe(400, 4, 2, random_state=0)


@pytest.fixture(scope="module")
def fitted(sim):
    return mf.fit(sim.X, sim.y, 2, random_state=0)


def test_wild_rows_of_weight_zero_do_not_anneal(sim):
    """Kills: a held noise annealed from the spread of rows that do not count."""
    X, y = np.vstack([sim.X, sim.X[:100]]), np.r_[sim.y, np.full(50, 1e6), np.full(50, -1e6)]
    with_them = mf.fit_em(X, y, 2, sample_weight=np.repeat([1.0, 0.0], [400, 100]), noise=0.1, random_state=0)
    without = mf.fit_em(sim.X, sim.y, 2, noise=0.1, random_state=0)
    assert with_them.log_likelihood == pytest.approx(without.log_likelihood)


def test_overflowing_rows_of_weight_zero(sim, fitted):
    """Kills: a scale or a shift taken from the first row, whatever its weight."""
    X, y = np.vstack([np.full((1, 4), 1e200), sim.X]), np.r_[1e200, sim.y]
    fit = mf.fit(X, y, 2, sample_weight=np.r_[0.0, np.ones(400)], random_state=0)
    assert fit.log_likelihood == pytest.approx(fitted.log_likelihood)


def test_every_other_row_of_weight_zero():
    """Kills: every second row taken for a scale, and none of them counts."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100_000, 1))
    y = np.where(rng.random(100_000) < 0.5, 2.0, -1.0) * x[:, 0] + 0.1 * rng.standard_normal(100_000)
    fit = mf.fit(x, y, 2, sample_weight=np.tile([0.0, 1.0], 50_000), n_starts=4, random_state=0)
    np.testing.assert_allclose(np.sort(fit.model.coef[:, 0]), [-1.0, 2.0], atol=0.02)


def test_a_start_in_another_order_of_columns_is_refused(sim):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(sim.X, columns=list("abcd"))
    model = mf.fit(frame, sim.y, 2, n_starts=6, random_state=0).model
    with pytest.raises(ValueError, match=r"model is a model with feature_names \['a', 'b', 'c', 'd'\]"):
        mf.fit_gate(frame[list("dcba")], sim.y, model)


def test_a_start_whose_gate_sees_other_features_is_refused(sim, fitted):
    Z = np.random.default_rng(1).standard_normal((400, 4))
    own = mf.fit(sim.X, sim.y, 2, gate_features=Z, n_starts=6, random_state=0).model
    with pytest.raises(ValueError, match="has features of its own, but gate_features were not given"):
        mf.fit_gate(sim.X, sim.y, own)
    with pytest.raises(ValueError, match="sees X, but gate_features were given"):
        mf.fit_gate(sim.X, sim.y, fitted.model, gate_features=Z)


def test_a_flat_gate_fits_any_gate(sim):
    """The flow fit_spectral, fit_gate, fit_em, for gates of every kind."""
    start = mf.fit_spectral(sim.X, sim.y, 2, random_state=0)
    Z = np.random.default_rng(1).standard_normal((400, 2))
    assert mf.fit_gate(sim.X, sim.y, start.model, gate_features=Z).model.gate_coef.shape == (2, 2)
    assert mf.fit_em(sim.X, sim.y, 2, init=start, gate="constant").model.gate_coef.shape == (2, 0)
    assert mf.fit_em(sim.X, sim.y, 2, init=start, gate_features=Z).converged


@pytest.mark.filterwarnings("ignore::moe_fast.CollinearityWarning")
def test_constant_columns_leave_a_mixture_of_levels():
    rng = np.random.default_rng(0)
    y = np.where(rng.random(300) < 0.4, 1.0, 5.0) + 0.1 * rng.standard_normal(300)
    for init in ("auto", "spectral"):
        fit = mf.fit(np.ones((300, 2)), y, 2, init=init, random_state=0)
        levels = fit.model.intercept + fit.model.coef.sum(axis=1)
        if init == "auto":
            np.testing.assert_allclose(np.sort(levels), [1.0, 5.0], atol=0.05)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_an_activation_that_overflows_somewhere(sim, scale):
    """Kills: an overflow in one step or one start that ends the whole fit."""
    rng = np.random.default_rng(0)
    exponential = mf.Activation("exp", np.exp)
    y = np.where(rng.random(400) < 0.5, np.exp(sim.X[:, 0]), np.exp(-sim.X[:, 1])) + 0.1 * rng.standard_normal(400)
    fit = mf.fit(sim.X, scale * y, 2, activation=exponential, n_starts=11, random_state=0)
    assert np.isfinite(fit.log_likelihood)
    np.testing.assert_allclose(np.sort(np.abs(fit.model.coef).max(axis=1)), [1.0, 1.0], atol=0.1)


def test_a_result_serves_as_a_start(sim, fitted):
    again = mf.fit(sim.X, sim.y, 2, init=fitted)
    assert again.log_likelihood == pytest.approx(fitted.log_likelihood)
    with pytest.raises(TypeError, match=r"or a model \(result.model of a fit\); got 3"):
        mf.fit(sim.X, sim.y, 2, init=3)


def test_kinds_for_linear_experts_are_refused_for_others(sim):
    with pytest.raises(ValueError, match="init='ransac' is for linear experts, got activation sigmoid"):
        mf.fit_em(sim.X, sim.y, 2, activation="sigmoid", init="ransac")


def test_sigmoids_on_a_target_far_from_theirs_converge(sim):
    """A Gauss-Newton step that stalls. Kills: giving up before Newton's method was tried."""
    for seed in range(3):   # another ConvergenceWarning would be an error
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* saturated", mf.ConvergenceWarning)
            assert mf.fit(sim.X, sim.y, 2, activation="sigmoid", n_starts=6, random_state=seed).converged


def test_time_limit_holds_while_starts_are_made(sim):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.ConvergenceWarning)   # it may or may not converge in time
        fit = mf.fit_em(sim.X, sim.y, 2, init="growth", n_init=20_000, time_limit=0.05, random_state=0)
    assert 1 <= len(fit.starts) < 5000


def test_a_gate_too_steep_to_begin_with_keeps_its_borders(sim, fitted):
    """Kills: coefficients clipped one by one, which turns the gate."""
    model = fitted.model
    steep = mf.MixtureOfExperts(
        model.coef, model.intercept, model.gate_coef * 1e8, model.gate_intercept * 1e8, model.noise_std
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.ConvergenceWarning)   # no iteration at all
        start = mf.fit_em(sim.X, sim.y, 2, init=steep, max_iter=0).model
    ratio = start.gate_coef[0] / model.gate_coef[0]
    np.testing.assert_allclose(ratio, ratio[0])
    assert 1.0 < np.abs(ratio[0]) < 1e8
