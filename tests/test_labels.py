"""Are the label transforms from tables what docs/math.md says they are, and do wild rows leave `fit_spectral` alone?"""

import numpy as np
import pytest
from scipy import stats

import moe_fast as mf
from moe_fast.activations import get_activation, hermite_moments
from moe_fast.labels import NoiseLaw, TabulatedLabels, robust_labels
from moe_fast.rows import Rows

ACTIVATIONS = ["linear", "sigmoid", "tanh", "relu"]
HERMITE = (lambda z: z, lambda z: z**2 - 1.0, lambda z: z**3 - 3.0 * z)
LAWS = {
    "normal": NoiseLaw.normal(0.3),
    "wild": NoiseLaw(np.array([0.1, 0.4, 20.0]), np.array([0.7, 0.25, 0.05])),
}


def squared_error(coef, truth):
    """Mean over experts of the squared error, experts matched."""
    return np.mean(np.sum((coef[mf.match_experts(coef, truth)] - truth) ** 2, axis=1))


def averaged(function, at, law, n_nodes=20_001):
    """E[function(at + noise)] by the trapezoidal rule, scale by scale."""
    e = np.linspace(-9.0, 9.0, n_nodes)
    mass = stats.norm.pdf(e) * (e[1] - e[0])
    return sum(p * (function(np.add.outer(at, s * e)) @ mass) for s, p in zip(law.scales, law.shares, strict=True))


# ---- the noise ----


@pytest.mark.parametrize("scale", [1e-3, 0.3, 20.0])
def test_average_of_a_function_between_knots_is_exact(scale):
    """Kills: a ramp's mean without its normal density, a slope lost at either end.

    The trapezoidal rule knows the kinks to 1e-6.
    """
    knots = np.linspace(-1.0, 2.0, 13)
    values = np.random.default_rng(0).standard_normal((2, 13))
    law = NoiseLaw(np.array([scale, 2.0 * scale]), np.array([0.6, 0.4]))
    at = np.array([-3.0, -0.9, 0.1, 2.5])
    got = law.average(values, knots[0], knots[1] - knots[0], at)
    want = [averaged(lambda y, v=v: np.interp(y, knots, v), at, law) for v in values]
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_bulk_leaves_wild_scales_out():
    """Kills: a second moment of all scales, a median that is not scaled to a normal law's deviation."""
    assert NoiseLaw.normal(0.7).bulk == 0.7
    wild = NoiseLaw(np.array([0.9, 1.1, 30.0]), np.array([0.49, 0.49, 0.02]))
    assert wild.bulk == pytest.approx(np.sqrt(0.5 * (0.9**2 + 1.1**2)), rel=1e-12)


