"""Rows dealt out to experts by what x or y says, and the mixture fitted to such labels.

A partition is a label a row. All work on few rows (the whole of small data, a sample of large), in the design's
coordinates.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .activations import Code
from .design import Design, Parameters
from .linalg import lines_through, solve_normal_equations

__all__ = [
    "Labels", "from_labels", "kmeans", "kmeans_of_x", "local", "neighbours", "quantile", "random_parameters",
    "segments", "segments_of_y", "tree", "with_flat_gate",
]

FloatArray = NDArray[np.float64]
Labels = NDArray[np.intp]

_TREE_DIRECTIONS, _TREE_CUTS = 4, 8
_LOCAL_LINES = 60           # neighbourhoods that get a line
_KMEANS_ITER = 20
_RIDGE = 1e-2               # within-class variance added to a gate fitted to labels: it must not be too sure
_SMALLEST_NOISE = 1e-3      # of the overall residual: where a start's own residuals vanish


# ---- partitions ----


def kmeans(design: Design, n_experts: int, rng: np.random.Generator) -> Labels:
    """Clusters of (x, y), all columns on one scale."""
    mean, std = design.rows.target_moments
    points = np.column_stack([design.features, (design.rows.y - mean) / std])
    return _clusters(points, n_experts, rng)


def segments(design: Design, n_experts: int, rng: np.random.Generator) -> Labels:
    """Slices along a direction of x: half of the time that of a feature, if it has values enough, else any."""
    x = design.features
    n_features = x.shape[1]
    if rng.random() < 0.5:
        labels = _slices(x[:, rng.integers(n_features)], n_experts, rng)
        if len(np.unique(labels)) == n_experts:
            return labels
    return _slices(x @ rng.standard_normal(n_features), n_experts, rng)


def segments_of_y(design: Design, n_experts: int, rng: np.random.Generator) -> Labels:
    """Slices of y."""
    return _slices(design.rows.y, n_experts, rng)


def kmeans_of_x(design: Design, n_experts: int, rng: np.random.Generator) -> Labels:
    """Clusters of x."""
    return _clusters(design.features, n_experts, rng)


def tree(design: Design, n_experts: int, rng: np.random.Generator) -> Labels:
    """A greedy model tree: the split of a leaf that most lowers sum_j n_j log s_j, until there is a leaf an expert.

    Looks at a few random directions of x (or its one feature), at eight quantiles drawn at random.
    """
    labels = np.zeros(design.rows.n_samples, dtype=np.intp)
    splits = [_best_split(design, np.arange(len(labels)), rng)]
    for new in range(1, n_experts):
        leaf = int(np.argmin([change for change, _ in splits]))
        if not math.isfinite(splits[leaf][0]):
            break
        labels[splits[leaf][1]] = new
        if new < n_experts - 1:
            splits[leaf] = _best_split(design, np.flatnonzero(labels == leaf), rng)
            splits.append(_best_split(design, np.flatnonzero(labels == new), rng))
    return labels


def _best_split(design: Design, rows: Labels, rng: np.random.Generator) -> tuple[float, Labels]:
    """The change of sum_j n_j log s_j by the best split of a leaf, and the rows to split off; infinity if none can be.

    Gram matrices are summed once for each slice between two cuts; those of the two sides of a cut are sums of these.
    """
    D = design.expert_matrix[rows]
    x, with_y = design.features[rows], np.column_stack([D, design.rows.y[rows]])
    n_rows, p = D.shape
    best = (math.inf, rows[:0])
    if n_rows < 2 * (p + 2) or x.shape[1] == 0:
        return best
    smallest = max(1e-16 * float(np.abs(with_y[:, -1]).max()) ** 2, 1e-300)   # a leaf of zeros
    for _ in range(1 if x.shape[1] == 1 else _TREE_DIRECTIONS):
        along = x @ rng.standard_normal(x.shape[1])
        order = np.argsort(along)
        along, ordered = along[order], with_y[order]
        cuts = along[((n_rows - 1) * np.sort(rng.uniform(0.05, 0.95, _TREE_CUTS))).astype(np.intp)]
        n_left = np.searchsorted(along, cuts, side="right")    # rows of one value stay together
        grams = np.cumsum([part.T @ part for part in np.split(ordered, n_left)], axis=0)
        sides = np.concatenate([grams, grams[-1] - grams[:-1]])
        counts = np.concatenate([n_left, [n_rows], n_rows - n_left])
        left, whole, right = np.split(_line_costs(sides, counts, smallest), [_TREE_CUTS, _TREE_CUTS + 1])
        enough = np.minimum(n_left, n_rows - n_left) >= p + 2
        change = np.where(enough, left + right - whole, math.inf)
        cut = int(np.argmin(change))
        if change[cut] < best[0]:
            best = (float(change[cut]), rows[order[n_left[cut] :]])
    return best


def _line_costs(grams: FloatArray, counts: NDArray[np.intp], smallest: float) -> FloatArray:
    """n log s of the lines through groups of rows, from Gram matrices of [D, y]; `smallest` is that of a square s."""
    cross, squares = grams[:, :-1, -1], grams[:, -1, -1]
    lines = solve_normal_equations(
        np.ascontiguousarray(grams[:, :-1, :-1]), np.ascontiguousarray(cross), minimum_norm=False
    )
    left_over = squares - np.sum(lines * cross, axis=1)
    return 0.5 * counts * np.log(np.maximum(left_over / np.maximum(counts, 1), smallest))


def local(design: Design, n_experts: int, rng: np.random.Generator) -> Labels:
    """Lines through neighbourhoods of random rows, clustered by their coefficients."""
    D, y = design.expert_matrix, design.rows.y
    n_samples, p = D.shape
    n_near = min(n_samples, rng.integers(p + 2, max(p + 3, min(5 * p, n_samples // n_experts) + 1)))
    near = neighbours(design, rng.choice(n_samples, min(n_samples, _LOCAL_LINES)), n_near)
    lines = lines_through(D, y, near)
    median = np.median(lines, axis=0)
    scale = np.maximum(np.median(np.abs(lines - median), axis=0), 1e-300)
    with np.errstate(over="ignore"):
        of_line = _clusters(np.clip((lines - median) / scale, -10.0, 10.0), n_experts, rng)
    expert = random_parameters(design, n_experts, rng).expert
    for k in range(n_experts):
        if np.any(of_line == k):
            expert[k] = np.median(lines[of_line == k], axis=0)
    return np.argmin(np.abs(y - expert @ D.T), axis=0)


# ---- mixtures made from them ----


def random_parameters(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Coefficients N(0, 1) in standard units; for other than linear experts, directions of norm one."""
    p, first = design.n_columns, int(design.fit_intercept)
    expert = rng.standard_normal((n_experts, p))
    mean, std = design.rows.target_moments
    if design.activation.code == Code.LINEAR:
        expert *= std
        if first:
            expert[:, 0] += mean
    else:
        expert[:, first:] /= np.linalg.norm(expert[:, first:], axis=1, keepdims=True)
        expert[:, :first] *= 0.5
    return with_flat_gate(design, expert, np.full(n_experts, std))


