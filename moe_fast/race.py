"""The race of starts: short runs of many, the best run on, moves from the leader, until time is better spent otherwise.

No kind of start wins everywhere, and how often a good one is found depends on the data far more than on theory
(docs/starts.md). So the race is broad: every kind in turn, in rounds; and it goes on as long as its finds disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .design import Design, Parameters
from .em import maximise
from .starts import enlarge, log_density, make_start, portfolio, shift_borders, swap_expert
from .task import Start, Task

__all__ = ["default_starts", "race"]

_SHORT_ITER = 25          # EM iterations before a start is judged
_SHORT_TOL = 1e-5
_LONG_ITER = 200          # for those that are run on, with Newton's method
_LONG_TOL = 1e-8
_ROWS = 5000              # of large data: enough to tell good starts from bad
_ROWS_PER_PARAMETER = 25
_SMALL = 2000             # rows up to which starts cost little
_TINY = 500               # rows up to which they cost next to nothing, and all of them are run
_ENOUGH_OF_SMALL = 24, 0.9    # starts, and the share of them at the best, that end the race
_ENOUGH_OF_LARGE = 8, 0.5
_FINISHERS = 12           # starts that are run on: of small data, of large
_FINISHERS_OF_LARGE = 6
_FINALISTS = 4            # that are finished on all rows, or on a larger sample
_ERRORS = 4.0             # standard errors that a finalist may lie below the leader
_WITHIN_REACH = 0.03      # below the leader, per row: after a short run a move is worth running on
_AGREE = 1e-4             # objectives so close, per row, are taken for one optimum on its way
_SAME = 1e-6              # and so close for one that was reached


def default_starts(task: Task) -> int:
    """60 starts up to 2000 rows, falling to 12."""
    n = task.design.rows.n_samples
    return int(np.clip(60 * (_SMALL / n) ** 0.7, 12, 60))


def race(task: Task, init: str, n_starts: int, smaller: Parameters | None = None) -> list[Start]:
    """Run the race.

    Parameters
    ----------
    task : Task
    init : str
        "auto", or the one kind of start to draw from.
    n_starts : int
        Most starts that are drawn; moves from the leader come on top.
    smaller : Parameters, optional
        A good mixture of fewer experts: those made from it come first, and half as many are run on, and moves made.

    Returns
    -------
    starts : list of Start
        All of them. Those with status "finished" are for the finish, best first; the others say how they left.
    """
    full, k = task.design, task.n_experts
    n_rows = max(_ROWS, _ROWS_PER_PARAMETER * (k * full.n_columns + (k - 1) * full.n_gate_columns))
    sampled = full.rows.n_samples > 2 * n_rows
    design = full.on(full.rows.sample(n_rows, task.rng)) if sampled else full
    field = _Field(task, design)
    kinds = portfolio(design, k, n_starts) if init == "auto" else iter([init] * n_starts)
    small = full.rows.n_samples <= _SMALL
    enough = _ENOUGH_OF_SMALL if small else _ENOUGH_OF_LARGE
    if full.rows.n_samples <= _TINY:
        enough = n_starts, 1.0
    if smaller is not None:
        field.enlarge(smaller)
    field.explore(kinds, *enough)
    share = 1 if smaller is None else 2   # a good smaller mixture leaves half as much to be looked for
    field.run_on((_FINISHERS if small else _FINISHERS_OF_LARGE) // share)
    if k > 1 and math.isfinite(field.reached[0].value) and not field.agree(*enough):
        field.move((4 if small else 2) * k // share)
    return field.result(_FINALISTS // share)


class _Field:
    """The starts in a race, on the rows it is run on."""

    def __init__(self, task: Task, design: Design) -> None:
        self.task, self.design = task, design
        self.objective = task.objective(barrier=task.barrier(design))
        self.starts: list[Start] = []
        self.reached: list[Start] = []    # run on to their optimum; best first

    def explore(self, kinds: Iterator[str], enough: int, share: float) -> None:
        """A short run of each start, until enough starts agree on the best."""
        for kind in kinds:
            if self.starts and (self.task.out_of_time() or self.agree(enough, share)):
                return
            self.enter(kind, make_start(kind, self.design, self.task.n_experts, self.task.rng, self.objective))

    def enlarge(self, smaller: Parameters) -> None:
        """A short run of each mixture made from a smaller one."""
        for kind, parameters in enlarge(self.design, smaller, self.task.n_experts, self.task.rng):
            if self.starts and self.task.out_of_time():
                return
            self.enter(kind, parameters)

    def enter(self, kind: str, parameters: Parameters) -> None:
        start = Start(kind, len(self.starts), parameters)
        if self.task.holds_noise:
            self.task.anneal(self.design, start)
        start.parameters = self.task.with_held_noise(start.parameters)
        self.run(start, _SHORT_ITER, _SHORT_TOL)
        self.starts.append(start)

    def run_on(self, most: int) -> None:
        """Run the best starts on to their optima, near-duplicates of better ones left out."""
        for start in sorted(self.starts, key=_rank):
            if len(self.reached) == most or (self.reached and self.task.out_of_time()):
                break
            if any(abs(start.value - other.value) < _AGREE for other in self.reached):
                start.status = "duplicate"
            elif start.status != "degenerate" or not self.reached:
                self.reach(start)
        self.reached.sort(key=_rank)

    def move(self, n_moves: int) -> None:
        """Swap an expert of the leader for one where it explains worst, or move its borders; a better end leads."""
        k, rng = self.task.n_experts, self.task.rng
        tried = 0
        while tried < n_moves and not self.task.out_of_time():
            leader = self.reached[0]
            if tried % 2:
                kind, parameters = "borders", shift_borders(self.design, leader.parameters, rng)
            else:
                kind, parameters = "swap", swap_expert(self.design, leader.parameters, tried // 2 % k, rng)
            start = Start(kind, len(self.starts), self.task.with_held_noise(parameters))
            self.run(start, _SHORT_ITER, _SHORT_TOL)
            self.starts.append(start)
            if abs(start.value - leader.value) < _SAME:
                start.status = "duplicate"
            elif start.status != "degenerate" and start.value > leader.value - _WITHIN_REACH:
                self.reach(start)
                self.reached.sort(key=_rank)
                if self.reached[0] is start:
                    tried = 0
                    continue
            tried += 1

    def reach(self, start: Start) -> None:
        self.run(start, _LONG_ITER, _LONG_TOL, newton=True)
        if start.status != "degenerate" and any(
            abs(start.value - other.value) < _SAME for other in self.reached if other.status == "finished"
        ):
            start.status = "duplicate"
        self.reached.append(start)

    def run(self, start: Start, max_iter: int, tol: float, newton: bool = False) -> None:
        """Run a start a little further."""
        task, weight = self.task, self.design.rows.total_weight
        outcome = maximise(
            self.design, start.parameters, self.objective,
            max_iter=max_iter, tol=tol, newton=newton, callback=task.out_of_time,
        )
        start.parameters = outcome.parameters
        start.value, start.log_likelihood = outcome.objective / weight, outcome.log_likelihood / weight
        start.record(outcome, weight)
        sound = math.isfinite(start.value) and not task.too_small(self.design, outcome.sums).any()
        start.status = "finished" if sound else "degenerate"

    def agree(self, enough: int, share: float) -> bool:
        """Whether so many starts or more, and this share of them, end at the same best."""
        best = max(start.value for start in self.starts)
        at_best = sum(start.value > best - _AGREE and start.status != "degenerate" for start in self.starts)
        return len(self.starts) >= enough and at_best >= share * len(self.starts)

    def may_be_better(self, start: Start, leader: Start) -> bool:
        """Whether, on more rows than these, a start may yet overtake: its rows' mean loss is within its error."""
        loss = log_density(self.design, leader.parameters) - log_density(self.design, start.parameters)
        return loss.mean() < _ERRORS * loss.std() / math.sqrt(len(loss))

    def result(self, n_finalists: int) -> list[Start]:
        ranked = sorted(self.reached, key=_rank)
        leader, finalists = ranked[0], ranked[:1]
        for start in ranked[1:]:
            if start.status == "finished" and len(finalists) < n_finalists and self.may_be_better(start, leader):
                finalists.append(start)
        others = [start for start in self.starts if start not in finalists]
        for start in others:
            if start.status == "finished":
                start.status = "eliminated"
        return finalists + others


def _rank(start: Start) -> tuple[bool, bool, float]:
    return start.status == "degenerate", start.status == "duplicate", -start.value
