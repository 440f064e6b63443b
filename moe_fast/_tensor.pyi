from numpy import float64
from numpy.typing import NDArray

def power_iteration(
    T: NDArray[float64],
    v: NDArray[float64],
    value: NDArray[float64],
    work: NDArray[float64],
    n_iter: int,
) -> None: ...
