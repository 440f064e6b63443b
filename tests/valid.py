"""What every start, and every move, must be."""

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