def from_labels(
    design: Design, labels: Labels, n_experts: int, rng: np.random.Generator, fit_gate: bool = False
) -> Parameters:
    """Experts fitted to the rows of each label, one noise, a gate that is flat or tells the labels apart."""
    D, y, weight = design.expert_matrix, design.rows.y, design.rows.weight
    p, first = D.shape[1], int(design.fit_intercept)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=n_experts)
    with_y = np.column_stack([D, y])[order]
    weighted = with_y if weight is None else with_y * weight[order, np.newaxis]
    bounds = np.cumsum(counts)[:-1]
    parts = zip(np.split(weighted, bounds), np.split(with_y, bounds), strict=True)
    grams = np.stack([heavy.T @ part for heavy, part in parts])
    expert = random_parameters(design, n_experts, rng).expert   # for labels with too few rows
    enough = counts > p if n_experts > 1 else np.ones(1, dtype=bool)
    matrices, right = np.ascontiguousarray(grams[enough, :p, :p]), np.ascontiguousarray(grams[enough, :p, p])
    # Of minimum norm: where all rows leave coefficients undetermined, EM's steps keep what is begun with.
    expert[enough] = solve_normal_equations(matrices, right)
    residual = with_y[:, p] - np.sum(with_y[:, :p] * np.repeat(expert, counts, axis=0), axis=1)
    noise_std = np.sqrt(np.average(residual**2, weights=None if weight is None else weight[order]))
    if design.activation.code != Code.LINEAR:
        # By Stein's lemma the regression of g(a.x) on x points along a; the norm is a guess.
        expert[:, first:] /= np.maximum(np.linalg.norm(expert[:, first:], axis=1, keepdims=True), 1e-12)
        expert[:, :first] = 0.0
        noise_std = design.rows.target_moments[1]
    start = with_flat_gate(design, expert, np.full(n_experts, noise_std))
    return replace(start, gate=_discriminant(design, labels, n_experts)) if fit_gate else start


