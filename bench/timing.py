"""Taking turns: contenders are timed one after the other, round after round, so that all see the same machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

_GLANCE = 0.01      # seconds between two looks at whether threads still spin
_SHORTEST = 0.1    # seconds: anything shorter is repeated until it takes so long, or a core just woken would be timed


@dataclass(frozen=True)
class Outcome:
    """What a call reached: a time without it is not a result."""

    objective: float = math.nan
    passes: float = math.nan
    iterations: float = math.nan
    converged: bool | None = None
    seconds: float | None = None   # if the contender holds its own watch (another language's process)


@dataclass
class Timing:
    """A contender's times, and what it reached."""

    call: Callable[[], Outcome]
    loops: int = 1
    wanted: int = 0
    seconds: list[float] = field(default_factory=list)
    outcome: Outcome = Outcome()

    @property
    def fastest(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return median(self.seconds)

    def run(self) -> float:
        """Seconds of one call."""
        _settle()
        start = time.perf_counter()
        for _ in range(self.loops):
            self.outcome = self.call()
        taken = (time.perf_counter() - start) / self.loops
        return taken if self.outcome.seconds is None else self.outcome.seconds


def _settle() -> None:
    """Wait until no thread of this process works.

    OpenBLAS's and OpenMP's spin for a tenth of a second after their work, on the cores that the next contender wants.
    """
    for _ in range(100):
        before = time.process_time()
        time.sleep(_GLANCE)
        if time.process_time() - before < 0.1 * _GLANCE:
            return


def race(
    contenders: Mapping[Key, Callable[[], Outcome]], *, repeats: int, allowance: float, deadline: float = math.inf
) -> dict[Key, Timing]:
    """Time contenders against each other.

    Parameters
    ----------
    contenders : mapping of any key to callable
        The result has the same keys.
    repeats : int
        Rounds.
    allowance : float
        Seconds for one contender in all: a slow one runs in fewer rounds, and its times are as many.
    deadline : float
        Of `time.perf_counter`; past it, no new round is begun.
    """
    timings = {key: Timing(call) for key, call in contenders.items()}
    for timing in timings.values():
        warm_up = timing.run()
        timing.loops = max(1, math.ceil(_SHORTEST / max(warm_up, 1e-9)))
        timing.wanted = min(repeats, int(allowance / max(warm_up, 1e-9)))
        if timing.wanted == 0:   # so slow that the first run has to do
            timing.seconds.append(warm_up)
    _take_turns(list(timings.values()), repeats, deadline)
    return timings


def _take_turns(timings: Sequence[Timing], repeats: int, deadline: float) -> None:
    for turn in range(repeats):
        if turn and time.perf_counter() > deadline:
            break
        for timing in timings:
            if turn < timing.wanted:
                timing.seconds.append(timing.run())
