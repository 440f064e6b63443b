"""What y is put through before its moments with x are taken: label transforms, as polynomials and as tables.

Stein's identity E[T(y) S_m(x)] = E[grad^m E[T(y) | x]] holds for any T. The polynomials of `activations` need
little but g; the transforms of least variance, eqs. (L.5) to (L.8) of docs/math.md, need the law of the noise, and are
bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import scipy
from numpy.typing import NDArray

from .activations import Activation, Code, LabelTransform
from .moments import Polynomial
from .rows import Rows

__all__ = ["Labels", "NoiseLaw", "PolynomialLabels", "TabulatedLabels", "robust_labels"]

FloatArray = NDArray[np.float64]

_Z = np.linspace(-7.0, 7.0, 701)   # nodes of Z: beyond are 3e-12 of its mass
_MASS = np.exp(-0.5 * _Z**2) / np.exp(-0.5 * _Z**2).sum()
_HERMITE = np.stack([_Z, _Z**2 - 1.0, _Z**3 - 3.0 * _Z])
_N_VALUES = 1201          # of y in a table
_LAST_Z, _REACH = 5.0, 8.0   # a table goes to g(+-5) and 8 noise scales further; beyond, a transform is constant
_SMOOTH = 0.05            # of g's standard deviation: less noise would fall between the nodes, and is taken as so much
_SMALLEST_SCALE = 1e-3    # of the same: of noise at all
_SMALLEST_FACTOR = 1e-12  # of c_m, which is the variance of T_m: below it is rounding
_N_QUANTILES = 2048       # of y, that its law is fitted to
_WILDEST = 100.0          # times the spread of y: an outlier beyond is as good as there, and would need more scales
_SCALE_RATIO = math.sqrt(2.0)
_N_EM = 300
_SMALLEST_SHARE = 1e-4    # of a scale of the noise
_NORMAL_MEDIAN = 0.6744897501960817   # of |Z|


class Labels(Protocol):
    """Transforms T_1, T_2, T_3 of y with E[T_m(y) S_m(x)] = c_m sum_j p_j a_j^(x)m."""

    @property
    def factors(self) -> tuple[float, float, float]:
        """c1, c2, c3."""

    @property
    def unit(self) -> float:
        """What y is measured in: experts come out in it."""

    def weighting(self, rows: Rows, order: int) -> tuple[Rows, Polynomial]:
        """Rows and a centred polynomial of their y that weigh them with T_order(y) less its mean; order is 2 or 3."""

    def residuals(self, y: FloatArray, t: FloatArray, shares: FloatArray, norms: FloatArray) -> FloatArray:
        """T_m(y) less its mean under experts and a constant gate, eq. (S.9): (3, n_rows).

        t (k, n_rows) are the experts' a_j.x in units of `unit`, norms (k,) those of their a_j.
        """


@dataclass(frozen=True, eq=False)
class PolynomialLabels:
    """y, P2 and P3 of eq. (S.1)."""

    activation: Activation
    transform: LabelTransform
    beta: float
    noise_variance: float
    unit = 1.0

    @property
    def factors(self) -> tuple[float, float, float]:
        return self.transform.c1, self.transform.c2, self.transform.c3

    def weighting(self, rows: Rows, order: int) -> tuple[Rows, Polynomial]:
        if order == 2:
            return rows, Polynomial.centred(rows, self.transform.gamma, 1.0, 0.0)
        return rows, Polynomial.centred(rows, self.beta, self.transform.alpha, 1.0)

    def residuals(self, y: FloatArray, t: FloatArray, shares: FloatArray, norms: FloatArray) -> FloatArray:
        g = self.activation.g(t)
        square = g * g
        mean1, mean2, mean3 = shares @ g, shares @ square, shares @ (square * g)
        first = y - mean1
        second = y * y - mean2 - self.noise_variance
        third = y * y * y - mean3 - 3.0 * self.noise_variance * mean1
        return np.stack([
            first, second + self.transform.gamma * first, third + self.transform.alpha * second + self.beta * first,
        ])  # fmt: skip


@dataclass(frozen=True, eq=False)
class NoiseLaw:
    """A mixture of centred normal laws: noise such as normal, t and Laplace noise, and outliers.

    Attributes
    ----------
    scales : ndarray of shape (n_scales,)
        Standard deviations, positive, rising.
    shares : ndarray of shape (n_scales,)
        Adding up to one.
    """

    scales: FloatArray
    shares: FloatArray

    @classmethod
    def normal(cls, scale: float) -> NoiseLaw:
        return cls(np.array([scale]), np.ones(1))

    @property
    def bulk(self) -> float:
        """Standard deviation without wild rows: scales above three times that of a normal law of the same median."""

        def excess(size: float) -> float:
            return float(self.shares @ scipy.special.erf(size / (math.sqrt(2.0) * self.scales))) - 0.5

        # The median of the whole lies between those of the single scales.
        least, most = _NORMAL_MEDIAN * self.scales[[0, -1]]
        median = least if least == most else scipy.optimize.brentq(excess, least, most)
        tame = self.scales <= 3.0 * median / _NORMAL_MEDIAN
        return math.sqrt(self.shares[tame] @ self.scales[tame] ** 2 / self.shares[tame].sum())

    def density(self, error: FloatArray, smallest: float) -> FloatArray:
        """At `error`, up to a factor; scales below `smallest` count as `smallest`."""
        total = np.zeros_like(error)
        for scale, share in zip(np.maximum(self.scales, smallest), self.shares, strict=True):
            total += share / scale * np.exp(-0.5 * (error / scale) ** 2)
        return total

    def average(self, values: FloatArray, first: float, step: float, at: FloatArray) -> FloatArray:
        """E[f(at + noise)] of functions f (n_functions, n_knots) that are linear between equidistant knots.

        Exact whatever the scale: f is its first value plus a ramp max(y - knot, 0) for each change of slope, and a
        ramp has the mean s psi(u), u = (at - knot) / s, psi(u) = u Phi(u) + phi(u).
        """
        slopes = np.diff(values, axis=1, prepend=values[:, :1], append=values[:, -1:]) / step
        knots = first + step * np.arange(values.shape[1])
        ramps = np.zeros((values.shape[1], len(at)))
        for scale, share in zip(self.scales, self.shares, strict=True):
            u = (at - knots[:, np.newaxis]) / scale
            ramps += share * scale * (u * scipy.special.ndtr(u) + np.exp(-0.5 * u * u) / math.sqrt(2.0 * math.pi))
        mean: FloatArray = values[:, :1] + np.diff(slopes, axis=1) @ ramps
        return mean


@dataclass(frozen=True, eq=False)
class TabulatedLabels:
    """Transforms of least variance, eqs. (L.5) to (L.7), linear between the values of a table and constant outside.

    Attributes
    ----------
    knots : ndarray of shape (n_values,)
        Values of (y - centre) / unit.
    values : ndarray of shape (3, n_values)
        T_1, T_2, T_3 there.
    means : ndarray of shape (3, n_nodes)
        q_m(t) = E[T_m(g(t) + noise)] at the nodes of t.
    factors : tuple of three floats
        c1, c2, c3, of experts of norm one in units of `unit`.
    unit, centre : float
    """

    knots: FloatArray
    values: FloatArray
    means: FloatArray
    factors: tuple[float, float, float]
    unit: float
    centre: float

    @classmethod
    def of(
        cls, activation: Activation, noise: NoiseLaw, unit: float = 1.0, centre: float = 0.0
    ) -> TabulatedLabels:
        """The transforms of y = centre + unit (g(Z) + noise)."""
        g = activation.g(_Z)
        _, spread = _mean_and_spread(g)
        noise = replace(noise, scales=np.maximum(noise.scales, _SMALLEST_SCALE * spread))
        within, reach = g[np.abs(_Z) <= _LAST_Z], _REACH * max(noise.bulk, _SMOOTH * spread)
        knots, step = np.linspace(within.min() - reach, within.max() + reach, _N_VALUES, retstep=True)
        joint = noise.density(knots[:, np.newaxis] - g, _SMOOTH * spread) * _MASS
        zeta = _HERMITE @ joint.T / joint.sum(axis=1)
        means = noise.average(zeta, knots[0], step, g)
        N = (means * _MASS) @ _HERMITE.T
        project = np.eye(3)
        project[1, 0] = -N[1, 0] / N[0, 0]
        project[2, :2] = -np.linalg.solve(N[:2, :2].T, N[2, :2])
        c1, c2, c3 = np.diag(project @ N)
        if not min(c1, c2, c3) > _SMALLEST_FACTOR:
            raise ValueError(
                f"the noise of y, about {noise.bulk:.3g}, drowns activation {activation} of experts of norm one, which "
                f"varies by {spread:.3g}: no transform of y is left; scale y, or use transforms='cubic'"
            )
        return cls(knots, project @ zeta, project @ means, (float(c1), float(c2), float(c3)), unit, centre)

    def transformed(self, y: FloatArray, order: int) -> FloatArray:
        """T_order(y)."""
        return np.interp((y - self.centre) / self.unit, self.knots, self.values[order - 1])

    def weighting(self, rows: Rows, order: int) -> tuple[Rows, Polynomial]:
        rows = replace(rows, y=self.transformed(rows.y, order))
        return rows, Polynomial.centred(rows, 1.0, 0.0, 0.0)

    def residuals(self, y: FloatArray, t: FloatArray, shares: FloatArray, norms: FloatArray) -> FloatArray:
        # norm^m q_m(t / norm): of its moments only the m-th is not zero, and that one is c_m norm^m, as in (S.10).
        t = t / norms[:, np.newaxis]
        return np.stack([
            self.transformed(y, order) - (shares * norms**order) @ np.interp(t, _Z, self.means[order - 1])
            for order in (1, 2, 3)
        ])  # fmt: skip


def robust_labels(
    activation: Activation, rows: Rows, noise_std: float | None = None
) -> tuple[TabulatedLabels, float]:
    """Transforms for noise that is a mixture of normal scales, which is fitted to y alone: eq. (L.8).

    Parameters
    ----------
    activation : Activation
    rows : Rows
    noise_std : float, optional
        The smallest scale of the noise. Of no account for linear g, whose transforms depend on the law of y alone.

    Returns
    -------
    labels : TabulatedLabels
    mean_square : float
        E[y^2] of all but the wild rows; about the median for linear g.

    Notes
    -----
    Reads y, sorted; the law is that of 2048 quantiles.
    """
    y = _quantiles(rows)
    middle = y[len(y) // 2]
    spread = float(np.median(np.abs(y - middle))) / _NORMAL_MEDIAN or float(np.mean(np.abs(y - middle)))
    if activation.code == Code.LINEAR:
        if not spread > 0.0:
            raise ValueError(
                "y is the same number in nearly all rows: transforms='robust' has no scale to go by; use 'cubic'"
            )
        # About its middle: an offset that experts share, as of inputs that are not centred, is none of their moments.
        # y is itself a mixture of scales; the smallest is taken for g alone, whatever part of it is noise.
        law = _fit_scales(_tamed(y - middle, spread), np.zeros(1), np.ones(1), 0.5 * spread)
        unit = float(law.scales[0])
        noise = NoiseLaw(np.sqrt((law.scales / unit) ** 2 - 1.0), law.shares)
        return TabulatedLabels.of(activation, noise, unit, float(middle)), law.bulk**2
    g = activation.g(_Z)
    centre, size = _mean_and_spread(g)
    smallest = _SMOOTH * size if noise_std is None else max(noise_std, _SMALLEST_SCALE * size)
    noise = _fit_scales(centre + _tamed(y - centre, max(spread, size)), g, _MASS, smallest)
    return TabulatedLabels.of(activation, noise), float(_MASS @ g**2) + noise.bulk**2


def _mean_and_spread(g: FloatArray) -> tuple[float, float]:
    """Of g(Z), from its values at the nodes."""
    mean = float(_MASS @ g)
    return mean, math.sqrt(_MASS @ (g - mean) ** 2)


def _tamed(y: FloatArray, spread: float) -> FloatArray:
    return np.clip(y, -_WILDEST * spread, _WILDEST * spread)


def _quantiles(rows: Rows) -> FloatArray:
    """Weighted quantiles of y at equidistant levels."""
    order = np.argsort(rows.y, kind="stable")
    mass = np.cumsum(np.ones(len(order)) if rows.weight is None else rows.weight[order])
    levels = (np.arange(_N_QUANTILES) + 0.5) / _N_QUANTILES * mass[-1]
    return rows.y[order[np.searchsorted(mass, levels)]]


def _fit_scales(y: FloatArray, centres: FloatArray, mass: FloatArray, smallest: float) -> NoiseLaw:
    """Shares of the scales smallest, sqrt(2) smallest, ... by maximum likelihood, where y = a centre + noise."""
    largest = float(np.abs(y).max() + np.abs(centres).max())
    n_scales = 2 + max(math.ceil(math.log(largest / smallest) / math.log(_SCALE_RATIO)), 0)
    scales = np.array([smallest * _SCALE_RATIO**power for power in range(n_scales)])
    error = -0.5 * (y[:, np.newaxis] - centres) ** 2
    density: FloatArray = np.stack([np.exp(error / scale**2) @ mass / scale for scale in scales], axis=1)
    shares: FloatArray = np.full(n_scales, 1.0 / n_scales)
    for _ in range(_N_EM):
        resp = density * shares
        shares = np.mean(resp / resp.sum(axis=1, keepdims=True), axis=0)
    kept = shares >= _SMALLEST_SHARE
    scales, shares = scales[kept], shares[kept]
    return NoiseLaw(scales, shares / shares.sum())
