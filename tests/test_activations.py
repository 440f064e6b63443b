"""Are g and its derivatives right everywhere, and the label transforms those of the theory?"""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_fast.activations import (
    LINEAR,
    RELU,
    SIGMOID,
    TANH,
    Activation,
    Code,
    LeakyReLU,
    get_activation,
    hermite_moments,
    label_transform,
)

BUILT_IN = [LINEAR, SIGMOID, TANH, RELU, LeakyReLU(0.1), LeakyReLU(-0.5)]


def softplus(t):
    return np.logaddexp(0.0, t)


# The values of the derivation, to ten digits: alpha, beta0, gamma, c3, c2.
TABLE = {
    LINEAR: (0.0, -3.0, 0.0, 6.0, 2.0),
    SIGMOID: (-1.5, 0.6509926261, -1.0, 0.0227685777, 0.0623964840),
    TANH: (0.0, -0.6998579586, 0.0, 0.2334566383, 0.3635953763),
    RELU: (-3.2935937351, 2.2558151817, -1.5957691216, 0.3720924092, 0.3633802276),
    LeakyReLU(0.01): (-3.2447858217, 2.1558497303, -1.5798114304, 0.4112973862, 0.3761489611),
    LeakyReLU(0.1): (-2.8544414760, 1.3695266101, -1.4361922094, 0.7482603644, 0.4943379844),
}


def coefficients(transform):
    return [transform.alpha, transform.beta0, transform.gamma, transform.c3, transform.c2]


def leaky_relu_closed_form(s):
    kappa = 1.0 / np.sqrt(2.0 * np.pi)
    c2 = (1.0 + s**2) - (2.0 / np.pi) * (1.0 - s) ** 2
    alpha = -3.0 * kappa * (1.0 - s) * (1.0 + 3.0 * s + s**2) / c2
    beta0 = -3.0 * (1.0 - s + s**2) - 4.0 * kappa * (1.0 - s) * alpha
    gamma = -4.0 * kappa * (1.0 - s)
    c3 = 3.0 * (1.0 + s**3) + 2.0 * kappa * (1.0 - s**2) * alpha
    return [alpha, beta0, gamma, c3, c2]


# ---- g, g', g''


@pytest.mark.parametrize("activation", BUILT_IN, ids=str)
def test_derivatives_match_differences(activation):
    t = np.linspace(-5.0, 5.0, 41) + 0.01   # away from the kink
    twin = Activation("twin", activation.g)
    np.testing.assert_allclose(activation.derivative(t), twin.derivative(t), atol=1e-9)
    with_derivative = Activation("twin", activation.g, activation.derivative)
    second = activation.second_derivative(t)
    np.testing.assert_allclose(second, with_derivative.second_derivative(t), atol=1e-9)
    np.testing.assert_allclose(second, twin.second_derivative(t), atol=1e-6)


@pytest.mark.parametrize("activation", BUILT_IN, ids=str)
def test_far_values_neither_overflow_nor_vanish(activation):
    t = np.array([-800.0, -40.0, 40.0, 800.0])   # exp(800) overflows; warnings are errors here
    for values in (activation.g(t), activation.derivative(t), activation.second_derivative(t)):
        assert np.isfinite(values).all()
    # Mutant: derivative g (1 - g) or 1 - g^2, which are 0 at 40.
    assert (activation.derivative(t[1:3]) != 0.0).tolist() == [activation != RELU, True]


def test_values():
    np.testing.assert_allclose(SIGMOID.g([0.0, np.log(3.0)]), [0.5, 0.75])
    np.testing.assert_allclose(TANH.g([0.0, np.log(2.0)]), [0.0, 0.6])
    np.testing.assert_array_equal(LeakyReLU(0.1).g([-2.0, 0.0, 3.0]), [-0.2, 0.0, 3.0])
    np.testing.assert_array_equal(LINEAR.g([-2.0, 3.0]), [-2.0, 3.0])


@pytest.mark.parametrize("slope", [0.0, 0.1, -0.5])
def test_derivative_at_the_kink_is_the_slope_of_the_negative_side(slope):
    assert LeakyReLU(slope).derivative(0.0) == slope


