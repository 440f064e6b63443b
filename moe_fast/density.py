"""Densities of the rows in plain numpy: what the race compares starts by, and moves deal rows out by; on few rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .design import Design, Parameters
from .rows import mean_and_error

__all__ = ["log_density", "log_joint", "logits", "logsumexp", "may_be_better"]

FloatArray = NDArray[np.float64]

_ERRORS = 2.0   # standard errors that what may still be better can lie below the leader


@np.errstate(under="ignore")
def logsumexp(values: FloatArray) -> FloatArray:
    """log sum_k exp(values[k, i]) of every column of finite numbers."""
    largest = values.max(axis=0)
    return largest + np.log(np.exp(values - largest).sum(axis=0))


def logits(design: Design, parameters: Parameters) -> FloatArray:
    """Of the gate, (n_experts, n_samples)."""
    return np.vstack([parameters.gate @ design.gate_matrix.T, np.zeros(design.rows.n_samples)])


def log_joint(design: Design, parameters: Parameters) -> FloatArray:
    """log p(z = k, y | x) of every expert and row, but for the softmax's sum and a constant."""
    return logits(design, parameters) + _of_experts(design, parameters)


def log_density(design: Design, parameters: Parameters) -> FloatArray:
    """log p(y | x) of every row but for a constant, (n_samples,)."""
    of_gate = logits(design, parameters)
    return logsumexp(of_gate + _of_experts(design, parameters)) - logsumexp(of_gate)


def _of_experts(design: Design, parameters: Parameters) -> FloatArray:
    """log p(y | x, z = k) of every expert and row, but for a constant."""
    noise_std = parameters.noise_std[:, np.newaxis]
    mean = design.activation.g(parameters.expert @ design.expert_matrix.T)
    z = np.clip((design.rows.y - mean) / noise_std, -1e50, 1e50)
    return -0.5 * z * z - np.log(noise_std)


def may_be_better(design: Design, one: Parameters, of_leader: FloatArray, n_errors: float = _ERRORS) -> bool:
    """Whether, on more rows than these, one may yet overtake a leader with these log densities: its mean loss is within
    so many of its standard errors.
    """
    mean, error = mean_and_error(of_leader - log_density(design, one), design.rows.weight)
    return mean < n_errors * error
