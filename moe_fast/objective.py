"""What a fit maximises, and over which parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["GATE_LIMIT", "PLAIN", "Objective"]

FloatArray = NDArray[np.float64]

# Largest gate coefficient, in standard units, of columns that are their own: a gate that separates is stopped there.
GATE_LIMIT = 1e4


@dataclass(frozen=True)
class Objective:
    """What is maximised, and over which parameters.

    Attributes
    ----------
    noise : "per_expert", "shared" or ndarray of shape (n_experts,)
        An array is held fixed.
    barrier : float
        b in log-likelihood - sum_k b / (2 noise_std[k]^2) (once for a shared noise). Zero: the plain likelihood.
    move_experts : bool
        False: experts and noise are held, only the gate moves.
    gate_limit : float
        Largest absolute value of a gate coefficient in the design's coordinates.
    """

    noise: str | FloatArray = "per_expert"
    barrier: float = 0.0
    move_experts: bool = True
    gate_limit: float = GATE_LIMIT

    @property
    def moves_noise(self) -> bool:
        return self.move_experts and isinstance(self.noise, str)

    @property
    def shares_noise(self) -> bool:
        return self.moves_noise and self.noise == "shared"

    def with_free_noise(self) -> Objective:
        """The objective while the number of experts changes: a noise that is held belongs to so many."""
        return self if isinstance(self.noise, str) else replace(self, noise="per_expert")

    def penalty(self, noise_std: FloatArray) -> float:
        """What the barrier takes off the log-likelihood."""
        if self.barrier == 0.0 or not self.moves_noise:
            return 0.0
        own = noise_std[:1] if self.shares_noise else noise_std
        return 0.5 * self.barrier * float(np.sum(own**-2.0))


PLAIN = Objective()
