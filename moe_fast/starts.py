"""The kinds of start: each a small function from the rows to parameters.

No kind wins everywhere, so `portfolio` mixes them. All work on few rows (the whole of small data, a sample of
large), in the design's coordinates.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import scipy
from numpy.typing import NDArray

from .activations import Code, has_label_transform
from .design import Design, Parameters
from .em import maximise
from .linalg import solve_normal_equations
from .moment_fit import Norms
from .moments import Score
from .objective import Objective
from .spectral import spectral

__all__ = [
    "KINDS", "LINEAR_ONLY", "enlarge", "make_start", "portfolio", "shift_borders", "split_expert", "swap_expert",
]

FloatArray = NDArray[np.float64]
Labels = NDArray[np.intp]
_PLAIN = Objective()

_RANSAC_TRIES = 20          # lines a sequential RANSAC looks at for each expert
_RANSAC_QUANTILE = 0.25     # of the absolute residuals: the line with the smallest wins
_NORMAL_QUANTILE = 0.3186   # the same quantile of |N(0, 1)|
_INLIER = 2.5               # robust standard deviations within which a row belongs to a line
_MOST_ROWS = 20_000         # that a start is made from, but for the spectral, which reads them in passes
_TREE_DIRECTIONS, _TREE_CUTS = 4, 8
_LOCAL_LINES = 60           # neighbourhoods that get a line
_GROWTH_ITER = 15           # EM iterations after each expert that is added
_RIDGE = 1e-2               # within-class variance added to a gate fitted to labels: it must not be too sure
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
    return from_labels(design, _clusters(points, n_experts, rng), n_experts, rng)


def segments(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Slices along a random direction of x."""
    x = design.expert_matrix[:, int(design.fit_intercept) :]
    along = x @ rng.standard_normal(x.shape[1])
    return from_labels(design, _slices(along, n_experts, rng), n_experts, rng)


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
    if score.n_axes == 0:   # every column is constant
        return random_parameters(design, n_experts, rng)
    n_found = min(n_experts, score.n_axes)
    # A norm each, as the moments tell it, is too uncertain to begin with where rows are few or inputs are not normal.
    norms: Norms = "common" if design.activation.code == Code.LINEAR else "unit"
    result = spectral(design.rows, n_found, design.activation, score, rng, norms=norms)
    expert = random_parameters(design, n_experts, rng).expert
    expert[:n_found] = design.expert_rows(result.coef, result.intercept)
    return _with_flat_gate(design, expert, np.full(n_experts, result.noise_std))


