"""Does `fit_spectral` find the experts without knowing the gate, under the laws of x it is made for?"""

import tracemalloc
import warnings

import numpy as np
import pytest

import moe_fast as mf
from moe_fast import reference
from moe_fast.activations import get_activation, label_transform
from moe_fast.design import Design
from moe_fast.inputs import StandardNormal
from moe_fast.moments import Polynomial, Score, second_moment, whitened_third_moment
from moe_fast.rows import Rows
from moe_fast.starts import make_start

ACTIVATIONS = ["linear", "sigmoid", "tanh", "relu", "leaky_relu"]


def squared_error(coef, truth):
    """Mean over experts of the squared error, experts matched."""
    return np.mean(np.sum((coef[mf.match_experts(coef, truth)] - truth) ** 2, axis=1))


# ---- moments against their population values ----


def moment_errors(activation, n_samples, seeds):
    """Errors of T2 and of T3 seen through the experts' span, from c2 sum p a a and c3 sum p a a a, one a seed."""
    model = mf.make_moe(1, 6, 3, activation=activation, random_state=0).model
    transform = label_transform(get_activation(activation))
    a, p = model.coef, model.mixing_weights(np.random.default_rng(0).standard_normal((400_000, 6)))
    directions = np.linalg.qr(a.T)[0]
    seen = a @ directions
    want = transform.c2 * np.einsum("i,ia,ib->ab", p, a, a), transform.c3 * np.einsum("i,ia,ib,ic->abc", p, *[seen] * 3)
    errors = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((n_samples, 6))
        rows = Rows.check(X, model.sample(X, rng)[0])
        score = Score.of(StandardNormal(6), rows)
        quadratic = Polynomial.centred(rows, transform.gamma, 1.0, 0.0)
        cubic = Polynomial.centred(rows, transform.beta(0.1), transform.alpha, 1.0)
        got = second_moment(rows, quadratic, score), whitened_third_moment(rows, cubic, score, directions)
        for error, value, wanted in zip(errors, got, want, strict=True):
            error.append((value - wanted) / np.linalg.norm(wanted))
    return errors


def mean_norm(errors):
    return np.mean([np.linalg.norm(error) for error in errors])


@pytest.mark.statistical
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_moments_approach_their_formulas_like_one_over_root_n(activation):
    """64 times the rows, an eighth of the error. Kills: any wrong coefficient, a missing Hermite term.

    ReLU's third moment has tails so heavy that few rows do not show them: 4 to 8 there. The errors of 12 seeds are
    independent: their mean has 0.29 times the size of one, 0.6 is allowed, and a bias would stay.
    """
    seeds = range(12)
    few, many = moment_errors(activation, 2000, seeds), moment_errors(activation, 128_000, seeds)
    for some, more in zip(few, many, strict=True):
        assert 3.5 < mean_norm(some) / mean_norm(more) < 12.0
        assert np.linalg.norm(np.mean(more, axis=0)) < 0.6 * mean_norm(more)


# ---- the experts ----


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("activation", "plain", "refined"),
    [("linear", 200.0, 75.0), ("tanh", 150.0, 75.0), ("sigmoid", 260.0, 125.0), ("relu", 1300.0, 400.0)],
)
def test_recovers_the_experts(activation, plain, refined):
    """n times the mean squared error at k=3, d=10, noise 0.1: medians of 20 seeds, and none far off.

    Measured here: 166, 123, 214, 1090, and refined 60, 54, 91, 320. Kills: one wrong coefficient or derivative.
    """
    n_samples = 20_000
    errors = {0: [], 2: []}
    for seed in range(20):
        sim = mf.make_moe(n_samples, 10, 3, activation=activation, orthogonal_experts=True, random_state=seed)
        for n_refinements, found in errors.items():
            result = mf.fit_spectral(
                sim.X, sim.y, 3, activation=activation, n_refinements=n_refinements, random_state=seed
            )
            found.append(n_samples * squared_error(result.coef, sim.model.coef))
            np.testing.assert_allclose(np.linalg.norm(result.coef, axis=1), 1.0, rtol=1e-12)
    for n_refinements, constant in ((0, plain), (2, refined)):
        assert np.median(errors[n_refinements]) < constant
        assert np.max(errors[n_refinements]) < 5.0 * constant


