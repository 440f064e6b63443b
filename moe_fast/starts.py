"""The kinds of start: each a small function from the rows to parameters.

No kind wins everywhere, so `portfolio` mixes them. All work on few rows (the whole of small data, a sample of
large), in the design's coordinates.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from .activations import Code, has_label_transform
from .design import Design, Parameters
from .linalg import solve_normal_equations
from .moments import Score
from .spectral import spectral

__all__ = ["KINDS", "make_start", "portfolio"]

FloatArray = NDArray[np.float64]
Labels = NDArray[np.intp]

_RANSAC_TRIES = 20          # lines a sequential RANSAC looks at for each expert
_RANSAC_QUANTILE = 0.25     # of the absolute residuals: the line with the smallest wins
_NORMAL_QUANTILE = 0.3186   # the same quantile of |N(0, 1)|
_INLIER = 2.5               # robust standard deviations within which a row belongs to a line
_SMALLEST_NOISE = 1e-3      # of the overall residual: where a start's own residuals vanish


def random_parameters(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Coefficients N(0, 1) in standard units; for other than linear experts, directions of norm one."""
    p, first = design.n_columns, int(design.fit_intercept)
    expert = rng.standard_normal((n_experts, p))
    mean, std = _center_and_spread(design)
    if design.activation.code == Code.LINEAR:
        expert *= std
        if first:
            expert[:, 0] += mean
    else:
        expert[:, first:] /= np.linalg.norm(expert[:, first:], axis=1, keepdims=True)
        expert[:, :first] *= 0.5
    return _with_flat_gate(design, expert, np.full(n_experts, std))


def random_partition(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Rows dealt out to experts at random."""
    return from_labels(design, rng.integers(n_experts, size=design.rows.n_samples), n_experts, rng)


def kmeans(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Clusters of (x, y), all columns on one scale."""
    mean, std = _center_and_spread(design)
    x = design.expert_matrix[:, int(design.fit_intercept) :]
    points = np.column_stack([x, (design.rows.y - mean) / std])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)   # an empty cluster: its expert gets a line at random
        _, labels = kmeans2(points, n_experts, iter=20, minit="++", rng=rng)
    return from_labels(design, labels, n_experts, rng)


