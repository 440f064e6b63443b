"""The distribution of y given x, against scipy.stats' normals, quadrature and draws."""

import numpy as np
import pytest
from scipy import integrate, stats
from test_model import make_model, make_rows

import moe_fast as mf
from moe_fast import model as model_module
from moe_fast.model import MixtureOfExperts

ONE = np.ones((1, 1))
LEVELS = [1e-300, 1e-12, 0.025, 0.3, 0.5, 0.8, 0.975, 1 - 1e-12]


@pytest.fixture(params=[50, 7], ids=["one_block", "many_blocks"])
def block_rows(request, monkeypatch):
    monkeypatch.setattr(model_module, "_BLOCK_ROWS", request.param)


def normals(means, noise_std, weights, **options):
    """A model that is the same mixture of normals in every row, with x = 1."""
    return MixtureOfExperts(
        np.zeros((len(means), 1)), means, gate_intercept=np.log(weights), noise_std=noise_std, **options
    )


def assert_quantile(model, q):
    """Its probability is q, or it is as near as floats lie: the neighbours' probabilities enclose q."""
    y = model.quantile(ONE, q)
    slack = 1e-12 * max(1.0, -np.log(q))
    if abs(model.cdf(ONE, y)[0] / q - 1) < slack:
        return
    below, above = (np.nextafter(np.nextafter(y, end), end) for end in (-np.inf, np.inf))
    assert model.cdf(ONE, below)[0] <= q * (1 + slack)
    assert model.cdf(ONE, above)[0] >= q * (1 - slack)


# Kills: experts and gate paired wrongly, a complement, blocks put in the wrong place.
@pytest.mark.usefixtures("block_rows")
def test_cdf_matches_the_formula():
    model, (X, y) = make_model(), make_rows()
    proba, means = model.gate_proba(X), model.expert_means(X)
    expected = np.sum(proba * stats.norm.cdf(y[:, None], means, model.noise_std), axis=1)
    np.testing.assert_allclose(model.cdf(X, y), expected, rtol=1e-13)


def test_cdf_is_the_integral_of_the_density():
    model, (X, y) = make_model(), make_rows(5)
    for i in range(5):
        row = X[[i]]
        area, _ = integrate.quad(lambda t, row=row: np.exp(model.log_density(row, [t])[0]), -15.0, y[i], epsabs=1e-12)
        assert model.cdf(row, y[[i]])[0] == pytest.approx(area, abs=1e-10)


