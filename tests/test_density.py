"""Does a comparison of densities know its own error?"""

import numpy as np

from moe_fast.activations import get_activation
from moe_fast.density import log_density, may_be_better
from moe_fast.design import Design, Parameters
from moe_fast.rows import Rows


def test_may_be_better_knows_its_error():
    """A mean loss of two standard errors is the border. Kills: a sum for a mean, another border, one row's error."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(400)
    design = Design(Rows.check(x[:, None], x + rng.standard_normal(400)), get_activation("linear"))
    leader = Parameters(np.array([[0.0, 1.0]]), np.empty((0, 2)), np.ones(1))
    for shift, expected in ((0.05, True), (0.15, False), (0.5, False), (-0.5, False)):
        one = Parameters(np.array([[shift, 1.0]]), np.empty((0, 2)), np.ones(1))
        loss = log_density(design, leader) - log_density(design, one)
        errors = loss.mean() / (loss.std() / 20.0)
        assert abs(errors - 2.0) > 0.4
        assert (errors < 2.0) == expected   # what is meant
        assert may_be_better(design, one, log_density(design, leader)) == expected
        for n_errors in (errors - 0.1, errors + 0.1):
            assert may_be_better(design, one, log_density(design, leader), n_errors) == (n_errors > errors)


def test_may_be_better_weighs_rows():
    """Kills: rows of next to no weight that decide; a weight counted as so many independent rows."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(400)
    y = x + rng.standard_normal(400)
    y[200:] -= 2.0 * x[200:]    # which the other explains better
    leader, one = (Parameters(np.array([[0.0, slope]]), np.empty((0, 2)), np.ones(1)) for slope in (1.0, 0.3))
    for weight, expected in ((None, True), (np.repeat([1.0, 1e-3], 200), False), (np.full(400, 9.0), True)):
        design = Design(Rows.check(x[:, None], y, weight), get_activation("linear"))
        assert may_be_better(design, one, log_density(design, leader)) == expected
    one = Parameters(np.array([[0.0, 0.9]]), np.empty((0, 2)), np.ones(1))
    heavy = Design(Rows.check(x[:200, None], y[:200], np.full(200, 9.0)), get_activation("linear"))
    loss = log_density(heavy, leader) - log_density(heavy, one)
    assert 0.8 < loss.mean() / (loss.std() / np.sqrt(200)) < 1.9
    assert may_be_better(heavy, one, log_density(heavy, leader))
