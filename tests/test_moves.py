"""Does each move lead from one mixture to another that EM can climb from?"""

from dataclasses import replace

import numpy as np
import pytest
from valid import assert_valid

import moe_fast as mf
from moe_fast.activations import get_activation
from moe_fast.density import log_density
from moe_fast.design import Design, Parameters
from moe_fast.em import maximise
from moe_fast.moves import MOVES, add_expert, grow, moves_for
from moe_fast.objective import PLAIN
from moe_fast.rows import Rows
from moe_fast.starts import make_start


@pytest.fixture(scope="module")
def sim():
    return mf.make_moe(300, 4, 3, intercept=1.0, random_state=0)


@pytest.mark.parametrize("kind", MOVES)
@pytest.mark.parametrize("activation", ["linear", "tanh", "relu"])
@pytest.mark.parametrize("gate", ["softmax", "constant", "features"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_moves_are_valid_and_move(kind, activation, gate, fit_intercept):
    sim = mf.make_moe(300, 4, 3, activation=activation, random_state=0)
    Z = sim.X[:, :2] if gate == "features" else None
    rows = Rows.check(sim.X * 5.0 + 3.0, sim.y, None, Z)
    design = Design(
        rows, get_activation(activation), fit_intercept, "constant" if gate == "constant" else "softmax"
    )
    if kind not in moves_for(design):
        assert (kind, activation) in {("relocate", "tanh"), ("relocate", "relu")}
        return
    start = make_start("kmeans", design, 3, np.random.default_rng(0))
    before = [array.copy() for array in (start.expert, start.gate, start.noise_std)]
    donor = make_start("segments", design, 3, np.random.default_rng(2))
    moved = MOVES[kind](design, start, donor, np.random.default_rng(1))
    assert_valid(moved, design, 3)
    for array, old in zip((start.expert, start.gate, start.noise_std), before, strict=True):
        np.testing.assert_array_equal(array, old)
    assert np.abs(log_density(design, moved) - log_density(design, start)).max() > 1e-3
    again = MOVES[kind](design, start, donor, np.random.default_rng(1))
    assert again.expert.tobytes() == moved.expert.tobytes()


def test_a_crossing_takes_an_expert_from_the_donor():
    """Kills: a donor that is not asked, one of its experts always, or never, taken."""
    x = np.linspace(0.0, 3.0, 90)
    lines = np.array([[0.0, 1.0], [5.0, -1.0], [-4.0, 2.0]])
    y = np.choose(np.repeat([0, 1, 2], 30), lines[:, :1] + lines[:, 1:] * x) + 0.01 * np.cos(50.0 * x)
    design = Design(Rows.check(x[:, None], y), get_activation("linear"))
    gate = np.array([[20.0, -20.0], [10.0, -5.0]])
    shift, scale = design.standard[:, 0]
    good = Parameters(lines @ np.array([[1.0, 0.0], [shift, 1.0 / scale]]), gate, np.full(3, 0.05))
    bad = replace(good, expert=np.vstack([good.expert[0], np.zeros((2, 2))]), noise_std=np.array([0.05, 2.0, 2.0]))

    def found(donor):
        moved = [MOVES["cross"](design, bad, donor, np.random.default_rng(seed)).expert for seed in range(40)]
        near = np.abs(np.stack(moved)[:, :, np.newaxis] - good.expert).max(axis=3) < 0.1
        return near.any(axis=1).mean(axis=0)

    assert ((found(good) > 0.2) & (found(good) < 1.0)).all()
    assert (found(bad)[1:] < 0.1).all()
    # Its own expert given back to it replaces that expert half of the time, and one in three of the other half.
    same = [MOVES["cross"](design, good, good, np.random.default_rng(seed)).expert for seed in range(60)]
    assert np.mean(np.abs(np.stack(same) - good.expert).max(axis=(1, 2)) < 0.1) > 0.5


def test_a_recut_leaves_other_experts_of_a_curved_activation_alone():
    """Their norms are more than a regression on labels can tell. Kills: all experts fitted anew."""
    sim = mf.make_moe(300, 4, 3, activation="tanh", random_state=0)
    design = Design(Rows.check(sim.X, sim.y), get_activation("tanh"))
    start = make_start("kmeans", design, 3, np.random.default_rng(0))
    moved = MOVES["recut"](design, start, start, np.random.default_rng(1))
    assert np.sum(np.all(moved.expert == start.expert, axis=1)) == 2


def test_an_expert_is_added_alike_on_every_processor(sim, monkeypatch):
    """What numpy's sort does with equal rows depends on it, unless the sort is stable. Kills: a sort that is not."""
    X, y = np.tile(sim.X[:60], (5, 1)), np.tile(sim.y[:60], 5)
    design = Design(Rows.check(X, y), get_activation("linear"))
    start = make_start("kmeans", design, 3, np.random.default_rng(0))
    stable = np.argsort

    def sort(values, kind=None):
        return stable(values, kind=kind) if kind == "stable" else len(values) - 1 - stable(values[::-1], kind="stable")

    def partition(values, kth):
        return sort(values)

    added = [add_expert(design, start, np.random.default_rng(seed)) for seed in range(10)]
    monkeypatch.setattr(np, "argsort", sort)
    monkeypatch.setattr(np, "argpartition", partition)
    for seed, before in enumerate(added):
        np.testing.assert_array_equal(add_expert(design, start, np.random.default_rng(seed)).expert, before.expert)


def test_growth_goes_on_by_em(sim):
    """Fifteen iterations after an expert is added. Kills: none, with which a grown start is no better than a line."""
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    start = make_start("kmeans", design, 2, np.random.default_rng(0))
    added = add_expert(design, start, np.random.default_rng(1))
    grown = grow(design, start, np.random.default_rng(1), PLAIN)
    along = maximise(design, added, PLAIN, max_iter=15, tol=1e-5, newton=False).history
    assert along[-1] > along[0] + 10.0
    gain = np.sum(log_density(design, grown) - log_density(design, added))
    assert gain == pytest.approx(along[-1] - along[0], abs=1.0)
