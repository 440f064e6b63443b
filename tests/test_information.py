"""Are gradient and second derivative those of the log-likelihood? Against differences, and Louis' identity by rows."""

import numpy as np
import pytest
from rowwise import ACTIVATIONS, assert_within, matrices, problem, row_values

from moe_fast import _em
from moe_fast.design import Parameters
from moe_fast.information import gradient, hessian, moved, scales, scores
from moe_fast.linalg import lower_pairs
from moe_fast.objective import Objective

LONG = np.longdouble
# Activations in extended precision, so that second differences keep their digits.
CURVES = {
    "linear": lambda t: t,
    "sigmoid": lambda t: 1 / (1 + np.exp(-t)),
    "tanh": np.tanh,
    "relu": lambda t: np.maximum(t, 0),
    "leaky_relu": lambda t: np.where(t > 0, t, LONG(0.3) * t),
    "custom": lambda t: np.log1p(np.exp(t)),
}
GATES = {
    "shared design": {},
    "own features": {"n_gate_features": 1},
    "constant": {"gate": "constant"},
    "no intercepts": {"fit_intercept": False, "gate_intercept": False},
    "one intercept": {"gate_intercept": False},
}
HELD = np.zeros(0)   # any array as noise: held


def small_problem(activation="tanh", *, n_samples=80, n_experts=3, seed=0, **options):
    """A small problem whose rows lie off the kinks of ReLU."""
    design, parameters = problem(n_samples, 2, n_experts, activation=activation, seed=seed, weighted=True, **options)
    D, _ = matrices(design)
    off_kinks = np.abs(D @ parameters.expert.T).min(axis=1) > 0.05
    return design.on(design.rows.take(np.flatnonzero(off_kinks))), parameters


def objective_at(design, activation, objective):
    """The objective as a function of (experts, gate, log noise_std), straight from its definition."""
    D, Z = (matrix.astype(LONG) for matrix in matrices(design))
    y, weight = design.rows.y.astype(LONG), design.rows.weight.astype(LONG)

    def value(parameters):
        expert, gate, noise_std = (np.asarray(part, LONG) for part in parameters)
        mean = CURVES[activation](D @ expert.T)
        logit = Z @ np.vstack([gate, np.zeros((1, Z.shape[1]), LONG)]).T
        density = np.exp(-((y[:, None] - mean) ** 2) / (2 * noise_std**2)) / np.sqrt(2 * LONG(np.pi)) / noise_std
        proba = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
        fit = weight @ np.log((proba * density).sum(axis=1))
        if not objective.moves_noise:
            return fit
        own = noise_std[:1] if objective.shares_noise else noise_std
        return fit - objective.barrier / 2 * (own**-2).sum()

    return value


def differences(value, parameters, objective):
    """Gradient and Hessian in the parameters that move, by central differences in extended precision."""
    expert, gate, noise_std = (part.astype(LONG) for part in (parameters.expert, parameters.gate, parameters.noise_std))
    n_noise = (1 if objective.shares_noise else len(noise_std)) if objective.moves_noise else 0
    n_expert = expert.size if objective.move_experts else 0
    m = n_expert + gate.size + n_noise

    def at(move):
        a, b, c = np.split(move, [n_expert, n_expert + gate.size])
        return value((
            expert + (a.reshape(expert.shape) if n_expert else 0),
            gate + b.reshape(gate.shape),
            noise_std * (np.exp(c) if n_noise else 1),   # a shared one by broadcasting
        ))

    step = LONG(1e-4)   # truncation 1e-8; rounding 1e-19 / step^2 = 1e-11
    moves = step * np.eye(m, dtype=LONG)
    first = np.array([(at(e) - at(-e)) / (2 * step) for e in moves])
    second = np.empty((m, m), LONG)
    for a, b in lower_pairs(m):
        e, f = moves[a], moves[b]
        mixed = at(e + f) - at(e - f) - at(f - e) + at(-e - f)
        second[a, b] = second[b, a] = mixed / (4 * step**2)
    return first, second


def check_against_differences(design, parameters, activation, objective):
    sums = design.run(parameters, _em.INFORMATION)
    wanted = differences(objective_at(design, activation, objective), parameters, objective)
    for derivative, want in zip((gradient, hessian), wanted, strict=True):
        got = derivative(sums, parameters, objective)
        # 1e-6 of the largest: the differences' truncation.
        np.testing.assert_allclose(got, want.astype(float), rtol=0, atol=1e-6 * np.abs(got).max())


needs_long_double = pytest.mark.skipif(
    np.finfo(LONG).eps > 1e-18, reason="long double is no wider than double here: second differences lose their digits"
)


