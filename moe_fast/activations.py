"""Activations g, their derivatives, and the label transforms that fit them.

The spectral step never sees the hidden expert; it sees y through two polynomials chosen for g, the quadratic
and the cubic label transform, which leave in the cross moments of y with x nothing but the experts
(docs/math.md, section 2). Their coefficients are computed here from g itself, by quadrature, for a user's own
g as for the built-in ones.
"""

from __future__ import annotations

import enum
import functools
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from .checks import check_choice

__all__ = [
    "LINEAR",
    "RELU",
    "SIGMOID",
    "TANH",
    "Activation",
    "Code",
    "LabelTransform",
    "LeakyReLU",
    "get_activation",
    "has_label_transform",
    "hermite_moments",
    "label_transform",
]

Array = NDArray[np.float64]


class Code(enum.IntEnum):
    """What the kernels know an activation by. CUSTOM ones are evaluated in Python."""

    CUSTOM = -1
    LINEAR = 0
    SIGMOID = 1
    TANH = 2
    LEAKY_RELU = 3   # ReLU has slope 0


class Activation:
    """A user's own activation g, for use wherever a built-in one is named.

    Parameters
    ----------
    name : str
        What a saved model calls it; none of the built-in names.
    g : callable
        From a float64 array of any shape to the real values of g, in the same shape. Must not write to its
        argument.
    derivative : callable, optional
        The same for g'. Default: central differences, right to about 1e-10 where g is smooth.

    Attributes
    ----------
    name : str
    code : Code
    slope : float
        Of the negative side, for leaky ReLU; 0.0 for all others.

    Examples
    --------
    >>> import numpy as np
    >>> from moe_fast import Activation
    >>> softplus = Activation("softplus", lambda t: np.logaddexp(0.0, t))
    >>> softplus
    Activation('softplus')
    >>> float(softplus.derivative(0.0).round(8))
    0.5
    """

    code = Code.CUSTOM
    slope = 0.0

    def __init__(
        self,
        name: str,
        g: Callable[[Array], ArrayLike],
        derivative: Callable[[Array], ArrayLike] | None = None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"name must be a non-empty string, got {name!r}")
        if name in _BUILT_IN:
            raise ValueError(f"name {name!r} is a built-in activation; choose another")
        self.name = name
        self._g = _checked(g, "g")
        self._derivative = None if derivative is None else _checked(derivative, "derivative")

    def g(self, t: ArrayLike) -> Array:
        """Values of g, float64, in the shape of t."""
        return np.asarray(self._g(_float64(t)), np.float64)

    def derivative(self, t: ArrayLike) -> Array:
        """Values of g', float64, in the shape of t."""
        t = _float64(t)
        if self._derivative is not None:
            return np.asarray(self._derivative(t), np.float64)
        return _central_difference(self.g, t, _STEP)

    def second_derivative(self, t: ArrayLike) -> Array:
        """Values of g'', float64, in the shape of t: differences of g', right to 1e-10 (1e-6 without g')."""
        return _central_difference(self.derivative, _float64(t), _STEP if self._derivative else _COARSE_STEP)

    def _identity(self) -> tuple[Any, ...]:
        return self.name, self._g, self._derivative

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Activation) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Activation({self.name!r})"


