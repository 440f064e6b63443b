"""Does every kind of start give parameters that EM can begin at, for every kind of fit?"""

import itertools
from dataclasses import replace

import numpy as np
import pytest

import moe_fast as mf
from moe_fast import starts
from moe_fast.activations import get_activation
from moe_fast.design import Design, Parameters
from moe_fast.em import maximise, overall_line
from moe_fast.objective import Objective
from moe_fast.rows import Rows
from moe_fast.starts import (
    KINDS,
    MOVES,
    _best_split,
    _quantile,
    _slices,
    from_labels,
    log_density,
    make_start,
    may_be_better,
    moves_for,
    portfolio,
)

ALL_KINDS = [
    "spectral", "growth", "partition", "local", "ransac", "segments_y", "tree", "segments", "kmeans", "random",
    "kmeans_x",
]


@pytest.fixture(scope="module")
def sim():
    return mf.make_moe(300, 4, 3, intercept=1.0, random_state=0)


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


def test_the_kinds_are_those_documented():
    assert list(KINDS) == ALL_KINDS
    for kind in ALL_KINDS:
        assert f'"{kind}"' in mf.fit_em.__doc__


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize(("fit_intercept", "gate_intercept"), list(itertools.product([True, False], repeat=2)))
@pytest.mark.parametrize("gate", ["softmax", "constant", "features"])
@pytest.mark.parametrize("weighted", [False, True])
def test_valid_for_every_design(sim, kind, fit_intercept, gate_intercept, gate, weighted):
    """Kills: a column too many without an intercept, a gate of the experts' width, a weight forgotten."""
    weight = np.random.default_rng(0).uniform(0.0, 2.0, 300) if weighted else None
    Z = sim.X[:, :2] if gate == "features" else None
    gate = "softmax" if gate == "features" else gate
    rows = Rows.check(sim.X * 5.0 + 3.0, sim.y, weight, Z)
    design = Design(rows, get_activation("linear"), fit_intercept, gate, gate_intercept)
    assert_valid(make_start(kind, design, 3, np.random.default_rng(1)), design, 3)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("activation", ["linear", "sigmoid", "tanh", "relu", "leaky_relu"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_valid_for_every_activation(kind, activation, dtype):
    sim = mf.make_moe(300, 4, 3, activation=activation, dtype=dtype, random_state=0)
    design = Design(Rows.check(sim.X, sim.y), get_activation(activation))
    assert_valid(make_start(kind, design, 3, np.random.default_rng(1)), design, 3)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("n_experts", [1, 2, 4])
def test_valid_for_every_number_of_experts(sim, kind, n_experts):
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    assert_valid(make_start(kind, design, n_experts, np.random.default_rng(1)), design, n_experts)


@pytest.mark.parametrize("kind", ALL_KINDS[1:])
def test_valid_with_fewer_features_than_experts(sim, kind):
    design = Design(Rows.check(sim.X[:, :1], sim.y), get_activation("linear"))
    assert_valid(make_start(kind, design, 3, np.random.default_rng(1)), design, 3)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("columns", ["constant", "copied", "scales", "year"])
def test_valid_for_awkward_columns(sim, kind, columns):
    """Kills: a covariance inverted as it is, a random column in raw units."""
    X = {
        "constant": np.column_stack([sim.X, np.full(300, 3.0)]),
        "copied": np.column_stack([sim.X, sim.X[:, 0], sim.X[:, 1]]),
        "scales": sim.X * [1e-6, 1e6, 1.0, 1e12],
        "year": sim.X + 1e6,
    }[columns]
    for fit_intercept in (True, False):
        design = Design(Rows.check(X, sim.y), get_activation("linear"), fit_intercept)
        assert_valid(make_start(kind, design, 3, np.random.default_rng(1)), design, 3)


@pytest.mark.parametrize("kind", ALL_KINDS[1:])
def test_a_target_far_from_zero_is_met_there(sim, kind):
    """The experts pass near the mean of y. Kills: random experts about zero, when y is about 1000."""
    design = Design(Rows.check(sim.X, 10.0 * sim.y + 1000.0), get_activation("linear"))
    for seed in range(5):
        start = make_start(kind, design, 3, np.random.default_rng(seed))
        assert np.abs(start.expert[:, 0] - 1000.0).max() < 200.0


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("n_samples", [3, 6, 12])
def test_finite_for_few_rows(sim, kind, n_samples):
    """Down to one row an expert, below the parameters of one. Kills: a normal matrix taken for regular."""
    design = Design(Rows.check(sim.X[:n_samples], sim.y[:n_samples]), get_activation("linear"))
    for seed in range(5):
        start = make_start(kind, design, 3, np.random.default_rng(seed))
        assert all(np.isfinite(array).all() for array in (start.expert, start.gate, start.noise_std))
        assert (start.noise_std > 0.0).all()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_finite_for_repeated_rows(kind):
    """Two values of x and three of y: clusters and slices come out empty."""
    X = np.repeat([[0.0, 1.0], [1.0, 0.0]], [30, 10], axis=0)
    y = np.arange(40) % 3.0
    design = Design(Rows.check(X, y), get_activation("linear"))
    for seed in range(5):
        start = make_start(kind, design, 2, np.random.default_rng(seed))
        assert all(np.isfinite(array).all() for array in (start.expert, start.gate, start.noise_std))
        assert (start.noise_std > 0.0).all()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_same_generator_same_bits_and_others_differ(sim, kind):
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    one, again, other = (make_start(kind, design, 3, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.expert.tobytes() == again.expert.tobytes()
    assert one.noise_std.tobytes() == again.noise_std.tobytes()
    if kind != "spectral":   # its random numbers only start the power iterations
        assert np.abs(one.expert - other.expert).max() > 1e-6


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_rows_of_weight_zero_are_not_seen(sim, kind):
    """Kills: clusters, slices or lines of rows that do not count."""
    rng = np.random.default_rng(0)
    X = np.vstack([sim.X, 100.0 * rng.standard_normal((50, 4))])
    y = np.concatenate([sim.y, 1e4 * rng.standard_normal(50)])
    weight = np.repeat([1.0, 0.0], [300, 50])
    with_them = Design(Rows.check(X, y, weight), get_activation("linear"))
    without = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    one, other = (make_start(kind, design, 3, np.random.default_rng(2)) for design in (with_them, without))
    np.testing.assert_allclose(one.expert, other.expert, atol=1e-8)
    np.testing.assert_allclose(one.noise_std, other.noise_std, rtol=1e-8)


@pytest.mark.parametrize("kind", ["kmeans", "segments", "partition"])
def test_one_expert_is_the_overall_line(sim, kind):
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    start = make_start(kind, design, 1, np.random.default_rng(0))
    line, residual_std = overall_line(design)
    np.testing.assert_allclose(start.expert[0], line, atol=1e-9)
    np.testing.assert_allclose(start.noise_std, residual_std, rtol=1e-9)


def lines(n_samples=300, seed=0):
    """A tight line, a loose one, and x of one feature."""
    rng = np.random.default_rng(seed)
    x, tight = rng.uniform(-2.0, 2.0, n_samples), rng.random(n_samples) < 0.6
    noise = np.where(tight, 0.01, 0.5) * rng.standard_normal(n_samples)
    return x[:, None], np.where(tight, 1.0 + x, 2.0 - 3.0 * x) + noise


def test_ransac_keeps_a_tight_line_tight():
    """What finds tonedata's optimum. Kills: one noise for all, a quantile of the wrong rows."""
    X, y = lines()
    design = Design(Rows.check(X, y), get_activation("linear"))
    start = make_start("ransac", design, 2, np.random.default_rng(0))
    model = design.model(start)
    assert model.coef[0, 0] == pytest.approx(1.0, abs=0.05)
    assert model.intercept[0] == pytest.approx(1.0, abs=0.05)
    assert start.noise_std[0] < 0.05
    assert start.noise_std[1] > 0.1


def test_spectral_start_is_near_the_truth():
    sim = mf.make_moe(20_000, 5, 3, orthogonal_experts=True, random_state=0)
    design = Design(Rows.check(sim.X * [1.0, 10.0, 0.1, 1.0, 1.0] + 5.0, sim.y), get_activation("linear"))
    model = design.model(make_start("spectral", design, 3, np.random.default_rng(0)))
    coef = model.coef * [1.0, 10.0, 0.1, 1.0, 1.0]
    p = mf.match_experts(coef, sim.model.coef)
    np.testing.assert_allclose(coef[p], sim.model.coef, atol=0.2)
    np.testing.assert_allclose(model.expert_means(sim.X * [1.0, 10.0, 0.1, 1.0, 1.0] + 5.0)[:, p].std(0), 1, atol=0.2)


def test_tree_finds_the_break():
    """A line that bends at x = 0.5. Kills: a cost of the wrong side, a Gram sum shifted by a slice."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2.0, 2.0, 2000)
    y = np.where(x > 0.5, 1.0 - x, x) + 0.1 * rng.standard_normal(2000)
    design = Design(Rows.check(x[:, None], y), get_activation("linear"))
    drawn = [make_start("tree", design, 2, np.random.default_rng(seed)) for seed in range(9)]
    # Cuts are drawn at random: near the break in the median.
    slopes = [np.sort(design.model(start).coef[:, 0]) for start in drawn]
    np.testing.assert_allclose(np.median(slopes, axis=0), [-1.0, 1.0], atol=0.3)


def test_local_lines_are_those_of_the_data():
    """Kills: the farthest rows for the nearest, neighbours in x alone."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2.0, 2.0, 600)
    y = np.where(rng.random(600) < 0.5, x, 12.0 - 3.0 * x) + 0.1 * rng.standard_normal(600)
    design = Design(Rows.check(x[:, None], y), get_activation("linear"))
    drawn = [make_start("local", design, 2, np.random.default_rng(seed)) for seed in range(9)]
    slopes = [np.sort(design.model(start).coef[:, 0]) for start in drawn]
    np.testing.assert_allclose(np.median(slopes, axis=0), [-3.0, 1.0], atol=0.1)


def test_a_split_gains_what_least_squares_says():
    """Kills: a count or a Gram sum of the wrong side of the cut."""
    X, y = lines(200)
    design = Design(Rows.check(X, y), get_activation("linear"))
    change, right = starts._best_split(design, np.arange(200), np.random.default_rng(0))

    def cost(rows):
        D = design.expert_matrix[rows]
        residual = y[rows] - D @ np.linalg.lstsq(D, y[rows])[0]
        return len(rows) * np.log(residual.std())

    left = np.setdiff1d(np.arange(200), right)
    assert 0 < len(right) < 200
    assert len(right) != len(left)
    assert change == pytest.approx(cost(left) + cost(right) - cost(np.arange(200)), rel=1e-6)


def test_neighbours_are_the_nearest():
    """Kills: the farthest, distances in x alone."""
    X, y = lines(50)
    design = Design(Rows.check(X, y), get_activation("linear"))
    points = np.column_stack([design.expert_matrix[:, 1], (y - y.mean()) / y.std()])
    for anchor, near in zip([3, 20], starts._neighbours(design, np.array([3, 20]), 8), strict=True):
        distance = np.linalg.norm(points - points[anchor], axis=1)
        assert set(near) == set(np.argsort(distance)[:8])


def test_clusters_are_found_and_may_be_empty():
    """Kills: one Lloyd iteration only, centres all from one cluster, no number for an empty cluster."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(12), 20)
    points = 40.0 * np.eye(12)[truth] + rng.standard_normal((240, 12))
    for seed in range(5):   # centres at random would miss a cluster nearly always
        labels = starts._clusters(points, 12, np.random.default_rng(seed))
        assert [len(set(labels[truth == k])) for k in range(12)] == [1] * 12
        assert len(set(labels)) == 12
    line = rng.uniform(0.0, 1.0, (200, 1))
    labels = starts._clusters(line, 2, np.random.default_rng(1))
    halves = np.array([line[labels == k].mean() for k in range(2)])
    assert np.array_equal(labels, np.argmin(np.abs(line - halves), axis=1))   # a fixed point
    assert set(starts._clusters(np.ones((20, 2)), 3, np.random.default_rng(0))) == {0}


# ---- moves ----


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


# ---- the mixture of kinds ----


def kinds_of(X, y, n_experts, n_starts, activation="linear"):
    return list(portfolio(Design(Rows.check(X, y), get_activation(activation)), n_experts, n_starts))


def test_portfolio_mixes_every_kind(sim):
    kinds = kinds_of(sim.X, sim.y, 3, 21)
    assert len(kinds) == 21
    assert kinds[0] == "spectral"
    assert kinds.count("spectral") == 1   # the same every time
    for kind in ALL_KINDS[1:]:
        assert kinds.count(kind) == 2


def test_the_portfolio_begins_its_second_round_at_other_kinds(sim):
    """Large data gets 16. Kills: every round in one order, which would draw only the first kinds twice."""
    kinds = kinds_of(sim.X, sim.y, 3, 16)
    assert kinds[:11] == ALL_KINDS
    assert kinds[11:] == ALL_KINDS[4:9]
    assert kinds_of(sim.X, sim.y, 3, 22)[11:] == ALL_KINDS[4:] + ALL_KINDS[1:4] + ALL_KINDS[1:2]


def test_quantile_and_slices_keep_their_shares():
    """Kills: an index beyond the last, another axis, cuts of the unsorted values."""
    values = np.random.default_rng(0).permutation(1000.0 * np.arange(3)[:, np.newaxis] + np.arange(101.0), axis=1)
    np.testing.assert_array_equal(_quantile(values, 0.25), [25.0, 1025.0, 2025.0])
    assert _quantile(values[0], 1.0) == 100.0
    assert _quantile(values[0], 0.0) == 0.0
    labels = _slices(values[0], 4, np.random.default_rng(1))
    shares = np.random.default_rng(1).dirichlet(np.full(4, 4.0))
    np.testing.assert_allclose(np.bincount(labels) / 101, shares, atol=0.02)
    assert (np.diff(labels[np.argsort(values[0])]) >= 0).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_labels_get_their_own_lines(sim, weighted):
    """Kills: a Gram of other rows, a weight on one side of the normal equations alone, residuals of another order."""
    rng = np.random.default_rng(2)
    weight = rng.uniform(0.5, 2.0, 300) if weighted else None
    design = Design(Rows.check(sim.X, sim.y, weight), get_activation("linear"))
    labels = np.r_[np.zeros(5, np.intp), rng.integers(1, 3, 295)][rng.permutation(300)]
    start = from_labels(design, labels, 3, rng)
    root = np.ones(300) if weight is None else np.sqrt(weight)
    D, residual = design.expert_matrix, sim.y - np.sum(design.expert_matrix * start.expert[labels], axis=1)
    for k in (1, 2):
        mine = labels == k
        line = np.linalg.lstsq(D[mine] * root[mine, np.newaxis], sim.y[mine] * root[mine], rcond=None)[0]
        np.testing.assert_allclose(start.expert[k], line, rtol=1e-9, atol=1e-9)
    assert not np.allclose(residual[labels == 0], 0.0)   # five rows tell nothing of five coefficients and a noise
    np.testing.assert_allclose(start.noise_std, np.sqrt(np.average(residual**2, weights=weight)), rtol=1e-12)


def test_one_expert_takes_rows_however_few(sim):
    """Of minimum norm. Kills: coefficients at random where rows are few; those of columns left out."""
    design = Design(Rows.check(sim.X[:4], sim.y[:4]), get_activation("linear"))
    start = from_labels(design, np.zeros(4, np.intp), 1, np.random.default_rng(0))
    shortest = np.linalg.lstsq(design.expert_matrix, sim.y[:4], rcond=None)[0]
    np.testing.assert_allclose(start.expert[0], shortest, atol=1e-6)


def test_a_split_leaves_equal_values_together():
    """Kills: a cut between rows of one x, which no gate can make."""
    rng = np.random.default_rng(0)
    x = rng.integers(4, size=(400, 1)).astype(float)
    y = np.where(x[:, 0] > 1, 5.0, 0.0) + 0.1 * rng.standard_normal(400)
    design = Design(Rows.check(x, y), get_activation("linear"))
    for seed in range(10):
        change, rows = _best_split(design, np.arange(400), np.random.default_rng(seed))
        assert change < 0.0
        assert not set(x[rows, 0]) & set(np.delete(x[:, 0], rows))


def test_portfolio_leaves_out_what_cannot_be(sim):
    assert "spectral" not in kinds_of(sim.X[:, :2], sim.y, 3, 20)
    assert "ransac" not in kinds_of(sim.X, sim.y, 3, 20, activation="tanh")
    assert kinds_of(sim.X, sim.y, 1, 20) == ["partition"]
    even = mf.Activation("square", lambda t: t * t)
    assert "spectral" not in kinds_of(sim.X, sim.y, 3, 20, activation=even)
    for n_starts in (1, 2, 7):
        assert len(kinds_of(sim.X, sim.y, 3, n_starts)) == n_starts


def test_an_activation_without_a_spectral_start_is_fitted_all_the_same():
    square = mf.Activation("square", lambda t: t * t, lambda t: 2.0 * t)
    sim = mf.make_moe(300, 3, 2, activation=square, random_state=0)
    fit = mf.fit(sim.X, sim.y, 2, activation=square, n_starts=10, random_state=0)
    best = mf.fit_em(sim.X, sim.y, 2, init=sim.model, activation=square)
    assert fit.log_likelihood > best.log_likelihood - 0.3
