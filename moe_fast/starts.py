"""The kinds of start: from the rows to parameters, or to labels to which a mixture is fitted (partitions.py).

No kind wins everywhere, so `portfolio` mixes them. All work on few rows (the whole of small data, a sample of
large), in the design's coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice

import numpy as np

from .activations import Code, has_label_transform
from .design import Design, Parameters
from .linalg import least_squares, lines_through
from .moment_fit import Norms
from .moments import Score
from .moves import Stop, grow, never
from .objective import PLAIN, Objective
from .partitions import (
    Labels,
    from_labels,
    kmeans,
    kmeans_of_x,
    local,
    quantile,
    random_parameters,
    segments,
    segments_of_y,
    tree,
    with_flat_gate,
)
from .spectral import spectral

__all__ = ["KINDS", "LINEAR_ONLY", "make_start", "portfolio"]

_RANSAC_TRIES = 20          # lines a sequential RANSAC looks at for each expert
_RANSAC_QUANTILE = 0.25     # of the absolute residuals: the line with the smallest wins
_NORMAL_QUANTILE = 0.3186   # the same quantile of |N(0, 1)|
_INLIER = 2.5               # robust standard deviations within which a row belongs to a line
_MOST_ROWS = 20_000         # that a start is made from, but for the spectral, which reads them in passes
_MOST_REFINED = 16          # experts of a spectral start that moments refine
_SECOND_ROUND_AT = 3        # kind of start at which the second round of a portfolio begins


def random_partition(design: Design, n_experts: int, rng: np.random.Generator) -> Parameters:
    """Rows dealt out to experts at random."""
    return from_labels(design, rng.integers(n_experts, size=design.rows.n_samples), n_experts, rng)


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
        lines = lines_through(D, y, rng.choice(left, size=(_RANSAC_TRIES, p)))
        residual = np.abs(y[left] - lines @ D[left].T)
        size = quantile(residual, _RANSAC_QUANTILE)
        best = np.argmin(size)
        robust = size[best] / _NORMAL_QUANTILE
        inlier = residual[best] <= _INLIER * robust
        rows = left[inlier]
        expert[k] = least_squares(D[rows], y[rows]) if len(rows) >= p else lines[best]
        noise_std[k] = robust
        left = left[~inlier]
    return with_flat_gate(design, expert, noise_std)


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
    # One refinement: a second gains digits that EM finds anyway. It sums some k^3 / 6 moments a row.
    n_refinements = 1 if n_found <= _MOST_REFINED else 0
    result = spectral(design.rows, n_found, design.activation, score, rng, norms=norms, n_refinements=n_refinements)
    expert = random_parameters(design, n_experts, rng).expert
    expert[:n_found] = design.expert_rows(result.coef, result.intercept)
    return with_flat_gate(design, expert, np.full(n_experts, result.noise_std))


def growth(
    design: Design, n_experts: int, rng: np.random.Generator, objective: Objective = PLAIN, stop: Stop = never
) -> Parameters:
    """From one expert up: each new one begins on the rows the others explain worst, then EM for a while."""
    parameters = from_labels(design, np.zeros(design.rows.n_samples, dtype=np.intp), 1, rng)
    free = objective.with_free_noise()
    for _ in range(1, n_experts):
        parameters = grow(design, parameters, rng, free, stop)
    return parameters


# In the order in which a race draws them: of large data the first three, or six, decide whether there is more to
# look for. So they are of different kinds; the first four find the optimum of easy data, the next two those that others
# miss.
KINDS = (
    "spectral", "growth", "partition", "local", "ransac", "segments_y", "tree", "segments", "kmeans", "random",
    "kmeans_x",
)  # fmt: skip

LINEAR_ONLY = {"ransac", "tree", "local"}

_PARAMETERS: dict[str, Callable[..., Parameters]] = {
    "spectral": spectral_start,
    "partition": random_partition,
    "ransac": ransac,
    "random": random_parameters,
}

# Labels that x tells something of, and whether the gate of the kind's first start is fitted to them. That of the second
# is not if that of the first is, and so on in turn: which is better the data says.
_LABELS: dict[str, tuple[Callable[..., Labels], bool]] = {
    "local": (local, False),
    "segments_y": (segments_of_y, True),
    "tree": (tree, False),
    "segments": (segments, False),
    "kmeans": (kmeans, False),
    "kmeans_x": (kmeans_of_x, True),
}


def make_start(
    kind: str, design: Design, n_experts: int, rng: np.random.Generator, objective: Objective = PLAIN,
    most_rows: int = _MOST_ROWS, n_before: int = 0, stop: Stop = never,
) -> Parameters:
    """One start of the kind named, from at most `most_rows` rows, but for the spectral.

    `n_before` starts of this kind were made before: where that is odd, labels get the gate, fitted or flat, that those
    of the first did not. Asked to `stop`, one that takes many runs of EM ends them.
    """
    if kind != "spectral" and design.rows.n_samples > most_rows:
        design = design.sample(most_rows, rng)
    if kind == "growth":
        return growth(design, n_experts, rng, objective, stop)
    if kind in _PARAMETERS:
        return _PARAMETERS[kind](design, n_experts, rng)
    deal_out, fitted_first = _LABELS[kind]
    labels = deal_out(design, n_experts, rng)
    return from_labels(design, labels, n_experts, rng, fit_gate=fitted_first == (n_before % 2 == 0))


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
