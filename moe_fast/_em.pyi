from typing import Any

from numpy import float64
from numpy.typing import NDArray

EXPERT_GRAM: int
GATE_GRAM: int
INFORMATION: int
ENTROPY: int
MAJORISED: int
SINGLE: int
GATE_STEP: float
UNANSWERED: float
SMALLEST_FRACTION: float
TINY_NOISE: float
NO_ROWS: float
SHORTENED: float
NEAR: float
SLOW: float
METRIC_SERVES: int
PATIENCE: int
SMALLEST_QUASI_NEWTON: float
PAIRS: int
RIDGE: float
CURVED: float
WIDEST: float
LAST_ITERATION: int
CONVERGED: int
HANDED_OVER: int

def shorter(fraction: float, gain: float, promise: float, smallest: float, has_kinks: bool) -> float: ...
def n_blocks(n_samples: int, size: int) -> int: ...
def layout(
    n_features: int,
    n_gate_features: int,
    n_experts: int,
    expert_intercept: bool,
    gate_intercept: bool,
    want: int,
) -> tuple[dict[str, tuple[int, tuple[int, ...]]], int]: ...
def work_size(
    n_samples: int,
    n_features: int,
    n_gate_features: int,
    n_experts: int,
    expert_intercept: bool,
    gate_intercept: bool,
    own_gate_design: bool,
    want: int,
    n_threads: int,
) -> int: ...
def em_pass(
    X: NDArray[Any],
    Z: NDArray[Any] | None,
    y: NDArray[float64],
    weight: NDArray[float64] | None,
    standard: NDArray[float64],
    gate_standard: NDArray[float64],
    expert_intercept: bool,
    gate_intercept: bool,
    expert: NDArray[float64],
    gate: NDArray[float64],
    noise_std: NDArray[float64],
    activation: int,
    leak: float,
    mean: NDArray[float64] | None,
    slope: NDArray[float64] | None,
    bend: NDArray[float64] | None,
    want: int,
    sums: NDArray[float64],
    resp: NDArray[float64] | None,
    work: NDArray[float64],
    n_threads: int,
) -> None: ...
def em_climb(
    X: NDArray[Any],
    Z: NDArray[Any] | None,
    y: NDArray[float64],
    weight: NDArray[float64] | None,
    standard: NDArray[float64],
    gate_standard: NDArray[float64],
    expert_intercept: bool,
    gate_intercept: bool,
    activation: int,
    leak: float,
    places: NDArray[float64],
    n_experts: int,
    moves_noise: bool,
    shares_noise: bool,
    barrier: float,
    gate_limit: float,
    gate_serves: int,
    quasi_steps: bool,
    dependent: float,
    goal: float,
    rounding: float,
    history: NDArray[float64],
    sums: NDArray[float64],
    systems: NDArray[float64],
    memory: NDArray[float64],
    work: NDArray[float64],
    n_threads: int,
) -> tuple[int, int, int, int]: ...
def memory_size(n_experts: int, p: int, q: int) -> int: ...
def vector_exp(x: NDArray[float64], out: NDArray[float64]) -> None: ...
def vector_log(x: NDArray[float64], out: NDArray[float64]) -> None: ...