class _BuiltIn(Activation):
    """An activation that the kernels know too: closed forms, told apart by its name and slope."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _identity(self) -> tuple[Any, ...]:
        return self.name, self.slope

    def __repr__(self) -> str:
        return f"get_activation({self.name!r})"


class _Linear(_BuiltIn):
    code = Code.LINEAR

    def g(self, t: ArrayLike) -> Array:
        return np.array(t, np.float64)   # a copy, as every other g returns

    def derivative(self, t: ArrayLike) -> Array:
        return np.ones_like(_float64(t))

    def second_derivative(self, t: ArrayLike) -> Array:
        return np.zeros_like(_float64(t))


class _Sigmoid(_BuiltIn):
    code = Code.SIGMOID

    def g(self, t: ArrayLike) -> Array:
        return scipy.special.expit(_float64(t))

    def derivative(self, t: ArrayLike) -> Array:
        t, expit = _float64(t), scipy.special.expit
        return expit(t) * expit(-t)   # not g (1 - g), which is 0 from t = 37 on

    def second_derivative(self, t: ArrayLike) -> Array:
        t, expit = _float64(t), scipy.special.expit
        return self.derivative(t) * (expit(-t) - expit(t))


class _Tanh(_BuiltIn):
    code = Code.TANH

    def g(self, t: ArrayLike) -> Array:
        return np.tanh(_float64(t))

    def derivative(self, t: ArrayLike) -> Array:
        twice = 2.0 * _float64(t)
        expit = scipy.special.expit
        return 4.0 * expit(twice) * expit(-twice)   # 1 / cosh^2, without overflow or cancellation

    def second_derivative(self, t: ArrayLike) -> Array:
        t = _float64(t)
        return -2.0 * np.tanh(t) * self.derivative(t)


class LeakyReLU(_BuiltIn):
    """g(t) = t for t > 0 and slope * t elsewhere; at the kink the derivative is the slope.

    Parameters
    ----------
    slope : float
        Any finite number but 1, which is the linear activation. 0 is ReLU.
    """

    code = Code.LEAKY_RELU

    def __init__(self, slope: float = 0.01) -> None:
        if not isinstance(slope, numbers.Real) or isinstance(slope, bool):
            raise TypeError(f"slope must be a number, got {slope!r}")
        if not np.isfinite(slope):
            raise ValueError(f"slope must be finite, got {slope}")
        if slope == 1.0:
            raise ValueError("slope = 1 is the linear activation: use 'linear'")
        self.slope = float(slope)
        super().__init__("leaky_relu" if slope else "relu")

    def g(self, t: ArrayLike) -> Array:
        t = _float64(t)
        return np.where(t > 0.0, t, self.slope * t)

    def derivative(self, t: ArrayLike) -> Array:
        return np.where(_float64(t) > 0.0, 1.0, self.slope)

    def second_derivative(self, t: ArrayLike) -> Array:
        return np.zeros_like(_float64(t))

    def __str__(self) -> str:
        return f"leaky_relu({self.slope:g})" if self.slope else "relu"

    def __repr__(self) -> str:
        return f"LeakyReLU({self.slope!r})"


def _float64(t: ArrayLike) -> Array:
    return np.asarray(t, np.float64)


# Steps that balance truncation and rounding: eps^(1/3) for a difference, eps^(1/4) where two are nested.
_STEP = np.finfo(np.float64).eps ** (1 / 3)
_COARSE_STEP = np.finfo(np.float64).eps ** (1 / 4)


def _central_difference(f: Callable[[Array], Array], t: Array, relative_step: float) -> Array:
    step = relative_step * np.maximum(1.0, np.abs(t))
    upper, lower = t + step, t - step
    return (f(upper) - f(lower)) / (upper - lower)   # the step as rounded, not as asked for


def _checked(function: Any, name: str) -> Callable[[Array], ArrayLike]:
    """The user's callable, tried once on a small read-only array."""
    if not callable(function):
        raise TypeError(f"{name} must be callable, got {type(function).__name__}")
    probe = np.linspace(-2.0, 2.0, 6).reshape(2, 3)
    probe.flags.writeable = False
    values = np.asarray(function(probe))
    if values.shape != probe.shape or values.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must map a float64 array to real numbers in the same shape; "
            f"it returned {values.dtype} of shape {values.shape} for shape {probe.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite everywhere; on [-2, 2] it gave NaN or infinity")
    return function


LINEAR = _Linear("linear")
SIGMOID = _Sigmoid("sigmoid")
TANH = _Tanh("tanh")
RELU = LeakyReLU(0.0)
_BUILT_IN: dict[str, Activation] = {
    "linear": LINEAR, "sigmoid": SIGMOID, "tanh": TANH, "relu": RELU, "leaky_relu": LeakyReLU(),
}


def get_activation(value: str | Activation) -> Activation:
    """The activation of a name, or the activation itself."""
    if isinstance(value, Activation):
        return value
    if callable(value):
        raise TypeError("activation is a bare callable; give it a name: Activation('my_g', g)")
    return _BUILT_IN[check_choice(value, "activation", list(_BUILT_IN))]