def _discriminant(design: Design, labels: Labels, n_experts: int) -> FloatArray:
    """A gate for the labels: the linear discriminant, which is the softmax gate of normal classes of one covariance."""
    Z, first = design.gate_matrix, int(design.gate_intercept)
    z, rows = Z[:, first:], design.rows
    weight = np.ones(len(z)) if rows.weight is None else rows.weight
    heavy = z * weight[:, np.newaxis]
    # Each class has a row at the mean of all besides, lest one without rows have no odds at all.
    counts = np.bincount(labels, weight, minlength=n_experts) + rows.unit_weight
    means = np.stack([heavy[labels == k].sum(axis=0) for k in range(n_experts)]) / counts[:, np.newaxis]
    within = z - means[labels]
    cov = (within * weight[:, np.newaxis]).T @ within / rows.total_weight + _RIDGE * np.eye(z.shape[1])
    coef = np.linalg.solve(cov, means.T).T
    gate = np.zeros((n_experts, Z.shape[1]))
    gate[:, first:] = coef
    if first:
        gate[:, 0] = np.log(counts) - 0.5 * np.sum(coef * means, axis=1)
    return np.ascontiguousarray(gate[:-1] - gate[-1])


def with_flat_gate(design: Design, expert: FloatArray, noise_std: FloatArray) -> Parameters:
    floor = _SMALLEST_NOISE * design.rows.target_moments[1]
    gate = np.zeros((len(expert) - 1, design.n_gate_columns))
    return Parameters(np.ascontiguousarray(expert), gate, np.maximum(noise_std, floor))


# ---- shared by both, and by moves ----


def _slices(values: FloatArray, n_slices: int, rng: np.random.Generator) -> Labels:
    """Slices of sorted values, of about equal sizes: shares from a Dirichlet law."""
    shares = rng.dirichlet(np.full(n_slices, 4.0))
    cuts = np.minimum(np.cumsum(shares)[:-1], 1.0) * (len(values) - 1)
    return np.searchsorted(np.sort(values)[cuts.astype(np.intp)], values)


def quantile(values: FloatArray, share: float) -> FloatArray:
    """The value that about this share of the values, along the last axis, lie below."""
    at = int(share * (values.shape[-1] - 1))
    return np.partition(values, at, axis=-1)[..., at]


def _clusters(points: FloatArray, n_clusters: int, rng: np.random.Generator) -> Labels:
    """k-means from k-means++ centres. (That of SciPy takes longer to import than a small fit.)"""
    squares = np.sum(points**2, axis=1)

    def distances(centres: FloatArray) -> FloatArray:   # squared, (n_clusters, n_points)
        return squares - 2.0 * centres @ points.T + np.sum(centres**2, axis=1, keepdims=True)

    centres = points[rng.integers(len(points), size=1)]
    for _ in range(1, n_clusters):
        nearest = np.maximum(distances(centres).min(axis=0), 0.0)
        total = nearest.sum()
        chosen = rng.choice(len(points), p=nearest / total if total > 0.0 else None)
        centres = np.vstack([centres, points[chosen]])
    labels = np.zeros(len(points), dtype=np.intp)
    for _ in range(_KMEANS_ITER):
        before, labels = labels, np.argmin(distances(centres), axis=0)
        if np.array_equal(labels, before):
            break
        member = (labels == np.arange(n_clusters)[:, np.newaxis]).astype(np.float64)
        counts = member.sum(axis=1)
        held = counts > 0   # a cluster without points keeps its centre
        centres[held] = (member @ points)[held] / counts[held, np.newaxis]
    return labels


def neighbours(design: Design, anchors: Labels, n_near: int) -> Labels:
    """The rows nearest to each anchor in (x, y), (n_anchors, n_near)."""
    mean, std = design.rows.target_moments
    points = np.column_stack([design.features, (design.rows.y - mean) / std])
    distance = np.sum(points**2, axis=1) - 2.0 * points[anchors] @ points.T   # squared, but for the anchor's own part
    return np.argpartition(distance, n_near - 1, axis=1)[:, :n_near]
