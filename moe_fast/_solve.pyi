from numpy import float64, intc
from numpy.typing import NDArray

def solve_small(
    matrices: NDArray[float64],
    right: NDArray[float64],
    solution: NDArray[float64],
    left_out: NDArray[intc],
    upper: NDArray[float64],
    size: NDArray[float64],
    dependent: float,
) -> None: ...