# Kills: the noise or the spread between experts left out, variance in place of its root.
@pytest.mark.usefixtures("block_rows")
def test_std_is_that_of_the_density():
    model, (X, _) = make_model(), make_rows()
    std, mean = model.predict_std(X), model.predict(X)
    for i in (0, 13, 49):
        row = X[[i]]

        def second_moment(t, i=i, row=row):
            return (t - mean[i]) ** 2 * np.exp(model.log_density(row, [t])[0])

        variance, _ = integrate.quad(second_moment, -15.0, 15.0, epsabs=1e-12)
        assert std[i] ** 2 == pytest.approx(variance, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_std_of_any_size(scale):
    model = normals([-scale, scale], [scale, 2 * scale], [0.5, 0.5])
    assert model.predict_std(ONE)[0] == pytest.approx(np.sqrt(1 + 2.5) * scale, rel=1e-14)


def test_std_beside_an_expert_of_no_weight_far_away():
    """Kills: its distance for the scale, by which the noise of the others vanishes."""
    model = mf.MixtureOfExperts([[1.0], [2.0]], None, [[1.0], [0.0]])
    np.testing.assert_allclose(model.predict_std([[1e100], [1e170]]), 1.0)


def test_what_vanishes_does_so_quietly():
    """Who looks for errors of their own lets numpy raise. Kills: exponentials that underflow there."""
    model, X = mf.MixtureOfExperts([[1.0], [2.0]], None, [[900.0], [0.0]]), np.linspace(-30.0, 30.0, 50)[:, np.newaxis]
    y = X[:, 0]
    with np.errstate(all="raise"):
        for method in ("predict", "predict_std", "predict_expert", "gate_proba", "sample"):
            getattr(model, method)(X)
        model.quantile(X, 0.3)
        for method in ("cdf", "log_density", "responsibilities"):
            getattr(model, method)(X, y)
        sim = mf.make_moe(300, 4, 2, random_state=0)
        fit = mf.fit(sim.X, sim.y, 2, random_state=0)
        mf.infer(fit, sim.X, sim.y, covariance="sandwich")


# Kills: the reflection of the upper half, a column in the wrong place, a bracket that leaves out the root.
@pytest.mark.usefixtures("block_rows")
def test_cdf_of_a_quantile_is_its_probability():
    model, (X, _) = make_model(), make_rows()
    quantiles = model.quantile(X, LEVELS)
    assert quantiles.shape == (50, len(LEVELS))
    assert (np.diff(quantiles, axis=1) > 0).all()
    for column, q in enumerate(LEVELS):
        np.testing.assert_allclose(model.cdf(X, quantiles[:, column]), q, rtol=1e-12 if q > 1e-20 else 1e-10)
        assert np.array_equal(model.quantile(X, q), quantiles[:, column])
    # The far upper tail by its own probability, which the distribution function cannot show.
    proba, means = model.gate_proba(X), model.expert_means(X)
    beyond = np.sum(proba * stats.norm.sf(quantiles[:, [-1]], means, model.noise_std), axis=1)
    np.testing.assert_allclose(beyond, 1 - LEVELS[-1], rtol=1e-12)


def test_quantile_of_one_expert_is_the_normal_one():
    model = MixtureOfExperts([[2.0]], [1.0], noise_std=0.3)
    X = np.linspace(-3, 3, 7)[:, None]
    expected = stats.norm.ppf(np.array(LEVELS), 1.0 + 2.0 * X, 0.3)
    np.testing.assert_allclose(model.quantile(X, LEVELS), expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("means", "noise_std", "weights"),
    [
        ([0.0, 1e6], [1e-9, 1e-9], [0.5, 0.5]),              # far apart, thin
        ([0.0, 0.0], [1e-8, 1e8], [0.999, 0.001]),           # one inside the other
        ([-1e3, 0.0, 1e3], [1.0, 1.0, 1.0], [1e-200, 1.0, 1e-200]),
        ([5.0, 5.0], [1.0, 1.0], [0.3, 0.7]),                # the same twice: a bracket of no width
    ],
)
def test_quantile_of_extreme_mixtures(means, noise_std, weights):
    model = normals(means, noise_std, weights)
    for q in (1e-250, 1e-5, 0.25, 0.4, 0.75, 0.9994, 1 - 1e-9):
        if q <= 0.5:
            assert_quantile(model, q)
        mirrored = normals([-mean for mean in means], noise_std, weights)
        assert mirrored.quantile(ONE, 1 - q)[0] == -model.quantile(ONE, 1 - (1 - q))[0]


# Kills: a bracket that leaves out the root: where the probability is that of a gap between experts, or beside it.
@pytest.mark.parametrize("seed", range(5))
def test_quantile_of_mixtures_of_all_sizes(seed):
    rng = np.random.default_rng(seed)
    for _ in range(20):
        assert_quantiles_of_a_random_mixture(rng)


def assert_quantiles_of_a_random_mixture(rng):
    k = rng.integers(1, 6)
    scores = rng.normal(size=k) * 10 ** rng.uniform(-2, 2.5)
    weights = np.exp(scores - scores.max())
    noise_std = 10 ** rng.uniform(-10, 10, k)
    model = normals(rng.normal(size=k) * 10 ** rng.uniform(-12, 12), noise_std, np.maximum(weights, 1e-300))
    share = model.gate_proba(ONE)[0, 0]
    for q in (10 ** -rng.uniform(0, 299), 0.5 * share, share * (1 - 1e-15), share, share * (1 + 1e-15)):
        if 0 < q <= 0.5:
            assert_quantile(model, q)


def test_noise_below_the_spacing_of_y_leaves_the_mean():
    model = normals([1.0], [1e-30], [1.0])
    np.testing.assert_allclose(model.quantile(ONE, [1e-9, 0.5, 0.999]), 1.0, rtol=1e-15)


def test_certain_probabilities_have_infinite_quantiles():
    model, (X, y) = make_model(), make_rows()
    assert np.array_equal(model.quantile(X, [0, 1]), np.tile([-np.inf, np.inf], (50, 1)))
    for far, cdf in ((1e308, 1.0), (-1e308, 0.0)):
        np.testing.assert_allclose(model.cdf(X, np.full_like(y, far)), cdf, rtol=1e-15)


# Kills: level taken as one tail, ends swapped. 20 000 rows: five standard errors.
@pytest.mark.statistical
def test_interval_covers_what_it_says_with_equal_tails():
    model, (X, _) = make_model(), make_rows(20_000)
    y, _ = model.sample(X, 0)
    lower, upper = model.predict_interval(X, level=0.9)
    for outside in (y < lower, y > upper):
        assert abs(outside.mean() - 0.05) < 5 * np.sqrt(0.05 * 0.95 / 20_000)
    assert stats.kstest(model.cdf(X, y), "uniform").pvalue > 1e-4
    np.testing.assert_allclose(np.transpose(model.predict_interval(X[:10])), model.quantile(X[:10], [0.025, 0.975]))


def test_expert_is_the_likeliest_with_and_without_y():
    model, (X, y) = make_model(), make_rows()
    assert np.array_equal(model.predict_expert(X, y), model.responsibilities(X, y).argmax(axis=1))
    assert np.array_equal(model.predict_expert(X), model.gate_proba(X).argmax(axis=1))
    assert not np.array_equal(model.predict_expert(X, y), model.predict_expert(X))
    tie = normals([0.0, 0.0], [1.0, 1.0], [0.5, 0.5])
    assert tie.predict_expert(ONE)[0] == 0


CALLS = {
    "cdf": lambda model, X, y, **options: model.cdf(X, y, **options),
    "quantile": lambda model, X, y, **options: model.quantile(X, 0.3, **options),
    "predict_interval": lambda model, X, y, **options: model.predict_interval(X, **options),
    "predict_std": lambda model, X, y, **options: model.predict_std(X, **options),
    "predict_expert": lambda model, X, y, **options: model.predict_expert(X, **options),
}


@pytest.mark.parametrize("name", CALLS)
def test_gate_features_are_used_asked_for_and_refused(name):
    call = CALLS[name]
    (X, y), Z = make_rows(), make_rows(seed=5)[0]
    same = make_model()
    own = make_model(uses_gate_features=True)
    assert np.array_equal(call(own, X, y, gate_features=X), call(same, X, y))
    assert not np.array_equal(call(own, X, y, gate_features=Z), call(same, X, y))
    with pytest.raises(ValueError, match="gate_features are needed"):
        call(own, X, y)
    with pytest.raises(ValueError, match="no features of its own"):
        call(same, X, y, gate_features=Z)


def test_float32_rows_are_widened_block_by_block():
    model, (X, y) = make_model(), make_rows()
    narrow = X.astype(np.float32)
    assert np.array_equal(model.quantile(narrow, 0.3), model.quantile(narrow.astype(np.float64), 0.3))
    assert model.cdf(narrow, y).dtype == np.float64


@pytest.mark.parametrize("q", [-0.1, 1.1, np.nan, [0.5, 2.0], [[0.5]], []])
def test_probabilities_out_of_range_are_refused(q):
    with pytest.raises(ValueError, match=r"^q "):
        make_model().quantile(make_rows()[0], q)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, np.nan])
def test_level_out_of_range_is_refused(level):
    with pytest.raises(ValueError, match="level must be above 0 and below 1"):
        make_model().predict_interval(make_rows()[0], level=level)


@pytest.mark.parametrize("value", ["half", None, 1j])
def test_probabilities_of_another_kind_are_refused(value):
    with pytest.raises(TypeError, match=r"^q "):
        make_model().quantile(make_rows()[0], value)
