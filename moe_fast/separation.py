"""Gates that separate experts without error: their likelihood has a supremum, and no maximum."""

from __future__ import annotations

import numpy as np

from .design import Parameters, Sums
from .linalg import lower_pairs

__all__ = ["may_separate", "separated_experts", "separated_pairs"]

_STEEP = 20.0     # log odds a standard deviation of a feature: EM converges by 23, where a gate of a dummy separates
_FLAT = 1e-6      # gain and curvature per row that are nothing, for a gate as steep as _STEEP


def may_separate(parameters: Parameters) -> bool:
    """Whether any two experts' gates differ steeply."""
    gate = np.vstack([parameters.gate, np.zeros((1, parameters.gate.shape[1]))])
    return bool((np.linalg.norm(gate[:, np.newaxis] - gate, axis=2) >= _STEEP).any())


def separated_experts(parameters: Parameters, sums: Sums) -> tuple[int, ...]:
    """The experts of `separated_pairs`: two or more, or none."""
    return tuple(sorted({expert for pair in separated_pairs(parameters, sums) for expert in pair}))


def separated_pairs(parameters: Parameters, sums: Sums) -> list[tuple[int, int]]:
    """Experts between which the gate is a step that could be steeper still.

    Parameters
    ----------
    parameters : Parameters
    sums : Sums
        Of a pass asked for `_em.GATE_GRAM` at them.

    Returns
    -------
    pairs : list of (int, int)
        The larger first.

    Notes
    -----
    Experts i and j are separated where the difference of their gates is steep, no row is left undecided between them,
    and the likelihood does not ask for a gentler one: moving the difference further changes nothing.
    """
    g, q = parameters.gate.shape
    if g * q == 0:
        return []
    gate = np.vstack([parameters.gate, np.zeros((1, q))])
    grams = np.zeros((g + 1, g + 1, q, q))   # sum pi_i (delta_ij - pi_j) z z', the last expert's from the others'
    for (i, j), block in zip(lower_pairs(g), sums.gate_gram, strict=True):
        grams[i, j] = grams[j, i] = block
    grams[g, :g] = grams[:g, g] = -grams[:g, :g].sum(axis=0)
    slopes = np.vstack([sums.gate_gradient, -sums.gate_gradient.sum(axis=0)])
    found = []
    for i in range(g + 1):
        for j in range(i):
            difference = gate[i] - gate[j]
            size = float(np.linalg.norm(difference))
            if size < _STEEP:
                continue
            direction = difference / size
            # sum pi_i pi_j (z . difference)^2, in units of _STEEP^2. The gate of nearly collinear columns is steep too,
            # in a direction in which no row lies far out: its log odds are mild, and their squares are not small.
            undecided = -float(difference @ grams[i, j] @ difference) / _STEEP**2
            shared = min(sums.gate_weight[i], sums.gate_weight[j])
            outward = float(direction @ (slopes[i] - slopes[j])) >= -_FLAT * shared
            if undecided < _FLAT * shared and outward:
                found.append((i, j))
    return found