def hermite_moments(activation: str | Activation) -> Array:
    """Hermite moments of the powers of g, eq. (L.1) of docs/math.md.

    Returns
    -------
    moments : ndarray of shape (3, 3)
        ``moments[m - 1, j - 1] = E[g(Z)^m He_j(Z)]``, Z standard normal; right to 1e-11 in units of the root
        mean square of g.

    Raises
    ------
    ValueError
        If g grows so fast that a moment is infinite, or is too rough to be integrated.
    """
    activation = get_activation(activation)
    mean, std = _mean_and_std(activation)
    size = math.hypot(mean, std) or 1.0
    moments, _ = _hermite_moments(activation, 0.0, size)
    return moments * size ** np.array([[1.0], [2.0], [3.0]])


@dataclass(frozen=True)
class LabelTransform:
    """The label transforms of one g, eqs. (S.1) and (L.2) of docs/math.md.

    ``P2(y) = y^2 + gamma y`` and ``P3(y) = y^3 + alpha y^2 + beta y`` give
    ``E[P2(y) S2(x)] = c2 sum_i p_i a_i a_i'`` and ``E[P3(y) S3(x)] = c3 sum_i p_i a_i (x) a_i (x) a_i``, as y itself
    gives ``E[y x] = c1 sum_i p_i a_i``.

    Attributes
    ----------
    alpha, beta0, gamma : float
        Coefficients; only beta depends on the noise, see `beta`.
    c1, c2, c3 : float
        Factors of the moments.
    mean_g2 : float
        ``E[g(Z)^2]``; with unit experts, ``E[y^2]`` less this is the noise variance.
    """

    alpha: float
    beta0: float
    gamma: float
    c1: float
    c2: float
    c3: float
    mean_g2: float

    def beta(self, noise_std: float) -> float:
        """The cubic transform's linear coefficient, ``beta0 - 3 noise_std^2``."""
        return self.beta0 - 3.0 * noise_std**2


def label_transform(activation: str | Activation) -> LabelTransform:
    """Coefficients of the label transforms of g, eq. (L.2) of docs/math.md, computed once and kept.

    Raises
    ------
    ValueError
        If g has none: one of the three leading minors of its Hermite moments is zero (even g, sign-like g).
        Such a g cannot be used by the spectral step; EM can still fit it.

    Examples
    --------
    >>> from moe_fast.activations import label_transform
    >>> transform = label_transform("linear")
    >>> round(transform.c2, 9), round(transform.c3, 9), round(transform.beta(noise_std=1.0), 9)
    (2.0, 6.0, -6.0)
    """
    return _label_transform(get_activation(activation))


def has_label_transform(activation: str | Activation) -> bool:
    """Whether the spectral step can use this g."""
    try:
        label_transform(activation)
    except ValueError:
        return False
    return True


@functools.lru_cache(maxsize=64)
def _label_transform(activation: Activation) -> LabelTransform:
    """Solve eq. (L.2) for h = (g - mean) / std and carry the result over to g.

    The transforms of h and of g are the same polynomials, up to a factor and a constant; those of h lose no
    digits when g is small, large, or far from zero.
    """
    if activation.code == Code.LINEAR:   # by hand: a first fit need not wait for the quadrature to be imported
        return LabelTransform(alpha=0.0, beta0=-3.0, gamma=0.0, c1=1.0, c2=2.0, c3=6.0, mean_g2=1.0)
    mean, std = _mean_and_std(activation)
    if std <= 1e-12 * abs(mean):
        raise _invalid(activation, "it is constant")
    moments, (mean_h, mean_h2) = _hermite_moments(activation, mean, std)
    _refuse_vanishing_minors(moments, activation, mean, std)

    (m11, m12, m13), (m21, m22, m23), (m31, m32, m33) = moments
    alpha, beta0 = np.linalg.solve([[m21, m11], [m22, m12]], [-m31, -m32])
    gamma = -m21 / m11
    return LabelTransform(
        alpha=float(std * alpha - 3.0 * mean),
        beta0=float(std**2 * beta0 - 2.0 * mean * std * alpha + 3.0 * mean**2),
        gamma=float(std * gamma - 2.0 * mean),
        c1=float(std * m11),
        c2=float(std**2 * (m22 + gamma * m12)),
        c3=float(std**3 * (m33 + alpha * m23 + beta0 * m13)),
        mean_g2=float(std**2 * mean_h2 + 2.0 * mean * std * mean_h + mean**2),
    )


