"""What the sums of an EM pass are sums of, row by row in plain numpy; and problems to try passes on.

The values at a row come from the model's definition and scipy's log-sum-exp; nothing here is packed or cut in blocks.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy.special import log_softmax, logsumexp

import moe_fast
from moe_fast import reference
from moe_fast.activations import Activation, Code, LeakyReLU, get_activation
from moe_fast.design import Design, Parameters
from moe_fast.rows import Rows

SOFTPLUS = Activation("softplus", lambda t: np.logaddexp(0.0, t), lambda t: 1.0 / (1.0 + np.exp(-t)))
ACTIVATIONS = {
    "linear": get_activation("linear"),
    "sigmoid": get_activation("sigmoid"),
    "tanh": get_activation("tanh"),
    "relu": get_activation("relu"),
    "leaky_relu": LeakyReLU(0.3),
    "custom": SOFTPLUS,
}


def problem(
    n_samples,
    n_features=3,
    n_experts=3,
    *,
    activation="tanh",
    dtype=np.float64,
    weighted=False,
    n_gate_features=None,
    fit_intercept=True,
    gate="softmax",
    gate_intercept=True,
    n_threads=1,
    seed=0,
):
    """Rows that are far from standard, and parameters that did not make them: a design and a `Parameters`."""
    rng = np.random.default_rng(seed)
    X = (3.0 + 2.0 * rng.standard_normal((n_samples, n_features))).astype(dtype)
    Z = None if n_gate_features is None else rng.uniform(1.0, 4.0, (n_samples, n_gate_features)).astype(dtype)
    weight = rng.uniform(0.0, 2.0, n_samples) if weighted else None
    rows = Rows(X, rng.standard_normal(n_samples), weight, Z, n_threads)
    design = Design(rows, ACTIVATIONS[activation], fit_intercept, gate, gate_intercept)
    parameters = Parameters(
        0.7 * rng.standard_normal((n_experts, design.n_columns)),
        rng.standard_normal((n_experts - 1, design.n_gate_columns)),
        rng.uniform(0.4, 1.5, n_experts),
    )
    return design, parameters


def _standardised(X, standard, intercept):
    columns = (X.astype(np.float64) - standard[0]) * standard[1]
    return np.column_stack([np.ones((len(X), int(intercept))), columns])


def matrices(design):
    """The experts' design (n, p) and the gate's (n, q)."""
    D = _standardised(design.rows.X, design.standard, design.fit_intercept)
    Z = design.rows.X if design.Z is None else design.Z
    return D, _standardised(Z, design.gate_standard, design.gate_intercept)


def row_values(design, parameters):
    """Everything a pass computes at the rows: (n, k) arrays, and (n,) for weight and log_density."""
    D, Z = matrices(design)
    g = design.activation
    eta = D @ parameters.expert.T
    log_proba = log_softmax(Z @ np.vstack([parameters.gate, np.zeros(Z.shape[1])]).T, axis=1)
    y = design.rows.y[:, None]
    mean = g.g(eta)
    z = (y - mean) / parameters.noise_std
    log_joint = log_proba - 0.5 * z**2 - np.log(parameters.noise_std) - 0.5 * np.log(2.0 * np.pi)
    log_density = logsumexp(log_joint, axis=1)
    resp = np.exp(log_joint - log_density[:, None])
    weight = np.ones(len(D)) if design.rows.weight is None else design.rows.weight
    return SimpleNamespace(
        D=D, Z=Z, weight=weight, eta=eta, mean=mean, slope=g.derivative(eta), bend=g.second_derivative(eta),
        residual=y - mean, size=np.abs(y) + np.abs(mean), proba=np.exp(log_proba), log_joint=log_joint,
        log_density=log_density, resp=resp,
    )


def reference_sums(design, parameters):
    """`reference.em_statistics` on the standardised rows, as a pass names and packs it."""
    D, Z = matrices(design)
    own, gate_own = slice(int(design.fit_intercept), None), slice(int(design.gate_intercept), None)
    used, gate_used = slice(int(not design.fit_intercept), None), slice(int(not design.gate_intercept), None)
    k, p = len(parameters.expert), D.shape[1] + (not design.fit_intercept)
    q = Z.shape[1] + (not design.gate_intercept)
    coef, gate = np.zeros((k, p)), np.zeros((k, q))
    coef[:, used], gate[:-1, gate_used] = parameters.expert, parameters.gate
    g = design.activation
    named = g if g.code == Code.CUSTOM else g.slope if g.code == Code.LEAKY_RELU else g.name
    sums = reference.em_statistics(
        D[:, own], design.rows.y, reference.Params(coef, gate, parameters.noise_std), design.rows.weight,
        Z[:, gate_own], named,
    )
    hessian = sums["gate_hessian"].reshape(k - 1, q, k - 1, q)[:, gate_used, :, gate_used]
    pairs = [(a, b) for a in range(k - 1) for b in range(a + 1)]
    return {
        "log_likelihood": sums["log_likelihood"],
        "total": sums["total_weight"],
        "weight": sums["weight"],
        "sum_squares": sums["sum_squares"],
        "expert_gradient": sums["expert_gradient"][:, used],
        "gate_gradient": sums["gate_gradient"][:, gate_used],
        "expert_gram": sums["expert_gram"][:, used, used],
        "gate_gram": np.array([hessian[a, :, b] for a, b in pairs]).reshape(len(pairs), Z.shape[1], Z.shape[1]),
    }


def sums_of_sizes(design, parameters):
    """For each sum of a pass the sum of its absolute terms, which the rounding of the sum is in proportion to."""
    v = row_values(design, parameters)
    w, k = v.weight[:, None], len(parameters.expert)
    D, Z, wr = np.abs(v.D), np.abs(v.Z), w * v.resp
    pairs = [(a, b) for a in range(k - 1) for b in range(a + 1)]
    curvature = [w[:, 0] * v.proba[:, a] * np.abs((a == b) - v.proba[:, b]) for a, b in pairs]
    return {
        "log_likelihood": np.sum(v.weight * np.abs(v.log_density)) + np.sum(wr * np.abs(v.log_joint)),
        "total": v.weight.sum(),
        "weight": wr.sum(axis=0),
        "sum_squares": np.sum(wr * v.size**2, axis=0),
        "expert_gradient": (wr * np.abs(v.slope) * v.size).T @ D,
        "gate_gradient": (w * (v.resp + v.proba))[:, :-1].T @ Z,
        "expert_gram": np.array([(D.T * c) @ D for c in (wr * v.slope**2).T]),
        "gate_gram": np.array([(Z.T * c) @ Z for c in curvature]).reshape(len(pairs), Z.shape[1], Z.shape[1]),
    }


def assert_within(got, want, sizes, name="", u=1e-12):
    """|got - want| <= u times the sum of absolute terms. 1e-12 is 4500 roundings, and a sum has some tens.

    Below 1e-280 all is zero: the kernels leave responsibilities at exp(-708) where the oracle has none.
    """
    got, want, bound = (np.asarray(value, dtype=np.longdouble) for value in (got, want, sizes))
    assert got.shape == want.shape, name
    excess = np.max(np.abs(got - want) / np.maximum(u * bound, 1e-280), initial=0.0)
    assert excess <= 1.0, f"{name}: {float(excess):.3g} times the bound"   # NaN fails too


def run_python(script, *arguments, timeout=60.0, **environment):
    """A fresh interpreter that imports the moe_fast under test and this file's folder: (exit code, stdout, stderr)."""
    folders = [Path(moe_fast.__file__).parents[1], Path(__file__).parent]
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), **environment},
        capture_output=True, text=True, timeout=timeout, check=False,
    )
    return done.returncode, done.stdout, done.stderr
