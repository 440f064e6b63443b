"""Gradient and second derivative of the log-likelihood, eq. (I.1) of docs/math.md, from the sums of one pass.

Used by Newton's method in `em`, and by standard errors.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from .design import Design, Parameters, Sums
from .linalg import Curvature, from_lower_blocks
from .objective import Objective

__all__ = ["factored", "flat", "gradient", "hessian", "moved", "row_by_row", "scales", "scores"]

FloatArray = NDArray[np.float64]


def gradient(sums: Sums, parameters: Parameters, objective: Objective) -> FloatArray:
    """First derivative of the objective in the parameters that move, from the sums of any pass at `parameters`.

    Returns
    -------
    gradient : ndarray of shape (m,)
        In the order experts row by row, gate row by row, log noise_std (one for a shared noise, none if held).
    """
    variance = parameters.noise_std**2
    full = np.concatenate([
        (sums.expert_gradient / variance[:, np.newaxis]).ravel(),
        sums.gate_gradient.ravel(),
        sums.sum_squares / variance - sums.weight,
    ])
    moving = _moving(parameters, objective)
    full = np.add.reduceat(full, moving) if objective.shares_noise else full[moving]
    if objective.barrier and objective.moves_noise:
        of_barrier = _of_barrier(parameters, objective)   # d/d log s of -b / (2 s^2) is b / s^2
        full[-len(of_barrier) :] += of_barrier
    return full


@np.errstate(under="ignore")
def row_by_row(
    design: Design, parameters: Parameters
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Of each row and expert, (n_samples, n_experts): linear predictor, residual over noise, gate, responsibility."""
    Z = design.gate_matrix
    eta = design.expert_matrix @ parameters.expert.T
    ratio = (design.rows.y[:, np.newaxis] - design.activation.g(eta)) / parameters.noise_std
    log_gate = scipy.special.log_softmax(Z @ np.vstack([parameters.gate, np.zeros((1, Z.shape[1]))]).T, axis=1)
    resp = scipy.special.softmax(log_gate - 0.5 * ratio**2 - np.log(parameters.noise_std), axis=1)
    return eta, ratio, np.exp(log_gate), resp


@np.errstate(under="ignore")
def scores(design: Design, parameters: Parameters, objective: Objective) -> FloatArray:
    """Gradient of each row's log density, as matrices in plain numpy: for few rows at a time.

    Returns
    -------
    scores : ndarray of shape (n_samples, m)
        In the order of `gradient`, to which they add up, each times its row's weight, but for the barrier.
    """
    D, Z, n = design.expert_matrix, design.gate_matrix, design.rows.n_samples
    eta, ratio, gate, resp = row_by_row(design, parameters)
    pull = resp * design.activation.derivative(eta) * ratio / parameters.noise_std
    away = (resp - gate)[:, :-1]
    full = np.hstack([
        (pull[:, :, np.newaxis] * D[:, np.newaxis]).reshape(n, -1),
        (away[:, :, np.newaxis] * Z[:, np.newaxis]).reshape(n, -1),
        resp * (ratio**2 - 1.0),
    ])
    moving = _moving(parameters, objective)
    return np.add.reduceat(full, moving, axis=1) if objective.shares_noise else full[:, moving]


