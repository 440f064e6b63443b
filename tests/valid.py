"""What every start, and every move, must be; and rows to try them on."""

import numpy as np

from moe_fast.design import Parameters
from moe_fast.em import maximise
from moe_fast.objective import Objective


def assert_valid(start, design, n_experts):
    """Finite, of the design's shapes, noise positive and of y's size, and something EM can climb from."""
    assert isinstance(start, Parameters)
    assert start.expert.shape == (n_experts, design.n_columns)
    assert start.gate.shape == (n_experts - 1, design.n_gate_columns)
    assert start.noise_std.shape == (n_experts,)
    for array in (start.expert, start.gate, start.noise_std):
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
        assert np.isfinite(array).all()
    spread = design.rows.y.std()
    assert (start.noise_std >= 1e-4 * spread).all()
    assert (start.noise_std < 20.0 * spread).all()
    outcome = maximise(
        design, start, Objective(barrier=1e-3 * spread**2), max_iter=5, tol=1e-12, newton=False
    )
    assert np.isfinite(outcome.objective)
    assert outcome.history[-1] > outcome.history[0]


def lines(n_samples=300, seed=0):
    """A tight line, a loose one, and x of one feature."""
    rng = np.random.default_rng(seed)
    x, tight = rng.uniform(-2.0, 2.0, n_samples), rng.random(n_samples) < 0.6
    noise = np.where(tight, 0.01, 0.5) * rng.standard_normal(n_samples)
    return x[:, None], np.where(tight, 1.0 + x, 2.0 - 3.0 * x) + noise