@needs_long_double
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_derivatives_of_every_activation(activation):
    """Kills: g'' left out or of the wrong sign, a block transposed, a pair in the wrong place."""
    design, parameters = small_problem(activation)
    check_against_differences(design, parameters, activation, Objective())


@needs_long_double
@pytest.mark.parametrize("gate", GATES)
def test_derivatives_with_every_gate(gate):
    """Kills: the cross block of an own gate mirrored as if it were symmetric, intercepts' columns mixed up."""
    design, parameters = small_problem("sigmoid", **GATES[gate])
    check_against_differences(design, parameters, "sigmoid", Objective())


@needs_long_double
@pytest.mark.parametrize(
    "objective",
    [
        Objective(noise="shared"),
        Objective(noise=HELD),
        Objective(noise="per_expert", barrier=3.0),
        Objective(noise="shared", barrier=3.0),
        Objective(noise=HELD, barrier=3.0),
        Objective(move_experts=False),
    ],
    ids=["shared", "held", "barrier", "shared-barrier", "held-barrier", "gate only"],
)
def test_derivatives_of_every_objective(objective):
    """Kills: a barrier counted once an expert for a shared noise, or for one that is held; rows of what is held."""
    design, parameters = small_problem("tanh")
    check_against_differences(design, parameters, "tanh", objective)


@needs_long_double
@pytest.mark.parametrize("n_experts", [1, 2, 4])
def test_derivatives_of_any_number_of_experts(n_experts):
    design, parameters = small_problem("linear", n_experts=n_experts, n_samples=60)
    check_against_differences(design, parameters, "linear", Objective())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "objective", [Objective(), Objective(noise="shared"), Objective(move_experts=False)], ids=["all", "shared", "gate"]
)
def test_scores_add_up_to_the_gradient(activation, objective):
    """Kills: a slope left out, a shared noise's scores not added."""
    design, parameters = small_problem(activation, n_gate_features=1)
    row = scores(design, parameters, objective)
    total = design.rows.weight @ row
    np.testing.assert_allclose(
        total, gradient(design.run(parameters, 0), parameters, objective), rtol=0, atol=1e-12 * np.abs(row).sum()
    )


def louis(design, parameters):
    """Gradient and Hessian of the log-likelihood, and their sums of absolute terms.

    With u_j = log(pi_j N_j): sum_j r_j grad u_j, and sum_j r_j (hess u_j + grad u_j grad u_j') - grad grad'.
    """
    v, (k, p), (g, q) = row_values(design, parameters), parameters.expert.shape, parameters.gate.shape
    m = k * p + g * q + k
    n, e, variance = len(v.D), v.residual, parameters.noise_std**2
    first, second = np.zeros((k, n, m)), np.zeros((k, n, m, m))
    gate_part = slice(k * p, k * p + g * q)
    for j in range(k):
        own, noise = slice(j * p, (j + 1) * p), k * p + g * q + j
        ratio = e[:, j] / variance[j]
        first[j, :, own] = (v.slope[:, j] * ratio)[:, None] * v.D
        first[j, :, noise] = e[:, j] * ratio - 1.0
        away = (np.arange(g) == j) - v.proba[:, :g]
        first[j, :, gate_part] = np.einsum("nl,nq->nlq", away, v.Z).reshape(n, g * q)
        bend = v.bend[:, j] * ratio - v.slope[:, j] ** 2 / variance[j]
        second[j, :, own, own] = np.einsum("n,na,nb->nab", bend, v.D, v.D)
        mixed = (-2.0 * v.slope[:, j] * ratio)[:, None] * v.D
        second[j, :, own, noise] = second[j, :, noise, own] = mixed
        second[j, :, noise, noise] = -2.0 * e[:, j] * ratio
        pi = v.proba[:, :g]
        softmax = pi[:, :, None] * (pi[:, None, :] - np.eye(g))
        second[j, :, gate_part, gate_part] = np.einsum("nlh,na,nb->nlahb", softmax, v.Z, v.Z).reshape(n, g * q, g * q)
    r, w = v.resp.T, v.weight
    of_row = np.einsum("jn,jna->na", r, first)
    total = np.einsum("jn,jnab->nab", r, second) + np.einsum("jn,jna,jnb->nab", r, first, first)
    total -= of_row[:, :, None] * of_row[:, None, :]
    size = np.einsum("jn,jna->na", r, np.abs(first))
    sizes = np.einsum("jn,jnab->nab", r, np.abs(second)) + size[:, :, None] * size[:, None, :]
    sizes += np.einsum("jn,jna,jnb->nab", r, np.abs(first), np.abs(first))
    return w @ of_row, np.einsum("n,nab->ab", w, total), w @ size, np.einsum("n,nab->ab", w, sizes)


