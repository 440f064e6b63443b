"""Gradient and second derivative of the log-likelihood, eq. (I.1) of docs/math.md, from the sums of one pass.

Used by Newton's method in `em`, and by standard errors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .design import Parameters, Sums
from .linalg import lower_pairs
from .objective import Objective

__all__ = ["gradient_and_hessian", "scales"]

FloatArray = NDArray[np.float64]


def gradient_and_hessian(
    sums: Sums, parameters: Parameters, objective: Objective
) -> tuple[FloatArray, FloatArray, Callable[[FloatArray], Parameters]]:
    """Derivatives of the objective in the parameters that move.

    Parameters
    ----------
    sums : Sums
        Of a pass at `parameters` that was asked for `_em.INFORMATION`.
    parameters : Parameters
    objective : Objective

    Returns
    -------
    gradient : ndarray of shape (m,)
        In the order experts row by row, gate row by row, log noise_std (one for a shared noise, none if held).
    hessian : ndarray of shape (m, m)
        Symmetric.
    unpack : callable
        From a move of shape (m,) to the parameters moved by it.
    """
    (k, p), (g, q) = parameters.expert.shape, parameters.gate.shape
    n_expert, n_gate = k * p, g * q
    variance = parameters.noise_std**2
    gradient = np.concatenate([
        (sums.expert_gradient / variance[:, None]).ravel(),
        sums.gate_gradient.ravel(),
        sums.sum_squares / variance - sums.weight,
    ])
    hessian = np.zeros((n_expert + n_gate + k, n_expert + n_gate + k))
    expert = hessian[:n_expert, :n_expert].reshape(k, p, k, p)
    gate = hessian[n_expert : n_expert + n_gate, n_expert : n_expert + n_gate].reshape(g, q, g, q)
    cross = hessian[:n_expert, n_expert : n_expert + n_gate].reshape(k, p, g, q)
    expert_noise = hessian[:n_expert, n_expert + n_gate :].reshape(k, p, k)
    gate_noise = hessian[n_expert : n_expert + n_gate, n_expert + n_gate :].reshape(g, q, k)
    for (a, b), block in zip(lower_pairs(k), sums.info_expert, strict=True):
        expert[a, :, b, :] = expert[b, :, a, :] = block
    for (a, b), block in zip(lower_pairs(g), sums.info_gate, strict=True):
        gate[a, :, b, :] = gate[b, :, a, :] = block
    cross[...] = sums.info_cross.transpose(0, 2, 1, 3)
    expert_noise[...] = sums.info_expert_noise.transpose(0, 2, 1)
    gate_noise[...] = sums.info_gate_noise.transpose(1, 2, 0)
    hessian[n_expert + n_gate :, n_expert + n_gate :] = sums.info_noise
    upper = np.triu_indices(len(hessian), 1)
    hessian[upper[1], upper[0]] = hessian[upper]

    n_moving = len(gradient)
    if not objective.move_experts:
        moving = slice(n_expert, n_expert + n_gate)
    elif not objective.moves_noise:
        moving = slice(n_expert + n_gate)
    else:
        moving = slice(n_moving)
        if objective.shares_noise:   # one parameter moves all log noise_std alike
            starts = np.arange(n_expert + n_gate + 1)
            gradient = np.add.reduceat(gradient, starts)
            hessian = np.add.reduceat(np.add.reduceat(hessian, starts, axis=0), starts, axis=1)
    gradient, hessian = gradient[moving], hessian[moving, moving]
    if objective.barrier and objective.moves_noise:
        # d/d log s of -b / (2 s^2) is b / s^2, and again -2 b / s^2; a shared noise has it once.
        of_barrier = objective.barrier / (variance[:1] if objective.shares_noise else variance)
        at = np.arange(len(gradient) - len(of_barrier), len(gradient))
        gradient[at] += of_barrier
        hessian[at, at] -= 2.0 * of_barrier

    def unpack(move: FloatArray) -> Parameters:
        full = np.zeros(n_expert + n_gate + k)
        full[moving][: len(move)] = move
        if objective.shares_noise:
            full[n_expert + n_gate :] = move[-1]
        return Parameters(
            parameters.expert + full[:n_expert].reshape(k, p),
            parameters.gate + full[n_expert : n_expert + n_gate].reshape(g, q),
            # At most e-fold a step: the quadratic model knows nothing of what lies further.
            parameters.noise_std * np.exp(np.clip(full[n_expert + n_gate :], -1.0, 1.0)),
        )

    return gradient, hessian, unpack



def scales(sums: Sums, parameters: Parameters, objective: Objective) -> FloatArray:
    """Roots of the curvature that each parameter would have alone, with the experts known and columns standard.

    Returns
    -------
    size : ndarray of shape (m,)
        In the order of `gradient_and_hessian`.
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
