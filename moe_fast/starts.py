"""The kinds of start: each a small function from the rows to parameters.

No kind wins everywhere, so `portfolio` mixes them. All work on few rows (the whole of small data, a sample of
large), in the design's coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from .activations import Code, has_label_transform
from .design import Design, Parameters
from .em import climb
from .linalg import solve_normal_equations
from .moment_fit import Norms
from .moments import Score
from .objective import Objective
from .rows import mean_and_error
from .spectral import spectral

__all__ = [
    "KINDS", "LINEAR_ONLY", "MOVES", "enlarge", "log_density", "make_start", "may_be_better", "moves_for", "portfolio",
    "split_expert",
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
_KMEANS_ITER = 20
_GROWTH_ITER, _GROWTH_TOL = 15, 1e-5    # EM iterations after each expert that is added, and the gain that ends them
_RIDGE = 1e-2               # within-class variance added to a gate fitted to labels: it must not be too sure
_ERRORS = 2.0               # standard errors that what may still be better can lie below the leader
_SECOND_ROUND_AT = 3        # kind of start at which the second round of a portfolio begins
_SMALLEST_NOISE = 1e-3      # of the overall residual: where a start's own residuals vanish


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
    return _with_flat_gate(design, expert, np.full(n_experts, std))


def random_partition(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Rows dealt out to experts at random."""
    return from_labels(design, rng.integers(n_experts, size=design.rows.n_samples), n_experts, rng)