# Nodes and weights of a rough normal average. An even number: 0 is no node, so that sign(t) takes two values.
_NODES = np.linspace(-8.0, 8.0, 4000)
_WEIGHTS = np.exp(-0.5 * _NODES**2) / np.exp(-0.5 * _NODES**2).sum()


def _mean_and_std(activation: Activation) -> tuple[float, float]:
    """Mean and standard deviation of g(Z), roughly: units to compute in."""
    g = activation.g(_NODES)
    mean = float(_WEIGHTS @ g)
    return mean, math.sqrt(_WEIGHTS @ (g - mean) ** 2)


_SMALLEST_MINOR = 1e-6   # of a possible 1; see the test for those of the built-in activations


def _refuse_vanishing_minors(moments: Array, activation: Activation, mean: float, std: float) -> None:
    """Raise, with the reason, if a leading minor (L.3) of the moments of h = (g - mean) / std is zero.

    Zero is measured against the bound of Hadamard and Cauchy-Schwarz, the product of sqrt(E[h^2m] m!).
    """
    h = (activation.g(_NODES) - mean) / std
    bounds = np.cumprod([np.sqrt(_WEIGHTS @ h ** (2 * m) * math.factorial(m)) for m in (1, 2, 3)])
    minors = np.array([np.linalg.det(moments[:m, :m]) for m in (1, 2, 3)])
    vanishing = np.abs(minors) <= _SMALLEST_MINOR * bounds
    if not vanishing.any():
        return

    n_values = np.unique(h.round(9)).size
    if np.abs(h - h[::-1]).max() <= 1e-9:
        reason = "it is even, g(-t) = g(t), so that y does not tell a_i from -a_i"
    elif n_values == 2:   # then g^2 is constant or linear in g, and with three values g^3 is quadratic in g
        reason = "it takes 2 values only, as sign(t) does, so that its powers are linearly dependent"
    elif n_values == 3:
        reason = "it takes 3 values only, so that its powers are linearly dependent"
    else:
        reason = f"the leading minor of order {int(np.argmax(vanishing)) + 1} of its Hermite moments is zero"
    raise _invalid(activation, reason)


def _invalid(activation: Activation, reason: str) -> ValueError:
    return ValueError(f"activation {activation} has no spectral start: {reason}; use EM from other starts")


def _hermite_moments(activation: Activation, mean: float, std: float) -> tuple[Array, Array]:
    """E[h(Z)^m He_j(Z)], m, j = 1, 2, 3, and E[h(Z)^m], m = 1, 2, of h = (g - mean) / std."""

    def powers_times_hermite(t: float) -> Array:
        h = (activation.g(np.array([t]))[0] - mean) / std   # a user's g is only asked to take arrays
        return np.outer([h, h**2, h**3], [1.0, t, t**2 - 1.0, t**3 - 3.0 * t])

    moments = _gaussian_mean(powers_times_hermite, str(activation))
    return moments[:, 1:], moments[:2, 0]


_REACH = 14.0   # beyond it the normal density is below 1e-43: nothing, for a g that is at most exponential


def _gaussian_mean(f: Callable[[float], Array], label: str) -> Array:
    """E[f(Z)], entry by entry, by adaptive Gauss-Kronrod quadrature, which closes in on kinks by bisection.

    Gauss-Hermite would be cheaper, but 100 nodes give E[relu(Z)] to two digits only.
    """

    def integrand(t: float) -> Array:
        return f(t) * math.exp(-0.5 * t**2) / math.sqrt(2.0 * math.pi)

    with np.errstate(over="ignore", invalid="ignore"):
        mean, error = scipy.integrate.quad_vec(
            integrand, -_REACH, _REACH, epsabs=1e-12, epsrel=1e-12, norm="max", limit=2000, points=(0.0,)
        )
        tail = max(np.abs(integrand(t)).max() for t in (-_REACH, _REACH))
    allowed = 1e-11 * np.abs(mean).max(initial=1.0)
    if not tail <= allowed:   # NaN fails too
        raise ValueError(f"activation {label} grows too fast: E[g(Z)^3 He_3(Z)] is not finite")
    if not error <= allowed:
        raise ValueError(f"activation {label} is too rough: its moments are known to {error:.0e} only")
    return mean
