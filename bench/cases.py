"""Named problems, and the one generator that draws them all.

Plain numpy, so that two builds of the package under comparison see the same bits.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special


@dataclass(frozen=True)
class Case:
    """A kind of data set. The defaults are the setting of the theory (docs/math.md, section 1)."""

    name: str
    n_samples: int
    n_features: int
    n_experts: int
    noise_std: float = 0.1            # of the first expert
    noise_ratio: float = 1.0          # the last expert's over the first's; geometric in between
    activation: str = "linear"
    gate_norm: float = 1.0
    orthogonal_gate: bool = True      # to the experts
    orthogonal_experts: bool = False  # to each other
    intercept: float = 0.0            # standard deviation of the experts' intercepts
    gate_intercept: float = 0.0       # and of the gate's
    norms: tuple[float, float] = (1.0, 1.0)   # range of the experts' norms
    inputs: str = "normal"            # a name of LAWS
    dtype: str = "float64"

    def sized(self, n_samples: int) -> Case:
        """The same with another number of rows."""
        return replace(self, n_samples=n_samples)

    def as_float32(self) -> Case:
        return replace(self, dtype="float32")


@dataclass(frozen=True, eq=False)
class Data:
    """Rows of a case, and the parameters they were drawn with."""

    case: Case
    X: np.ndarray
    y: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    gate_coef: np.ndarray
    gate_intercept: np.ndarray
    noise_std: np.ndarray

    @property
    def n_experts(self) -> int:
        return self.case.n_experts

    @property
    def truth(self) -> Any:
        """The true model."""
        from moe_fast import MixtureOfExperts

        return MixtureOfExperts(
            self.coef, self.intercept, self.gate_coef, self.gate_intercept, self.noise_std, self.case.activation
        )


# PEERS' settings: what other packages were timed on.
S1 = Case("S1", 2_000, 5, 2)
S2 = Case("S2", 8_000, 10, 3)
S3 = Case("S3", 8_000, 10, 4)
S4 = Case("S4", 50_000, 20, 3, noise_std=0.5)
S5 = Case("S5", 200_000, 30, 5, noise_std=0.5)

# What the kernels are measured on.
MILLION_20 = Case("n=1e6 d=20 k=3", 1_000_000, 20, 3, noise_std=0.5)
MILLION_10 = Case("n=1e6 d=10 k=3", 1_000_000, 10, 3, noise_std=0.5)
WIDE_100 = Case("n=2e5 d=100 k=5", 200_000, 100, 5, noise_std=0.5)
WIDE_200 = Case("n=1e5 d=200 k=10", 100_000, 200, 10, noise_std=0.5)
THOUSAND = Case("n=1000 d=5 k=3", 1_000, 5, 3, noise_std=0.5)
SMALL_FIT = Case("n=500 d=3 k=2", 500, 3, 2, noise_std=0.5)

NAMED = {
    case.name: case
    for case in (S1, S2, S3, S4, S5, MILLION_20, MILLION_10, WIDE_100, WIDE_200, THOUSAND, SMALL_FIT)
}


# ---- laws of the inputs: about unit variance a column, but for the last two ----


def _normal(rng, n, d):
    return rng.standard_normal((n, d))


def _correlated(rng, n, d):
    """Correlation 0.8 between neighbours, falling geometrically."""
    X = rng.standard_normal((n, d))
    for a in range(1, d):
        X[:, a] = 0.8 * X[:, a - 1] + 0.6 * X[:, a]
    return X


def _heavy_tails(rng, n, d):
    return rng.standard_t(5, (n, d)) / np.sqrt(5 / 3)


def _skewed(rng, n, d):
    return rng.exponential(size=(n, d)) - 1.0


def _uniform(rng, n, d):
    return rng.uniform(-np.sqrt(3), np.sqrt(3), (n, d))


def _clusters(rng, n, d):
    """Three round clusters."""
    centres = rng.standard_normal((3, d))
    return 0.5 * rng.standard_normal((n, d)) + centres[rng.integers(3, size=n)]


def _dummies(rng, n, d):
    """A third each of 0/1 columns, grades 1 to 5, and normal ones."""
    X = rng.standard_normal((n, d))
    X[:, 0::3] = rng.random((n, len(range(0, d, 3)))) < 0.3
    X[:, 1::3] = rng.integers(1, 6, (n, len(range(1, d, 3))))
    return X


LAWS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "normal": _normal,
    "correlated": _correlated,
    "heavy tails": _heavy_tails,
    "skewed": _skewed,
    "uniform": _uniform,
    "clusters": _clusters,
    "dummies": _dummies,
    "scales": _normal,   # seen in units between 1e-3 and 1e3, the first column a calendar year
}

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda t: t,
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "relu": lambda t: np.maximum(t, 0.0),
    "leaky_relu": lambda t: np.maximum(t, 0.01 * t),
}


def draw(case: Case, seed: int = 0) -> Data:
    """Parameters and rows of a case; they depend on its name and the seed."""
    rng = np.random.default_rng([seed, zlib.crc32(case.name.encode())])
    n, d, k = case.n_samples, case.n_features, case.n_experts

    experts = _directions(rng, k, d)
    if case.orthogonal_experts:
        experts = np.linalg.qr(experts.T)[0].T
    gate = _directions(rng, k, d)
    if case.orthogonal_gate:
        if d <= k:
            raise ValueError(f"case {case.name}: a gate orthogonal to {k} experts needs more than {d} features")
        basis = np.linalg.qr(experts.T)[0]
        gate -= (gate @ basis) @ basis.T
        gate /= np.linalg.norm(gate, axis=1, keepdims=True)
    gate *= case.gate_norm
    gate[-1] = 0.0
    coef = experts * rng.uniform(*case.norms, (k, 1))
    intercept = case.intercept * rng.standard_normal(k)
    gate_intercept = case.gate_intercept * rng.standard_normal(k)
    gate_intercept[-1] = 0.0
    noise_std = case.noise_std * np.geomspace(1.0, case.noise_ratio, k)

    X = LAWS[case.inputs](rng, n, d).astype(case.dtype, copy=False)
    labels = np.argmax(X @ gate.T + gate_intercept + rng.gumbel(size=(n, k)), axis=1)
    mean = ACTIVATIONS[case.activation](X @ coef.T + intercept)[np.arange(n), labels]
    y = mean + noise_std[labels] * rng.standard_normal(n)
    if case.inputs == "scales":
        scale = 10.0 ** rng.uniform(-3, 3, d)
        offset = scale * rng.standard_normal(d)
        scale[0], offset[0] = 10.0, 1990.0
        X = (X * scale + offset).astype(case.dtype)
        coef, gate = coef / scale, gate / scale
        intercept, gate_intercept = intercept - coef @ offset, gate_intercept - gate @ offset
    return Data(case, X, y, coef, intercept, gate, gate_intercept, noise_std)


def _directions(rng: np.random.Generator, n_rows: int, d: int) -> np.ndarray:
    rows = rng.standard_normal((n_rows, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