def segments(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Equal slices along a random direction of x."""
    x = design.expert_matrix[:, int(design.fit_intercept) :]
    along = x @ rng.standard_normal(x.shape[1])
    cuts = np.sort(rng.random(n_experts - 1)) if rng.random() < 0.5 else np.arange(1, n_experts) / n_experts
    return from_labels(design, np.searchsorted(np.quantile(along, cuts), along), n_experts, rng)


def ransac(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Sequential RANSAC: a line that many rows lie on, its rows taken out, the next line.

    Every expert keeps a noise of its own from its inliers, so that a tight line stays tight: what finds tonedata's
    optimum. Needs linear experts.
    """
    D, y = design.expert_matrix, design.rows.y
    p = D.shape[1]
    left = np.arange(len(y))
    expert, noise_std = np.empty((n_experts, p)), np.empty(n_experts)
    for k in range(n_experts):
        if len(left) < 2 * p:
            left = np.arange(len(y))
        subsets = rng.choice(left, size=(_RANSAC_TRIES, p))
        square = D[subsets].transpose(0, 2, 1) @ D[subsets]
        lines = solve_normal_equations(square, np.einsum("tip,ti->tp", D[subsets], y[subsets]))
        residual = np.abs(y[left, np.newaxis] - D[left] @ lines.T)
        size = np.quantile(residual, _RANSAC_QUANTILE, axis=0)
        best = np.argmin(size)
        robust = size[best] / _NORMAL_QUANTILE
        inlier = residual[:, best] <= _INLIER * robust
        rows = left[inlier]
        expert[k] = _least_squares(D[rows], y[rows]) if len(rows) >= p else lines[best]
        noise_std[k] = robust
        left = left[~inlier]
    return _with_flat_gate(design, expert, noise_std)


def spectral_start(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """The experts of `fit_spectral` for inputs taken as normal, in their principal axes.

    Needs at least as many features as experts. Where columns depend on each other there may be fewer axes than
    experts: the experts beyond get directions at random.
    """
    score = Score.of_normal(design.rows)
    n_found = min(n_experts, score.n_axes)
    result = spectral(
        design.rows, n_found, design.activation, score, rng, unit_norm=design.activation.code != Code.LINEAR
    )
    expert = random_parameters(design, n_experts, rng).expert
    expert[:n_found] = design.expert_rows(result.coef, result.intercept)
    return _with_flat_gate(design, expert, np.full(n_experts, result.noise_std))


KINDS: dict[str, Callable[[Design, int, np.random.Generator], Parameters]] = {
    "spectral": spectral_start,
    "ransac": ransac,
    "kmeans": kmeans,
    "segments": segments,
    "partition": random_partition,
    "random": random_parameters,
}

_LINEAR_ONLY = {"ransac"}


def make_start(kind: str, design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """One start of the kind named, made from the rows that count."""
    weight = design.rows.weight
    if weight is not None and not weight.all():
        design = design.on(design.rows.take(np.flatnonzero(weight)))
    return KINDS[kind](design, n_experts, rng)


def portfolio(design: Design, n_experts: int, n_starts: int) -> Iterator[str]:
    """n_starts kinds, the deterministic ones once, the others in turn."""
    if n_experts == 1:
        yield "partition"
        return
    if design.rows.n_features >= n_experts and has_label_transform(design.activation):
        yield "spectral"
        n_starts -= 1
    kinds = [
        kind for kind in KINDS
        if kind != "spectral" and not (kind in _LINEAR_ONLY and design.activation.code != Code.LINEAR)
    ]
    for start in range(n_starts):
        yield kinds[start % len(kinds)]


# ---- shared by the kinds ----


def from_labels(design: Design, labels: Labels, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Experts fitted to the rows of each label, one noise, a flat gate."""
    D, y, weight = design.expert_matrix, design.rows.y, design.rows.weight
    first = int(design.fit_intercept)
    expert = random_parameters(design, n_experts, rng).expert   # for labels with too few rows
    residual = np.array(y)
    for k in range(n_experts):
        mine = labels == k
        if np.count_nonzero(mine) > D.shape[1] or n_experts == 1:
            expert[k] = _least_squares(D[mine], y[mine], None if weight is None else weight[mine])
        residual[mine] -= D[mine] @ expert[k]
    noise_std = np.sqrt(np.average(residual**2, weights=weight))
    if design.activation.code != Code.LINEAR:
        # By Stein's lemma the regression of g(a.x) on x points along a; the norm is a guess.
        expert[:, first:] /= np.maximum(np.linalg.norm(expert[:, first:], axis=1, keepdims=True), 1e-12)
        expert[:, :first] = 0.0
        noise_std = _center_and_spread(design)[1]
    return _with_flat_gate(design, expert, np.full(n_experts, noise_std))


def _with_flat_gate(design: Design, expert: FloatArray, noise_std: FloatArray) -> Parameters:
    floor = _SMALLEST_NOISE * _center_and_spread(design)[1]
    gate = np.zeros((len(expert) - 1, design.n_gate_columns))
    return Parameters(np.ascontiguousarray(expert), gate, np.maximum(noise_std, floor))


def _center_and_spread(design: Design) -> tuple[float, float]:
    mean = float(np.average(design.rows.y, weights=design.rows.weight))
    return mean, float(np.sqrt(np.average((design.rows.y - mean) ** 2, weights=design.rows.weight)))


def _least_squares(D: FloatArray, y: FloatArray, weight: FloatArray | None = None) -> FloatArray:
    """By normal equations: a start needs no more digits than they keep, and the columns are standardised."""
    weighted = D if weight is None else D * weight[:, np.newaxis]
    return solve_normal_equations((weighted.T @ D)[np.newaxis], (weighted.T @ y)[np.newaxis])[0]