@pytest.mark.parametrize("n_refinements", [0, 2])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_is_the_references_estimate(activation, n_refinements):
    """Kills: a whitener, a transform or a derivative that differs from plain numpy's, weights left out.

    Signs and order are determined. 30 000 rows: more than the variances of the moments are taken from.
    """
    sim = mf.make_moe(30_000, 6, 3, activation=activation, orthogonal_experts=True, random_state=1)
    weight = np.random.default_rng(0).uniform(0.5, 1.5, 30_000)
    options = {"activation": activation, "noise_std": 0.1, "sample_weight": weight}
    found = mf.fit_spectral(sim.X, sim.y, 3, n_refinements=n_refinements, random_state=0, **options)
    want = reference.spectral_start(sim.X, sim.y, 3, n_refinements=n_refinements, rng=0, **options)
    order = mf.match_experts(want.coef, found.coef)
    np.testing.assert_allclose(found.coef, want.coef[order], atol=1e-8)
    np.testing.assert_allclose(found.eigenvalues, want.eigenvalues, rtol=1e-9)
    shares = want.mixing_weights[order] / want.mixing_weights.sum()
    np.testing.assert_allclose(found.mixing_weights, shares, rtol=1e-7)


@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize(("k", "d"), [(1, 1), (1, 4), (2, 2), (3, 3), (4, 6)])
def test_refinements_of_other_sizes_are_the_references(k, d, unit_norm):
    """No space outside the span, one expert, free norms, sigma unknown. Kills: a shape that fits k < d only."""
    sim = mf.make_moe(3000, d, k, orthogonal_gate=d > k, expert_norms=None if unit_norm else 2.0, random_state=0)
    found = mf.fit_spectral(sim.X, sim.y, k, unit_norm=unit_norm, random_state=0)
    want = reference.spectral_start(sim.X, sim.y, k, unit_norm=unit_norm, rng=0)
    order = mf.match_experts(want.coef, found.coef)
    np.testing.assert_allclose(found.coef, want.coef[order], atol=1e-7)
    assert squared_error(found.coef, sim.model.coef) < 0.2 * (1.0 if unit_norm else 4.0)


