"""Is the law of x the one given, or the one the data shows?"""

import pickle
import sys

import numpy as np
import pytest
from scipy import stats

from moe_fast.inputs import Gaussian, GaussianMixture, StandardNormal, check_inputs

MEAN = np.array([1.0, -2.0, 0.5])
EYE, ZEROS = np.eye(2), np.zeros((2, 2))   # of a mixture of two in two dimensions
COV = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]])


@pytest.fixture
def mixture():
    return GaussianMixture([0.3, 0.7], [MEAN, -MEAN], [COV, 2.0 * np.eye(3)])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def draw_mixture(n_samples, rng):
    first = rng.random(n_samples) < 0.3
    return np.where(
        first[:, np.newaxis],
        rng.multivariate_normal([6.0, 0.0, 0.0], COV, n_samples),
        rng.multivariate_normal([-6.0, 2.0, 0.0], np.eye(3), n_samples),
    )


def test_components_standardise():
    """Kills: W taken for symmetric, which it is where variances are equal."""
    for law, cov in ((Gaussian(MEAN, COV), COV), (StandardNormal(3), np.eye(3))):
        [(mean, W)] = law.components()
        np.testing.assert_allclose(W @ cov @ W.T, np.eye(3), atol=1e-13)
        assert mean.shape == (3,)
        assert law.responsibilities(np.zeros((2, 3))) is None
        assert law.n_features == 3


def test_mixture_components(mixture):
    components = mixture.components()
    assert len(components) == 2
    for (mean, W), expected_mean, cov in zip(
        components, mixture.means, mixture.covariances, strict=True
    ):
        np.testing.assert_array_equal(mean, expected_mean)
        np.testing.assert_allclose(W @ cov @ W.T, np.eye(3), atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mixture_responsibilities(mixture, rng, dtype):
    # Mutants: determinant or weight left out, block edge missed.
    X = rng.normal(size=(5000, 3)).astype(dtype)
    densities = np.column_stack([
        weight * stats.multivariate_normal(mean, cov).pdf(X)
        for weight, mean, cov in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    ])
    resp = mixture.responsibilities(X)
    np.testing.assert_allclose(resp, densities / densities.sum(axis=1, keepdims=True), atol=1e-12)


def test_mixture_responsibilities_far_out_are_finite(mixture):
    # There both densities underflow: log-sum-exp, or 0 / 0. The wider component wins.
    np.testing.assert_allclose(mixture.responsibilities([[1e3, 0.0, 1e3]]), [[0.0, 1.0]])


def test_mixture_of_one_has_no_responsibilities():
    assert GaussianMixture([1.0], [MEAN], [COV]).responsibilities(np.zeros((2, 3))) is None


def test_laws_hold_read_only_copies_and_pickle(mixture):
    mean, cov = MEAN.copy(), COV.copy()
    law = Gaussian(mean, cov)
    mean[0] = cov[0, 0] = 99.0
    assert law.mean[0] == 1.0
    assert law.cov[0, 0] == 2.0
    assert cov.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        law.cov[0, 0] = 1.0
    for original in (law, mixture):
        copy = pickle.loads(pickle.dumps(original))
        for (a, b), (c, d) in zip(copy.components(), original.components(), strict=True):
            np.testing.assert_array_equal(a, c)
            np.testing.assert_array_equal(b, d)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian([0, 0], np.eye(3)), r"cov has 3 rows, shape \(3, 3\); wanted n_samples = 2"),
        (lambda: Gaussian([0, 0], [[1, 0.5], [0.2, 1]]), r"cov is not symmetric.*by up to 0\.3"),
        (lambda: Gaussian([0, 0], [[1, 2], [2, 1]]), r"cov is not positive definite.*from -1 to 3"),
        (lambda: Gaussian([0, 0], [[1, 1], [1, 1]]), r"cov is not positive definite"),
        (lambda: Gaussian([0, 0], np.zeros((2, 2))), r"cov is not positive definite"),
        (lambda: Gaussian([0, np.nan], np.eye(2)), r"mean has 1 value that is NaN"),
        (lambda: GaussianMixture([0.5, 0.6], ZEROS, [EYE, EYE]), r"weights must be positive and add up"),
        (lambda: GaussianMixture([1.5, -0.5], ZEROS, [EYE, EYE]), r"weights must be positive"),
        (lambda: GaussianMixture([1.0], ZEROS, [EYE, EYE]), r"means has 2 rows"),
        (lambda: GaussianMixture([0.5, 0.5], ZEROS, EYE), r"covariances has shape \(2, 2\); wanted"),
        (lambda: GaussianMixture([0.5, 0.5], ZEROS, [EYE, -EYE]), r"covariances\[1\] is not positive"),
        (lambda: StandardNormal(0), r"n_features must be at least 1"),
        (lambda: StandardNormal().components(), r"n_features is None"),
    ],
)
def test_bad_law_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- check_inputs


