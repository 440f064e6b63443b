"""Moves from one mixture to another: what may lead from an optimum to a better one, or to one of more experts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .activations import Code
from .density import log_density, log_joint, logits, logsumexp
from .design import Design, Parameters
from .em import climb
from .linalg import least_squares, lines_through
from .objective import PLAIN, Objective
from .partitions import Labels, from_labels, neighbours, quantile

__all__ = ["MOVES", "Stop", "enlarge", "grow", "moves_for", "never", "split_expert"]

FloatArray = NDArray[np.float64]

Stop = Callable[[], bool]


def never() -> bool:
    """Not to stop."""
    return False


_GROWTH_ITER, _GROWTH_TOL = 15, 1e-5    # EM iterations after an expert that is added, and the gain that ends them


def add_expert(design: Design, parameters: Parameters, rng: np.random.Generator) -> Parameters:
    """One expert more, a line through some of the rows that the model explains worst."""
    D, y = design.expert_matrix, design.rows.y
    n_samples, p = D.shape
    n_worst = min(n_samples, max(3 * p, int(n_samples * rng.uniform(0.05, 0.4))))
    worst = np.sort(_worst_first(design, parameters)[:n_worst])
    rows = worst if rng.random() < 0.5 else rng.choice(worst, min(n_worst, p + 1), replace=False)
    line = least_squares(D[rows], y[rows])
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


def grow(
    design: Design, parameters: Parameters, rng: np.random.Generator, objective: Objective, stop: Stop = never
) -> Parameters:
    """One expert more, and EM for a while, unless it is to stop."""
    larger = add_expert(design, parameters, rng)
    if stop():
        return larger
    return climb(
        design, larger, objective, max_iter=_GROWTH_ITER, tol=_GROWTH_TOL, callback=lambda state: stop()
    ).parameters


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
    design: Design, parameters: Parameters, donor: Parameters, rng: np.random.Generator, objective: Objective = PLAIN
) -> Parameters:
    """One expert taken away, and one put where the others explain worst."""
    return add_expert(design, drop_expert(parameters, int(rng.integers(parameters.n_experts))), rng)


def grow_and_prune(
    design: Design, parameters: Parameters, donor: Parameters, rng: np.random.Generator, objective: Objective = PLAIN
) -> Parameters:
    """One expert more, EM for a while, and one less."""
    larger = grow(design, parameters, rng, objective.with_free_noise())
    return drop_expert(larger, int(rng.integers(parameters.n_experts + 1)))


def shift_border(
    design: Design, parameters: Parameters, donor: Parameters, rng: np.random.Generator, objective: Objective = PLAIN
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
        labels[rows[along > quantile(along, rng.uniform(0.2, 0.95))]] = taker
    return _dealt_anew(design, parameters, labels, [], rng)


def recut_expert(
    design: Design, parameters: Parameters, donor: Parameters, rng: np.random.Generator, objective: Objective = PLAIN
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
        labels[rows[along > quantile(along, rng.uniform(0.1, 0.9))]] = gone
    return _dealt_anew(design, parameters, labels, [gone], rng)


def relocate_expert(
    design: Design, parameters: Parameters, donor: Parameters, rng: np.random.Generator, objective: Objective = PLAIN
) -> Parameters:
    """One expert put through the neighbourhood of a row, rather a badly explained one; rows dealt out anew."""
    D, y, k = design.expert_matrix, design.rows.y, parameters.n_experts
    n_samples, p = D.shape
    gone = int(rng.integers(k))
    rest = drop_expert(parameters, gone) if k > 1 else parameters
    worst_first = _worst_first(design, rest)
    anchor = worst_first[int(n_samples * rng.random() ** 2)]
    n_near = min(n_samples, int(rng.integers(p + 2, max(p + 3, n_samples // (2 * k)) + 1)))
    near = neighbours(design, np.array([anchor]), n_near)
    expert, noise_std = parameters.expert.copy(), parameters.noise_std.copy()
    expert[gone] = lines_through(D, y, near)[0]
    residual = np.abs(y[near[0]] - D[near[0]] @ expert[gone])
    noise_std[gone] = max(float(np.median(residual)) / 0.6745, 0.1 * float(noise_std.min()))
    scale = noise_std[:, np.newaxis]
    z = (y - expert @ D.T) / scale
    labels = np.argmin(0.5 * z * z + np.log(scale), axis=0)
    return from_labels(design, labels, k, rng)


def cross_experts(
    design: Design, parameters: Parameters, donor: Parameters, rng: np.random.Generator, objective: Objective = PLAIN
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


def _worst_first(design: Design, parameters: Parameters) -> Labels:
    """The rows, those first that the model explains worst.

    A partition, or a sort that is not stable, would be faster, but leaves it to the processor which of equal rows come
    first.
    """
    return np.argsort(log_density(design, parameters), kind="stable")


def _along_random(design: Design, rows: Labels, rng: np.random.Generator) -> FloatArray:
    x = design.features[rows]
    return x @ rng.standard_normal(x.shape[1])


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