def hessian(sums: Sums, parameters: Parameters, objective: Objective) -> FloatArray:
    """Second derivative of the objective, from a pass that was asked for `_em.INFORMATION`.

    Returns
    -------
    hessian : ndarray of shape (m, m)
        Symmetric; in the order of `gradient`.
    """
    (k, p), (g, q) = parameters.expert.shape, parameters.gate.shape
    n_expert, n_gate = k * p, g * q
    full = np.zeros((n_expert + n_gate + k, n_expert + n_gate + k))
    full[:n_expert, :n_expert] = from_lower_blocks(sums.info_expert, k)
    full[n_expert : n_expert + n_gate, n_expert : n_expert + n_gate] = from_lower_blocks(sums.info_gate, g)
    cross = full[:n_expert, n_expert : n_expert + n_gate].reshape(k, p, g, q)
    expert_noise = full[:n_expert, n_expert + n_gate :].reshape(k, p, k)
    gate_noise = full[n_expert : n_expert + n_gate, n_expert + n_gate :].reshape(g, q, k)
    cross[...] = sums.info_cross.transpose(0, 2, 1, 3)
    expert_noise[...] = sums.info_expert_noise.transpose(0, 2, 1)
    gate_noise[...] = sums.info_gate_noise.transpose(1, 2, 0)
    full[n_expert + n_gate :, n_expert + n_gate :] = sums.info_noise
    upper = np.triu_indices(len(full), 1)
    full[upper[1], upper[0]] = full[upper]

    moving = _moving(parameters, objective)
    if objective.shares_noise:   # one parameter moves all log noise_std alike
        full = np.add.reduceat(np.add.reduceat(full, moving, axis=0), moving, axis=1)
    elif len(moving) < len(full):
        full = full[np.ix_(moving, moving)]
    if objective.barrier and objective.moves_noise:
        of_barrier = _of_barrier(parameters, objective)
        at = np.arange(len(full) - len(of_barrier), len(full))
        full[at, at] -= 2.0 * of_barrier
    return full


def factored(sums: Sums, parameters: Parameters, objective: Objective) -> Curvature | None:
    """The Hessian, factored on a common scale of the parameters; None as `Curvature.factor` says."""
    return Curvature.factor(hessian(sums, parameters, objective), scales(sums, parameters, objective))


def flat(parameters: Parameters, objective: Objective) -> FloatArray:
    """What moves of the parameters, (m,), in the order of `gradient`; the noise by its log."""
    full = np.concatenate([parameters.expert.ravel(), parameters.gate.ravel(), np.log(parameters.noise_std)])
    return full[_moving(parameters, objective)]


def moved(parameters: Parameters, objective: Objective, move: FloatArray) -> Parameters:
    """The parameters after a move of shape (m,), in the order of `gradient`."""
    (k, p), (g, q) = parameters.expert.shape, parameters.gate.shape
    full = np.zeros(k * p + g * q + k)
    full[_moving(parameters, objective)] = move
    expert, gate, log_noise = full[: k * p], full[k * p : -k], full[-k:]
    if objective.shares_noise:
        log_noise[:] = move[-1]
    return Parameters(
        parameters.expert + expert.reshape(k, p),
        parameters.gate + gate.reshape(g, q),
        # At most e-fold a step: the quadratic model knows nothing of what lies further.
        parameters.noise_std * np.exp(np.clip(log_noise, -1.0, 1.0)),
    )


def _moving(parameters: Parameters, objective: Objective) -> NDArray[np.intp]:
    """Places in (experts, gate, log noise_std) of what moves; a shared noise stands in the first of its places."""
    n_expert, n_gate, k = parameters.expert.size, parameters.gate.size, parameters.n_experts
    if not objective.move_experts:
        return np.arange(n_expert, n_expert + n_gate)
    n_noise = 0 if not objective.moves_noise else 1 if objective.shares_noise else k
    return np.arange(n_expert + n_gate + n_noise)


def _of_barrier(parameters: Parameters, objective: Objective) -> FloatArray:
    variance = parameters.noise_std**2
    return objective.barrier / (variance[:1] if objective.shares_noise else variance)


def scales(sums: Sums, parameters: Parameters, objective: Objective) -> FloatArray:
    """Roots of the curvature that each parameter would have alone, with the experts known and columns standard.

    Returns
    -------
    size : ndarray of shape (m,)
        In the order of `gradient`.
    """
    weight = np.maximum(sums.weight, 1e-3 * sums.total / len(sums.weight))
    gate = np.repeat(np.sqrt(weight[:-1] * (1.0 - 0.5 * weight[:-1] / sums.total)), parameters.gate.shape[1])
    if not objective.move_experts:
        return gate
    expert = np.repeat(np.sqrt(weight) / parameters.noise_std, parameters.expert.shape[1])
    if not objective.moves_noise:
        return np.concatenate([expert, gate])
    noise = np.sqrt(2.0 * weight)
    return np.concatenate([expert, gate, np.sqrt([2.0 * sums.total]) if objective.shares_noise else noise])