def test_standard_normal_takes_its_size_from_the_data(rng):
    X = rng.normal(size=(10, 4))
    for value in ("standard_normal", StandardNormal(), StandardNormal(4)):
        assert check_inputs(value, X, None, rng) == StandardNormal(4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_estimated_gaussian_is_the_weighted_mean_and_covariance(rng, dtype):
    X = (rng.normal(size=(9000, 3)) @ COV + 1e4 * MEAN).astype(dtype)   # a mean that a one-pass sum feels
    weights = rng.integers(0, 4, 9000).astype(float)
    law = check_inputs("gaussian", X, weights, rng)
    repeated = np.repeat(X.astype(np.float64), weights.astype(int), axis=0)
    np.testing.assert_allclose(law.mean, repeated.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(law.cov, np.cov(repeated.T, bias=True), rtol=1e-10, atol=1e-12)
    unweighted = check_inputs("gaussian", X, None, rng)
    plain = np.cov(X.T.astype(np.float64), bias=True)
    np.testing.assert_allclose(unweighted.cov, plain, rtol=1e-10, atol=1e-12)


def test_unequal_scales_are_no_hindrance(rng):
    """Incomes beside rates. Kills: eigenvalues of the covariance, not of the correlations."""
    X = rng.normal(size=(500, 2)) @ [[1.0, 0.5], [0.0, 1.0]] * [1e-6, 1e6]
    [(mean, W)] = check_inputs("gaussian", X, None, rng).components()
    standardised = (X - mean) @ W.T
    np.testing.assert_allclose(standardised.T @ standardised / 500, np.eye(2), atol=1e-9)


@pytest.mark.parametrize("inputs", ["gaussian", "mixture"])
def test_dependent_columns_are_refused(rng, inputs):
    X = rng.normal(size=(50, 3))
    for bad in (X * [1.0, 1.0, 0.0] + 0.1, np.column_stack([X, X.sum(axis=1)]), X[:3]):
        with pytest.raises(ValueError, match=r"X has constant or linearly dependent col.*drop columns"):
            check_inputs(inputs, bad, None, rng)


def test_fitted_mixture_finds_the_components(rng):
    scales = np.array([1e3, 1.0, 1e-2])
    X = draw_mixture(3000, rng) * scales
    law = check_inputs("mixture", X, None, rng)
    assert isinstance(law, GaussianMixture)
    order = np.argsort(law.means[:, 0])
    np.testing.assert_allclose(law.weights[order], [0.7, 0.3], atol=0.05)
    np.testing.assert_allclose(law.means[order] / scales, [[-6.0, 2.0, 0.0], [6.0, 0.0, 0.0]], atol=0.2)
    np.testing.assert_allclose(law.covariances[order[1]] / np.outer(scales, scales), COV, atol=0.3)


def test_fitted_mixture_heeds_weights(rng):
    X = draw_mixture(3000, rng)
    law = check_inputs("mixture", X, (X[:, 0] > 0.0).astype(float), rng)
    assert isinstance(law, Gaussian)   # one component left
    np.testing.assert_allclose(law.mean, [6.0, 0.0, 0.0], atol=0.2)


def test_fitted_mixture_repeats_with_the_seed(rng):
    X = rng.exponential(size=(400, 2))   # no mixture of Gaussians: seeds differ in what they end with
    first, again, other = (
        check_inputs("mixture", X, None, np.random.default_rng(seed)).means.tolist() for seed in (3, 3, 4)
    )
    assert first == again != other


def test_normal_or_few_rows_give_one_gaussian(rng):
    for n_samples in (5, 1000):
        assert isinstance(check_inputs("mixture", rng.normal(size=(n_samples, 3)), None, rng), Gaussian)


def test_mixture_without_scikit_learn_names_the_extra(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"moe_fast\[sklearn\]"):
        check_inputs("mixture", rng.normal(size=(50, 2)), None, rng)


def test_given_law_is_used_if_it_fits(rng, mixture):
    X = rng.normal(size=(10, 3))
    assert check_inputs(mixture, X, None, rng) is mixture
    for law in (mixture, Gaussian(MEAN, COV), StandardNormal(3)):
        with pytest.raises(ValueError, match="inputs is a law of 3 features; wanted 2, as in X"):
            check_inputs(law, X[:, :2], None, rng)


def test_unknown_inputs_are_refused(rng):
    X = rng.normal(size=(10, 3))
    with pytest.raises(ValueError, match="unknown inputs 'gausian'; did you mean 'gaussian'"):
        check_inputs("gausian", X, None, rng)
    with pytest.raises(TypeError, match=r"inputs must be a name, .* got dict"):
        check_inputs({}, X, None, rng)
