"""The whole method in plain numpy: the oracle of the compiled kernels and the honest speed baseline.

Nothing here uses the rest of the package. Every sum over rows comes in two forms that give the same numbers:
full-array, as most would write it, and by blocks of rows (``*_blocks``), where every temporary stays in cache
(two to five times faster). An activation is a name, a number (the slope of a leaky ReLU), or any object with
vectorised ``g(t)`` and ``derivative(t)``. Arguments are arrays of float and are not checked.

Layout shared by all functions: experts see the design ``[1, x]`` and the gate ``[1, z]`` (z = x unless gate
features are given), so coefficient column 0 is the intercept. With ``p = n_features + 1`` and
``q = n_gate_features + 1``, a model is ``Params(coef (k, p), gate (k, q), noise_std (k,))``, the last row of
the gate zero. A constant gate is ``gate_features`` of shape (n_samples, 0).

References
----------
.. [1] A. V. Makkuva, S. Oh, S. Kannan, P. Viswanath, *Breaking the gridlock in Mixture-of-Experts: Consistent
   and Efficient Algorithms*, ICML 2019.
.. [2] A. Anandkumar, R. Ge, D. Hsu, S. M. Kakade, M. Telgarsky, *Tensor decompositions for learning latent
   variable models*, JMLR 2014, Algorithm 1.
.. [3] L. P. Hansen, *Large sample properties of generalized method of moments estimators*, Econometrica 1982.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg, special

LOG_2PI = float(np.log(2 * np.pi))
# Doubles in a block of the design: the block (192 kB) and its weighted copy share a level-2 cache, and for up
# to 40 features a Gram stays below the 1e6 multiplications where OpenBLAS leaves its fast small-matrix path.
BLOCK_DOUBLES = 24_576

Statistics = dict[str, Any]


@dataclass(frozen=True)
class Params:
    """Parameters of a mixture of experts: coef (k, p), gate (k, q) with last row zero, noise_std (k,)."""

    coef: np.ndarray
    gate: np.ndarray
    noise_std: np.ndarray


# ------------------------------------------------------------------------------------------------------------
# Activations and their label transforms


def _linear(t):
    return t, None  # a slope of None is one everywhere: the multiplications by it are left out


def _sigmoid(t):
    value = special.expit(t)
    return value, value * (1 - value)


def _tanh(t):
    value = np.tanh(t)
    return value, 1 - value**2


def _leaky_relu(slope):
    def value_and_slope(t):
        slopes = np.where(t > 0, 1.0, slope)
        return slopes * t, slopes

    return value_and_slope


_ACTIVATIONS = {
    "linear": _linear,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
}
_KINKED = {"relu": 0.0, "leaky_relu": 0.01}
_SINGULAR = 1e-12     # pivots and eigenvalues below this share of the largest are rounding


def kink_slope(activation) -> float | None:
    """Slope left of zero of a (leaky) ReLU; None for any other activation."""
    if isinstance(activation, str):
        return _KINKED.get(activation)
    return float(activation) if isinstance(activation, int | float) else None


def value_and_slope(activation) -> Callable:
    """Function t -> (g(t), g'(t)), where a slope of None means one everywhere (linear)."""
    slope = kink_slope(activation)
    if slope is not None:
        return _leaky_relu(slope)
    if isinstance(activation, str):
        return _ACTIVATIONS[activation]
    return lambda t: (activation.g(t), activation.derivative(t))


@dataclass(frozen=True)
class LabelTransform:
    """Coefficients of P2(y) = y^2 + gamma y and P3(y) = y^3 + alpha y^2 + (beta0 - 3 sigma^2) y.

    They leave E[P2 S2] = c2 sum_i p_i a_i a_i' and E[P3 S3] = c3 sum_i p_i a_i (x) a_i (x) a_i, as y itself leaves
    E[y x] = c1 sum_i p_i a_i; mean_g2 = E[g(Z)^2].
    """

    alpha: float
    beta0: float
    gamma: float
    c1: float
    c2: float
    c3: float
    mean_g2: float


def label_transform(activation) -> LabelTransform:
    """Coefficients of the label transforms of a valid activation, smooth on either side of zero."""
    # Gauss-Legendre on panels of unit length, split at the kink of ReLU; beyond 12 the weight is below 1e-31.
    nodes, node_weights = np.polynomial.legendre.leggauss(40)
    t = (np.arange(-12, 12)[:, None] + (nodes + 1) / 2).ravel()
    density = np.tile(node_weights / 2, 24) * np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)
    value, _ = value_and_slope(activation)(t)
    hermite = np.array([t, t**2 - 1, t**3 - 3 * t])
    M = np.array([(hermite * value**m) @ density for m in (1, 2, 3)])  # M[m - 1, j - 1] = E[g(Z)^m He_j(Z)]
    alpha, beta0 = np.linalg.solve([[M[1, 0], M[0, 0]], [M[1, 1], M[0, 1]]], -M[2, :2])
    gamma = -M[1, 0] / M[0, 0]
    return LabelTransform(
        alpha=float(alpha),
        beta0=float(beta0),
        gamma=float(gamma),
        c1=float(M[0, 0]),
        c2=float(M[1, 1] + gamma * M[0, 1]),
        c3=float(M[2, 2] + alpha * M[1, 2] + beta0 * M[0, 2]),
        mean_g2=float(value**2 @ density),
    )


