"""The formulas as they stand on paper, in Python loops: oracles for small sizes, of no use for anything else.

Independent of moe_fast. A model is (coef (k, p), gate (k, q), noise_std (k,)), intercepts in column 0, as in
`moe_fast.reference`.
"""

import math
from itertools import product

import numpy as np


def linear(t):
    return t


def sigmoid(t):
    return 1 / (1 + math.exp(-t))


def relu(t):
    return max(t, 0.0)


def leaky_relu(t):
    return t if t > 0 else 0.01 * t


ACTIVATIONS = {
    "linear": linear,
    "sigmoid": sigmoid,
    "tanh": math.tanh,
    "relu": relu,
    "leaky_relu": leaky_relu,
}


def second_moment(X, values):
    """Mean of (value - mean) S2(x), S2 = x x' - I, entry by entry."""
    n, d = X.shape
    T2 = np.zeros((d, d))
    mean = math.fsum(values) / n
    for x, value in zip(X, values, strict=True):
        for a, b in product(range(d), repeat=2):
            T2[a, b] += (value - mean) * (x[a] * x[b] - (a == b)) / n
    return T2


def third_moment(X, values):
    """Mean of (value - mean) S3(x), the whole d^3 tensor: S3 = x(x)x(x)x - sum_j sym3(x (x) e_j (x) e_j)."""
    n, d = X.shape
    T3 = np.zeros((d, d, d))
    mean = math.fsum(values) / n
    for x, value in zip(X, values, strict=True):
        for a, b, c in product(range(d), repeat=3):
            score = x[a] * x[b] * x[c] - x[a] * (b == c) - x[b] * (a == c) - x[c] * (a == b)
            T3[a, b, c] += (value - mean) * score / n
    return T3


def seen_through(T3, W):
    """T3(W, W, W), one entry at a time."""
    d, k = W.shape
    seen = np.zeros((k, k, k))
    for i, j, h in product(range(k), repeat=3):
        for a, b, c in product(range(d), repeat=3):
            seen[i, j, h] += T3[a, b, c] * W[a, i] * W[b, j] * W[c, h]
    return seen


def gate_proba(z, gate):
    weights = [math.exp(row[0] + float(np.dot(row[1:], z))) for row in gate]
    return [weight / sum(weights) for weight in weights]


def density(x, y, coef, noise_std, g):
    mean = g(coef[0] + float(np.dot(coef[1:], x)))
    return math.exp(-((y - mean) ** 2) / (2 * noise_std**2)) / math.sqrt(2 * math.pi * noise_std**2)


def responsibilities(x, y, z, coef, gate, noise_std, g):
    joint = [p * density(x, y, a, s, g) for p, a, s in zip(gate_proba(z, gate), coef, noise_std, strict=True)]
    return [one / sum(joint) for one in joint]


def log_likelihood(X, y, Z, weight, coef, gate, noise_std, g):
    total = []
    for x, target, z, w in zip(X, y, Z, weight, strict=True):
        proba = gate_proba(z, gate)
        densities = [density(x, target, a, s, g) for a, s in zip(coef, noise_std, strict=True)]
        total.append(w * math.log(math.fsum(p * f for p, f in zip(proba, densities, strict=True))))
    return math.fsum(total)


def em_statistics(X, y, Z, weight, coef, gate, noise_std, g, slope):
    """The sums of an EM step, one row, one expert and one pair of columns at a time."""
    (k, p), q = np.shape(coef), np.shape(gate)[1]
    sums = {
        "log_likelihood": log_likelihood(X, y, Z, weight, coef, gate, noise_std, g),
        "total_weight": math.fsum(weight),
        "weight": np.zeros(k),
        "sum_squares": np.zeros(k),
        "expert_gradient": np.zeros((k, p)),
        "expert_gram": np.zeros((k, p, p)),
        "gate_gradient": np.zeros((k - 1, q)),
        "gate_hessian": np.zeros(((k - 1) * q, (k - 1) * q)),
    }
    for x, target, z, w in zip(X, y, Z, weight, strict=True):
        design, gate_design = [1.0, *x], [1.0, *z]
        proba = gate_proba(z, gate)
        resp = responsibilities(x, target, z, coef, gate, noise_std, g)
        for j in range(k):
            t = float(np.dot(coef[j], design))
            residual = target - g(t)
            sums["weight"][j] += w * resp[j]
            sums["sum_squares"][j] += w * resp[j] * residual**2
            for a in range(p):
                sums["expert_gradient"][j, a] += w * resp[j] * slope(t) * residual * design[a]
                for b in range(p):
                    sums["expert_gram"][j, a, b] += w * resp[j] * slope(t) ** 2 * design[a] * design[b]
        for i, a in product(range(k - 1), range(q)):
            sums["gate_gradient"][i, a] += w * (resp[i] - proba[i]) * gate_design[a]
            for j, b in product(range(k - 1), range(q)):
                curvature = proba[i] * ((i == j) - proba[j])
                sums["gate_hessian"][i * q + a, j * q + b] += w * curvature * gate_design[a] * gate_design[b]
    return sums


def derivative(f, t, step=1e-6):
    return (f(t + step) - f(t - step)) / (2 * step)


def gradient(f, point, step=1e-5):
    """Central differences of a function of an array, in every entry."""
    point = np.array(point, dtype=float)
    result = np.empty_like(point)
    for index in np.ndindex(point.shape):
        moved = point.copy()
        moved[index] += step
        above = f(moved)
        moved[index] -= 2 * step
        result[index] = (above - f(moved)) / (2 * step)
    return result
