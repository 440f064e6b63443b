"""Do partitions find what they look for, and do the rows of a label get their own line?"""

import numpy as np
import pytest
from valid import lines

import moe_fast as mf
from moe_fast import partitions
from moe_fast.activations import get_activation
from moe_fast.design import Design
from moe_fast.partitions import _best_split, _slices, from_labels, quantile, segments
from moe_fast.rows import Rows
from moe_fast.starts import make_start


@pytest.fixture(scope="module")
def sim():
    return mf.make_moe(300, 4, 3, intercept=1.0, random_state=0)


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
    change, right = partitions._best_split(design, np.arange(200), np.random.default_rng(0))

    def cost(rows):
        D = design.expert_matrix[rows]
        residual = y[rows] - D @ np.linalg.lstsq(D, y[rows])[0]
        return len(rows) * np.log(residual.std())

    left = np.setdiff1d(np.arange(200), right)
    assert 0 < len(right) < 200
    assert len(right) != len(left)
    assert change == pytest.approx(cost(left) + cost(right) - cost(np.arange(200)), rel=1e-6)


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


def test_neighbours_are_the_nearest():
    """Kills: the farthest, distances in x alone."""
    X, y = lines(50)
    design = Design(Rows.check(X, y), get_activation("linear"))
    points = np.column_stack([design.expert_matrix[:, 1], (y - y.mean()) / y.std()])
    for anchor, near in zip([3, 20], partitions.neighbours(design, np.array([3, 20]), 8), strict=True):
        distance = np.linalg.norm(points - points[anchor], axis=1)
        assert set(near) == set(np.argsort(distance)[:8])


def test_clusters_are_found_and_may_be_empty():
    """Kills: one Lloyd iteration only, centres all from one cluster, no number for an empty cluster."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(12), 20)
    points = 40.0 * np.eye(12)[truth] + rng.standard_normal((240, 12))
    for seed in range(5):   # centres at random would miss a cluster nearly always
        labels = partitions._clusters(points, 12, np.random.default_rng(seed))
        assert [len(set(labels[truth == k])) for k in range(12)] == [1] * 12
        assert len(set(labels)) == 12
    line = rng.uniform(0.0, 1.0, (200, 1))
    labels = partitions._clusters(line, 2, np.random.default_rng(1))
    halves = np.array([line[labels == k].mean() for k in range(2)])
    assert np.array_equal(labels, np.argmin(np.abs(line - halves), axis=1))   # a fixed point
    assert set(partitions._clusters(np.ones((20, 2)), 3, np.random.default_rng(0))) == {0}


def test_quantile_and_slices_keep_their_shares():
    """Kills: an index beyond the last, another axis, cuts of the unsorted values."""
    values = np.random.default_rng(0).permutation(1000.0 * np.arange(3)[:, np.newaxis] + np.arange(101.0), axis=1)
    np.testing.assert_array_equal(quantile(values, 0.25), [25.0, 1025.0, 2025.0])
    assert quantile(values[0], 1.0) == 100.0
    assert quantile(values[0], 0.0) == 0.0
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


def test_segments_lie_along_a_feature_or_any_direction(sim):
    """Half of the time each. Kills: one of them always; the first feature always."""
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    x = design.expert_matrix[:, 1:]

    def feature_cut(labels):
        """The feature that these two slices are of, if they are of one."""
        one, other = x[labels == 0], x[labels == 1]
        return np.flatnonzero((one.max(axis=0) < other.min(axis=0)) | (other.max(axis=0) < one.min(axis=0)))

    cuts = [feature_cut(segments(design, 2, np.random.default_rng(seed))) for seed in range(60)]
    n_along = sum(len(cut) == 1 for cut in cuts)
    assert 20 <= n_along <= 40
    assert {int(cut[0]) for cut in cuts if len(cut)} == {0, 1, 2, 3}


def test_segments_of_a_feature_of_few_values_are_not_fewer_than_experts():
    """Kills: slices along a dummy, which leave an expert without rows."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(2, size=(300, 4)), rng.standard_normal(300)]).astype(float)
    design = Design(Rows.check(X, X @ np.ones(5) + rng.standard_normal(300)), get_activation("linear"))
    for seed in range(40):
        assert len(np.unique(segments(design, 3, np.random.default_rng(seed)))) == 3


def test_a_gate_fitted_to_labels_weighs_rows(sim):
    """Weight two is the row twice, but for the one row that each class has besides; the unit of weights is no matter.

    Kills: classes, their means or their spread counted in rows.
    """
    labels = np.arange(300) % 3
    weight = np.where(sim.X[:, 0] > 0.0, 2.0, 1.0)
    twice = np.concatenate([np.arange(300), np.flatnonzero(weight > 1.5)])

    def gate(X, y, weight, labels):
        design = Design(Rows.check(X, y, weight), get_activation("linear"), like=like)
        return from_labels(design, labels, 3, np.random.default_rng(0), fit_gate=True).gate

    like = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    weighted = gate(sim.X, sim.y, weight, labels)
    np.testing.assert_allclose(weighted, gate(sim.X[twice], sim.y[twice], None, labels[twice]), atol=0.005)
    np.testing.assert_allclose(weighted, gate(sim.X, sim.y, 9.0 * weight, labels), rtol=1e-12)
    assert np.abs(weighted - gate(sim.X, sim.y, None, labels)).max() > 0.05