def transform_labels(y, alpha, beta, gamma) -> tuple[np.ndarray, np.ndarray]:
    """P2(y) = y^2 + gamma y and P3(y) = y^3 + alpha y^2 + beta y."""
    return y * (y + gamma), y * (y * (y + alpha) + beta)


def centred(values, sample_weight=None) -> np.ndarray:
    """Values less their weighted mean, times w_i / sum(w): sums of x with these are centred sample means."""
    if sample_weight is None:
        return (values - values.mean()) / len(values)
    share = sample_weight / sample_weight.sum()
    return share * (values - share @ values)


# ------------------------------------------------------------------------------------------------------------
# Moments


def row_blocks(n_samples: int, n_columns: int, block_rows: int | None = None) -> Iterator[slice]:
    """Slices of consecutive rows; by default as many rows as keep a block of the design in cache."""
    block_rows = block_rows or max(256, BLOCK_DOUBLES // n_columns)
    for start in range(0, n_samples, block_rows):
        yield slice(start, min(start + block_rows, n_samples))


def second_moment(X, c) -> np.ndarray:
    """T2 = X' diag(c) X (d, d), the mean of P2(y) S2(x) when c = centred(P2(y)) (then sum(c) I vanishes)."""
    return (X.T * c) @ X


def second_moment_blocks(X, c, block_rows=None) -> np.ndarray:
    """`second_moment` by blocks of rows."""
    n_samples, n_features = X.shape
    T2 = np.zeros((n_features, n_features))
    for rows in row_blocks(n_samples, n_features, block_rows):
        block = np.ascontiguousarray(X[rows].T, dtype=float)
        T2 += (block * c[rows]) @ block.T
    return T2


def third_moment(X, c, W) -> np.ndarray:
    """T3(W, W, W) (k, k, k): the mean of P3(y) S3(x) seen through W (d, k), when c = centred(P3(y)).

    With v = W'x it is sum_i c_i v (x) v (x) v - sym3(m (x) W'W), m = sum_i c_i v: no d^3 tensor is formed.
    """
    V = X @ W
    pairs = (V[:, :, None] * V[:, None, :]).reshape(len(V), -1)
    cubes = pairs.T @ (c[:, None] * V)
    return _less_hermite_terms(cubes.reshape(3 * (W.shape[1],)), c @ V, W)


def third_moment_blocks(X, c, W, block_rows=None) -> np.ndarray:
    """`third_moment` by blocks of rows, each product of two coordinates computed once."""
    (n_samples, n_features), k = X.shape, W.shape[1]
    first, second = np.triu_indices(k)
    packed, m = np.zeros((len(first), k)), np.zeros(k)
    for rows in row_blocks(n_samples, max(n_features, len(first)), block_rows):
        V = W.T @ X[rows].T
        weighted = (V * c[rows]).T
        packed += (V[first] * V[second]) @ weighted
        m += weighted.sum(axis=0)
    cubes = np.empty((k, k, k))
    cubes[first, second] = cubes[second, first] = packed
    return _less_hermite_terms(cubes, m, W)


def _less_hermite_terms(cubes, m, W):
    """Cubes - sym3(m (x) W'W): turns powers of v into the third score function."""
    mixed = np.multiply.outer(m, W.T @ W)
    return cubes - mixed - mixed.transpose(1, 0, 2) - mixed.transpose(1, 2, 0)


# ------------------------------------------------------------------------------------------------------------
# Refinement by the generalised method of moments

PILOT_ROWS = 16_384  # at most, to know the variances of moments by
SHRINK = 0.05  # of a covariance towards its diagonal
SMALLEST_SHARE = 0.1  # of 1 / k
LONGEST_STEP = 0.5  # relative to an expert's norm


def _tensors(transform, inner, shares):
    """c_m sum_j p_j a_j^(x)m for m = 1, 2, 3, all entries of one after those of the other."""
    c = transform.c1, transform.c2, transform.c3
    powers = inner, np.einsum("ja,jb->jab", inner, inner), np.einsum("ja,jb,jc->jabc", inner, inner, inner)
    return np.concatenate([c[m] * np.tensordot(shares, powers[m], 1).ravel() for m in range(3)])


def _distinct(k):
    """Places of the entries a <= b <= c in what `_tensors` returns."""
    index = np.arange(k + k**2 + k**3)
    second, third = index[k : k + k**2].reshape(k, k), index[k + k**2 :].reshape(k, k, k)
    a, b, c = np.indices((k, k, k))
    return np.concatenate([index[:k], second[np.triu_indices(k)], third[(a <= b) & (b <= c)]])


def _inner_products(r, V):
    """r_m times the m-th score of every row of V (n, k), m = 1, 2, 3, laid out as in `_tensors`."""
    n_samples, k = V.shape
    eye = np.eye(k)
    pairs = np.einsum("na,nb->nab", V, V)
    mixed = np.einsum("na,bc->nabc", V, eye)
    triples = np.einsum("nab,nc->nabc", pairs, V) - mixed - mixed.transpose(0, 2, 1, 3) - mixed.transpose(0, 2, 3, 1)
    scores = V, pairs - eye, triples
    return np.hstack([r[:, m : m + 1] * scores[m].reshape(n_samples, -1) for m in range(3)])


def _outer_weights(r, V):
    """What x outside the span is weighted with: r_1, r_2 v, r_3 (v v' - I), of the last the entries a <= b."""
    a, b = np.triu_indices(V.shape[1])
    return np.hstack([r[:, :1], r[:, 1:2] * V, r[:, 2:] * (V[:, a] * V[:, b] - (a == b))])


def _weighted_least_squares(design, target, covariance):
    scale = np.sqrt(np.diag(covariance))
    correlation = (1 - SHRINK) * covariance / np.outer(scale, scale)
    np.fill_diagonal(correlation, 1.0)
    root = np.linalg.cholesky(correlation) * scale[:, None]
    return np.linalg.lstsq(np.linalg.solve(root, design), np.linalg.solve(root, target), rcond=1e-6)[0]


def refine(X, y, coef, shares, transform, *, activation, beta, noise_variance, norms="unit", sample_weight=None):
    """One step of the generalised method of moments [3]_ from experts (k, d) and mean gate probabilities (k,).

    From each label transform its mean sum_j p_j E[P(g(a_j.x) + sigma N)] under these experts is taken, whose moments
    are known, which leaves less variance. Experts and shares are then fitted to the moments of order one, two and
    three together, weighted by their inverse covariance: by Gauss-Newton inside the experts' span, where moments are
    cubic in them, and by least squares outside it, where they are linear.

    Parameters
    ----------
    norms : {"unit", "common", "free"}
        Whether experts have norm one, one norm that is estimated, or one each.

    Returns
    -------
    coef, shares : ndarray
    """
    weight = np.ones(len(y)) if sample_weight is None else sample_weight
    k = len(coef)
    shares = _floored(shares)
    U = np.linalg.qr(coef.T)[0]
    inner = coef @ U
    g = value_and_slope(activation)

    def residuals(rows):
        V = X[rows] @ U
        value, _ = g(V @ inner.T)
        e1 = y[rows] - value @ shares
        e2 = y[rows] ** 2 - value**2 @ shares - noise_variance
        e3 = y[rows] ** 3 - value**3 @ shares - 3 * noise_variance * (value @ shares)
        return np.column_stack([e1, e2 + transform.gamma * e1, e3 + transform.alpha * e2 + beta * e1]), V

    pilot = slice(None, None, -(-len(y) // PILOT_ROWS))
    r, V = residuals(pilot)
    w = weight[pilot] / weight[pilot].sum()
    mean = w @ r
    distinct = _distinct(k)
    inside, outside = _inner_products(r - mean, V)[:, distinct], _outer_weights(r - mean, V)

    moments, cross = 0.0, 0.0
    for rows in row_blocks(len(y), k**3):
        r, V = residuals(rows)
        share = weight[rows] / weight.sum()
        moments = moments + share @ _inner_products(r - mean, V)[:, distinct]
        cross = cross + (share[:, None] * _outer_weights(r - mean, V)).T @ X[rows]

    inner, shares = _fit_inside(moments, (inside.T * w) @ inside, transform, inner, shares, norms)
    a, b = np.triu_indices(k)
    design = np.vstack([
        transform.c1 * shares, transform.c2 * shares * inner.T, transform.c3 * shares * inner.T[a] * inner.T[b]
    ])  # fmt: skip
    outer = _weighted_least_squares(design, cross - cross @ U @ U.T, (outside.T * w) @ outside)
    norm = np.linalg.norm(inner, axis=1, keepdims=True)
    outer *= np.minimum(1, LONGEST_STEP * norm / np.maximum(np.linalg.norm(outer, axis=1, keepdims=True), 1e-300))
    coef = inner @ U.T + outer
    if norms != "free":
        coef *= norm / np.linalg.norm(coef, axis=1, keepdims=True)
    return coef, shares


def _fit_inside(moments, covariance, transform, inner, shares, norms, n_iter=3):
    """Gauss-Newton; the derivatives by complex steps, exact for polynomials."""
    k = len(inner)
    distinct = _distinct(k)
    wanted = moments + _tensors(transform, inner, shares)[distinct]
    for _ in range(n_iter):
        # Which changes are allowed: columns are directions of (experts, shares).
        unit = linalg.block_diag(*[row[:, None] / np.linalg.norm(row) for row in inner])
        along = {"unit": np.empty((k * k, 0)), "common": unit.sum(axis=1, keepdims=True), "free": unit}[norms]
        experts = np.hstack([linalg.null_space(unit.T), along])
        directions = linalg.block_diag(experts, linalg.null_space(np.ones((1, k)))).T
        slopes = [
            _tensors(transform, inner + 1e-30j * one[: k * k].reshape(k, k), shares + 1e-30j * one[k * k :]).imag * 1e30
            for one in directions
        ]
        left = wanted - _tensors(transform, inner, shares)[distinct]
        step = _weighted_least_squares(np.transpose(slopes)[distinct], left, covariance) @ directions
        change, norm = step[: k * k].reshape(k, k), np.linalg.norm(inner, axis=1)
        shorter = min(1, LONGEST_STEP / np.max(np.linalg.norm(change, axis=1) / norm))
        new_norm = norm + shorter * (change * inner).sum(axis=1) / norm
        inner, shares = inner + shorter * change, _floored(shares + shorter * step[k * k :])
        if norms != "free":
            inner *= (new_norm / np.linalg.norm(inner, axis=1))[:, None]
    return inner, shares


def _floored(shares):
    shares = np.maximum(shares, SMALLEST_SHARE / len(shares))
    return shares / shares.sum()


# ------------------------------------------------------------------------------------------------------------
# Spectral start


def power_method(S, n_restarts=10, n_iter=30, rng=None) -> tuple[np.ndarray, np.ndarray]:
    """Orthogonal decomposition S = sum_i eigvals[i] v_i (x) v_i (x) v_i of a symmetric (k, k, k) tensor.

    Tensor power iteration with deflation, Algorithm 1 of [2]_: from `n_restarts` random directions, keep the
    one of largest S(v, v, v), iterate it again, subtract its term.

    Returns
    -------
    eigvals : ndarray of shape (k,)
    eigvecs : ndarray of shape (k, k)
        Row i is the unit vector v_i, in the order found.
    """
    rng = np.random.default_rng(rng)
    n_experts = len(S)
    left = np.array(S, dtype=float)
    eigvals, eigvecs = np.empty(n_experts), np.empty((n_experts, n_experts))
    for i in range(n_experts):
        V = _power_iterations(left, rng.standard_normal((n_restarts, n_experts)), n_iter)
        best = np.argmax(_eigenvalues(left, V))
        v = _power_iterations(left, V[best : best + 1], n_iter)
        eigvals[i], eigvecs[i] = _eigenvalues(left, v)[0], v[0]
        left -= eigvals[i] * np.einsum("a,b,c->abc", v[0], v[0], v[0])
    return eigvals, eigvecs


def _contract(S, V):
    """S(I, v, v) for every row v of V (m, k)."""
    pairs = (V[:, :, None] * V[:, None, :]).reshape(len(V), -1)
    return pairs @ S.reshape(pairs.shape[1], -1)


def _eigenvalues(S, V):
    return (_contract(S, V) * V).sum(axis=1)


def _power_iterations(S, V, n_iter):
    V = V / np.linalg.norm(V, axis=1, keepdims=True)
    for _ in range(n_iter):
        V = _contract(S, V)
        V /= np.maximum(np.linalg.norm(V, axis=1, keepdims=True), np.finfo(float).tiny)
    return V


@dataclass(frozen=True)
class SpectralEstimate:
    """Experts found by moments."""

    coef: np.ndarray  # (k, d), no intercepts
    mixing_weights: np.ndarray  # (k,), mean gate probabilities
    eigenvalues: np.ndarray  # (d,) of T2 / c2, falling
    whitener: np.ndarray  # (d, k)
    noise_std: float


def spectral_start(
    X,
    y,
    n_experts,
    *,
    activation="linear",
    noise_std=None,
    unit_norm=True,
    sample_weight=None,
    n_restarts=10,
    n_iter=30,
    n_refinements=2,
    rng=None,
    form="blocks",
) -> SpectralEstimate:
    """Experts by moments, without knowing the gate; rows of X standard normal: two passes, and one a refinement.

    Parameters
    ----------
    noise_std : float, optional
        The common noise; by default from mean(y^2) = E[g(Z)^2] + sigma^2, exact for experts of unit norm.
    unit_norm : bool
        Scale every expert to norm one; otherwise norms come out of the decomposition.
    n_refinements : int
        Steps of `refine` after the decomposition; 0 is the algorithm of [1]_.
    """
    if not 1 <= n_experts <= X.shape[1]:
        raise ValueError(f"n_experts is {n_experts}, expected 1 to n_features = {X.shape[1]}")
    second, third = {
        "full": (second_moment, third_moment),
        "blocks": (second_moment_blocks, third_moment_blocks),
    }[form]
    transform = label_transform(activation)
    mean_square = np.average(y**2, weights=sample_weight)
    noise_variance = mean_square - transform.mean_g2 if noise_std is None else noise_std**2
    # An estimate below zero is left so in beta: for linear g, -3 mean(y^2) is right for any common norm.
    beta = transform.beta0 - 3 * noise_variance
    P2, P3 = transform_labels(y, transform.alpha, beta, transform.gamma)

    eigenvalues, U = np.linalg.eigh(second(X, centred(P2, sample_weight)) / transform.c2)
    eigenvalues, U = eigenvalues[::-1], U[:, ::-1]
    # Too few samples can leave fewer than k positive eigenvalues: lifted, they still give a usable start.
    top = np.maximum(eigenvalues[:n_experts], 1e-6 * abs(eigenvalues[0]))
    W, B = U[:, :n_experts] / np.sqrt(top), U[:, :n_experts] * np.sqrt(top)
    S = third(X, centred(P3, sample_weight), W) / transform.c3
    eigvals, eigvecs = power_method(S, n_restarts, n_iter, rng)

    coef = eigvals[:, None] * (eigvecs @ B.T)
    shares = np.maximum(eigvals, 1.0) ** -2.0
    shares /= shares.sum()
    linear = activation == "linear"
    norms = "free" if not unit_norm else "common" if linear else "unit"
    scale = np.linalg.norm(coef, axis=1, keepdims=True)
    if unit_norm:
        coef /= scale
    if norms == "common":
        coef *= np.sqrt(min(shares @ scale[:, 0] ** 2, mean_square))
    for _ in range(n_refinements):
        own_noise = max(noise_variance, 0.0)
        if linear and noise_std is None:
            own_noise = max(mean_square - shares @ (coef**2).sum(axis=1), 0.0)
        coef, shares = refine(
            X, y, coef, shares, transform, activation=activation, beta=beta, noise_variance=own_noise, norms=norms,
            sample_weight=sample_weight,
        )  # fmt: skip
    if unit_norm:
        coef = coef / np.linalg.norm(coef, axis=1, keepdims=True)
    return SpectralEstimate(coef, shares, eigenvalues, W, float(np.sqrt(max(noise_variance, 0.0))))


def start_params(coef, noise_std, n_gate_features=None) -> Params:
    """Experts (k, d) without intercept and a gate of zeros: where EM starts."""
    n_experts, n_features = coef.shape
    q = 1 + (n_features if n_gate_features is None else n_gate_features)
    coef = np.column_stack([np.zeros(n_experts), coef])
    return Params(coef, np.zeros((n_experts, q)), np.full(n_experts, float(noise_std)))


def random_start(X, y, n_experts, rng=None, n_gate_features=None) -> Params:
    """Experts of unit norm in random directions, a gate of zeros, and the target's own spread as noise."""
    coef = np.random.default_rng(rng).standard_normal((n_experts, X.shape[1]))
    coef /= np.linalg.norm(coef, axis=1, keepdims=True)
    return start_params(coef, np.std(y), n_gate_features)


# ------------------------------------------------------------------------------------------------------------
# EM: the sums over rows


def em_statistics(
    X,
    y,
    params,
    sample_weight=None,
    gate_features=None,
    activation="linear",
    hessian=True,
    majorised=False,
) -> Statistics:
    """Everything an EM step needs from the rows, at `params`.

    Parameters
    ----------
    hessian : bool
        Whether to sum expert_gram and gate_hessian too.
    majorised : bool
        For a (leaky) ReLU: expert_gram from curvatures that bound the squared residuals from above, see
        `_majorising_curvature`.

    Returns
    -------
    dict
        log_likelihood (weighted sum), total_weight, and with r = responsibilities, mu_j = g(D coef_j):
        weight (k,) = sum w r; sum_squares (k,) = sum w r (y - mu)^2;
        expert_gradient (k, p) = D'(w r g' (y - mu)); gate_gradient (k - 1, q) = Z'(w (r_j - pi_j));
        with `hessian` also expert_gram (k, p, p) = D' diag(w r g'^2) D and
        gate_hessian ((k - 1) q, (k - 1) q), by expert and then by column: minus the second derivative of the
        gate's expected log-likelihood.
    """
    D = _design(X)
    Z = D if gate_features is None else _design(gate_features)
    kink = kink_slope(activation) if majorised else None
    return _full_statistics(D, Z, y, sample_weight, params, value_and_slope(activation), hessian, kink)


def _design(X):
    return np.column_stack([np.ones(len(X)), X])


def _full_statistics(D, Z, y, sample_weight, params, g, hessian, kink=None):
    t = D @ params.coef.T
    value, slope = g(t)
    residual = y[:, None] - value
    log_density = -0.5 * (residual / params.noise_std) ** 2 - np.log(params.noise_std) - 0.5 * LOG_2PI
    statistics, weighted_resp = _full_gate_statistics(Z, log_density, sample_weight, params.gate, hessian)
    weighted_residual = weighted_resp * residual
    statistics["weight"] = weighted_resp.sum(axis=0)
    statistics["sum_squares"] = (weighted_residual * residual).sum(axis=0)
    if slope is not None:
        weighted_residual *= slope
        curvature = slope**2 if kink is None else _majorising_curvature(t, y[:, None], kink)
        weighted_resp = weighted_resp * curvature
    statistics["expert_gradient"] = weighted_residual.T @ D
    if hessian:
        statistics["expert_gram"] = np.array([(D * w[:, None]).T @ D for w in weighted_resp.T])
    return statistics


def _full_gate_statistics(Z, log_density, sample_weight, gate, hessian=True):
    log_proba = special.log_softmax(Z @ gate.T, axis=1)
    log_joint = log_proba + log_density
    log_likelihood = special.logsumexp(log_joint, axis=1)
    resp, proba = np.exp(log_joint - log_likelihood[:, None]), np.exp(log_proba)
    gap = (resp - proba)[:, :-1]
    weight = np.ones(len(Z)) if sample_weight is None else sample_weight
    statistics = {
        "log_likelihood": log_likelihood @ weight,
        "total_weight": weight.sum(),
        "gate_gradient": (gap * weight[:, None]).T @ Z,
    }
    if hessian:
        m, q = len(gate) - 1, gate.shape[1]
        H = np.empty((m, q, m, q))
        for a in range(m):
            for b in range(a + 1):
                curvature = weight * proba[:, a] * ((a == b) - proba[:, b])
                H[a, :, b] = H[b, :, a] = (Z * curvature[:, None]).T @ Z
        statistics["gate_hessian"] = H.reshape(m * q, m * q)
    return statistics, resp * weight[:, None]


def _majorising_curvature(t, y, slope):
    """Curvature of a parabola in t that touches (y - g(t))^2 / 2 from above, g a leaky ReLU.

    The optimum often has rows on the kink, t = 0 with y < 0, where Gauss-Newton steps find no ascent. With
    g = (1 + s)/2 t + (1 - s)/2 abs(t) and abs(t) <= t^2 / (2 c) + c / 2, c = abs(t) now, the bound holds rows
    the harder the nearer they are to the kink, and the others climb on.
    """
    pull = np.maximum((slope - 1) * y, 0)
    nearness = np.maximum(
        np.abs(t), 1e-12 * np.abs(y) + np.finfo(float).tiny
    )  # no harder than rounding allows
    return max(1.0, slope**2) + pull / (2 * nearness)


def em_statistics_blocks(
    X,
    y,
    params,
    sample_weight=None,
    gate_features=None,
    activation="linear",
    hessian=True,
    majorised=False,
    block_rows=None,
) -> Statistics:
    """`em_statistics` by blocks of rows, designs transposed: every numpy loop runs along contiguous rows."""
    g = value_and_slope(activation)
    kink = kink_slope(activation) if majorised else None
    total: Statistics = {}
    for rows in row_blocks(len(X), X.shape[1] + 1, block_rows):
        D = _block_design(X, rows)
        Z = D if gate_features is None else _block_design(gate_features, rows)
        weight = None if sample_weight is None else sample_weight[rows]
        _add(total, _block_statistics(D, Z, y[rows], weight, params, g, hessian, kink))
    return total


def _block_design(X, rows):
    """Rows [1, x] of a block, transposed: (1 + n_features, n_rows) in float64."""
    block = X[rows]
    design = np.empty((1 + block.shape[1], len(block)))
    design[0] = 1.0
    design[1:] = block.T
    return design


def _add(total, part):
    for name, value in part.items():
        total[name] = total[name] + value if name in total else value


def _block_statistics(D, Z, y, weight, params, g, hessian, kink):
    t = params.coef @ D
    value, slope = g(t)
    residual = np.subtract(y, value)
    log_density = _block_log_density(residual, params.noise_std)
    statistics, weighted_resp = _block_gate_statistics(Z, log_density, weight, params.gate, hessian)
    weighted_residual = weighted_resp * residual
    statistics["weight"] = weighted_resp.sum(axis=1)
    statistics["sum_squares"] = np.einsum("jn,jn->j", weighted_residual, residual)
    if slope is not None:
        weighted_residual *= slope
        weighted_resp *= slope**2 if kink is None else _majorising_curvature(t, y, kink)
    statistics["expert_gradient"] = weighted_residual @ D.T
    if hessian:
        statistics["expert_gram"] = np.array([(D * w) @ D.T for w in weighted_resp])
    return statistics


def _block_log_density(residual, noise_std):
    """Log of the normal density of every residual (k, n)."""
    log_density = residual / noise_std[:, None]
    log_density *= log_density
    log_density *= -0.5
    log_density -= (np.log(noise_std) + 0.5 * LOG_2PI)[:, None]
    return log_density


def _block_gate_statistics(Z, log_density, weight, gate, hessian=True):
    logits = gate @ Z
    log_joint = logits + log_density
    log_partition, proba = _normalise(logits)
    log_evidence, resp = _normalise(log_joint)
    row_log_likelihood = log_evidence - log_partition
    m, q = len(gate) - 1, len(gate[0])
    gap = resp[:m] - proba[:m]
    curvature = proba[:m]
    if weight is not None:
        row_log_likelihood *= weight
        resp *= weight
        gap *= weight
        curvature = curvature * weight
    statistics = {
        "log_likelihood": row_log_likelihood.sum(),
        "total_weight": float(Z.shape[1] if weight is None else weight.sum()),
        "gate_gradient": gap @ Z.T,
    }
    if hessian:
        H = np.empty((m, q, m, q))
        for a in range(m):
            for b in range(a):
                H[a, :, b] = H[b, :, a] = (Z * (-curvature[a] * proba[b])) @ Z.T
            H[a, :, a] = (Z * (curvature[a] * (1 - proba[a]))) @ Z.T
        statistics["gate_hessian"] = H.reshape(m * q, m * q)
    return statistics, resp


def _normalise(logits):
    """Log-sum-exp of every column, and the softmax written over `logits`."""
    top = logits.max(axis=0)
    logits -= top
    np.exp(logits, out=logits)
    total = logits.sum(axis=0)
    logits /= total
    return top + np.log(total), logits


# ------------------------------------------------------------------------------------------------------------
# EM: the steps


def em_step(
    statistics,
    params,
    noise="per_expert",
    *,
    linear=True,
    fit_intercept=True,
    gate_intercept=True,
    barrier=0.0,
    step=1.0,
) -> Params:
    """One M-step: least squares (linear) or Gauss-Newton for the experts, Newton for the gate, the noise.

    Parameters
    ----------
    noise : "per_expert", "shared", a number or an array of shape (k,)
        Numbers are held.
    linear : bool
        Whether g is linear: the experts' step is then the exact maximum, and the noise is that of the new
        residuals. Otherwise the noise is that of the residuals at `params`, which keeps the ascent sure.
    barrier : float
        b of the objective log-likelihood - sum_j b / (2 sigma_j^2), whose exact M-step is (SS_j + b) / w_j.
    step : float
        Fraction of the gate's step, and of the experts' where g is not linear.
    """
    coef, sum_squares = params.coef.copy(), statistics["sum_squares"].copy()
    used = slice(0 if fit_intercept else 1, None)
    for j in range(len(coef)):
        gradient = statistics["expert_gradient"][j, used]
        change = _solve(statistics["expert_gram"][j, used, used], gradient)
        if linear:
            coef[j, used] += change
            # Never below what rounding can tell from zero, when a step takes nearly all of the residual.
            sum_squares[j] = max(sum_squares[j] - gradient @ change, np.finfo(float).eps * sum_squares[j])
        else:
            coef[j, used] += step * change
    noise_std = _noise_step(statistics["weight"], sum_squares, params.noise_std, noise, barrier)
    gate = gate_step(statistics, params, gate_intercept=gate_intercept, step=step).gate
    return Params(coef, gate, noise_std)


def gate_step(statistics, params, *, gate_intercept=True, step=1.0) -> Params:
    """A fraction of one Newton step of the gate; experts and noise held."""
    gate = params.gate.copy()
    used = slice(0 if gate_intercept else 1, None)
    m, q = statistics["gate_gradient"].shape
    gradient = statistics["gate_gradient"][:, used]
    hessian = statistics["gate_hessian"].reshape(m, q, m, q)[:, used, :, used]
    change = _solve(hessian.reshape(gradient.size, gradient.size), gradient.ravel())
    gate[:-1, used] += step * change.reshape(gradient.shape)
    return Params(params.coef, gate, params.noise_std)


def gradient_step(
    statistics, params, noise="per_expert", *, fit_intercept=True, gate_intercept=True, barrier=0.0, step=1.0
) -> Params:
    """One M-step by a single gradient step of the mean per row, the experts' in units of their noise.

    `step` up to one is safe for inputs of unit covariance: no curvature of the mean exceeds one.
    """
    coef, gate = params.coef.copy(), params.gate.copy()
    used, gate_used = slice(0 if fit_intercept else 1, None), slice(0 if gate_intercept else 1, None)
    rate = step / statistics["total_weight"]
    coef[:, used] += rate * statistics["expert_gradient"][:, used]
    gate[:-1, gate_used] += rate * statistics["gate_gradient"][:, gate_used]
    noise_std = _noise_step(statistics["weight"], statistics["sum_squares"], params.noise_std, noise, barrier)
    return Params(coef, gate, noise_std)


def _solve(gram, gradient):
    """Solution of a positive definite system; of least norm where it is singular to rounding."""
    if gradient.size == 0:  # one expert has no gate
        return gradient
    try:
        factor = linalg.cho_factor(gram)
        pivots = np.diag(factor[0]) ** 2
        if pivots.min() > _SINGULAR * pivots.max():
            return linalg.cho_solve(factor, gradient)
    except linalg.LinAlgError:
        pass
    return np.linalg.pinv(gram, rcond=_SINGULAR, hermitian=True) @ gradient


def _held_noise(noise, n_experts):
    return np.array(np.broadcast_to(np.asarray(noise, dtype=float), (n_experts,)))


def _noise_step(weight, sum_squares, noise_std, noise, barrier):
    if not isinstance(noise, str):
        return _held_noise(noise, len(weight))
    variance = noise_std**2
    if noise == "shared":
        variance[:] = (sum_squares.sum() + barrier * len(weight)) / weight.sum()
    else:  # an expert without rows keeps its noise
        np.divide(sum_squares + barrier, weight, out=variance, where=weight > 0)
    return np.sqrt(variance)


# ------------------------------------------------------------------------------------------------------------
# EM: the loops


def em_fit(
    X,
    y,
    params,
    *,
    sample_weight=None,
    gate_features=None,
    activation="linear",
    noise="per_expert",
    fit_intercept=True,
    gate_intercept=True,
    barrier=0.0,
    m_step="newton",
    max_iter=1000,
    tol=1e-10,
    form="blocks",
) -> tuple[Params, np.ndarray]:
    """Joint EM from `params`; a step under which the objective falls is halved.

    With a (leaky) ReLU, Gauss-Newton steps go first, and majorised ones go on from where they stall at kinks.

    Parameters
    ----------
    m_step : "newton" (`em_step`) or "gradient" (`gradient_step`)
    tol : float
        Stop when the mean objective per row gains no more.
    form : "full" or "blocks"

    Returns
    -------
    params : Params
    history : ndarray
        The objective (log-likelihood less the barrier) at the start and after every iteration.
    """
    options = {"fit_intercept": fit_intercept, "gate_intercept": gate_intercept, "barrier": barrier}
    if not isinstance(noise, str):
        params = Params(params.coef, params.gate, _held_noise(noise, len(params.coef)))
    g, kink, hessian = value_and_slope(activation), kink_slope(activation), m_step == "newton"

    if form == "full":
        D = _design(X)
        Z = D if gate_features is None else _design(gate_features)

        def statistics(params):
            return _full_statistics(D, Z, y, sample_weight, params, g, hessian)

        def majorised_statistics(params):
            return _full_statistics(D, Z, y, sample_weight, params, g, hessian, kink)
    else:
        arguments = (sample_weight, gate_features, activation, hessian)

        def statistics(params):
            return em_statistics_blocks(X, y, params, *arguments)

        def majorised_statistics(params):
            return em_statistics_blocks(X, y, params, *arguments, majorised=True)

    def propose(sums, params, step):
        if m_step == "gradient":
            return gradient_step(sums, params, noise, step=step, **options)
        return em_step(sums, params, noise, linear=g is _linear, step=step, **options)

    params, history = _ascend(statistics, propose, params, barrier, max_iter, tol)
    if kink is not None and hessian:
        left = max_iter - (len(history) - 1)
        params, more = _ascend(majorised_statistics, propose, params, barrier, left, tol)
        history = np.append(history, more[1:])
    return params, history


def gate_fit(
    X,
    y,
    params,
    *,
    sample_weight=None,
    gate_features=None,
    activation="linear",
    gate_intercept=True,
    max_iter=1000,
    tol=1e-10,
    form="blocks",
) -> tuple[Params, np.ndarray]:
    """EM for the gate alone, experts and noise held, their densities computed once; returns as `em_fit`."""
    inputs = X if gate_features is None else gate_features
    g = value_and_slope(activation)

    if form == "full":
        residual = y[:, None] - g(_design(X) @ params.coef.T)[0]
        log_density = _block_log_density(residual.T, params.noise_std).T
        Z = _design(inputs)

        def statistics(params):
            return _full_gate_statistics(Z, log_density, sample_weight, params.gate)[0]
    else:
        log_density = np.empty((len(params.coef), len(X)))
        for rows in row_blocks(len(X), X.shape[1] + 1):
            residual = y[rows] - g(params.coef @ _block_design(X, rows))[0]
            log_density[:, rows] = _block_log_density(residual, params.noise_std)

        def statistics(params):
            total: Statistics = {}
            for rows in row_blocks(len(X), inputs.shape[1] + 1):
                weight = None if sample_weight is None else sample_weight[rows]
                Z = _block_design(inputs, rows)
                _add(total, _block_gate_statistics(Z, log_density[:, rows], weight, params.gate)[0])
            return total

    def propose(sums, params, step):
        return gate_step(sums, params, gate_intercept=gate_intercept, step=step)

    return _ascend(statistics, propose, params, 0.0, max_iter, tol)


def _ascend(statistics, propose, params, barrier, max_iter, tol):
    """Repeat statistics and proposal until the objective gains no more; halve steps that make it fall."""

    def evaluate(params):
        sums = statistics(params)
        return sums, sums["log_likelihood"] - 0.5 * barrier * (params.noise_std**-2.0).sum()

    sums, objective = evaluate(params)
    history = [objective]
    for _ in range(max_iter):
        rounding = 1e-13 * (sums["total_weight"] + abs(objective))
        step = 1.0
        while True:
            proposal = propose(sums, params, step)
            new_sums, new_objective = evaluate(proposal)
            if new_objective >= objective - rounding:
                break
            step /= 2
            if step < 1e-6:  # no ascent left that rounding lets us see
                return params, np.array(history)
        gain = new_objective - objective
        params, sums, objective = proposal, new_sums, new_objective
        history.append(objective)
        if gain <= tol * sums["total_weight"]:
            break
    return params, np.array(history)


def fit(
    X,
    y,
    n_experts,
    *,
    activation="linear",
    noise="per_expert",
    sample_weight=None,
    gate_features=None,
    gate_intercept=True,
    rng=None,
    form="blocks",
    **options,
) -> tuple[Params, np.ndarray]:
    """The whole method: spectral start, EM for the gate, joint EM; `options` and results are `em_fit`'s."""
    noise_std = None if isinstance(noise, str) else float(np.mean(noise))
    spectral = spectral_start(
        X,
        y,
        n_experts,
        activation=activation,
        noise_std=noise_std,
        sample_weight=sample_weight,
        rng=rng,
        form=form,
    )
    # The start's experts err by more than a small noise: a gate fitted as if they did not would be too sure.
    start = start_params(
        spectral.coef,
        max(spectral.noise_std, 0.1 * np.std(y)),
        None if gate_features is None else gate_features.shape[1],
    )
    shared = {
        "activation": activation,
        "sample_weight": sample_weight,
        "gate_features": gate_features,
        "gate_intercept": gate_intercept,
        "form": form,
    }
    start, _ = gate_fit(X, y, start, max_iter=20, tol=1e-4, **shared)
    return em_fit(X, y, start, noise=noise, **shared, **options)