def kmeans(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Clusters of (x, y), all columns on one scale."""
    mean, std = design.rows.target_moments
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
        lines = _lines(D, y, rng.choice(left, size=(_RANSAC_TRIES, p)))
        residual = np.abs(y[left] - lines @ D[left].T)
        size = _quantile(residual, _RANSAC_QUANTILE)
        best = np.argmin(size)
        robust = size[best] / _NORMAL_QUANTILE
        inlier = residual[best] <= _INLIER * robust
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
    # One refinement: a second gains digits that EM finds anyway.
    result = spectral(design.rows, n_found, design.activation, score, rng, norms=norms, n_refinements=1)
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
    return from_labels(design, labels, n_experts, rng)


def _best_split(design: Design, rows: Labels, rng: np.random.Generator) -> tuple[float, Labels]:
    """The change of sum_j n_j log s_j by the best split of a leaf, and the rows to split off; infinity if none can be.

    Gram matrices are summed once for each slice between two cuts; those of the two sides of a cut are sums of these.
    """
    D = design.expert_matrix[rows]
    x, with_y = D[:, int(design.fit_intercept) :], np.column_stack([D, design.rows.y[rows]])
    n_rows, p = D.shape
    best = (math.inf, rows[:0])
    if n_rows < 2 * (p + 2) or x.shape[1] == 0:
        return best
    smallest = 1e-16 * (float(np.abs(with_y[:, -1]).max()) + 1e-300) ** 2
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
    lines = _solve(np.ascontiguousarray(grams[:, :-1, :-1]), np.ascontiguousarray(cross))
    left_over = squares - np.sum(lines * cross, axis=1)
    return 0.5 * counts * np.log(np.maximum(left_over / np.maximum(counts, 1), smallest))


def local(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Lines through neighbourhoods of random rows, clustered by their coefficients."""
    D, y = design.expert_matrix, design.rows.y
    n_samples, p = D.shape
    n_near = min(n_samples, rng.integers(p + 2, max(p + 3, min(5 * p, n_samples // n_experts) + 1)))
    near = _neighbours(design, rng.choice(n_samples, min(n_samples, _LOCAL_LINES)), n_near)
    lines = _lines(D, y, near)
    median = np.median(lines, axis=0)
    scale = np.maximum(np.median(np.abs(lines - median), axis=0), 1e-300)
    of_line = _clusters(np.clip((lines - median) / scale, -10.0, 10.0), n_experts, rng)
    expert = random_parameters(design, n_experts, rng).expert
    for k in range(n_experts):
        if np.any(of_line == k):
            expert[k] = np.median(lines[of_line == k], axis=0)
    labels = np.argmin(np.abs(y - expert @ D.T), axis=0)
    return from_labels(design, labels, n_experts, rng)


def growth(
    design: Design, n_experts: int, rng: np.random.Generator, objective: Objective = _PLAIN
) -> Parameters:
    """From one expert up: each new one begins on the rows the others explain worst, then EM for a while."""
    parameters = from_labels(design, np.zeros(design.rows.n_samples, dtype=np.intp), 1, rng)
    free = _with_free_noise(objective)
    for _ in range(1, n_experts):
        parameters = add_expert(design, parameters, rng)
        parameters = climb(design, parameters, free, max_iter=_GROWTH_ITER, tol=_GROWTH_TOL).parameters
    return parameters


def _with_free_noise(objective: Objective) -> Objective:
    """The objective while the number of experts changes: a noise that is held belongs to so many."""
    return objective if isinstance(objective.noise, str) else replace(objective, noise="per_expert")


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
    noise_std = max(float(np.median(residual)) / 0.6745, 0.1 * float(parameters.noise_std.min()))
    own_gate = np.zeros((1, design.n_gate_columns))
    if design.gate_intercept:   # a share of one in k
        own_gate[0, 0] = float(np.mean(logsumexp(logits(design, parameters)))) - math.log(parameters.n_experts)
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


def swap_expert(
    design: Design, parameters: Parameters, donor: Parameters, rng: np.random.Generator, objective: Objective = _PLAIN
) -> Parameters:
    """One expert taken away, and one put where the others explain worst."""
    return add_expert(design, drop_expert(parameters, int(rng.integers(parameters.n_experts))), rng)


def grow_and_prune(
    design: Design, parameters: Parameters, donor: Parameters, rng: np.random.Generator, objective: Objective = _PLAIN
) -> Parameters:
    """One expert more, EM for a while, and one less."""
    larger = climb(
        design, add_expert(design, parameters, rng), _with_free_noise(objective), max_iter=_GROWTH_ITER, tol=_GROWTH_TOL
    )
    return drop_expert(larger.parameters, int(rng.integers(parameters.n_experts + 1)))


def shift_border(
    design: Design, parameters: Parameters, donor: Parameters, rng: np.random.Generator, objective: Objective = _PLAIN
) -> Parameters:
    """Some rows of one expert, those on one side of a cut through x, dealt to another, and all fitted anew.

    Half of the time the cut is parallel to the gate's border between the two.
    """
    labels = np.argmax(log_joint(design, parameters), axis=0)
    giver, taker = rng.choice(parameters.n_experts, 2, replace=False)
    rows = np.flatnonzero(labels == giver)
    if len(rows):
        if rng.random() < 0.5:
            gate = np.vstack([parameters.gate, np.zeros((1, parameters.gate.shape[1]))])
            along = design.gate_matrix[rows] @ (gate[taker] - gate[giver])
        else:
            along = _along_random(design, rows, rng)
        labels[rows[along > _quantile(along, rng.uniform(0.2, 0.95))]] = taker
    return _dealt_anew(design, parameters, labels, [], rng)


def recut_expert(
    design: Design, parameters: Parameters, donor: Parameters, rng: np.random.Generator, objective: Objective = _PLAIN
) -> Parameters:
    """One expert taken away, its rows dealt to the others, and another's rows cut in two along a direction of x."""
    k = parameters.n_experts
    gone, split = rng.choice(k, 2, replace=False) if k > 1 else (0, 0)
    joint = log_joint(design, parameters)
    joint[gone] = -np.inf
    labels = np.argmax(joint, axis=0)
    rows = np.flatnonzero(labels == split)
    if len(rows):
        along = _along_random(design, rows, rng)
        labels[rows[along > _quantile(along, rng.uniform(0.1, 0.9))]] = gone
    return _dealt_anew(design, parameters, labels, [gone], rng)


def relocate_expert(
    design: Design, parameters: Parameters, donor: Parameters, rng: np.random.Generator, objective: Objective = _PLAIN
) -> Parameters:
    """One expert put through the neighbourhood of a row, rather a badly explained one; rows dealt out anew."""
    D, y, k = design.expert_matrix, design.rows.y, parameters.n_experts
    n_samples, p = D.shape
    gone = int(rng.integers(k))
    rest = drop_expert(parameters, gone) if k > 1 else parameters
    worst_first = np.argsort(log_density(design, rest))
    anchor = worst_first[int(n_samples * rng.random() ** 2)]
    n_near = min(n_samples, int(rng.integers(p + 2, max(p + 3, n_samples // (2 * k)) + 1)))
    near = _neighbours(design, np.array([anchor]), n_near)
    expert, noise_std = parameters.expert.copy(), parameters.noise_std.copy()
    expert[gone] = _lines(D, y, near)[0]
    residual = np.abs(y[near[0]] - D[near[0]] @ expert[gone])
    noise_std[gone] = max(float(np.median(residual)) / 0.6745, 0.1 * float(noise_std.min()))
    scale = noise_std[:, np.newaxis]
    z = (y - expert @ D.T) / scale
    labels = np.argmin(0.5 * z * z + np.log(scale), axis=0)
    return from_labels(design, labels, k, rng)


def cross_experts(
    design: Design, parameters: Parameters, donor: Parameters, rng: np.random.Generator, objective: Objective = _PLAIN
) -> Parameters:
    """An expert of another optimum put in, with its rows: for the one that held most of them, or for any."""
    k = parameters.n_experts
    joint = log_joint(design, parameters)
    rows = np.argmax(log_joint(design, donor), axis=0) == rng.integers(k)
    held = np.bincount(np.argmax(joint, axis=0)[rows], minlength=k)
    gone = int(np.argmax(held)) if rng.random() < 0.5 else int(rng.integers(k))
    joint[gone] = -np.inf
    labels = np.argmax(joint, axis=0)
    labels[rows] = gone
    return _dealt_anew(design, parameters, labels, [gone], rng)


def _dealt_anew(
    design: Design, parameters: Parameters, labels: Labels, changed: list[int], rng: np.random.Generator
) -> Parameters:
    """Experts fitted to new labels; of other than linear ones, whose norms a regression cannot tell, those changed."""
    start = from_labels(design, labels, parameters.n_experts, rng, fit_gate=bool(rng.random() < 0.5))
    if design.activation.code == Code.LINEAR:
        return start
    expert = parameters.expert.copy()
    expert[changed] = start.expert[changed]
    return replace(start, expert=expert)


def _along_random(design: Design, rows: Labels, rng: np.random.Generator) -> FloatArray:
    x = design.expert_matrix[rows, int(design.fit_intercept) :]
    return x @ rng.standard_normal(x.shape[1])


def logsumexp(values: FloatArray) -> FloatArray:
    """log sum_k exp(values[k, i]) of every column of finite numbers."""
    largest = values.max(axis=0)
    return largest + np.log(np.exp(values - largest).sum(axis=0))


def logits(design: Design, parameters: Parameters) -> FloatArray:
    """Of the gate, (n_experts, n_samples)."""
    return np.vstack([parameters.gate @ design.gate_matrix.T, np.zeros(design.rows.n_samples)])


def log_joint(design: Design, parameters: Parameters) -> FloatArray:
    """log p(z = k, y | x) of every expert and row, but for the softmax's sum; for starts, on few rows."""
    noise_std = parameters.noise_std[:, np.newaxis]
    mean = design.activation.g(parameters.expert @ design.expert_matrix.T)
    z = np.clip((design.rows.y - mean) / noise_std, -1e50, 1e50)
    return logits(design, parameters) - 0.5 * z * z - np.log(noise_std)


def log_density(design: Design, parameters: Parameters) -> FloatArray:
    """log p(y | x) of every row, (n_samples,); for starts, on few rows."""
    return logsumexp(log_joint(design, parameters)) - logsumexp(logits(design, parameters))


def may_be_better(design: Design, one: Parameters, of_leader: FloatArray, n_errors: float = _ERRORS) -> bool:
    """Whether, on more rows than these, one may yet overtake a leader with these log densities: its mean loss is within
    so many of its standard errors.
    """
    mean, error = mean_and_error(of_leader - log_density(design, one), design.rows.weight)
    return mean < n_errors * error


# In the order in which a race draws them: of large data the first three, or six, decide whether there is more to
# look for. So they are of different kinds; the first four find the optimum of easy data, the next two those that others
# miss.
KINDS: dict[str, Callable[..., Parameters]] = {
    "spectral": spectral_start,
    "growth": growth,
    "partition": random_partition,
    "local": local,
    "ransac": ransac,
    "segments_y": segments_of_y,
    "tree": tree,
    "segments": segments,
    "kmeans": kmeans,
    "random": random_parameters,
    "kmeans_x": kmeans_of_x,
}

LINEAR_ONLY = {"ransac", "tree", "local"}

# From an optimum, and another to borrow from, to what may be the way to a better one.
MOVES: dict[str, Callable[..., Parameters]] = {
    "recut": recut_expert,
    "relocate": relocate_expert,
    "borders": shift_border,
    "prune": grow_and_prune,
    "swap": swap_expert,
    "cross": cross_experts,
}


def moves_for(design: Design) -> dict[str, Callable[..., Parameters]]:
    """Those that there are: a line through a neighbourhood is for linear experts."""
    linear = design.activation.code == Code.LINEAR
    return {kind: move for kind, move in MOVES.items() if linear or kind != "relocate"}


def make_start(
    kind: str, design: Design, n_experts: int, rng: np.random.Generator, objective: Objective = _PLAIN,
    most_rows: int = _MOST_ROWS,
) -> Parameters:
    """One start of the kind named, but for the spectral made from a sample of so many rows at most."""
    if kind != "spectral" and design.rows.n_samples > most_rows:
        design = design.on(design.rows.sample(most_rows, rng))
    if kind == "growth":
        return growth(design, n_experts, rng, objective)
    return KINDS[kind](design, n_experts, rng)


def portfolio(design: Design, n_experts: int, n_starts: int) -> Iterator[str]:
    """n_starts kinds: the deterministic once, the others in rounds, the second of which begins at the fourth of them.

    With linear experts large data gets a round and a half: the second half is of those that find what the first miss.
    """
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
    yield from islice(cycle(kinds + kinds[_SECOND_ROUND_AT:] + kinds[:_SECOND_ROUND_AT]), n_starts)


# ---- shared by the kinds ----


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
    cuts = np.minimum(np.cumsum(shares)[:-1], 1.0) * (len(values) - 1)
    return np.searchsorted(np.sort(values)[cuts.astype(np.intp)], values)


def _quantile(values: FloatArray, share: float) -> FloatArray:
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


def _neighbours(design: Design, anchors: Labels, n_near: int) -> Labels:
    """The rows nearest to each anchor in (x, y), (n_anchors, n_near)."""
    mean, std = design.rows.target_moments
    points = np.column_stack([design.expert_matrix[:, int(design.fit_intercept) :], (design.rows.y - mean) / std])
    distance = np.sum(points**2, axis=1) - 2.0 * points[anchors] @ points.T   # squared, but for the anchor's own part
    return np.argpartition(distance, n_near - 1, axis=1)[:, :n_near]


def _lines(D: FloatArray, y: FloatArray, rows: Labels) -> FloatArray:
    """The line through each set of rows, (n_sets, p)."""
    subsets = D[rows]
    return _solve(subsets.transpose(0, 2, 1) @ subsets, np.einsum("tip,ti->tp", subsets, y[rows]))


def _with_flat_gate(design: Design, expert: FloatArray, noise_std: FloatArray) -> Parameters:
    floor = _SMALLEST_NOISE * design.rows.target_moments[1]
    gate = np.zeros((len(expert) - 1, design.n_gate_columns))
    return Parameters(np.ascontiguousarray(expert), gate, np.maximum(noise_std, floor))


def _least_squares(D: FloatArray, y: FloatArray) -> FloatArray:
    return _solve((D.T @ D)[np.newaxis], (D.T @ y)[np.newaxis])[0]


def _solve(grams: FloatArray, right: FloatArray) -> FloatArray:
    """By normal equations: a line through some rows needs no more digits than they keep, and no minimum norm."""
    return solve_normal_equations(grams, right, minimum_norm=False)