@pytest.mark.parametrize("n_experts", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_information_equals_brute_force(activation, dtype, n_experts):
    """To 1e-12 of the sum of absolute terms. Kills: what differences cannot see, at rows that fill tiles and more."""
    design, parameters = problem(
        300, 2, n_experts, activation=activation, dtype=dtype, weighted=True, n_gate_features=3
    )
    check_against_louis(design, parameters)


@pytest.mark.parametrize("n_samples", [1, 255, 256, 257, 1500])
@pytest.mark.parametrize("n_features", [1, 5, 8])
def test_information_at_the_edges_of_tiles(n_samples, n_features):
    check_against_louis(*problem(n_samples, n_features, 2, activation="sigmoid", weighted=True))


@pytest.mark.parametrize("gate", GATES)
def test_information_with_every_gate(gate):
    check_against_louis(*problem(300, 3, 3, activation="tanh", **GATES[gate]))


@pytest.mark.parametrize(("n_features", "n_gate_features"), [(12, None), (9, 8), (2, 13), (13, 2)])
def test_information_of_many_columns(n_features, n_gate_features):
    """More than a register tile wide. Kills: half of an unsymmetric block left out, or mirrored."""
    check_against_louis(*problem(150, n_features, 3, activation="tanh", n_gate_features=n_gate_features))


def check_against_louis(design, parameters):
    sums = design.run(parameters, _em.INFORMATION)
    second = hessian(sums, parameters, Objective())
    want_first, want_second, size, sizes = louis(design, parameters)
    assert_within(gradient(sums, parameters, Objective()), want_first, size, "gradient")
    assert_within(second, want_second, sizes, "hessian")
    assert (second == second.T).all()


@pytest.mark.parametrize("objective", [Objective(), Objective(noise="shared"), Objective(noise=HELD),
                                       Objective(move_experts=False)], ids=["own", "shared", "held", "gate only"])
def test_moved_along_what_the_gradient_is_of(objective):
    """Kills: moves of the gate taken for the experts', noise moved by more than e-fold or when held."""
    design, parameters = small_problem("tanh")
    sums = design.run(parameters, _em.INFORMATION)
    first, size = gradient(sums, parameters, objective), scales(sums, parameters, objective)
    assert hessian(sums, parameters, objective).shape == (len(first), len(first))
    assert size.shape == first.shape
    assert (size > 0.0).all()
    move = np.random.default_rng(0).uniform(-0.5, 0.5, len(first))
    gain = design.run(moved(parameters, objective, 1e-6 * move), 0).log_likelihood - sums.log_likelihood
    np.testing.assert_allclose(gain, 1e-6 * move @ first, rtol=1e-4)
    far = moved(parameters, objective, 100.0 * move)
    if objective.moves_noise:
        assert np.abs(np.log(far.noise_std / parameters.noise_std)).max() <= 1.0 + 1e-15
    else:
        assert (far.noise_std == parameters.noise_std).all()
    if not objective.move_experts:
        assert (far.expert == parameters.expert).all()
        np.testing.assert_allclose(far.gate - parameters.gate, 100.0 * move.reshape(far.gate.shape), rtol=1e-12)
    if objective.shares_noise:
        np.testing.assert_allclose(far.noise_std / parameters.noise_std, np.exp(np.clip(100.0 * move[-1], -1.0, 1.0)))


def test_scales_are_roots_of_curvature():
    """Well separated experts, known exactly: each scale is near the root of its own curvature.

    Kills: sigma missing in the experts' scale. Within a factor of two; they only put parameters on one scale.
    """
    design, parameters = problem(2000, 2, 2, activation="linear")
    parameters = Parameters(
        np.array([[20.0, 1.0, 0.0], [-20.0, 0.0, 1.0]]), np.zeros((1, 3)), np.array([0.3, 0.5])
    )
    D, _ = matrices(design)
    which = np.random.default_rng(0).integers(0, 2, 2000)
    design.rows.y[:] = np.sum(D * parameters.expert[which], axis=1) + (
        parameters.noise_std[which] * np.random.default_rng(1).standard_normal(2000)
    )
    for objective in (Objective(), Objective(noise="shared")):
        sums = design.run(parameters, _em.INFORMATION)
        curvature = -np.diagonal(hessian(sums, parameters, objective))
        ratio = np.sqrt(curvature) / scales(sums, parameters, objective)
        assert ratio.min() > 0.5
        assert ratio.max() < 2.0
