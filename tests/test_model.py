"""The model against formulas written out with scipy.stats, row by row."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import softmax

from moe_fast import model as model_module
from moe_fast.activations import Activation
from moe_fast.model import MixtureOfExperts, match_experts


def make_model(k=3, d=4, seed=0, **options):
    rng = np.random.default_rng(seed)
    parameters = {
        "coef": rng.normal(size=(k, d)),
        "intercept": rng.normal(size=k),
        "gate_coef": rng.normal(size=(k, d)),
        "gate_intercept": rng.normal(size=k),
        "noise_std": rng.uniform(0.2, 1.0, k),
        "activation": "tanh",
    }
    return MixtureOfExperts(**(parameters | options))


def make_rows(n=50, d=4, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=n)


def joint_density(model, X, y, Z=None):
    """P(z = k | x) N(y | mean_k, noise_std_k), one row and one expert at a time."""
    joint = np.empty((len(X), model.n_experts))
    for i, x in enumerate(X):
        z = x if Z is None else Z[i]
        proba = softmax([w @ z + c for w, c in zip(model.gate_coef, model.gate_intercept, strict=True)])
        for k in range(model.n_experts):
            mean = np.tanh(model.coef[k] @ x + model.intercept[k])
            joint[i, k] = proba[k] * stats.norm.pdf(y[i], mean, model.noise_std[k])
    return joint


@pytest.fixture(params=[50, 7], ids=["one_block", "many_blocks"])
def block_rows(request, monkeypatch):
    monkeypatch.setattr(model_module, "_BLOCK_ROWS", request.param)


# Kills: a wrong sign, a missing normalisation, gate and experts swapped, blocks put in the wrong place.
@pytest.mark.usefixtures("block_rows")
def test_densities_and_means_match_the_formulas():
    model, (X, y) = make_model(), make_rows()
    joint = joint_density(model, X, y)
    np.testing.assert_allclose(model.log_density(X, y), np.log(joint.sum(axis=1)), rtol=1e-12)
    np.testing.assert_allclose(
        model.responsibilities(X, y), joint / joint.sum(axis=1, keepdims=True), rtol=1e-11
    )
    means = np.tanh(X @ model.coef.T + model.intercept)
    proba = softmax(X @ model.gate_coef.T + model.gate_intercept, axis=1)
    np.testing.assert_allclose(model.expert_means(X), means, rtol=1e-13)
    np.testing.assert_allclose(model.gate_proba(X), proba, rtol=1e-12)
    np.testing.assert_allclose(model.predict(X), (proba * means).sum(axis=1), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(model.mixing_weights(X), proba.mean(axis=0), rtol=1e-12)


@pytest.mark.usefixtures("block_rows")
def test_gate_with_features_of_its_own():
    rng = np.random.default_rng(2)
    model = make_model(gate_coef=rng.normal(size=(3, 2)), uses_gate_features=True)
    (X, y), Z = make_rows(), rng.normal(size=(50, 2))
    joint = joint_density(model, X, y, Z)
    assert model.n_gate_features == 2
    log_density, resp = np.log(joint.sum(axis=1)), joint / joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.log_density(X, y, gate_features=Z), log_density, rtol=1e-12)
    np.testing.assert_allclose(model.responsibilities(X, y, gate_features=Z), resp, rtol=1e-11)
    np.testing.assert_allclose(model.log_likelihood(X, y, gate_features=Z), log_density.sum(), rtol=1e-12)


@pytest.mark.parametrize("method", ["predict", "gate_proba", "sample", "ordered", "mixing_weights"])
def test_gate_features_are_asked_for_and_refused(method):
    own = make_model(gate_coef=np.ones((3, 2)), uses_gate_features=True)
    X, _ = make_rows()
    with pytest.raises(ValueError, match="gate_features are needed"):
        getattr(own, method)(X)
    with pytest.raises(ValueError, match="gate has no features of its own"):
        getattr(make_model(), method)(X, gate_features=X)
    with pytest.raises(ValueError, match="gate_features"):
        getattr(own, method)(X, gate_features=np.ones((49, 2)))
    with pytest.raises(ValueError, match="gate_features"):
        getattr(own, method)(X, gate_features=np.ones((50, 3)))


def test_constant_gate_has_no_columns_and_does_not_depend_on_x():
    model = make_model(gate="constant", gate_coef=None, gate_intercept=np.log([0.2, 0.3, 0.5]))
    assert model.gate_coef.shape == (3, 0)
    assert model.n_gate_features == 0
    X, _ = make_rows()
    np.testing.assert_allclose(model.gate_proba(X), np.tile([0.2, 0.3, 0.5], (50, 1)), rtol=1e-14)


# Kills: residuals squared without a bound, log(0), 0/0, inf - inf (warnings are errors here), and a row
# maximum that swallows the logarithm of the sum.
@pytest.mark.parametrize("far", [40.0, 1e8, 1e200, -1e308])
def test_far_tails_stay_finite(far):
    model, (X, _) = make_model(noise_std=[1e-3, 1.0, 1e-5], gate_coef=300 * np.eye(3, 4)), make_rows()
    y = np.full(50, far)
    assert np.isfinite(model.log_density(X, y)).all()
    resp = model.responsibilities(X, y)
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=1e-12)
    assert np.isfinite(model.log_likelihood(X, y))
    if abs(far) < 1e9:   # only the wide expert can have made it
        assert (resp[:, 1] > 0.999).all()


def test_top_k_keeps_the_likeliest_experts_renormalised():
    model, (X, _) = make_model(k=4), make_rows()
    proba, means = model.gate_proba(X), model.expert_means(X)
    rows = np.arange(50)
    np.testing.assert_allclose(model.predict(X, top_k=1), means[rows, proba.argmax(axis=1)], rtol=1e-13)
    kept = proba * (proba >= np.sort(proba, axis=1)[:, [-2]])
    expected = (kept * means).sum(axis=1) / kept.sum(axis=1)
    np.testing.assert_allclose(model.predict(X, top_k=2), expected, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(model.predict(X, top_k=4), model.predict(X), rtol=1e-14)


def test_top_k_gives_ties_to_the_lower_index():
    model = MixtureOfExperts([[1.0], [2.0], [4.0]])   # no gate: all equal
    X = np.array([[1.0]])
    assert model.predict(X, top_k=1)[0] == 1.0
    np.testing.assert_allclose(model.predict(X, top_k=2), 1.5, rtol=1e-15)


@pytest.mark.parametrize("top_k", [0, 4, -1])
def test_top_k_out_of_range_is_refused(top_k):
    with pytest.raises(ValueError, match="top_k"):
        make_model().predict(make_rows()[0], top_k=top_k)


def test_weights_count_rows():
    model, (X, y) = make_model(), make_rows()
    weight = np.tile([2.0, 1.0, 0.0, 3.0, 1.0], 10)
    repeated = np.repeat(np.arange(50), weight.astype(int))
    np.testing.assert_allclose(
        model.log_likelihood(X, y, sample_weight=weight),
        model.log_likelihood(X[repeated], y[repeated]),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        model.mixing_weights(X, sample_weight=weight), model.mixing_weights(X[repeated]), rtol=1e-12
    )
    np.testing.assert_allclose(model.log_likelihood(X, y), model.log_density(X, y).sum(), rtol=1e-13)


# 20 000 rows: five standard errors, so a miss has a chance below 1e-6 per number.
@pytest.mark.statistical
def test_sample_follows_the_model():
    n = 20_000
    model = make_model(noise_std=[0.1, 0.5, 1.0])
    X, _ = make_rows(n)
    y, labels = model.sample(X, 3)
    proba, rows = model.gate_proba(X), np.arange(n)
    for k in range(3):
        for direction in (np.ones(n), X[:, 0], X[:, 1]):   # how many, and where: the draw follows x
            difference = direction @ ((labels == k) - proba[:, k])
            assert abs(difference) < 5 * np.sqrt(direction**2 @ (proba[:, k] * (1 - proba[:, k])))
    noise = (y - model.expert_means(X)[rows, labels]) / model.noise_std[labels]
    for k in range(3):
        assert stats.kstest(noise[labels == k], "norm").pvalue > 1e-4
    assert labels.dtype == np.intp


@pytest.mark.usefixtures("block_rows")
def test_sample_repeats_with_the_seed_whatever_the_blocks():
    model, (X, _) = make_model(), make_rows()
    y, labels = model.sample(X, 5)
    again = model.sample(X, np.random.default_rng(5))
    assert np.array_equal(y, again[0])
    assert np.array_equal(labels, again[1])
    assert not np.array_equal(y, model.sample(X, 6)[0])


def test_sample_never_takes_an_expert_of_probability_zero():
    model = MixtureOfExperts([[0.0], [0.0], [0.0]], gate_intercept=[-1e4, 0.0, -1e4])
    _, labels = model.sample(np.ones((10_000, 1)), 0)
    assert (labels == 1).all()


def test_gate_is_shifted_so_that_its_last_row_is_zero():
    gate_coef, gate_intercept = np.arange(12.0).reshape(3, 4), np.array([1.0, 2.0, 5.0])
    model = make_model(gate_coef=gate_coef, gate_intercept=gate_intercept)
    assert np.array_equal(model.gate_coef, gate_coef - gate_coef[2])
    assert np.array_equal(model.gate_intercept, [-4.0, -3.0, 0.0])
    X, _ = make_rows()
    np.testing.assert_allclose(
        model.gate_proba(X), softmax(X @ gate_coef.T + gate_intercept, axis=1), rtol=1e-11
    )


def test_permute_moves_experts_and_leaves_the_density():
    model, (X, y) = make_model(), make_rows()
    order = [2, 0, 1]
    moved = model.permute(order)
    assert np.array_equal(moved.coef, model.coef[order])
    assert np.array_equal(moved.noise_std, model.noise_std[order])
    assert not moved.gate_coef[-1].any()
    assert moved.gate_intercept[-1] == 0.0
    np.testing.assert_allclose(moved.log_density(X, y), model.log_density(X, y), rtol=1e-12)
    np.testing.assert_allclose(
        moved.responsibilities(X, y), model.responsibilities(X, y)[:, order], rtol=1e-11
    )


@pytest.mark.parametrize("order", [[0, 1], [0, 0, 1], [1, 2, 3], [0.0, 1.0, 2.0], [True, False, True]])
def test_permute_refuses_what_is_no_permutation(order):
    with pytest.raises(ValueError, match="order"):
        make_model().permute(order)


def test_permute_keeps_every_other_attribute():
    model = make_model(
        gate_coef=np.ones((3, 1)),
        uses_gate_features=True,
        feature_names=["a", "b", "c", "d"],
        gate_feature_names=["z"],
        target_name="y",
    )
    assert model.permute([0, 1, 2]) == model


def test_ordered_by_falling_mixing_weight():
    X, _ = make_rows()
    ordered = make_model(k=5).ordered(X)
    weights = ordered.mixing_weights(X)
    assert (np.diff(weights) < 0).all()
    for seed in range(5):   # whatever the order before
        order = np.random.default_rng(seed).permutation(5)
        again = ordered.permute(order).ordered(X)
        assert np.array_equal(again.coef, ordered.coef)
    assert np.array_equal(ordered.documented_order(weights), np.arange(5))


def test_ordered_counts_weights():
    model = MixtureOfExperts([[1.0], [2.0]], gate_coef=[[1.0], [0.0]])
    X = np.array([[-3.0], [1.0]])   # the first expert likes the second row
    assert model.ordered(X).coef[0] == 2.0
    assert model.ordered(X, sample_weight=[0.0, 1.0]).coef[0] == 1.0


def test_ordered_breaks_ties_by_intercept_then_coefficients():
    coef = np.array([[1.0, 5.0], [1.0, 4.0], [0.0, 9.0], [7.0, 7.0]])
    intercept = np.array([2.0, 2.0, 2.0, -1.0])
    X = np.random.default_rng(0).normal(size=(30, 2))
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
        model = MixtureOfExperts(coef[order], intercept[order]).ordered(X)
        assert np.array_equal(model.coef, coef[[3, 2, 1, 0]])


# Kills: comparing the weights as computed. Rows and mirrored rows give both experts 1/2, to rounding.
def test_ordered_takes_weights_equal_to_rounding_for_a_tie():
    X = np.random.default_rng(0).normal(size=(101, 2))
    model = MixtureOfExperts(np.eye(2), [2.0, 1.0], gate_coef=[[0.7, -1.3], [0.0, 0.0]])
    for rows in (np.vstack([X, -X]), np.vstack([-X, X]), np.hstack([X, -X]).reshape(-1, 2)):
        for order in ([0, 1], [1, 0]):
            assert np.array_equal(model.permute(order).ordered(rows).intercept, [1.0, 2.0])


def test_input_kinds_give_the_same_answer():
    model, (X, y) = make_model(), make_rows()
    X = X.astype(np.float32)   # exact in float64 too
    expected = model.log_density(X.astype(np.float64), y)
    for same in (X, np.asfortranarray(X), X.tolist(), pd.DataFrame(X), np.repeat(X, 2, axis=0)[::2]):
        np.testing.assert_allclose(model.log_density(same, y), expected, rtol=1e-12)
    X.flags.writeable = y.flags.writeable = False
    before = X.copy(), y.copy()
    model.log_density(X, y)
    model.sample(X, 0)
    assert np.array_equal(X, before[0])
    assert np.array_equal(y, before[1])


def test_frame_with_other_columns_is_refused():
    model, (X, _) = make_model(feature_names=["a", "b", "c", "d"]), make_rows()
    expected = model.predict(X)
    assert np.array_equal(model.predict(pd.DataFrame(X, columns=list("abcd"))), expected)
    with pytest.raises(ValueError, match=r"X has columns .*'b', 'a'.* takes"):
        model.predict(pd.DataFrame(X, columns=list("bacd")))


def test_wrong_rows_are_refused():
    model, (X, y) = make_model(), make_rows()
    with pytest.raises(ValueError, match="X"):
        model.predict(X[:, :3])
    with pytest.raises(ValueError, match="y"):
        model.log_density(X, y[:-1])
    with pytest.raises(ValueError, match="sample_weight"):
        model.log_likelihood(X, y, sample_weight=-np.ones(50))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"coef": np.ones(3)}, ValueError, r"coef has shape \(3,\)"),
        ({"coef": np.ones((3, 0))}, ValueError, r"coef has shape \(3, 0\)"),
        ({"coef": [[1.0], [1.0, 2.0]]}, ValueError, "coef is not a rectangular"),
        ({"coef": [["a"]]}, TypeError, "coef must hold real numbers"),
        ({"coef": np.ones((3, 4), complex)}, TypeError, "coef must hold real numbers"),
        ({"coef": np.full((3, 4), np.nan)}, ValueError, "coef has 12 values that are NaN"),
        ({"intercept": np.ones(2)}, ValueError, r"intercept has shape \(2,\), expected \(3,\)"),
        ({"gate_coef": np.ones((2, 4))}, ValueError, r"gate_coef has shape \(2, 4\), expected \(3, 4\)"),
        ({"gate_coef": np.ones((3, 2))}, ValueError, r"expected \(3, 4\) = \(n_experts, n_gate_features\)"),
        ({"gate_coef": np.ones(3), "uses_gate_features": True}, ValueError, r"gate_coef has shape \(3,\)"),
        ({"gate_coef": None, "uses_gate_features": True}, ValueError, "gate_coef is missing"),
        ({"gate_coef": np.ones((3, 0)), "uses_gate_features": True}, ValueError, r"expected \(3, 1\)"),
        ({"uses_gate_features": True, "gate": "constant"}, ValueError, "uses_gate_features"),
        ({"uses_gate_features": "yes"}, TypeError, "uses_gate_features"),
        ({"gate": "constant"}, ValueError, r"gate_coef .*expected \(3, 0\)"),
        ({"gate": "softmaks"}, ValueError, "softmax"),
        ({"gate_intercept": [0.0, np.inf, 0.0]}, ValueError, "gate_intercept has 1 values"),
        ({"noise_std": 0.0}, ValueError, "noise_std must be positive"),
        ({"noise_std": [1.0, -1.0, 1.0]}, ValueError, "noise_std must be positive"),
        ({"noise_std": [1.0, 1.0]}, ValueError, "noise_std has shape"),
        ({"activation": "tahn"}, ValueError, "tanh"),
        ({"feature_names": ["a"]}, ValueError, "feature_names must be 4"),
        ({"feature_names": "abcd"}, ValueError, "feature_names must be 4"),
        ({"feature_names": [1, 2, 3, 4]}, ValueError, "feature_names must be 4"),
        ({"gate_feature_names": ["a", "b", "c", "d"]}, ValueError, "gate_feature_names were given"),
        ({"target_name": 3}, TypeError, "target_name"),
    ],
)
def test_wrong_parameters_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        make_model(**options)


def test_parameters_are_copied_and_read_only():
    coef = np.ones((2, 3))
    model = MixtureOfExperts(coef)
    coef[0, 0] = 9.0
    assert model.coef[0, 0] == 1.0
    for copy in (model, pickle.loads(pickle.dumps(model))):
        assert copy == model
        for name in ("coef", "intercept", "gate_coef", "gate_intercept", "noise_std"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(copy, name)[...] = 0.0
        with pytest.raises(AttributeError):
            copy.coef = coef


def test_defaults():
    model = MixtureOfExperts([[1, 2], [3, 4]], noise_std=2)
    assert model.coef.dtype == np.float64
    assert not model.intercept.any()
    assert not model.gate_coef.any()
    assert model.gate_coef.shape == (2, 2)
    assert np.array_equal(model.noise_std, [2.0, 2.0])
    assert model.activation.name == "linear"


def test_equality_and_repr():
    assert make_model() == make_model()
    assert make_model() != make_model(seed=1)
    assert make_model() != make_model(activation="relu")
    assert make_model() != make_model(target_name="y")
    assert make_model() != "a model"
    assert repr(make_model()) == (
        "MixtureOfExperts(n_experts=3, n_features=4, activation='tanh', gate='softmax')"
    )


def test_activation_of_the_users_own():
    softsign = Activation("softsign", lambda t: t / (1 + np.abs(t)))
    model, (X, _) = make_model(activation=softsign), make_rows()
    t = X @ model.coef.T + model.intercept
    np.testing.assert_allclose(model.expert_means(X), t / (1 + np.abs(t)), rtol=1e-13)


def test_match_experts_finds_the_permutation():
    model = make_model(k=6)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(6)
        moved = model.permute(order)
        assert np.array_equal(model.coef[match_experts(model, moved)], moved.coef)
        assert np.array_equal(model.coef[match_experts(model.coef, moved.coef)], moved.coef)
        assert np.array_equal(model.coef[match_experts(model, moved.coef)], moved.coef)


def test_match_experts_is_optimal_not_greedy():
    # The nearest pair, a[1] and b[0], is not in the best pairing: 2.25 + 9 against 0.25 + 25.
    assert np.array_equal(match_experts([[0.0], [2.0]], [[1.5], [5.0]]), [0, 1])


def test_match_experts_uses_intercepts_of_models():
    a = MixtureOfExperts([[1.0], [1.0]], [0.0, 5.0])
    b = MixtureOfExperts([[1.0], [1.0]], [5.0, 0.0])
    assert np.array_equal(match_experts(a, b), [1, 0])


def test_match_experts_refuses_other_shapes():
    with pytest.raises(ValueError, match="differ in shape"):
        match_experts(np.ones((2, 3)), np.ones((3, 3)))