def segments_of_y(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Slices of y, and a gate fitted to them."""
    return from_labels(design, _slices(design.rows.y, n_experts, rng), n_experts, rng, fit_gate=True)


def kmeans_of_x(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Clusters of x, and a gate fitted to them."""
    x = design.expert_matrix[:, int(design.fit_intercept) :]
    return from_labels(design, _clusters(x, n_experts, rng), n_experts, rng, fit_gate=True)


def tree(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """A greedy model tree: the split of a leaf that most lowers sum_j n_j log s_j, until there is a leaf an expert.

    Looks at a few random directions of x (or its one feature), at eight quantiles drawn at random.
    """
    D, y = design.expert_matrix, design.rows.y
    p, first = D.shape[1], int(design.fit_intercept)
    x = D[:, first:]
    labels = np.zeros(len(y), dtype=np.intp)
    cost = {0: _line_cost(D, y)}
    for new in range(1, n_experts):
        best = (np.inf, 0, None)
        for leaf in range(new):
            rows = np.flatnonzero(labels == leaf)
            if len(rows) < 2 * (p + 2):
                continue
            for _ in range(1 if x.shape[1] == 1 else _TREE_DIRECTIONS):
                along = x[rows] @ rng.standard_normal(x.shape[1])
                for cut in np.quantile(along, rng.uniform(0.05, 0.95, _TREE_CUTS)):
                    right = along > cut
                    if min(np.count_nonzero(right), np.count_nonzero(~right)) < p + 2:
                        continue
                    change = _line_cost(D[rows[right]], y[rows[right]]) + _line_cost(D[rows[~right]], y[rows[~right]])
                    if change - cost[leaf] < best[0]:
                        best = (change - cost[leaf], leaf, rows[right])
        if best[2] is None:
            break
        labels[best[2]] = new
        for leaf in (best[1], new):
            cost[leaf] = _line_cost(D[labels == leaf], y[labels == leaf])
    return from_labels(design, labels, n_experts, rng)


def local(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Lines through neighbourhoods of random rows, clustered by their coefficients."""
    D, y = design.expert_matrix, design.rows.y
    n_samples, p = D.shape
    points = np.column_stack([D[:, int(design.fit_intercept) :], (y - y.mean()) / max(y.std(), 1e-300)])
    n_near = min(n_samples, rng.integers(p + 2, max(p + 3, min(5 * p, n_samples // n_experts) + 1)))
    lines = []
    for anchor in rng.choice(n_samples, min(n_samples, _LOCAL_LINES)):
        near = np.argpartition(np.sum((points - points[anchor]) ** 2, axis=1), n_near - 1)[:n_near]
        lines.append(_least_squares(D[near], y[near]))
    lines_ = np.array(lines)
    scale = np.maximum(np.median(np.abs(lines_ - np.median(lines_, axis=0)), axis=0), 1e-300)
    of_line = _clusters(np.clip((lines_ - np.median(lines_, axis=0)) / scale, -10.0, 10.0), n_experts, rng)
    expert = random_parameters(design, n_experts, rng).expert
    for k in range(n_experts):
        if np.any(of_line == k):
            expert[k] = np.median(lines_[of_line == k], axis=0)
    labels = np.argmin(np.abs(y[:, np.newaxis] - D @ expert.T), axis=1)
    return from_labels(design, labels, n_experts, rng)


def growth(
    design: Design, n_experts: int, rng: np.random.Generator, objective: Objective = _PLAIN
) -> Parameters:
    """From one expert up: each new one begins on the rows the others explain worst, then EM for a while."""
    parameters = from_labels(design, np.zeros(design.rows.n_samples, dtype=np.intp), 1, rng)
    free = replace(objective, noise=objective.noise if isinstance(objective.noise, str) else "per_expert")
    for _ in range(1, n_experts):
        parameters = add_expert(design, parameters, rng)
        parameters = maximise(design, parameters, free, max_iter=_GROWTH_ITER, tol=1e-5, newton=False).parameters
    return parameters


# ---- moves from one model to another ----


def add_expert(design: Design, parameters: Parameters, rng: np.random.Generator) -> Parameters:
    """One expert more, a line through some of the rows that the model explains worst."""
    D, y = design.expert_matrix, design.rows.y
    n_samples, p = D.shape
    density = log_density(design, parameters)
    n_worst = min(n_samples, max(3 * p, int(n_samples * rng.uniform(0.05, 0.4))))
    worst = np.argpartition(density, n_worst - 1)[:n_worst]
    rows = worst if rng.random() < 0.5 else rng.choice(worst, min(n_worst, p + 1), replace=False)
    line = _least_squares(D[rows], y[rows])
    residual = np.abs(y[worst] - D[worst] @ line)
    noise_std = max(float(np.quantile(residual, 0.5)) / 0.6745, 0.1 * float(parameters.noise_std.min()))
    logits = np.column_stack([design.gate_matrix @ parameters.gate.T, np.zeros(n_samples)])
    own_gate = np.zeros((1, design.n_gate_columns))
    if design.gate_intercept:   # a share of one in k
        own_gate[0, 0] = float(np.mean(scipy.special.logsumexp(logits, axis=1))) - math.log(parameters.n_experts)
    return Parameters(
        np.vstack([line, parameters.expert]),
        np.vstack([own_gate, parameters.gate]),
        np.concatenate([[noise_std], parameters.noise_std]),
    )


def split_expert(
    design: Design, parameters: Parameters, k: int, rng: np.random.Generator, apart: float = 1.0
) -> Parameters:
    """Expert k as two that share its odds, moved apart: their lines by its noise, their gates by a border at random.

    With ``apart = 0`` they are twins, and the mixture of one expert more has the same density, if the gate has
    intercepts.
    """
    p, first = design.n_columns, int(design.gate_intercept)
    line = apart * parameters.noise_std[k] * rng.standard_normal(p) / math.sqrt(p)
    odds = apart * rng.standard_normal(design.n_gate_columns)
    gate = np.vstack([parameters.gate, np.zeros((1, design.n_gate_columns))])
    gate[k, :first] -= math.log(2.0)
    gate = np.vstack([gate[k] + odds, gate])
    gate[k + 1] -= odds
    expert = np.vstack([parameters.expert[k] + line, parameters.expert])
    expert[k + 1] -= line
    noise_std = np.concatenate([parameters.noise_std[k : k + 1], parameters.noise_std])
    return Parameters(expert, np.ascontiguousarray(gate[:-1] - gate[-1]), noise_std)


def enlarge(
    design: Design, parameters: Parameters, n_experts: int, rng: np.random.Generator
) -> Iterator[tuple[str, Parameters]]:
    """From a mixture to larger ones: for each expert one with it split, and one with an expert added."""
    for k in range(parameters.n_experts):
        split = added = parameters
        for _ in range(n_experts - parameters.n_experts):
            split = split_expert(design, split, k, rng)
            added = add_expert(design, added, rng)
        yield "split", split
        yield "add", added


def drop_expert(parameters: Parameters, k: int) -> Parameters:
    """One expert less; the odds between the others stay."""
    kept = np.delete(np.arange(parameters.n_experts), k)
    gate = np.vstack([parameters.gate, np.zeros((1, parameters.gate.shape[1]))])[kept]
    return Parameters(
        np.ascontiguousarray(parameters.expert[kept]),
        np.ascontiguousarray(gate[:-1] - gate[-1]),
        parameters.noise_std[kept],
    )


def swap_expert(design: Design, parameters: Parameters, k: int, rng: np.random.Generator) -> Parameters:
    """Expert k taken away, and one put where the others explain worst."""
    return add_expert(design, drop_expert(parameters, k), rng)


def shift_borders(design: Design, parameters: Parameters, rng: np.random.Generator) -> Parameters:
    """Some rows of one expert, those on one side of a cut through x, dealt to another, and all fitted anew."""
    labels = np.argmax(log_joint(design, parameters), axis=1)
    giver, taker = rng.choice(parameters.n_experts, 2, replace=False)
    rows = np.flatnonzero(labels == giver)
    if len(rows):
        x = design.expert_matrix[rows, int(design.fit_intercept) :]
        along = x @ rng.standard_normal(x.shape[1])
        labels[rows[along > np.quantile(along, rng.uniform(0.2, 0.9))]] = taker
    return from_labels(design, labels, parameters.n_experts, rng, fit_gate=bool(rng.random() < 0.5))


def log_joint(design: Design, parameters: Parameters) -> FloatArray:
    """log p(z = k, y | x) of every row and expert, but for the softmax's sum; for starts, on few rows."""
    mean = design.activation.g(design.expert_matrix @ parameters.expert.T)
    logits = np.column_stack([design.gate_matrix @ parameters.gate.T, np.zeros(design.rows.n_samples)])
    z = np.clip((design.rows.y[:, np.newaxis] - mean) / parameters.noise_std, -1e100, 1e100)
    return logits - 0.5 * z * z - np.log(parameters.noise_std)


def log_density(design: Design, parameters: Parameters) -> FloatArray:
    """log p(y | x) of every row, (n_samples,); for starts, on few rows."""
    logits = np.column_stack([design.gate_matrix @ parameters.gate.T, np.zeros(design.rows.n_samples)])
    return scipy.special.logsumexp(log_joint(design, parameters), axis=1) - scipy.special.logsumexp(logits, axis=1)


# In the order in which a race draws them. Later kinds seldom win where earlier ones do not, but sometimes do.
KINDS: dict[str, Callable[..., Parameters]] = {
    "spectral": spectral_start,
    "growth": growth,
    "ransac": ransac,
    "tree": tree,
    "kmeans": kmeans,
    "partition": random_partition,
    "segments": segments,
    "random": random_parameters,
    "kmeans_x": kmeans_of_x,
    "local": local,
    "segments_y": segments_of_y,
}

LINEAR_ONLY = {"ransac", "tree", "local"}


def make_start(
    kind: str, design: Design, n_experts: int, rng: np.random.Generator, objective: Objective = _PLAIN
) -> Parameters:
    """One start of the kind named."""
    if kind != "spectral" and design.rows.n_samples > _MOST_ROWS:
        design = design.on(design.rows.sample(_MOST_ROWS, rng))
    if kind == "growth":
        return growth(design, n_experts, rng, objective)
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
        if kind != "spectral" and not (kind in LINEAR_ONLY and design.activation.code != Code.LINEAR)
    ]
    for start in range(n_starts):
        yield kinds[start % len(kinds)]


# ---- shared by the kinds ----


def from_labels(
    design: Design, labels: Labels, n_experts: int, rng: np.random.Generator, fit_gate: bool = False
) -> Parameters:
    """Experts fitted to the rows of each label, one noise, a gate that is flat or tells the labels apart."""
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
    start = _with_flat_gate(design, expert, np.full(n_experts, noise_std))
    return replace(start, gate=_discriminant(design, labels, n_experts)) if fit_gate else start


def _discriminant(design: Design, labels: Labels, n_experts: int) -> FloatArray:
    """A gate for the labels: the linear discriminant, which is the softmax gate of normal classes of one covariance."""
    Z, first = design.gate_matrix, int(design.gate_intercept)
    z = Z[:, first:]
    counts = np.bincount(labels, minlength=n_experts) + 1.0
    means = np.stack([z[labels == k].sum(axis=0) for k in range(n_experts)]) / counts[:, np.newaxis]
    within = z - means[labels]
    cov = within.T @ within / len(z) + _RIDGE * np.eye(z.shape[1])
    coef = np.linalg.solve(cov, means.T).T
    gate = np.zeros((n_experts, Z.shape[1]))
    gate[:, first:] = coef
    if first:
        gate[:, 0] = np.log(counts) - 0.5 * np.sum(coef * means, axis=1)
    return np.ascontiguousarray(gate[:-1] - gate[-1])


def _slices(values: FloatArray, n_slices: int, rng: np.random.Generator) -> Labels:
    """Slices of sorted values, of about equal sizes: shares from a Dirichlet law."""
    shares = rng.dirichlet(np.full(n_slices, 4.0))
    return np.searchsorted(np.quantile(values, np.minimum(np.cumsum(shares)[:-1], 1.0)), values)


def _clusters(points: FloatArray, n_clusters: int, rng: np.random.Generator) -> Labels:
    # Fewer distinct points than clusters: an empty cluster, whose expert gets a line at random.
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", UserWarning)
        return scipy.cluster.vq.kmeans2(points, n_clusters, iter=20, minit="++", rng=rng)[1]


def _line_cost(D: FloatArray, y: FloatArray) -> float:
    """n log s of the line through some rows; the smallest s is that of rounding."""
    residual = y - D @ _least_squares(D, y)
    return len(y) * math.log(max(math.sqrt(float(residual @ residual) / len(y)), 1e-8 * (np.abs(y).max() + 1e-300)))


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
