from typing import Any

from numpy import float64
from numpy.typing import NDArray

COLUMNS: int
SECOND: int
THIRD: int
POWERS: int

def sums_size(order: int, n_features: int, n_directions: int) -> int: ...
def work_size(order: int, n_samples: int, n_features: int, n_directions: int, n_threads: int) -> int: ...
def moment_pass(
    order: int,
    X: NDArray[Any],
    y: NDArray[float64] | None,
    weight: NDArray[float64] | None,
    polynomial: NDArray[float64],
    standard: NDArray[float64],
    directions: NDArray[float64] | None,
    sums: NDArray[float64],
    work: NDArray[float64],
    n_threads: int,
) -> None: ...
