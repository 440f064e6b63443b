"""Simulated data: sizes, norms, angles, laws, and the same data for the same seed."""

import numpy as np
import pytest
from scipy import stats

from moe_fast.simulate import make_moe


def norms(rows):
    return np.linalg.norm(rows, axis=1)


def test_defaults_are_the_setting_of_the_theory():
    sim = make_moe(random_state=0)
    model = sim.model
    assert sim.X.shape == (1000, 5)
    assert sim.X.dtype == sim.y.dtype == np.float64
    assert sim.y.shape == sim.labels.shape == (1000,)
    assert model.activation.name == "linear"
    assert np.array_equal(model.noise_std, [0.1, 0.1, 0.1])
    np.testing.assert_allclose(norms(model.coef), 1.0, rtol=1e-14)
    np.testing.assert_allclose(norms(model.gate_coef[:2]), 1.0, rtol=1e-14)
    assert not model.gate_coef[2].any()
    assert not model.intercept.any()
    assert not model.gate_intercept.any()
    np.testing.assert_allclose(model.gate_coef @ model.coef.T, 0.0, atol=1e-14)
    assert np.abs(model.coef @ model.coef.T - np.eye(3)).max() > 0.1   # experts are not orthogonal
    assert set(sim.labels) == {0, 1, 2}


def test_targets_come_from_the_labelled_experts():
    sim = make_moe(4000, 6, 3, activation="relu", noise_std=[0.1, 0.2, 0.4], intercept=1.0, random_state=1)
    means = sim.model.expert_means(sim.X)[np.arange(4000), sim.labels]
    noise = (sim.y - means) / sim.model.noise_std[sim.labels]
    assert stats.kstest(noise, "norm").pvalue > 1e-4
    assert sim.model.activation.name == "relu"


def test_norms_angles_and_intercepts_as_asked():
    sim = make_moe(
        50, 9, 4, expert_norms=[1, 2, 3, 4], gate_norm=3.0, orthogonal_experts=True, orthogonal_gate=True,
        intercept=2.0, gate_intercept=0.5, random_state=2,
    )
    model = sim.model
    np.testing.assert_allclose(norms(model.coef), [1, 2, 3, 4], rtol=1e-14)
    np.testing.assert_allclose(norms(model.gate_coef), [3, 3, 3, 0], rtol=1e-14)
    np.testing.assert_allclose(model.coef @ model.coef.T, np.diag([1, 4, 9, 16]), atol=1e-13)
    np.testing.assert_allclose(model.gate_coef @ model.coef.T, 0.0, atol=1e-13)
    assert model.intercept.all()
    assert model.gate_intercept[:3].all()
    np.testing.assert_allclose(norms(make_moe(5, expert_norms=2.5).model.coef), 2.5, rtol=1e-14)


# A Kolmogorov-Smirnov test each: a new seed misses with a chance of 2e-4.
@pytest.mark.statistical
def test_intercepts_have_the_spread_asked_for():
    options = {"orthogonal_gate": False, "intercept": 2.0, "gate_intercept": 0.5}
    model = make_moe(5, 3, 400, **options, random_state=3).model
    assert stats.kstest(model.intercept / 2.0, "norm").pvalue > 1e-4
    assert stats.kstest(model.gate_intercept[:-1] / 0.5, "norm").pvalue > 1e-4


@pytest.mark.parametrize("norm", [0.0, 1.0])
def test_free_gate_is_not_orthogonal_and_may_be_blind(norm):
    model = make_moe(5, 4, 2, gate_norm=norm, orthogonal_gate=False, random_state=4).model
    assert (np.abs(model.gate_coef @ model.coef.T).max() > 1e-3) == (norm > 0)
    np.testing.assert_allclose(norms(model.gate_coef), [norm, 0.0], rtol=1e-14)


@pytest.mark.statistical
def test_inputs_have_the_mean_and_covariance_asked_for():
    mean, cov = np.array([1.0, -2.0, 5.0]), np.array([[2.0, 0.9, 0.0], [0.9, 1.0, -0.3], [0.0, -0.3, 0.5]])
    n = 40_000
    X = make_moe(n, 3, 2, mean=mean, cov=cov, random_state=5).X
    assert (np.abs(X.mean(axis=0) - mean) < 5 * np.sqrt(np.diag(cov) / n)).all()
    spread = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / n)
    assert (np.abs(np.cov(X.T) - cov) < 5 * spread).all()
    standard = make_moe(n, 3, 2, random_state=5).X
    np.testing.assert_allclose(make_moe(n, 3, 2, mean=mean, random_state=5).X, standard + mean, rtol=1e-14)


def test_same_seed_same_data():
    first, again, other = (make_moe(random_state=seed) for seed in (7, np.random.default_rng(7), 8))
    assert first.model == again.model
    for name in ("X", "y", "labels"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))
    noise = [sim.y - sim.model.expert_means(sim.X)[np.arange(1000), sim.labels] for sim in (first, other)]
    assert abs(np.corrcoef(noise)[0, 1]) < 0.2   # six standard errors


def test_float32_rows_are_the_float64_rows_rounded():
    single, double = make_moe(dtype=np.float32, random_state=9), make_moe(random_state=9)
    assert single.X.dtype == np.float32
    assert single.model == double.model
    assert np.array_equal(single.X, double.X.astype(np.float32))
    # The targets belong to the rounded rows: only with those is the noise the double rows' noise.
    rows = np.flatnonzero(single.labels == double.labels)
    noise_of = {
        sim.X.dtype: (sim.y - sim.model.expert_means(sim.X)[np.arange(1000), sim.labels])[rows]
        for sim in (single, double)
    }
    np.testing.assert_allclose(noise_of[np.dtype("f4")], noise_of[np.dtype("f8")], atol=1e-14)


def test_one_expert_and_one_feature():
    sim = make_moe(20, 1, 1, random_state=0)
    assert abs(sim.model.coef[0, 0]) == 1.0
    assert not sim.labels.any()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, "n_samples"),
        ({"n_features": 2.5}, TypeError, "n_features"),
        ({"n_experts": 0}, ValueError, "n_experts"),
        ({"n_features": 3}, ValueError, r"orthogonal_gate=True needs n_features > n_experts, got 3 and 3"),
        (
            {"n_features": 2, "orthogonal_experts": True, "orthogonal_gate": False},
            ValueError,
            "orthogonal_experts=True needs n_features >= n_experts, got 2 and 3",
        ),
        ({"gate_norm": -1.0}, ValueError, "gate_norm"),
        ({"gate_norm": "one"}, TypeError, "gate_norm"),
        ({"intercept": np.inf}, ValueError, "intercept"),
        ({"gate_intercept": True}, TypeError, "gate_intercept"),
        ({"noise_std": 0.0}, ValueError, "noise_std"),
        ({"noise_std": [0.1, 0.1]}, ValueError, "noise_std"),
        ({"expert_norms": [1.0, 2.0]}, ValueError, "expert_norms"),
        ({"expert_norms": -1.0}, ValueError, "expert_norms"),
        ({"activation": "rleu"}, ValueError, "relu"),
        ({"dtype": np.int64}, ValueError, "dtype"),
        ({"mean": [0.0]}, ValueError, "mean"),
        ({"cov": np.eye(4)}, ValueError, "cov"),
        ({"cov": np.eye(5) + np.eye(5, k=1)}, ValueError, "cov must be symmetric"),
        ({"cov": np.diag([1.0, 1, 1, 1, -2])}, ValueError, "cov must be positive definite.* -2"),
    ],
)
def test_wrong_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        make_moe(**options)
