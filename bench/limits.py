"""What a step must do at least: bytes of the rows and flops, from which the machine's rates give its limit.

Per row, with d features, k experts, p = d + 1 columns of the experts' design and q = d + 1 of the gate's. A
multiplication and an addition are two flops; of a symmetric sum the lower triangle counts alone, so a weighted Gram
of m columns is 2 * m (m + 1) / 2 = m (m + 1) flops. Weighting the rows, exp and log are not counted: no limit is made
looser by what a kernel happens to do.
"""

from __future__ import annotations

from dataclasses import dataclass

from cases import Case


@dataclass(frozen=True)
class Work:
    """Bytes to read and flops to do."""

    n_bytes: float
    flops: float

    def __add__(self, other: Work) -> Work:
        return Work(self.n_bytes + other.n_bytes, self.flops + other.flops)

    def limit(self, bytes_a_second: float, flops_a_second: float) -> float:
        """Seconds: the larger of the two."""
        return max(self.n_bytes / bytes_a_second, self.flops / flops_a_second)


def _work(case: Case, flops_a_row: float) -> Work:
    itemsize = 4 if case.dtype == "float32" else 8
    return Work(case.n_samples * (case.n_features * itemsize + 8), case.n_samples * flops_a_row)


def second_moment(case: Case) -> Work:
    """One weighted Gram: d (d + 1)."""
    d = case.n_features
    return _work(case, d * (d + 1))


def third_moment(case: Case) -> Work:
    """v = W'x: 2 d k; its packed cube: k (k + 1) (k + 2) / 6 sums."""
    d, k = case.n_features, case.n_experts
    return _work(case, 2 * d * k + k * (k + 1) * (k + 2) / 3)


def moments(case: Case) -> Work:
    """Both passes."""
    return second_moment(case) + third_moment(case)


def em_gate_gradient(case: Case) -> Work:
    """Linear predictors and gradients of k experts and k - 1 gate rows: 4 (k p + (k - 1) q); k Grams."""
    k, p = case.n_experts, case.n_features + 1
    return _work(case, 4 * (2 * k - 1) * p + k * p * (p + 1))


def em_gate_curvature(case: Case) -> Work:
    """The same, and k (k - 1) / 2 Grams of the gate."""
    k, p = case.n_experts, case.n_features + 1
    return em_gate_gradient(case) + Work(0.0, case.n_samples * k * (k - 1) / 2 * p * (p + 1))


def information(case: Case) -> Work:
    """Linear predictors and gradients as in EM; the second derivative in experts, gate and log noise.

    Grams: k (k + 1) / 2 of pairs of experts, k (k - 1) / 2 of gate rows, k (k - 1) of an expert with a gate row,
    which are symmetric too where both see the same columns: k (2k - 1). With the noises 2 k (k p + (k - 1) q).
    """
    k, p = case.n_experts, case.n_features + 1
    return _work(case, (4 + 2 * k) * (2 * k - 1) * p + k * (2 * k - 1) * p * (p + 1))