@pytest.mark.parametrize("activation", [*BUILT_IN, Activation("softplus", softplus)], ids=str)
def test_shapes_and_dtypes(activation):
    for shape in ((), (3,), (2, 3), (0,)):
        t = np.ones(shape, np.float32)
        for values in (activation.g(t), activation.derivative(t), activation.second_derivative(t)):
            assert values.shape == shape
            assert values.dtype == np.float64


@pytest.mark.parametrize("activation", BUILT_IN, ids=str)
def test_result_is_no_view_of_the_argument(activation):
    t = np.ones(3)
    activation.g(t)[:] = 7.0
    np.testing.assert_array_equal(t, 1.0)


# ---- Names, codes, equality


def test_names_codes_and_slopes():
    activations = map(get_activation, ("linear", "sigmoid", "tanh", "relu", "leaky_relu"))
    assert [(str(activation), activation.code, activation.slope) for activation in activations] == [
        ("linear", Code.LINEAR, 0.0),
        ("sigmoid", Code.SIGMOID, 0.0),
        ("tanh", Code.TANH, 0.0),
        ("relu", Code.LEAKY_RELU, 0.0),
        ("leaky_relu(0.01)", Code.LEAKY_RELU, 0.01),
    ]
    assert [int(code) for code in Code] == [-1, 0, 1, 2, 3]   # the kernels' numbers
    custom = Activation("softplus", softplus)
    assert (custom.name, custom.code, custom.slope) == ("softplus", Code.CUSTOM, 0.0)
    assert get_activation(custom) is custom


def test_unknown_name_is_refused_with_the_near_miss():
    with pytest.raises(ValueError, match=r"unknown activation 'leaky-relu'; did you mean 'leaky_relu'\?"):
        get_activation("leaky-relu")
    with pytest.raises(TypeError, match=r"bare callable; give it a name: Activation\('my_g', g\)"):
        get_activation(np.tanh)
    with pytest.raises(TypeError, match="activation must be one of"):
        get_activation(3)


def test_equality_and_hash():
    assert LeakyReLU(0.0) == RELU
    assert LeakyReLU(0.1) == LeakyReLU(0.1) != LeakyReLU(0.2)
    assert Activation("f", softplus) == Activation("f", softplus)
    assert Activation("f", softplus) != Activation("h", softplus)
    assert Activation("f", softplus) != Activation("f", np.exp)
    assert Activation("f", softplus) != Activation("f", softplus, np.exp)
    assert len({RELU, LeakyReLU(0.0), LeakyReLU(0.1), LeakyReLU(0.1)}) == 2
    assert LINEAR != "linear"


@pytest.mark.parametrize("activation", [*BUILT_IN, Activation("softplus", softplus)], ids=str)
def test_pickles(activation):
    assert pickle.loads(pickle.dumps(activation)) == activation


def test_repr():
    assert repr(LeakyReLU(0.1)) == "LeakyReLU(0.1)"
    assert repr(TANH) == "get_activation('tanh')"
    assert repr(Activation("softplus", softplus)) == "Activation('softplus')"


@pytest.mark.parametrize(
    ("slope", "error", "message"),
    [
        (1.0, ValueError, "use 'linear'"),
        (np.inf, ValueError, "slope must be finite, got inf"),
        ("0.1", TypeError, "slope must be a number, got '0.1'"),
        (True, TypeError, "slope must be a number, got True"),
    ],
)
def test_bad_slope_is_refused(slope, error, message):
    with pytest.raises(error, match=message):
        LeakyReLU(slope)


def writes_to_its_argument(t):
    t[t < 0.0] = 0.0
    return t


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("tanh", np.tanh), ValueError, "'tanh' is a built-in activation"),
        (("", np.tanh), TypeError, "name must be a non-empty string"),
        ((np.tanh, np.tanh), TypeError, "name must be a non-empty string"),
        (("f", 3.0), TypeError, "g must be callable, got float"),
        (("f", np.tanh, 3.0), TypeError, "derivative must be callable, got float"),
        (("f", np.sum), ValueError, r"g must map .* returned float64 of shape \(\) for shape \(2, 3\)"),
        (("f", lambda t: t + 1j), ValueError, "returned complex128"),
        (("f", lambda t: np.where(t < 0, np.nan, t)), ValueError, "g must be finite everywhere"),
        (("f", writes_to_its_argument), ValueError, "read-only"),
    ],
)
def test_bad_activation_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Activation(*arguments)


