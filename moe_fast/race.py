"""The race of starts: short runs of many, the best run on, moves from the leader, until time is better spent otherwise.

No kind of start wins everywhere, and how often a good one is found depends on the data far more than on theory
(docs/starts.md). So the race is broad: every kind in turn, in rounds; and it goes on as long as its finds disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from .density import log_density, may_be_better
from .design import Design, Parameters
from .em import climb, maximise
from .moves import enlarge, moves_for
from .pace import NEWTON_PARAMETERS
from .starts import make_start, portfolio
from .task import Chase, Start, Task

__all__ = ["default_starts", "race"]

_SHORT_ITER_OF_LITTLE = 60    # iterations before a start is judged, where one takes microseconds
_LITTLE = 1 << 19         # multiplications of such a pass, at most
_SHORT_TOL = 1e-5
_LONG_ITER = 200          # for those that are run on
_ROWS_AT_FIRST = 2000     # of large data: enough where all starts agree
_ROWS = 5000              # and to tell good starts from bad where they do not
_ROWS_PER_PARAMETER = 25
_ROWS_OF_A_START = 1000   # that each start is made from, or so many for each coefficient of the experts
_SMALL = 2000             # rows up to which starts cost little
_TINY = 500               # rows up to which they cost next to nothing
# (starts, share of them at the best) that end the race; of tiny data all starts are run, and moves made.
_ENOUGH_OF_SMALL = 24, 0.9
_ENOUGH_OF_LARGE = 6, 0.66
_FEWEST_TO_AGREE = 4      # where no more are drawn
# Moments know nothing of EM's optima. Where EM leaves each expert nearer to where they put it than four tenths of the
# way to the next one (the square of that), starts of so many kinds that end there are enough, the spectral among them.
_VOUCHED, _KINDS_IF_VOUCHED = 0.16, 3
# Moves in a row that gain nothing and end the race, for each parameter; fewer of more rows.
_MOVES, _MOST_MOVES, _MOVES_ON_ROWS = 2.4, 288, 1400
_FEWEST_MOVES = 3
# Of tiny data all 80 up to 200 rows, fewer of more; also where all starts ended at one optimum: tonedata's best lies
# beside that.
_FEWEST_MOVES_OF_TINY, _ALL_OF_THEM_TO = 80, 200
_IF_CLEAR, _OFTEN = 4, 4  # so many times fewer where the best was found so often, and no other may be better
_ELITE = 5                # the best after the leader: one of them, or the leader, lends a move an expert
_FROM_SECOND = 1 / 3      # share of the moves that start from the second best
# EM iterations of a move, and how far below the leader, per row, it may be after them to go on.
_STAGES = ((25, 0.03), (50, 0.015))
_STAGES_OF_LITTLE = ((20, 0.1), (40, 0.05), (100, 0.03))
_AGREE = 1e-4             # how far above an optimum, per row, a start on its way there may be (its end is not exact)
_ALIKE = 0.02             # mean absolute difference of log densities, of starts that end at the same optimum
_COMPARED = 500           # rows whose log densities are compared
_SAME = 1e-6              # objectives so close, per row, are one optimum that was reached twice

_Rule = tuple[int, float]


@dataclass(frozen=True)
class _Effort:
    """What is spent on starts."""

    short_iter: int      # iterations before one is judged: EM's, and where it creeps quasi-Newton steps
    n_run_on: int        # of the best, to their optima
    long_tol: float      # gain per row of an iteration that ends such a run
    n_finalists: int     # that are finished, the leader and those that may be better:
    n_errors: float      # standard errors that their mean log density may lie below its


_ON_ALL_ROWS = _Effort(short_iter=50, n_run_on=6, long_tol=1e-8, n_finalists=4, n_errors=2.0)
# Its optima are not those of all rows; and a look at more rows, which costs little, comes before finalists are run on.
_ON_A_SAMPLE = _Effort(short_iter=30, n_run_on=5, long_tol=1e-7, n_finalists=5, n_errors=3.0)


def default_starts(task: Task) -> int:
    """44 starts up to 2000 rows, falling to 16."""
    n = task.design.rows.n_samples
    return int(np.clip(44 * (_SMALL / n) ** 0.5, 16, 44))


def default_patience(n_samples: int, n_parameters: int, is_clear: bool = False) -> int:
    """Moves in a row that gain nothing and end the race: 2.4 a parameter, at most 288, fewer beyond 1400 rows.

    A quarter of it where the best is clear. At least 3, of tiny data 80, falling to 32 at its end.
    """
    moves = min(_MOVES * n_parameters, _MOST_MOVES) * min(1.0, _MOVES_ON_ROWS / n_samples)
    fewest = _FEWEST_MOVES_OF_TINY * min(1.0, _ALL_OF_THEM_TO / n_samples) if n_samples <= _TINY else _FEWEST_MOVES
    return int(max(moves / _IF_CLEAR if is_clear else moves, fewest))


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
    k, n = task.n_experts, task.design.rows.n_samples
    field = _Field(task, _some_rows(task, _ROWS_AT_FIRST))
    kinds = portfolio(field.design, k, n_starts) if init == "auto" else iter([init] * n_starts)
    of_large = min(_ENOUGH_OF_LARGE[0], max(n_starts, _FEWEST_TO_AGREE)), _ENOUGH_OF_LARGE[1]
    enough = None if n <= _TINY else _ENOUGH_OF_SMALL if n <= _SMALL else of_large
    if smaller is not None:
        field.enlarge(smaller)
    if field.design is not task.design:
        field.explore(islice(kinds, of_large[0]), of_large)
        if not field.agree(enough):
            field = field.on(_some_rows(task, _ROWS))
    field.explore(kinds, enough)
    share = 1 if smaller is None else 2   # a good smaller mixture leaves half as much to be looked for
    field.run_on(math.ceil(field.effort.n_run_on / share))
    if k > 1 and math.isfinite(field.reached[0].value) and not field.agree(enough):
        field.move(default_patience(n, task.n_parameters, field.is_clear()) // share)
    return field.result(math.ceil(field.effort.n_finalists / share))


def _some_rows(task: Task, n_rows: int) -> Design:
    """A sample of large data, of more rows where there are many parameters; all of data not so large."""
    full, k = task.design, task.n_experts
    n_rows = max(n_rows, _ROWS_PER_PARAMETER * (k * full.n_columns + (k - 1) * full.n_gate_columns))
    return full.sample(n_rows, task.rng) if full.rows.n_samples > 2 * n_rows else full


class _Field:
    """The starts in a race, on the rows it is run on."""

    def __init__(self, task: Task, design: Design) -> None:
        self.task, self.design = task, design
        self.objective = task.objective(barrier=task.support.barrier(design))
        self.is_sample = design is not task.design
        self.effort = _ON_A_SAMPLE if self.is_sample else _ON_ALL_ROWS
        is_little = design.pass_work(task.n_experts) < _LITTLE
        self.in_kernel = task.n_parameters <= NEWTON_PARAMETERS and design.is_brief(task.n_experts)
        self.short_iter = _SHORT_ITER_OF_LITTLE if is_little else self.effort.short_iter
        self.stages = _STAGES_OF_LITTLE if is_little else _STAGES
        self.rows_of_a_start = max(_ROWS_OF_A_START, _ROWS_PER_PARAMETER * task.n_experts * design.n_columns)
        self.starts: list[Start] = []
        self.n_enlarged = 0    # of them, made from a smaller mixture
        self.moved = math.inf  # how far the spectral start's short run on these rows led it from what moments told
        self.densities: dict[int, tuple[Parameters, NDArray[np.float64]]] = {}
        self.passed: list[NDArray[np.float64]] = []   # log densities of those run on, after the short run
        self.reached: list[Start] = []    # run on to their optimum; best first

    def enter(self, kind: str, parameters: Parameters) -> None:
        """A start from scratch, and its short run."""
        start = Start(kind, len(self.starts), parameters)
        if self.task.holds_noise:
            self.task.anneal(self.design, start)
        start.parameters = self.task.admissible(start.parameters)
        self.run(start, self.short_iter, _SHORT_TOL)
        if kind == "spectral":
            self.moved = _share_moved(self.some_rows, parameters, start.parameters)
        self.starts.append(start)

    def enlarge(self, smaller: Parameters) -> None:
        """A short run of each mixture made from a smaller one."""
        for kind, parameters in enlarge(self.design, smaller, self.task.n_experts, self.task.rng):
            if self.starts and self.task.out_of_time():
                return
            self.enter(kind, parameters)
            self.n_enlarged += 1

    def on(self, design: Design) -> _Field:
        """The same starts on other rows, a short run further; of those that end at one optimum one runs for all."""
        first: list[Start] = []
        twins: list[tuple[Start, Start]] = []
        for start in sorted(self.starts, key=_rank):
            twin = next((other for other in first if self.will_end_at(other, start)), None)
            if twin is None:
                first.append(start)
            else:
                twins.append((start, twin))
        field = _Field(self.task, design)
        field.n_enlarged = self.n_enlarged
        for start in first:
            field.run(start, field.short_iter, _SHORT_TOL)
        for start, twin in twins:
            start.join(twin)
        field.starts = sorted(self.starts, key=lambda start: start.index)
        return field

    def explore(self, kinds: Iterator[str], enough: _Rule | None) -> None:
        """Starts of these kinds, until enough agree on the best."""
        for kind in kinds:
            if self.starts and (self.task.out_of_time() or self.agree(enough)):
                return
            k, rng = self.task.n_experts, self.task.rng
            n_before = sum(start.kind == kind for start in self.starts)
            rows, stop = self.rows_of_a_start, self.task.out_of_time
            self.enter(kind, make_start(kind, self.design, k, rng, self.objective, rows, n_before, stop))

    def run_on(self, most: int) -> None:
        """Run the best starts on to their optima, near-duplicates of better ones left out."""
        for start in sorted(self.starts, key=_rank):
            if len(self.reached) == most or (self.reached and self.task.out_of_time()):
                break
            if start.status == "degenerate" and self.reached:
                break
            if self.is_known(start):
                start.status = "duplicate"
            else:
                self.reach(start)

    def move(self, patience: int) -> None:
        """Moves from the leader, one in three from the second, until so many in a row gain nothing."""
        tried, rng = 0, self.task.rng
        moves = list(moves_for(self.design).items())
        for kind, move in islice(cycle(moves), int(rng.integers(len(moves))), None):
            if tried == patience or self.task.out_of_time():
                return
            elite = self.reached[:1] + [start for start in self.reached[1:] if start.status == "finished"][:_ELITE]
            base = elite[1] if len(elite) > 1 and rng.random() < _FROM_SECOND else elite[0]
            donors = [start for start in elite if start is not base] or elite
            donor = donors[int(rng.integers(len(donors)))]
            start = self.try_move(
                kind, move(self.design, base.parameters, donor.parameters, rng, self.objective)
            )
            tried += 1
            if start.status == "finished":
                self.reach(start)
                if self.reached[0] is start:
                    tried = 0

    @property
    def to_beat(self) -> float:
        """The leader's objective; a degenerate leader is no measure."""
        return self.reached[0].value if self.reached and self.reached[0].status != "degenerate" else -math.inf

    def try_move(self, kind: str, parameters: Parameters) -> Start:
        """The short run of a move, given up where it falls behind the leader, or will end where others did."""
        start = Start(kind, len(self.starts), self.task.admissible(parameters))
        self.starts.append(start)
        for n_iter, behind in self.stages:
            self.run(start, n_iter, _SHORT_TOL)
            if start.status == "finished" and start.value < self.to_beat - behind:
                start.status = "eliminated"
            if start.status != "finished":
                return start
        if self.is_known(start):
            start.status = "duplicate"
        return start

    def is_known(self, start: Start) -> bool:
        """Whether a start will end where another did: it is near its end, or near where it was on its way."""
        if start.value > self.to_beat + _SAME:
            return False
        if any(self.will_end_at(other, start) for other in self.reached):
            return True
        density = self.density(start)
        return any(_distance(there, density) < _ALIKE for there in self.passed)

    def will_end_at(self, other: Start, start: Start) -> bool:
        """Whether a start is so near another's optimum that it will end there."""
        behind = other.value - start.value
        return -_AGREE < behind < _ALIKE and _distance(self.density(other), self.density(start)) < _ALIKE

    def density(self, start: Start) -> NDArray[np.float64]:
        """Log densities of some rows, kept until the start moves on."""
        known = self.densities.get(start.index)
        if known is None or known[0] is not start.parameters:
            known = start.parameters, log_density(self.some_rows, start.parameters)
            self.densities[start.index] = known
        return known[1]

    @cached_property
    def some_rows(self) -> Design:
        return self.design.thinned(_COMPARED)

    def reach(self, start: Start) -> None:
        """Run a start on to its optimum, and rank it."""
        self.passed.append(self.density(start))
        arrived = self.in_kernel and self.run(start, _LONG_ITER, self.effort.long_tol)
        if arrived and start.status == "finished":   # at a saddle, perhaps: the kernel knows EM's curvature alone
            self.task.take_curvature(start, self.design, self.objective)
            arrived = start.curvature is not None
        if not arrived:
            self.run(start, _LONG_ITER, self.effort.long_tol, newton=True)
        start.reached = start.status == "finished"
        if start.status == "finished" and any(
            abs(start.value - other.value) < _SAME for other in self.reached if other.status == "finished"
        ):
            start.status = "duplicate"
        self.reached.append(start)
        self.reached.sort(key=_rank)

    def run(self, start: Start, max_iter: int, tol: float, newton: bool = False) -> bool:
        """Run a start a little further; one that falls behind the leader for good is eliminated on the way.

        Returns whether there is no more to be done.
        """
        task, weight = self.task, self.design.rows.total_weight
        chase = Chase(self.to_beat * weight, task.out_of_time)
        run = maximise if newton else climb
        outcome = run(
            self.design, start.parameters, self.objective, max_iter=max_iter, tol=tol, quasi_newton=True, callback=chase
        )
        start.parameters = outcome.parameters
        start.keep(outcome.curvature, self.design)
        start.value, start.log_likelihood = outcome.objective / weight, outcome.log_likelihood / weight
        start.record(outcome, weight)
        sound = math.isfinite(start.value) and not task.support.by_chance(self.design, outcome.sums).any()
        start.status = "degenerate" if not sound else "eliminated" if chase.lost else "finished"
        return outcome.converged or chase.lost

    def agree(self, enough: _Rule | None) -> bool:
        """Whether so many starts or more were drawn, and this share of all ends at the same best.

        On a sample three are enough if moments vouch for that best; and none of the others may be better on more rows.
        """
        if enough is None:
            return False
        n_drawn = len(self.starts) - self.n_enlarged
        may_be_vouched_for = self.is_sample and self.moved < _VOUCHED
        if n_drawn < (_KINDS_IF_VOUCHED if may_be_vouched_for else enough[0]):
            return False
        best, found, others = self.sides()
        if len(found) < enough[1] * len(self.starts) or (n_drawn < enough[0] and not self.is_vouched_for(found)):
            return False
        return not self.is_sample or not self.is_contested(best, others)

    def is_vouched_for(self, found: list[Start]) -> bool:
        """Whether moments put the experts where these starts end, which are of several kinds, drawn from scratch."""
        kinds = {start.kind for start in found if start.index >= self.n_enlarged}
        return self.moved < _VOUCHED and "spectral" in kinds and len(kinds) >= _KINDS_IF_VOUCHED

    def is_clear(self) -> bool:
        """Whether several starts from scratch found the best, and none of the others may be better on more rows."""
        best, found, others = self.sides()
        n_found = sum(start.index >= self.n_enlarged for start in found)
        return n_found >= _OFTEN and not self.is_contested(best, others)

    def sides(self) -> tuple[Start, list[Start], list[Start]]:
        """The best start, those that end there, itself among them, and the sound ones that end elsewhere."""
        best = min(self.starts, key=_rank)
        sound = [start for start in self.starts if start.status != "degenerate"]
        found = [start for start in sound if self.will_end_at(best, start)]
        return best, found, [start for start in sound if start not in found]

    def is_contested(self, best: Start, others: list[Start]) -> bool:
        if not others:
            return False
        of_best = log_density(self.design, best.parameters)
        return any(may_be_better(self.design, other.parameters, of_best) for other in others)

    def result(self, n_finalists: int) -> list[Start]:
        """All starts, those to be finished first, and of these the best."""
        finalists = self.reached[:1]
        of_leader = log_density(self.design, finalists[0].parameters)
        for start in self.reached[1:]:
            if len(finalists) == n_finalists:
                break
            finished = start.status == "finished"
            if finished and may_be_better(self.design, start.parameters, of_leader, self.effort.n_errors):
                finalists.append(start)
        others = [start for start in self.starts if start not in finalists]
        for start in others:
            if start.status == "finished":
                start.status = "eliminated"
        return finalists + others


def _share_moved(design: Design, before: Parameters, after: Parameters) -> float:
    """Mean square that an expert's predictor moved by, over that to the nearest other expert's; of the worst expert.

    Intercepts, which moments tell less well, are left out. Infinity where two experts are one.
    """
    first = int(design.fit_intercept)
    old, new = (each.expert[:, first:] @ design.expert_matrix[:, first:].T for each in (before, after))
    moved = np.mean((new - old) ** 2, axis=1)
    apart = np.mean((new[:, np.newaxis] - new) ** 2, axis=2)
    np.fill_diagonal(apart, math.inf)
    nearest = apart.min(axis=1)
    return float(np.max(moved / nearest)) if nearest.all() else math.inf


def _distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.abs(one - other).sum()) / len(one)


def _rank(start: Start) -> tuple[bool, bool, float]:
    return start.status == "degenerate", start.status in ("duplicate", "eliminated"), -start.value