@pytest.mark.statistical
@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
def test_the_noise_is_fitted_to_y_alone(activation):
    """Its bulk within a twentieth, with 3 % of the rows anywhere. Kills: outliers in the scale; weights not read."""
    rng = np.random.default_rng(0)
    n, noise_std = 50_000, 0.5
    y = get_activation(activation).g(rng.standard_normal(n)) + noise_std * rng.standard_normal(n)
    y[: n // 10] = rng.uniform(-80.0, 80.0, n // 10)
    weight = np.where(np.arange(n) < n // 10, 0.3, 1.0)
    labels, mean_square = robust_labels(get_activation(activation), Rows.check(np.zeros((n, 1)), y, weight))
    want = noise_std**2 + np.mean(get_activation(activation).g(rng.standard_normal(400_000)) ** 2)
    assert mean_square == pytest.approx(want, rel=0.05)
    # What is that far from all others says nothing: the transform is where a row without information is.
    first = labels.transformed(np.array([-60.0, 60.0]), 1)
    assert np.abs(first).max() < 0.1 * np.abs(labels.values[0]).max()


def test_a_noise_that_is_given_is_the_smallest():
    """Kills: noise_std read and forgotten."""
    sim = mf.make_moe(5000, 4, 2, activation="tanh", random_state=0)
    rows = Rows.check(sim.X, sim.y)
    free, given = (robust_labels(get_activation("tanh"), rows, noise_std)[1] for noise_std in (None, 0.5))
    assert given - free == pytest.approx(0.5**2 - 0.1**2, rel=0.1)


# ---- the transforms ----


def test_linear_experts_with_normal_noise_have_hermite_polynomials():
    """zeta_m = rho^m He_m(y / s), s^2 = 1 + sigma^2, rho = 1 / s; c_m = m! rho^2m. Kills: another order or factor.

    Tables are linear between values: 1e-4 of their curvature.
    """
    labels = TabulatedLabels.of(get_activation("linear"), NoiseLaw.normal(0.5))
    rho = 1.0 / np.sqrt(1.25)
    u = np.linspace(-4.0, 4.0, 41)
    for order, hermite in enumerate(HERMITE, 1):
        np.testing.assert_allclose(labels.transformed(u / rho, order), rho**order * hermite(u), atol=1e-3)
    np.testing.assert_allclose(labels.factors, [rho**2, 2.0 * rho**4, 6.0 * rho**6], rtol=1e-4)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_first_transform_is_the_posterior_mean(activation, law):
    """E[Z given y] by the trapezoidal rule, ten times as fine. Kills: a scale without its factor, shares left out."""
    noise = LAWS[law]
    labels = TabulatedLabels.of(get_activation(activation), noise)
    z = np.linspace(-7.0, 7.0, 7001)
    y = np.array([-0.7, -0.1, 0.2, 0.6, 1.9])
    error = np.subtract.outer(y, get_activation(activation).g(z))
    density = stats.norm.pdf(z) * (stats.norm.pdf(error[..., np.newaxis], scale=noise.scales) @ noise.shares)
    np.testing.assert_allclose(labels.transformed(y, 1), density @ z / density.sum(axis=1), atol=2e-3)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_transforms_have_one_moment_each(activation, law):
    """E[T_m He_j] = 0 for j < m and c_m for j = m, and q_m is T_m averaged over the noise: eqs. (L.6), (L.7).

    Kills: a projection on the wrong transform, or with N for its transpose; a mean that forgets a scale.
    """
    g, noise = get_activation(activation).g, LAWS[law]
    labels = TabulatedLabels.of(get_activation(activation), noise)
    z = np.linspace(-7.0, 7.0, 701)
    mass = stats.norm.pdf(z) * (z[1] - z[0])
    for order in (1, 2, 3):
        q = averaged(lambda y, m=order: labels.transformed(y, m), g(z), noise, 1001)
        moments = [(q * hermite(z)) @ mass for hermite in HERMITE[:order]]
        size = np.sqrt(labels.factors[order - 1])   # the standard deviation of T_m
        np.testing.assert_allclose(moments[:-1], 0.0, atol=3e-4 * size)
        assert moments[-1] == pytest.approx(labels.factors[order - 1], rel=2e-3)
        got = -labels.residuals(np.zeros(701), z[np.newaxis], np.ones(1), np.ones(1))[order - 1]
        np.testing.assert_allclose(got + labels.transformed(np.zeros(1), order), q, rtol=1e-4, atol=3e-3 * size)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_polynomial_has_a_smaller_variance(activation):
    """c_m^2 / Var(T_m), which the moments' precision goes with, against y, P2 and P3. Kills: any other transform."""
    labels = TabulatedLabels.of(get_activation(activation), NoiseLaw.normal(0.1))
    transform = mf.activations.label_transform(activation)
    z, e = np.random.default_rng(0).standard_normal((2, 400_000))
    y = get_activation(activation).g(z) + 0.1 * e
    powers = (y, y**2 + transform.gamma * y, y**3 + transform.alpha * y**2 + transform.beta(0.1) * y)
    factors = transform.c1, transform.c2, transform.c3
    assert factors[0] == pytest.approx(hermite_moments(activation)[0, 0])
    for order, (power, factor) in enumerate(zip(powers, factors, strict=True), 1):
        variance = np.var(labels.transformed(y, order))
        own = labels.factors[order - 1]
        assert own**2 / variance > 0.99 * factor**2 / np.var(power)
        assert variance == pytest.approx(own, rel=0.03)   # as of any projection


@pytest.mark.parametrize("order", [2, 3])
def test_rows_are_weighed_with_the_transform_less_its_mean(order):
    """Kills: a mean left in, or one that forgets the rows' weights."""
    sim = mf.make_moe(500, 3, 2, random_state=0)
    rows = Rows.check(sim.X, sim.y, np.random.default_rng(0).uniform(0.5, 1.5, 500))
    labels = TabulatedLabels.of(get_activation("linear"), NoiseLaw.normal(0.1))
    weighed, polynomial = labels.weighting(rows, order)
    value = np.polynomial.polynomial.polyval(weighed.y, polynomial.coefficients)
    want = labels.transformed(rows.y, order)
    np.testing.assert_allclose(value, want - np.average(want, weights=rows.weight), atol=1e-12)


@pytest.mark.parametrize("norm", [0.6, 1.0])
def test_residuals_of_linear_experts_of_any_norm_have_mean_zero(norm):
    """Kills: t not divided by its norm, a norm without its power. The noise makes up what the norm lacks."""
    labels = TabulatedLabels.of(get_activation("linear"), NoiseLaw.normal(0.5))
    noise = NoiseLaw.normal(np.sqrt(1.25 - norm**2))
    z = np.linspace(-2.0, 2.0, 9)
    for order in (1, 2, 3):
        mean = averaged(lambda y, m=order: labels.transformed(y, m), norm * z, noise)
        known = labels.residuals(np.zeros(9), norm * z[np.newaxis], np.ones(1), np.array([norm]))[order - 1]
        left = mean + known - labels.transformed(np.zeros(9), order)
        np.testing.assert_allclose(left, 0.0, atol=2e-3)


# ---- the experts ----


def wild_data(activation, seed, n_samples=5000):
    """2 % of y at 10 to 50 of its standard deviations."""
    sim = mf.make_moe(n_samples, 6, 2, activation=activation, orthogonal_experts=True, random_state=seed)
    rng = np.random.default_rng(seed)
    far = sim.y.std() * rng.uniform(10.0, 50.0, n_samples) * rng.choice([-1.0, 1.0], n_samples)
    return sim, np.where(rng.random(n_samples) < 0.02, far, sim.y)


@pytest.mark.statistical
@pytest.mark.filterwarnings("ignore:T2 has no 2 clear eigenvalues")   # the polynomials'
@pytest.mark.parametrize(("activation", "most"), [("linear", 15.0), ("tanh", 15.0), ("sigmoid", 20.0), ("relu", 30.0)])
def test_outliers_are_left_out_of_account(activation, most):
    """n times the squared error, medians of 5 seeds; 7, 7, 10 and 14 here, and thousands with polynomials.

    Kills: the option read and forgotten; a noise taken from E[y^2]; outliers that count in sigma.
    """
    errors = {"cubic": [], "robust": []}
    for seed in range(5):
        sim, y = wild_data(activation, seed)
        for transforms, found in errors.items():
            result = mf.fit_spectral(sim.X, y, 2, activation=activation, transforms=transforms, random_state=0)
            found.append(5000 * squared_error(result.coef, sim.model.coef))
            if transforms == "robust":
                assert result.noise_std < 0.3
    assert np.median(errors["robust"]) < most
    assert np.median(errors["cubic"]) > 1000.0


@pytest.mark.statistical
def test_least_variance_gains_for_relu():
    """Medians of 12 seeds: 0.6 of the polynomials' error here. Kills: transforms of another noise, or activation."""
    errors = {"cubic": [], "least_variance": []}
    for seed in range(12):
        sim = mf.make_moe(10_000, 10, 3, activation="relu", orthogonal_experts=True, random_state=seed)
        for transforms, found in errors.items():
            result = mf.fit_spectral(
                sim.X, sim.y, 3, activation="relu", transforms=transforms, noise_std=0.1, random_state=0
            )
            found.append(squared_error(result.coef, sim.model.coef))
            assert result.noise_std == 0.1
    assert np.median(errors["least_variance"]) < 0.85 * np.median(errors["cubic"])


def test_scale_and_offset_of_linear_experts_are_of_no_account_to_robust_moments():
    """Kills: a unit or a centre left out."""
    sim, y = wild_data("linear", 0)
    one = mf.fit_spectral(sim.X, y, 2, transforms="robust", random_state=0)
    other = mf.fit_spectral(sim.X, 1000.0 * y + 500.0, 2, transforms="robust", random_state=0)
    np.testing.assert_allclose(other.coef, one.coef, atol=1e-8)


@pytest.mark.parametrize("transforms", ["least_variance", "robust"])
def test_norms_come_out_in_the_units_of_y(transforms):
    """Kills: experts left in the table's unit."""
    sim = mf.make_moe(
        100_000, 5, 2, expert_norms=2.5, gate_norm=0.0, orthogonal_experts=True, noise_std=0.3, random_state=0
    )
    found = mf.fit_spectral(sim.X, sim.y, 2, unit_norm=False, transforms=transforms, random_state=0)
    np.testing.assert_allclose(np.linalg.norm(found.coef, axis=1), 2.5, rtol=0.1)
    assert found.noise_std == pytest.approx(0.3, abs=0.3)


@pytest.mark.parametrize("transforms", ["least_variance", "robust"])
@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_weight_two_is_the_row_twice(activation, transforms):
    """Kills: quantiles, means or sums that do not know of weights."""
    sim = mf.make_moe(3000, 4, 2, activation=activation, random_state=0)
    weight = np.random.default_rng(0).integers(0, 3, 3000).astype(float)
    rows = np.repeat(np.arange(3000), weight.astype(int))
    options = {"activation": activation, "transforms": transforms, "random_state": 0}
    weighted = mf.fit_spectral(sim.X, sim.y, 2, sample_weight=weight, **options)
    repeated = mf.fit_spectral(sim.X[rows], sim.y[rows], 2, **options)
    np.testing.assert_allclose(weighted.coef, repeated.coef, atol=1e-8)
    assert weighted.noise_std == pytest.approx(repeated.noise_std, rel=1e-8)


@pytest.mark.parametrize("transforms", ["least_variance", "robust"])
def test_same_bits_for_any_number_of_threads_and_inputs_unchanged(transforms):
    sim = mf.make_moe(100_000, 5, 2, activation="tanh", random_state=0)
    X, y = sim.X.copy(), sim.y.copy()
    X.flags.writeable = y.flags.writeable = False
    options = {"activation": "tanh", "transforms": transforms, "random_state": 0}
    bits = {mf.fit_spectral(X, y, 2, n_threads=n, **options).coef.tobytes() for n in (1, 2, 3)}
    assert len(bits) == 1
    np.testing.assert_array_equal(y, sim.y)


def test_extreme_outliers_cost_no_overflow():
    """Warnings are errors here. Kills: scales up to the wildest row, of which there would be thousands."""
    sim, y = wild_data("tanh", 0)
    y = np.where(np.abs(y) > 5.0, np.sign(y) * 1e120, y)
    found = mf.fit_spectral(sim.X, y, 2, activation="tanh", transforms="robust", random_state=0)
    assert squared_error(found.coef, sim.model.coef) < 0.03
    assert found.noise_std == pytest.approx(0.1, abs=0.03)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("transforms", "error", "words"),
    [
        ("robsut", ValueError, "unknown transforms 'robsut'; did you mean 'robust'"),
        (True, TypeError, "transforms must be one of cubic, least_variance, robust; got "),
        (None, TypeError, "transforms must be one of cubic, least_variance, robust; got "),
    ],
)
def test_bad_transforms_are_refused(transforms, error, words):
    sim = mf.make_moe(100, 4, 2, random_state=0)
    with pytest.raises(error, match=words):
        mf.fit_spectral(sim.X, sim.y, 2, transforms=transforms)


def test_a_target_without_a_scale_is_refused():
    sim = mf.make_moe(10_000, 4, 2, random_state=0)
    y = np.zeros(10_000)
    y[5] = 1.0
    with pytest.raises(ValueError, match=r"y is the same number in nearly all rows.*use 'cubic'"):
        mf.fit_spectral(sim.X, y, 2, transforms="robust")


@pytest.mark.parametrize("transforms", ["least_variance", "robust"])
def test_noise_that_drowns_the_activation_is_refused(transforms):
    """Kills: transforms that are rounding. It names what is too large and what to do."""
    sim = mf.make_moe(1000, 4, 2, activation="sigmoid", random_state=0)
    with pytest.raises(ValueError, match=r"the noise of y, about .*drowns activation sigmoid.*scale y, or use"):
        mf.fit_spectral(sim.X, 1e5 * sim.y, 2, activation="sigmoid", transforms=transforms)