# ---- Hermite moments and label transforms


def test_hermite_moments_of_the_linear_activation():
    # E[Z^m He_j]: 1, 0, 0; 0, 2, 0; 3, 0, 6.
    np.testing.assert_allclose(hermite_moments("linear"), [[1, 0, 0], [0, 2, 0], [3, 0, 6]], atol=1e-12)


def test_hermite_moments_of_exp():
    # E[e^(mZ) He_j(Z)] = m^j e^(m^2 / 2)
    m, j = np.meshgrid([1, 2, 3], [1, 2, 3], indexing="ij")
    expected = m**j * np.exp(m**2 / 2.0)
    np.testing.assert_allclose(hermite_moments(Activation("exp", np.exp)), expected, rtol=1e-10)


def test_hermite_moments_are_right_at_kinks_and_jumps():
    # Mutant: Gauss-Hermite quadrature, or bisection given up early. The kink is nowhere special.
    corner = 0.37
    phi = np.exp(-0.5 * corner**2) / np.sqrt(2.0 * np.pi)
    step = hermite_moments(Activation("step", lambda t: np.where(t > corner, 1.0, 0.0)))
    # integral over t > c of He_j phi = He_(j-1)(c) phi(c), for every power of a 0-1 function
    expected = phi * np.array([1.0, corner, corner**2 - 1.0])
    np.testing.assert_allclose(step, np.tile(expected, (3, 1)), atol=1e-11)

    relu = hermite_moments(Activation("shifted", lambda t: np.maximum(t - corner, 0.0)))
    # one integration by parts: E[relu(Z - c) He_j] = He_(j-2)(c) phi(c) for j = 2, 3
    np.testing.assert_allclose(relu[0, 1:], [phi, phi * corner], atol=1e-11)


@pytest.mark.parametrize("activation", TABLE, ids=str)
def test_label_transform_matches_the_table(activation):
    found = coefficients(label_transform(activation))
    np.testing.assert_allclose(found, TABLE[activation], rtol=0, atol=1e-9)


@given(st.floats(-0.2, 3.0).filter(lambda s: abs(s - 1.0) > 1e-6))
def test_label_transform_of_leaky_relu_matches_the_closed_form(slope):
    transform = label_transform(LeakyReLU(slope))
    expected = leaky_relu_closed_form(slope)
    np.testing.assert_allclose(coefficients(transform), expected, rtol=1e-10, atol=1e-10)
    assert transform.mean_g2 == pytest.approx((1.0 + slope**2) / 2.0, rel=1e-11)


@pytest.mark.parametrize("activation", [*TABLE, Activation("softplus", softplus)], ids=str)
def test_label_transform_kills_the_cross_terms(activation):
    # What they are for: the cubic transform of y = g(Z) + noise, averaged over the noise to q(Z), has
    # E[q'] = E[q''] = 0, the quadratic one E[q'] = 0; and E[q^(j)(Z)] = E[q(Z) He_j(Z)].
    transform, noise_std = label_transform(activation), 0.7
    t = np.linspace(-12.0, 12.0, 48_001)
    weight = np.exp(-0.5 * t**2)
    weight /= weight.sum()
    noise, noise_weight = np.polynomial.hermite_e.hermegauss(8)
    noise_weight /= noise_weight.sum()
    y = activation.g(t)[:, np.newaxis] + noise_std * noise
    cubic = (y**3 + transform.alpha * y**2 + transform.beta(noise_std) * y) @ noise_weight
    quadratic = (y**2 + transform.gamma * y) @ noise_weight
    he = np.array([t, t**2 - 1.0, t**3 - 3.0 * t])
    tolerance = 1e-7   # the trapezoid rule's error at a kink, for steps of 5e-4
    np.testing.assert_allclose(he @ (weight * cubic), [0.0, 0.0, transform.c3], atol=tolerance)
    np.testing.assert_allclose(he[:2] @ (weight * quadratic), [0.0, transform.c2], atol=tolerance)
    assert weight @ activation.g(t) ** 2 == pytest.approx(transform.mean_g2, abs=tolerance)


