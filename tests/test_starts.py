"""Does every kind of start give parameters that EM can begin at, for every kind of fit?"""

import itertools
import sys

import numpy as np
import pytest
from valid import assert_valid, lines

import moe_fast as mf
from moe_fast import moves, starts
from moe_fast.activations import get_activation
from moe_fast.design import Design
from moe_fast.em import overall_line
from moe_fast.rows import Rows
from moe_fast.starts import KINDS, make_start, portfolio

ALL_KINDS = [
    "spectral", "growth", "partition", "local", "ransac", "segments_y", "tree", "segments", "kmeans", "random",
    "kmeans_x",
]


@pytest.fixture(scope="module")
def sim():
    return mf.make_moe(300, 4, 3, intercept=1.0, random_state=0)


def test_the_kinds_are_those_documented():
    assert list(KINDS) == ALL_KINDS
    assert sorted(KINDS) == sorted([*starts._PARAMETERS, *starts._LABELS, "growth"])
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
    for n_before in range(2):   # the gate fitted, and flat
        assert_valid(make_start(kind, design, 3, np.random.default_rng(1), n_before=n_before), design, 3)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("activation", ["linear", "sigmoid", "tanh", "relu", "leaky_relu"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_before", [0, 1])
def test_valid_for_every_activation(kind, activation, dtype, n_before):
    sim = mf.make_moe(300, 4, 3, activation=activation, dtype=dtype, random_state=0)
    design = Design(Rows.check(sim.X, sim.y), get_activation(activation))
    assert_valid(make_start(kind, design, 3, np.random.default_rng(1), n_before=n_before), design, 3)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("n_experts", [1, 2, 4])
@pytest.mark.parametrize("n_before", [0, 1])
def test_valid_for_every_number_of_experts(sim, kind, n_experts, n_before):
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    start = make_start(kind, design, n_experts, np.random.default_rng(1), n_before=n_before)
    assert_valid(start, design, n_experts)


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
        for n_before in range(2):
            assert_valid(make_start(kind, design, 3, np.random.default_rng(1), n_before=n_before), design, 3)


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
        start = make_start(kind, design, 3, np.random.default_rng(seed), n_before=seed)
        assert all(np.isfinite(array).all() for array in (start.expert, start.gate, start.noise_std))
        assert (start.noise_std > 0.0).all()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_finite_for_repeated_rows(kind):
    """Two values of x and three of y: clusters and slices come out empty."""
    X = np.repeat([[0.0, 1.0], [1.0, 0.0]], [30, 10], axis=0)
    y = np.arange(40) % 3.0
    design = Design(Rows.check(X, y), get_activation("linear"))
    for seed in range(5):
        start = make_start(kind, design, 2, np.random.default_rng(seed), n_before=seed)
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


@pytest.mark.parametrize(
    ("kind", "fitted"),
    [("local", 0), ("segments_y", 1), ("tree", 0), ("segments", 0), ("kmeans", 0), ("kmeans_x", 1)],
)  # fmt: skip
def test_every_second_start_of_a_partition_has_the_other_gate(sim, kind, fitted):
    """Kills: a gate that is always flat, or always fitted; one that changes the experts."""
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    drawn = [make_start(kind, design, 3, np.random.default_rng(0), n_before=n_before) for n_before in range(4)]
    assert [bool(start.gate.any()) for start in drawn] == [fitted == 1, fitted == 0] * 2
    for start in drawn:
        np.testing.assert_array_equal(start.expert, drawn[0].expert)


def test_a_random_partition_has_a_flat_gate(sim):
    """Its labels have nothing to do with x. Kills: one fitted to them."""
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    for n_before in range(2):
        assert not make_start("partition", design, 3, np.random.default_rng(0), n_before=n_before).gate.any()


def test_starts_of_one_kind_are_counted(monkeypatch):
    """By `fit_em` and by the race. Kills: gates that never change; starts of other kinds counted."""
    sim = mf.make_moe(300, 4, 2, random_state=0)
    made = []

    def counted(kind, *arguments, **options):
        n_before = options["n_before"] if "n_before" in options else arguments[5]
        made.append((kind, n_before))
        return make_start(kind, *arguments, **options)

    monkeypatch.setattr(sys.modules["moe_fast.fit"], "make_start", counted)   # `mf.fit` is the function
    monkeypatch.setattr("moe_fast.race.make_start", counted)
    mf.fit_em(sim.X, sim.y, 2, init="kmeans", n_init=3, random_state=0)
    assert made == [("kmeans", 0), ("kmeans", 1), ("kmeans", 2)]
    made.clear()
    mf.fit(sim.X, sim.y, 2, n_starts=30, random_state=0)
    for kind in set(ALL_KINDS):
        assert [n_before for made_kind, n_before in made if made_kind == kind] == list(
            range(sum(made_kind == kind for made_kind, _ in made))
        )


@pytest.mark.parametrize(("n_features", "most_rows"), [(4, 1000), (40, 25 * 3 * 41)])
def test_the_race_makes_a_start_from_few_rows(monkeypatch, n_features, most_rows):
    """A thousand, or 25 for each coefficient of the experts. Kills: all rows of the sample."""
    sim = mf.make_moe(12_000, n_features, 3, random_state=0)
    made = []
    monkeypatch.setattr(
        "moe_fast.race.make_start", lambda *arguments: made.append(arguments[5]) or make_start(*arguments)
    )
    mf.fit(sim.X, sim.y, 3, n_starts=3, random_state=0)
    assert set(made) == {most_rows}


def test_a_start_of_many_runs_ends_them_when_told(sim, monkeypatch):
    """Kills: a limit of time that is looked at between starts only."""
    n_runs = []
    climb = moves.climb
    monkeypatch.setattr(moves, "climb", lambda *given, **named: n_runs.append(1) or climb(*given, **named))
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"))
    answers = iter([False, False, *[True] * 100])
    start = make_start("growth", design, 8, np.random.default_rng(1), stop=lambda: next(answers))
    assert_valid(start, design, 8)
    assert len(n_runs) <= 2


def test_growth_as_a_start_does_not_end_in_a_spike():
    """Kills: a start without the barrier, collapsed before the climb begins, returned as a sound fit."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((600, 3))
    y = np.where(rng.random(600) < 0.6, 0.0, X @ [1.0, 2.0, -1.0] + 3.0 + 0.5 * rng.standard_normal(600))
    with pytest.warns(mf.ConvergenceWarning, match="collapsed on rows fitted exactly"):
        fit = mf.fit_em(X, y, 2, init="growth", n_init=6, random_state=0)
    assert fit.penalised
    assert fit.model.noise_std.min() > 1e-4


def test_fit_em_makes_its_starts_with_the_barrier(sim, monkeypatch):
    """As the race does. Kills: growth that may end in a spike."""
    room, barriers = sys.modules["moe_fast.fit"], []
    monkeypatch.setattr(
        room, "make_start", lambda *given, **named: barriers.append(given[4].barrier) or make_start(*given, **named)
    )
    mf.fit_em(sim.X, sim.y, 2, init="growth", random_state=0)
    mf.fit_em(sim.X, sim.y, 2, init="growth", noise=0.1, random_state=0)
    assert barriers[0] > 0.0
    assert barriers[1] == 0.0   # a noise that is held has no spikes