def test_refinements_take_little_memory():
    """A quarter of X at most. Kills: a temporary with a row for every sample and a column for every moment."""
    sim = mf.make_moe(200_000, 20, 3, random_state=0)
    tracemalloc.start()
    try:
        mf.fit_spectral(sim.X, sim.y, 3, n_threads=1, random_state=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < sim.X.nbytes / 4


def test_mixing_weights_noise_and_order():
    sim = mf.make_moe(
        200_000, 6, 2, gate_norm=0.5, gate_intercept=1.5, noise_std=0.5, orthogonal_experts=True, random_state=3
    )
    found = mf.fit_spectral(sim.X, sim.y, 2, random_state=0)
    shares = np.sort(np.bincount(sim.labels) / 200_000)[::-1]
    np.testing.assert_allclose(found.mixing_weights, shares, atol=0.05)
    assert found.mixing_weights.sum() == pytest.approx(1.0)
    assert (np.diff(found.mixing_weights) <= 0.0).all()
    assert found.noise_std == pytest.approx(0.5, abs=0.03)
    assert found.eigenvalues.shape == (6,)
    assert found.tensor_eigenvalues.shape == (2,)
    assert found.residual < 0.2
    np.testing.assert_array_equal(found.model.coef, found.coef)
    assert not found.model.gate_coef.any()


def test_noise_std_given_is_kept_and_used():
    """A wrong noise spoils tanh's transform. Kills: a noise that is read and forgotten."""
    sim = mf.make_moe(50_000, 5, 2, activation="tanh", noise_std=1.0, random_state=0)
    right = mf.fit_spectral(sim.X, sim.y, 2, activation="tanh", noise_std=1.0, random_state=0)
    wrong = mf.fit_spectral(sim.X, sim.y, 2, activation="tanh", noise_std=0.1, random_state=0)
    assert right.noise_std == 1.0
    assert squared_error(right.coef, sim.model.coef) < squared_error(wrong.coef, sim.model.coef) / 2


@pytest.mark.parametrize("scale", [0.01, 2.5, 1000.0])
def test_a_common_norm_of_linear_experts_is_of_no_account(scale):
    """P3 has the mean square of y in it, not the one of unit experts. Kills: beta = -3 and no more."""
    sim = mf.make_moe(20_000, 5, 2, orthogonal_experts=True, random_state=0)
    one = mf.fit_spectral(sim.X, sim.y, 2, random_state=0)
    other = mf.fit_spectral(sim.X, scale * sim.y, 2, random_state=0)
    np.testing.assert_allclose(other.coef, one.coef, atol=1e-8)


def test_norms_are_estimated_when_not_fixed():
    """unit_norm=False, gate blind to x: equal norms come out. Kills: a normalisation that is always done."""
    sim = mf.make_moe(
        100_000, 5, 2, expert_norms=2.5, gate_norm=0.0, orthogonal_experts=True, noise_std=0.3, random_state=0
    )
    found = mf.fit_spectral(sim.X, sim.y, 2, unit_norm=False, random_state=0)
    np.testing.assert_allclose(np.linalg.norm(found.coef, axis=1), 2.5, rtol=0.1)
    assert squared_error(found.coef, sim.model.coef) < 0.05
    fixed = mf.fit_spectral(sim.X, sim.y, 2, random_state=0)
    np.testing.assert_allclose(np.linalg.norm(fixed.coef, axis=1), 1.0, rtol=1e-12)


def test_the_start_of_linear_experts_has_one_norm():
    """Estimated, the same for all. Kills: a norm each, which few rows do not tell; a norm of one whatever y's scale."""
    sim = mf.make_moe(2000, 5, 3, expert_norms=2.5, orthogonal_experts=True, random_state=0)
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    experts = design.model(make_start("spectral", design, 3, np.random.default_rng(0))).coef
    norms = np.sqrt(np.diag(experts @ np.cov(sim.X.T, ddof=0) @ experts.T))   # in standardised inputs
    np.testing.assert_allclose(norms, norms[0], rtol=1e-6)
    assert norms[0] == pytest.approx(2.5, rel=0.1)


@pytest.mark.parametrize("activation", ACTIVATIONS[1:])
def test_norms_of_other_activations_are_fixed(activation):
    sim = mf.make_moe(100, 4, 2, random_state=0)
    with pytest.raises(ValueError, match=f"unit_norm=False is for the linear activation only.*{activation}"):
        mf.fit_spectral(sim.X, sim.y, 2, activation=activation, unit_norm=False)


def test_a_users_own_activation():
    own = mf.Activation("arctan", np.arctan)
    sim = mf.make_moe(50_000, 5, 2, activation=own, random_state=0)
    found = mf.fit_spectral(sim.X, sim.y, 2, activation=own, random_state=0)
    assert squared_error(found.coef, sim.model.coef) < 0.02


# ---- the law of x ----


def sheared(seed=0, n_features=5):
    """A mean and a covariance whose symmetric root is at hand."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((n_features, n_features))
    root = root @ root.T + 0.5 * np.eye(n_features)
    return rng.standard_normal(n_features) * 3.0, root


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_known_gaussian_inputs_are_standardised(activation):
    """The same numbers as on standardised x, mapped back. Kills: a root used for its inverse, a lost mean."""
    sim = mf.make_moe(20_000, 5, 2, activation=activation, orthogonal_experts=True, random_state=0)
    mean, root = sheared()
    X = sim.X @ root + mean
    want = mf.fit_spectral(sim.X, sim.y, 2, activation=activation, random_state=0)
    law = mf.Gaussian(mean, root @ root)
    found = mf.fit_spectral(X, sim.y, 2, activation=activation, inputs=law, random_state=0)
    np.testing.assert_allclose(found.coef @ root, want.coef, atol=1e-6)
    np.testing.assert_allclose(found.intercept, -found.coef @ mean, rtol=1e-12)
    np.testing.assert_allclose(found.model.expert_means(X), want.model.expert_means(sim.X), atol=1e-5)


def test_unknown_gaussian_inputs_are_estimated():
    sim = mf.make_moe(50_000, 5, 2, orthogonal_experts=True, random_state=0)
    mean, root = sheared()
    X = sim.X @ root + mean
    found = mf.fit_spectral(X, sim.y, 2, inputs="gaussian", random_state=0)
    assert squared_error(found.coef @ root, sim.model.coef) < 0.02
    np.testing.assert_allclose(found.intercept, -found.coef @ X.mean(axis=0), rtol=1e-6, atol=1e-9)
    # The theory's own law does not hold here: taken for standard normal, the experts are lost.
    with pytest.warns(UserWarning, match=r"standard deviation 2\.\d+: use inputs='gaussian'"):
        lost = mf.fit_spectral(sim.X @ root, sim.y, 2, random_state=0)
    assert squared_error(lost.coef @ root, sim.model.coef) > 0.2


def test_a_mixture_of_one_component_is_a_gaussian():
    sim = mf.make_moe(5000, 5, 2, random_state=0)
    mean, root = sheared()
    X, cov = sim.X @ root + mean, root @ root
    options = {"n_refinements": 0, "random_state": 0}   # they are for one normal law
    one = mf.fit_spectral(X, sim.y, 2, inputs=mf.Gaussian(mean, cov), **options)
    same = mf.fit_spectral(X, sim.y, 2, inputs=mf.GaussianMixture([1.0], [mean], [cov]), **options)
    twice = mf.GaussianMixture([0.3, 0.7], [mean, mean], [cov, cov])
    also = mf.fit_spectral(X, sim.y, 2, inputs=twice, **options)
    np.testing.assert_allclose(same.coef, one.coef, atol=1e-8)
    np.testing.assert_allclose(also.coef, one.coef, atol=1e-8)


def mixture_data(n_samples=60_000, seed=0):
    """x from two components of unequal spread, linear experts, a gate orthogonal to them."""
    rng = np.random.default_rng(seed)
    means = np.array([[1.0, 0.0, 0.5, 0.0], [-1.0, 0.0, -0.5, 0.0]])
    covariances = np.array([0.5 * np.eye(4), 1.5 * np.eye(4)])
    part = rng.integers(2, size=n_samples)
    X = means[part] + rng.standard_normal((n_samples, 4)) * np.sqrt([0.5, 1.5])[part, None]
    law = mf.GaussianMixture([0.5, 0.5], means, covariances)
    model = mf.MixtureOfExperts(np.eye(4)[:2], gate_coef=[[0, 0, 0, 1.0], [0] * 4], noise_std=0.1)
    return X, model.sample(X, seed)[0], model, law


def angle(found, truth):
    """Largest sine between an expert and the expert it is matched with."""
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    truth = truth / np.linalg.norm(truth, axis=1, keepdims=True)
    cosine = np.sum(found[mf.match_experts(found, truth)] * truth, axis=1)
    return np.sqrt(1.0 - np.minimum(cosine, 1.0) ** 2).max()


@pytest.mark.statistical
def test_mixture_inputs():
    """The scores of the mixture find directions that those of one normal law miss. A start: within 0.35."""
    X, y, model, law = mixture_data()
    found = mf.fit_spectral(X, y, 2, inputs=law, random_state=0)
    one = mf.fit_spectral(X, y, 2, inputs="gaussian", random_state=0)
    assert angle(found.coef, model.coef) < 0.35
    assert angle(found.coef, model.coef) < angle(one.coef, model.coef)
    best = mf.fit_em(X, y, 2, init=found.model)
    assert best.log_likelihood == pytest.approx(mf.fit_em(X, y, 2, init=model).log_likelihood, abs=1e-2)


def test_mixture_inputs_are_not_refined():
    """Refinements take the scores of one normal law: they doubled the angle here. Kills: refining all the same."""
    X, y, _, law = mixture_data(10_000)
    one, other = (mf.fit_spectral(X, y, 2, inputs=law, n_refinements=n, random_state=0) for n in (0, 2))
    np.testing.assert_array_equal(one.coef, other.coef)


def test_mixture_inputs_are_fitted():
    pytest.importorskip("sklearn")
    X, y, model, _ = mixture_data(10_000)
    found = mf.fit_spectral(X, y, 2, inputs="mixture", random_state=0)
    assert angle(found.coef, model.coef) < 0.5


# ---- what it refuses, and what it warns of ----


@pytest.mark.parametrize(
    ("name", "g", "reason"),
    [
        ("square", lambda t: t * t, "g(-t) = g(t)"),
        ("absolute", np.abs, "g(-t) = g(t)"),
        ("cosine", np.cos, "g(-t) = g(t)"),
        ("sign", np.sign, "takes 2 values only"),
    ],
)
def test_an_activation_without_a_transform_is_refused_by_name_and_reason(name, g, reason):
    sim = mf.make_moe(200, 4, 2, random_state=0)
    with pytest.raises(ValueError) as error:
        mf.fit_spectral(sim.X, sim.y, 2, activation=mf.Activation(name, g))
    assert name in str(error.value)
    assert reason in str(error.value)


def test_too_few_rows_are_warned_of_with_the_eigenvalues():
    """And what comes back is still a start. Kills: a warning that is never given."""
    sim = mf.make_moe(60, 20, 3, noise_std=0.5, random_state=0)
    with pytest.warns(UserWarning, match=r"no 3 clear eigenvalues \(the largest: \d.*with 60 rows") as warned:
        found = mf.fit_spectral(sim.X, sim.y, 3, random_state=0)
    first = f"{found.eigenvalues[0]:.3g}"
    assert first in str(warned[0].message)
    assert np.isfinite(found.coef).all()
    assert np.isfinite(found.noise_std)
    with pytest.warns(mf.ConvergenceWarning, match="experts 2, 3 hold fewer rows than they have"):   # 60 for 3 x 21 + 1
        mf.fit_em(sim.X, sim.y, 3, init=found.model, noise="shared", max_iter=3, callback=lambda s: s.iteration == 3)


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (0.3, 0.0), (1.0, -1.0), (1.0, 1.0)])
def test_inputs_that_are_not_standard_normal_are_warned_of(scale, shift):
    """Kills: a bound on one side alone, a mean whose sign counts, the first column named for another."""
    sim = mf.make_moe(3000, 5, 2, random_state=0)
    X = sim.X.copy()
    X[:, 2] = scale * X[:, 2] + shift
    with pytest.warns(UserWarning, match=r"takes X as N\(0, I\), but its column 2 .*use inputs='gaussian'") as warned:
        mf.fit_spectral(X, sim.y, 2, random_state=0)
    assert warned[0].filename == __file__
    mf.fit_spectral(X, sim.y, 2, inputs="gaussian", random_state=0)


def test_few_standard_normal_rows_are_not_warned_of():
    """Kills: bounds without chance."""
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        for seed in range(40):
            sim = mf.make_moe(6, 2, 1, random_state=seed)
            mf.fit_spectral(sim.X, sim.y, 1, random_state=0)
    assert not any("standard_normal" in str(warning.message) for warning in given)


def test_columns_whose_moments_overflow_are_refused_by_name():
    sim = mf.make_moe(500, 4, 2, random_state=0)
    with pytest.raises(ValueError, match=r"but its column 0 .* standard deviation .*e\+30: use inputs='gaussian'"):
        mf.fit_spectral(1e30 * sim.X, sim.y, 2, random_state=0)
    assert np.isfinite(mf.fit_spectral(1e30 * sim.X, sim.y, 2, inputs="gaussian", random_state=0).coef).all()


def test_an_expert_too_many_is_warned_of():
    sim = mf.make_moe(20_000, 8, 2, random_state=0)
    mf.fit_spectral(sim.X, sim.y, 2, random_state=0)
    with pytest.warns(UserWarning, match="no 4 clear eigenvalues"):
        mf.fit_spectral(sim.X, sim.y, 4, random_state=0)


def test_more_experts_than_features_are_refused():
    sim = mf.make_moe(200, 3, 2, random_state=0)
    with pytest.raises(ValueError, match=r"n_experts = 4 is more than the n_features = 3.*use fit or fit_em"):
        mf.fit_spectral(sim.X, sim.y, 4)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"inputs": "gausian"}, ValueError, "did you mean 'gaussian'"),
        ({"noise_std": -1.0}, ValueError, "noise_std must be above 0 and below"),
        ({"noise_std": "shared"}, TypeError, "noise_std must be a positive number"),
        ({"n_restarts": 0}, ValueError, "n_restarts must be at least 1"),
        ({"n_refinements": -1}, ValueError, "n_refinements must be at least 0"),
        ({"n_power_iter": 1.5}, TypeError, "n_power_iter must be an integer"),
        ({"activation": "reul"}, ValueError, "did you mean 'relu'"),
        ({"inputs": mf.Gaussian(np.zeros(3), np.eye(3))}, ValueError, "features"),
        ({"sample_weight": -np.ones(100)}, ValueError, "sample_weight has 100 negative values"),
    ],
)
def test_bad_options_are_refused(options, error, words):
    sim = mf.make_moe(100, 4, 2, random_state=0)
    with pytest.raises(error, match=words):
        mf.fit_spectral(sim.X, sim.y, 2, **options)


def test_constant_columns_are_refused_for_gaussian_inputs():
    """There is no covariance to standardise by; it says what to do."""
    sim = mf.make_moe(100, 4, 2, random_state=0)
    X = np.column_stack([sim.X, np.ones(100)])
    with pytest.raises(ValueError, match="constant or linearly dependent columns"):
        mf.fit_spectral(X, sim.y, 2, inputs="gaussian")


# ---- weights, types, bits ----


def test_weight_two_is_the_row_twice():
    sim = mf.make_moe(3000, 4, 2, random_state=0)
    weight = np.random.default_rng(0).integers(0, 3, 3000).astype(float)
    rows = np.repeat(np.arange(3000), weight.astype(int))
    for inputs in ("standard_normal", "gaussian"):
        weighted = mf.fit_spectral(sim.X, sim.y, 2, sample_weight=weight, inputs=inputs, random_state=0)
        repeated = mf.fit_spectral(sim.X[rows], sim.y[rows], 2, inputs=inputs, random_state=0)
        np.testing.assert_allclose(weighted.coef, repeated.coef, atol=1e-9)
        np.testing.assert_allclose(weighted.mixing_weights, repeated.mixing_weights, rtol=1e-9)
        assert weighted.noise_std == pytest.approx(repeated.noise_std, rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_same_seed_same_bits_for_any_number_of_threads(dtype):
    sim = mf.make_moe(200_000, 6, 3, dtype=dtype, random_state=0)   # several pieces for each thread
    bits = {
        mf.fit_spectral(sim.X, sim.y, 3, random_state=7, n_threads=n_threads).coef.tobytes()
        for n_threads in (1, 2, 3, 1)
    }
    assert len(bits) == 1


def test_float32_is_close_to_float64():
    sim = mf.make_moe(20_000, 6, 3, random_state=0)
    wide = mf.fit_spectral(sim.X, sim.y, 3, random_state=0)
    narrow = mf.fit_spectral(sim.X.astype(np.float32), sim.y, 3, random_state=0)
    np.testing.assert_allclose(narrow.coef, wide.coef, atol=1e-5)


def test_inputs_are_never_written_to():
    sim = mf.make_moe(500, 4, 2, random_state=0)
    X, y, weight = sim.X.copy(), sim.y.copy(), np.ones(500)
    for array in (X, y, weight):
        array.flags.writeable = False
    mf.fit_spectral(X, y, 2, sample_weight=weight, inputs="gaussian", random_state=0)
    np.testing.assert_array_equal(X, sim.X)


def test_names_reach_the_model():
    pandas = pytest.importorskip("pandas")
    sim = mf.make_moe(500, 4, 2, random_state=0)
    found = mf.fit_spectral(pandas.DataFrame(sim.X, columns=list("abcd")), sim.y, 2, random_state=0)
    assert found.model.feature_names == ("a", "b", "c", "d")