def test_only_beta_depends_on_the_noise():
    assert label_transform("linear").beta(2.0) == pytest.approx(-15.0)


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (1e6, 0.0), (1.0, 1e3), (1e-2, 10.0)])
def test_label_transform_of_a_scaled_and_shifted_g(scale, offset):
    # The factors scale by scale^2 and scale^3, whatever the offset. Mutant: moments of g not centred.
    moved = label_transform(Activation("moved", lambda t: scale * np.tanh(t) + offset))
    tanh = label_transform(TANH)
    # the offset costs g its last digits: eps * offset / scale, a few times over
    rtol = 1e-10 + 50 * np.finfo(float).eps * offset / scale
    assert moved.c2 == pytest.approx(scale**2 * tanh.c2, rel=rtol)
    assert moved.c3 == pytest.approx(scale**3 * tanh.c3, rel=rtol)
    assert moved.gamma == pytest.approx(-2.0 * offset, abs=1e-10 * scale)
    assert moved.alpha == pytest.approx(-3.0 * offset, abs=1e-10 * scale)
    assert moved.beta0 == pytest.approx(scale**2 * tanh.beta0 + 3.0 * offset**2, rel=1e-10)


def second_invalid_slope():
    """Where c2 of leaky ReLU is zero: the root of (1 + s^2) = (2 / pi) (1 - s)^2 in (-1, 0)."""
    a, b = 1.0 - 2.0 / np.pi, 4.0 / np.pi
    return (-b + np.sqrt(b**2 - 4.0 * a**2)) / (2.0 * a)


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        (Activation("abs", np.abs), r"activation abs has no spectral start: it is even, g\(-t\) ="),
        (Activation("square", np.square), "square has .* even"),
        (Activation("cosine", lambda t: 5.0 + np.cos(t)), "cosine has .* even"),
        (LeakyReLU(-1.0), r"leaky_relu\(-1\) has .* even"),
        (Activation("sign", np.sign), r"sign has .* it takes 2 values only, as sign\(t\) does"),
        (Activation("step", lambda t: 3.0 * (t > 0.3)), "step has .* it takes 2 values only"),
        (Activation("stairs", lambda t: (t > -1.0) + 2.0 * (t > 0.5)), "stairs has .* takes 3 values only"),
        (Activation("constant", lambda t: 3.0 + 0.0 * t), "constant has .* it is constant"),
        (Activation("zero", lambda t: 0.0 * t), "zero has .* it is constant"),
        (Activation("he3", lambda t: t**3 - 3.0 * t), "he3 has .* leading minor of order 1"),
        (LeakyReLU(second_invalid_slope()), r"leaky_relu\(-0.313.*leading minor of order 2"),
    ],
    ids=lambda value: str(value) if isinstance(value, Activation) else "",
)
def test_invalid_activation_is_refused_by_name_and_reason(activation, message):
    with pytest.raises(ValueError, match=message):
        label_transform(activation)


def test_built_in_activations_are_far_from_invalid():
    # The threshold on the relative minors must have room: a valid g near it would be refused.
    from moe_fast import activations

    for activation in BUILT_IN:
        transform = label_transform(activation)
        size = np.sqrt(transform.mean_g2)
        relative = min(abs(transform.c2) / size**2, abs(transform.c3) / size**3)
        assert relative > 1e4 * activations._SMALLEST_MINOR


@pytest.mark.parametrize(
    ("g", "message"),
    [
        (lambda t: t + np.exp(t**2 / 6.0), "fast grows too fast"),
        (lambda t: t + np.sin(1e5 * t), "fast is too rough"),
    ],
)
def test_moments_that_cannot_be_computed_are_refused(g, message):
    with pytest.raises(ValueError, match=message):
        label_transform(Activation("fast", g))


def test_label_transform_is_computed_once():
    assert label_transform(LeakyReLU(0.3)) is label_transform(LeakyReLU(0.3))
