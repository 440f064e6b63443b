"""What the rows determine of a model's parameters: directions in which they hold information, and its inverse there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from .collinearity import grams
from .design import Design, Parameters, Sums
from .linalg import DEPENDENT
from .objective import Objective

__all__ = ["Determined", "flat_experts"]

FloatArray = NDArray[np.float64]

# Rows' worth of information, below which a direction is undetermined: what is left where an expert has no rows to tell
# by, as of a dummy that is zero in all of its rows, is what EM left of them when it ended.
_ROWS_WORTH = 0.01
# Information, as a share of that of all rows, that is none to rounding: where columns depend on others, and elsewhere.
_NONE_OF_DEPENDENT, _NONE = 1e-16, 1e-13
_PART = 0.01      # of a parameter's variance, that a direction left out may add unnoticed
_FLAT = 1e-12     # mean square of g' that is none: a sigmoid's at 14
_NO_WEIGHT = 1e-200   # an expert's share of the rows, to divide by


@dataclass(frozen=True, eq=False)
class Determined:
    """The information of some rows, and where they hold any.

    Attributes
    ----------
    inverse : ndarray of shape (m, m)
        Of the information, in the order of `information.gradient`; on the directions that are determined, which is
        right for all that does not depend on the others.
    left_out : ndarray of shape (m, r)
        A basis of the others; the variance along each is one, or more.
    upward : bool
        Whether information is negative in any: the parameters are no maximum.
    """

    inverse: FloatArray
    left_out: FloatArray
    upward: bool

    @classmethod
    def of(
        cls, design: Design, parameters: Parameters, objective: Objective, sums: Sums, information: FloatArray
    ) -> Determined:
        """From the sums of a pass that was asked for `_em.EXPERT_GRAM`, and minus the Hessian.

        Each direction is measured by what all rows would tell of it if they were the expert's alone, so that columns
        that nearly depend on each other, and small experts, are as well determined as they are.
        """
        basis, dependent = _basis(design, parameters, objective, sums)
        least = _ROWS_WORTH * design.rows.unit_weight / sums.total
        measured = basis.T @ information @ basis
        dependent /= np.sqrt(_NONE_OF_DEPENDENT)
        try:
            np.linalg.cholesky(measured)
            inverse = np.linalg.inv(measured)
        except np.linalg.LinAlgError:
            pass
        else:   # the least eigenvalue is no less than one over the trace; one of rounding may have any sign
            if 0.0 < np.trace(inverse) * least < 1.0:
                return cls(basis @ inverse @ basis.T, dependent, False)
        values, vectors = np.linalg.eigh(measured)
        kept = values > least
        vectors = basis @ vectors
        left_out = vectors[:, ~kept] / np.sqrt(np.where(values < _NONE, _NONE, values)[~kept])
        inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
        return cls(inverse, np.hstack([left_out, dependent]), bool(values[0] < -least))

    def leaves_out(self, linear: FloatArray) -> NDArray[np.bool_]:
        """Which of some linear functions of the parameters, rows of (n, m), are undetermined."""
        kept = np.einsum("ij,ij->i", linear @ self.inverse, linear)
        return np.sum((linear @ self.left_out) ** 2, axis=1) > _PART * kept


def flat_experts(sums: Sums) -> list[int]:
    """Experts with rows on which the activation does not rise; from a pass that was asked for `_em.EXPERT_GRAM`."""
    n_columns = sums.expert_gram.shape[-1]
    slope = np.trace(sums.expert_gram, axis1=1, axis2=2) / n_columns
    return np.flatnonzero((slope <= _FLAT * sums.weight) & (sums.weight > 0.0)).tolist()


def _basis(
    design: Design, parameters: Parameters, objective: Objective, sums: Sums
) -> tuple[FloatArray, FloatArray]:
    """Directions in which all rows hold information of one, (m, r), and those in which their columns hold none."""
    of_experts, of_gate = (_whitened(gram) for gram in grams(design))
    blocks = [of_gate] * (parameters.n_experts - 1)
    noise = np.empty(0)
    if objective.move_experts:
        own = zip(sums.expert_gram, sums.weight, strict=True)
        steep = [_mean_square_slope(of_experts[0], gram, weight / sums.total) for gram, weight in own]
        sizes = parameters.noise_std / np.sqrt(steep)
        blocks = [(size * of_experts[0], size * of_experts[1]) for size in sizes] + blocks
        n_noise = 0 if not objective.moves_noise else 1 if objective.shares_noise else parameters.n_experts
        noise = np.full(n_noise, 1.0 / np.sqrt(2.0 * sums.total))
    ends = np.diag(noise), np.empty((len(noise), 0))
    basis, dependent = (block_diag(*parts) for parts in zip(*blocks, ends, strict=True))
    return basis, dependent


def _mean_square_slope(whitened: FloatArray, gram: FloatArray, share: float) -> float:
    """Of an expert's activation over its rows, direction by direction: one of a linear expert whose rows are as all."""
    mean = float(np.sum(whitened * (gram @ whitened))) / max(whitened.shape[1], 1) / max(share, _NO_WEIGHT)
    return mean if mean > 0.0 else 1.0   # none: there is no information to be measured by it


def _whitened(gram: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A basis in which the Gram is the identity, (p, r), and one of what it does not span."""
    size = np.sqrt(np.diagonal(gram))
    size = np.where(size > 0.0, size, 1.0)
    values, vectors = np.linalg.eigh(gram / np.outer(size, size))
    vectors /= size[:, np.newaxis]
    spanned = values > DEPENDENT
    return vectors[:, spanned] / np.sqrt(values[spanned]), vectors[:, ~spanned]
