"""What the rows determine of a model's parameters: directions in which they hold information, and its inverse there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .design import Design, Parameters, Sums
from .information import row_by_row, scales
from .objective import Objective

__all__ = ["Determined", "flat_experts"]

FloatArray = NDArray[np.float64]

# Curvature below this part of a typical one is none: the sums of a pass are right to about 1e-14.
_NO_CURVATURE = 1e-11
_LOST = 1e14      # trace of an inverse whose digits are all rounding's
# A parameter with so large a part in a direction without curvature is undetermined. An eigenvector beside curvatures
# of 1e-9 and more is right to 1e-5.
_PART = 1e-5
_WEAK = 1e-3      # of a typical curvature, below which it is asked how many rows it is of
# Rows that tell a direction, below which it is undetermined: where an expert has no rows to tell by, as of a dummy that
# is zero in all of its rows, what curvature there is, is what EM left when it ended.
_FEWEST_ROWS = 0.01
_OWED = 0.01      # of a parameter's variance, that such a direction may add unnoticed
_FLAT = 1e-12     # mean square of g' that is none: a sigmoid's at 14
_SPAN = 1 << 13   # rows looked at one by one at a time


@dataclass(frozen=True, eq=False)
class Determined:
    """The information of some rows, and where they hold any.

    Attributes
    ----------
    inverse : ndarray of shape (m, m)
        Of the information, in the order of `information.gradient`; on the directions that are determined, which is
        right for all that does not depend on the others.
    upward : bool
        Whether information is negative in any: the parameters are no maximum.
    """

    inverse: FloatArray
    upward: bool
    _size: FloatArray     # (m,), a scale of each parameter
    _flat: FloatArray     # (m, ...), directions without information
    _unsure: FloatArray   # (m, ...), those of too few rows, of variance one

    @classmethod
    def of(
        cls, design: Design, parameters: Parameters, objective: Objective, sums: Sums, information: FloatArray
    ) -> Determined:
        """From the sums of a pass, and minus the Hessian."""
        size = scales(sums, parameters, objective)
        scaled = information / np.outer(size, size)
        direct, whole = _inverse(scaled), None
        if direct is not None:
            nothing = np.empty((len(size), 0))
            whole = cls(direct / np.outer(size, size), False, size, nothing, nothing)
            if np.trace(direct) * _WEAK < 1.0:   # so is every eigenvalue above _WEAK
                return whole
        values, vectors = np.linalg.eigh(scaled)
        vectors /= size[:, np.newaxis]
        none = (values <= _NO_CURVATURE) & (whole is None)
        weak = np.flatnonzero(~none & (values < _WEAK))
        unsure = np.zeros(len(size), bool)
        unsure[weak] = _n_telling(design, parameters, objective, vectors[:, weak]) < _FEWEST_ROWS
        if whole is not None and not unsure.any():
            return whole
        values[~none] = np.maximum(values[~none], 1.0 / _LOST)   # rounding may leave less of what is definite
        kept = ~(none | unsure)
        return cls(
            (vectors[:, kept] / values[kept]) @ vectors[:, kept].T, bool(values[0] < -_NO_CURVATURE), size,
            vectors[:, none], vectors[:, unsure] / np.sqrt(values[unsure]),
        )

    def leaves_out(self, linear: FloatArray) -> NDArray[np.bool_]:
        """Which of some linear functions of the parameters, rows of (n, m), are undetermined."""
        part, whole = np.linalg.norm(linear @ self._flat, axis=1), np.linalg.norm(linear / self._size, axis=1)
        known = np.einsum("ij,ij->i", linear @ self.inverse, linear)
        owed = np.sum((linear @ self._unsure) ** 2, axis=1)
        return (part > _PART * whole) | (owed > _OWED * known)


def _inverse(scaled: FloatArray) -> FloatArray | None:
    """The inverse of what is clearly positive definite: by pivots, which columns that nearly depend leave more of."""
    try:
        lower = np.linalg.cholesky(scaled)
        inverse: Any = np.linalg.inv(scaled)
    except np.linalg.LinAlgError:
        return None
    clearly = (np.diagonal(lower) ** 2 > _NO_CURVATURE).all() and 0.0 < np.trace(inverse) < _LOST
    return inverse if clearly else None   # what is singular to rounding may have an inverse of any sign


def flat_experts(sums: Sums) -> list[int]:
    """Experts with rows on which the activation does not rise; from a pass that was asked for `_em.EXPERT_GRAM`."""
    n_columns = sums.expert_gram.shape[-1]
    slope = np.trace(sums.expert_gram, axis1=1, axis2=2) / n_columns
    return np.flatnonzero((slope <= _FLAT * sums.weight) & (sums.weight > 0.0)).tolist()


@np.errstate(under="ignore")
def _n_telling(
    design: Design, parameters: Parameters, objective: Objective, directions: FloatArray
) -> FloatArray:
    """How many rows tell of each direction, (c,) of (m, c).

    What a row would tell if it were surely an expert's, u, counts with the probability p that it is: (sum p u)^2 /
    sum p u^2, which is sum p if all tell alike, and one where one row tells all, however far out it lies.
    """
    (k, p), (g, q), c = parameters.expert.shape, parameters.gate.shape, directions.shape[1]
    if c == 0:
        return np.empty(0)
    n_expert = k * p if objective.move_experts else 0
    of_experts = directions[:n_expert].reshape(-1, p, c)
    of_gate = np.concatenate([directions[n_expert : n_expert + g * q].reshape(g, q, c), np.zeros((1, q, c))])
    of_noise = 2.0 * directions[n_expert + g * q :] ** 2
    first, second = np.zeros(c), np.zeros(c)
    for span in design.rows.spans(_SPAN):
        block = design.on(design.rows.take(span))
        eta, _, gate, resp = row_by_row(block, parameters)
        weight = np.ones(block.rows.n_samples) if block.rows.weight is None else block.rows.weight
        slope = (block.activation.derivative(eta) / parameters.noise_std) ** 2
        odds = np.einsum("iq,kqc->ikc", block.gate_matrix, of_gate)
        odds -= np.einsum("ik,ikc->ic", gate, odds)[:, np.newaxis]
        told = [(gate, odds**2)]
        if len(of_experts):
            moved = np.einsum("ip,kpc->ikc", block.expert_matrix, of_experts)
            told.append((resp, slope[:, :, np.newaxis] * moved**2))
        if len(of_noise):
            told.append((resp, np.broadcast_to(of_noise, (len(weight), k, c))))
        for probability, would in told:
            first += np.einsum("i,ik,ikc->c", weight, probability, would)
            second += np.einsum("i,ik,ikc->c", weight, probability, would**2)
    return first**2 / np.maximum(second, np.finfo(np.float64).tiny) / design.rows.unit_weight
