"""The distribution of y given x: in each row a mixture of normals.

A block of rows comes as ``log_weights`` (the gate's log probabilities) and ``means``, both of shape
(n_rows, n_experts), and ``noise_std`` of shape (n_experts,).
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

__all__ = ["log_sum_exp", "mixture_cdf", "mixture_quantile", "mixture_std", "standardise"]

FloatArray = NDArray[np.float64]

# In units of noise_std: the square, summed over any number of rows, is still finite.
_LARGEST_RESIDUAL = 1e150


def standardise(y: FloatArray, means: FloatArray, noise_std: FloatArray) -> FloatArray:
    """Residuals of every expert in units of its noise, finite however far out y lies."""
    with np.errstate(over="ignore"):
        residual = (y[:, None] - means) / noise_std
    return np.clip(residual, -_LARGEST_RESIDUAL, _LARGEST_RESIDUAL)


@np.errstate(under="ignore")
def log_sum_exp(scores: FloatArray) -> FloatArray:
    """log(sum(exp(scores))) of each row."""
    largest = scores.max(axis=1)
    return largest + np.log(np.sum(np.exp(scores - largest[:, None]), axis=1))


@np.errstate(under="ignore")
def mixture_cdf(
    y: FloatArray, log_weights: FloatArray, means: FloatArray, noise_std: FloatArray
) -> FloatArray:
    """P(Y <= y) of each row (P.4)."""
    cdf = np.sum(np.exp(log_weights) * scipy.special.ndtr(standardise(y, means, noise_std)), axis=1)
    return np.minimum(cdf, 1.0)   # weights may add up to a rounding error more


@np.errstate(under="ignore")
def mixture_std(log_weights: FloatArray, means: FloatArray, noise_std: FloatArray) -> FloatArray:
    """Standard deviation of each row: noise within experts, and spread between them (P.5)."""
    weights = np.exp(log_weights)
    mean = np.sum(weights * means, axis=1, keepdims=True)
    spread = np.sqrt(weights) * np.hypot(means - mean, noise_std)
    largest = spread.max(axis=1)   # divided out, so that no square overflows or vanishes
    return largest * np.sqrt(np.sum((spread / largest[:, None]) ** 2, axis=1))


@np.errstate(under="ignore")
def mixture_quantile(q: float, log_weights: FloatArray, means: FloatArray, noise_std: FloatArray) -> FloatArray:
    """The y of each row with P(Y <= y) = q; -inf and inf for q = 0 and 1.

    The root of log P(Y <= y) = log q, which keeps all its digits however small q is. The upper half is the lower one
    of -Y.
    """
    from scipy.optimize.elementwise import find_root  # not an attribute of scipy.optimize until it is imported

    if q in (0.0, 1.0):
        return np.full(len(means), -np.inf if q == 0.0 else np.inf)
    if q > 0.5:
        return -mixture_quantile(1.0 - q, log_weights, -means, noise_std)
    lower, upper = _bracket(q, np.exp(log_weights), means, noise_std)
    log_q = np.log(q)

    def excess(y: FloatArray, row: NDArray[np.intp]) -> FloatArray:
        residual = standardise(y, means[row], noise_std)
        return log_sum_exp(log_weights[row] + scipy.special.log_ndtr(residual)) - log_q

    tolerances = {"xatol": 0.0, "xrtol": 2.0**-52, "fatol": 1e-15 * max(1.0, -log_q), "frtol": 0.0}
    rows = np.arange(len(means))
    return find_root(excess, (lower, upper), args=(rows,), tolerances=tolerances).x


def _bracket(q: float, weights: FloatArray, means: FloatArray, noise_std: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two points of each row with its quantile between them.

    Below the quantiles of all experts none has reached q, above them all have. Besides, each expert alone bounds the
    mixture: pi_j P(Y_j <= y) <= q there, and pi_j P(Y_j >= y) <= 1 - q.
    """

    def quantile_alone(share: float) -> FloatArray:
        with np.errstate(divide="ignore", over="ignore"):
            of_expert = share / weights
        # Near one, a rounding error of the weight would move the quantile; above, the expert is no bound.
        return np.where(of_expert < 0.999, scipy.special.ndtri(of_expert), np.inf)

    of_experts = means + noise_std * scipy.special.ndtri(q)
    lower = np.maximum(of_experts.min(axis=1), (means - noise_std * quantile_alone(1.0 - q)).max(axis=1))
    upper = np.minimum(of_experts.max(axis=1), (means + noise_std * quantile_alone(q)).min(axis=1))
    # Where one expert decides the bracket is a point, to rounding: a little wider, its ends have different signs.
    margin = 1e-8 * noise_std.max() + 4.0 * np.spacing(np.maximum(np.abs(lower), np.abs(upper)))
    return lower - margin, upper + margin
