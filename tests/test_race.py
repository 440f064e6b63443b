"""Does the race stop when it may, go on when it must, and hand the right starts to the finish?"""

import math
import warnings
from copy import deepcopy
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import moe_fast as mf
from moe_fast import ending
from moe_fast.design import Parameters
from moe_fast.em import State, maximise
from moe_fast.linalg import Curvature
from moe_fast.moves import MOVES
from moe_fast.objective import Objective
from moe_fast.pace import Pace
from moe_fast.race import _Field, _share_moved, default_patience, default_starts, race
from moe_fast.starts import KINDS, make_start
from moe_fast.support import Support
from moe_fast.task import Chase, Start, Task


def make_task(X, y, n_experts, **options):
    defaults = {
        "activation": "linear", "noise": "per_expert", "fit_intercept": True, "gate": "softmax",
        "gate_intercept": True, "gate_features": None, "sample_weight": None, "time_limit": None, "max_iter": 1000,
        "tol": None, "n_threads": 1, "random_state": 0, "callback": None,
    }   # fmt: skip
    return Task.check(X, y, n_experts, **(defaults | options))


def run(X, y, n_experts, **options):
    task = make_task(X, y, n_experts, **options)
    return task, race(task, "auto", default_starts(task))


def entered(task, kinds, short_iter=None):
    """A field of starts of these kinds after their short runs."""
    field = _Field(task, task.design)
    field.short_iter = short_iter or field.short_iter
    for seed, kind in enumerate(kinds):
        field.enter(kind, make_start(kind, task.design, task.n_experts, np.random.default_rng(seed), field.objective))
    return field


@pytest.fixture(scope="module")
def bent():
    """A line that bends three times under noise that grows: many optima at k = 3, some close together."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0.0, 10.0, 160))
    y = np.interp(x, [0.0, 3.0, 4.0, 7.0, 10.0], [0.0, 0.0, -4.0, 3.0, 0.0])
    return x[:, None], y + (0.1 + 0.1 * x) * rng.standard_normal(160)


@pytest.mark.parametrize(("vouched", "n_starts"), [(0.16, 3), (0.0, 6)])
def test_easy_large_data_end_the_race_after_few_starts(monkeypatch, vouched, n_starts):
    """Three where moments vouch for their end. Kills: all starts drawn; all rows read; moves where starts agree."""
    monkeypatch.setattr("moe_fast.race._VOUCHED", vouched)
    sim = mf.make_moe(6000, 6, 2, random_state=0)
    task, starts = run(sim.X, sim.y, 2)
    assert [start.kind for start in starts if start.kind in MOVES] == []
    assert sorted(start.index for start in starts) == list(range(n_starts))
    assert len({start.kind for start in starts}) == n_starts
    assert task.design.rows.reads.n_rows < 40 * 6000


def test_moments_vouch_for_an_optimum_near_them_that_starts_of_three_kinds_share(vouched_for, monkeypatch):
    """Kills: moments that vouch from afar, or for where they did not lead; for starts of one kind; on all rows."""
    field, enough = vouched_for, (6, 0.66)
    spectral, growth, _ = field.starts
    assert field.agree(enough)
    assert not field.agree(None)
    monkeypatch.setattr("moe_fast.race.may_be_better", lambda *_: True)   # asked only of those that end elsewhere
    assert field.agree(enough)
    field.moved = 0.17
    assert not field.agree(enough)
    field.moved = 0.15
    assert field.agree(enough)
    growth.kind = "partition"
    assert not field.agree(enough)
    growth.kind, field.is_sample = "growth", False
    assert not field.agree(enough)
    field.is_sample = True
    field.enter("random", spectral.parameters)
    monkeypatch.setattr("moe_fast.race.may_be_better", lambda *_: False)
    assert field.agree(enough)
    spectral.value -= 0.1   # it ended elsewhere
    assert not field.agree(enough)


def test_moments_do_not_vouch_where_many_starts_end_elsewhere(vouched_for, monkeypatch):
    """Kills: three starts that are enough however many others there are."""
    monkeypatch.setattr("moe_fast.race.may_be_better", lambda *_: False)
    for _ in range(2):
        vouched_for.enter("random", vouched_for.starts[0].parameters)
        vouched_for.starts[-1].value -= 0.1
    assert not vouched_for.agree((6, 0.66))   # three of five
    assert vouched_for.agree((6, 0.6))


def test_starts_made_from_a_smaller_mixture_are_no_witnesses(vouched_for):
    """They come from one optimum. Kills: "split" and "add" counted as kinds of their own."""
    vouched_for.enter("growth", vouched_for.starts[0].parameters)
    vouched_for.n_enlarged = 1
    for start, kind in zip(vouched_for.starts, ("split", "spectral", "growth", "growth"), strict=True):
        start.kind = kind
    assert not vouched_for.agree((6, 0.66))
    vouched_for.starts[-1].kind = "partition"
    assert vouched_for.agree((6, 0.66))
    vouched_for.n_enlarged = 2   # two are drawn
    assert not vouched_for.agree((6, 0.66))


def test_on_other_rows_moments_vouch_for_nothing(vouched_for):
    """Kills: what is known of the end of one run kept for another."""
    assert vouched_for.on(vouched_for.task.design).moved == math.inf


def test_an_optimum_that_may_be_overtaken_is_not_vouched_for(vouched_for, monkeypatch):
    field = vouched_for
    field.enter("random", field.starts[0].parameters)
    field.starts[-1].value -= 0.1
    monkeypatch.setattr("moe_fast.race.may_be_better", lambda *_: False)
    assert field.agree((6, 0.66))
    monkeypatch.setattr("moe_fast.race.may_be_better", lambda *_: True)
    assert not field.agree((6, 0.66))


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_what_experts_moved_by_is_measured_by_the_way_to_the_nearest_other(fit_intercept):
    """Of the worst. Kills: a sum or mean over experts, which hides one that is lost; coefficients; intercepts."""
    rng = np.random.default_rng(0)
    X = np.linalg.qr(rng.standard_normal((300, 3)) - 0.5)[0]
    X -= X.mean(axis=0)
    design = make_task(X, rng.standard_normal(300), 3, fit_intercept=fit_intercept).design
    spread = X.T @ X   # of the raw columns
    after = np.array([[10.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.5]])
    shift = np.array([[0.0, 2.0, 0.0], [0.0, 0.1, 0.3], [0.0, -0.2, 0.0]])

    def at(coef, intercept):
        rows = design.expert_rows(coef, np.full(3, intercept))
        return Parameters(rows, np.zeros((2, design.n_gate_columns)), np.ones(3))

    def square(v):
        return v @ spread @ v

    nearest = [min(square(one - after[other]) for other in range(3) if other != j) for j, one in enumerate(after)]
    expected = pytest.approx(max(square(v) / n for v, n in zip(shift, nearest, strict=True)), rel=1e-6)
    assert _share_moved(design, at(after - shift, 0.0), at(after, 0.0)) == expected
    assert _share_moved(design, at(after - shift, 7.0), at(after, -2.0)) == expected
    assert _share_moved(design, at(after, 0.0), at(after, 0.0)) == 0.0
    assert _share_moved(design, at(after, 0.0), at(after[[0, 1, 1]], 0.0)) == math.inf   # two experts are one


def test_the_experts_of_the_spectral_start_hardly_move():
    """Also where a held noise is estimated first. Kills: the end compared with itself; other kinds as witnesses."""
    sim = mf.make_moe(6000, 6, 2, random_state=0)
    for noise in ("per_expert", 0.1):
        task = make_task(sim.X, sim.y, 2, noise=noise)
        assert 1e-5 < entered(task, ["spectral", "partition"]).moved < 0.1
        assert entered(task, ["partition"]).moved == math.inf


def test_where_all_columns_are_constant_moments_vouch_for_nothing():
    """The spectral start is then one at random, whose coefficients EM leaves alone. Kills: 0 moved as little moved."""
    rng = np.random.default_rng(0)
    y = np.where(rng.random(6000) < 0.5, -2.0, 2.0) + rng.standard_normal(6000)
    with pytest.warns(mf.CollinearityWarning):
        task = make_task(np.tile([0.1, 0.3, 0.7], (6000, 1)), y, 2)
    assert entered(task, ["spectral"]).moved == math.inf


def test_starts_that_disagree_are_run_on_more_rows(monkeypatch):
    """Kills: the first look's rows kept, its starts forgotten, an early end."""
    on, sizes = _Field.on, []
    monkeypatch.setattr(_Field, "on", lambda self, design: sizes.append(design.rows.n_samples) or on(self, design))
    ran, run_one = [], _Field.run
    monkeypatch.setattr(
        _Field, "run",
        lambda self, start, *a, **o: ran.append((start, self.design.rows.n_samples)) or run_one(self, start, *a, **o),
    )
    rng = np.random.default_rng(1)
    x = rng.uniform(0.0, 10.0, (12_000, 1))
    y = np.sin(2.0 * x[:, 0]) + 0.1 * rng.standard_normal(12_000)   # six waves, three experts
    _, starts = run(x, y, 3)
    assert len(starts) >= 16
    assert {start.kind for start in starts} & set(MOVES)
    assert sizes == [5000]
    # A short run on the first look's rows, and another on more, but for twins.
    early = [start.index for start, rows in ran if rows < 5000]
    assert early == list(range(6))
    assert {start.index for start, rows in ran if rows == 5000} >= {6, 7, 8}
    assert len({start.index for start, rows in ran if rows == 5000} & set(range(6))) >= 3
    assert sum(start.reached or start.status == "degenerate" for start in starts if start.kind in KINDS) <= 5 + 1


@pytest.fixture
def agreed():
    """Six starts that end at one optimum of a sample, two others that end elsewhere."""
    sim = mf.make_moe(6000, 6, 2, random_state=0)
    task = make_task(sim.X, sim.y, 2)
    field = _Field(task, task.design.on(task.design.rows.take(slice(2000))))
    for kind in 6 * ["partition"]:
        field.enter(kind, make_start(kind, field.design, 2, np.random.default_rng(len(field.starts)), field.objective))
    assert field.agree((6, 1.0))
    for start, shift in zip(field.starts[-2:], (0.3, -0.3), strict=True):
        parameters = replace(start.parameters, expert=start.parameters.expert + shift)
        start.parameters, start.value = parameters, start.value - 0.1
    return field


@pytest.mark.parametrize(("on_a_sample", "n_errors", "most"), [(True, 3.0, 5), (False, 2.0, 4)])
def test_finalists_of_a_sample_may_lie_further_below_its_best(agreed, monkeypatch, on_a_sample, n_errors, most):
    """Which need not be that of all rows. Kills: two errors, which lost diamonds' best; all who ran on as finalists."""
    field = agreed if on_a_sample else agreed.on(agreed.task.design)
    field.reached = sorted(field.starts, key=lambda start: -start.value)
    for start in field.reached:
        start.status, start.parameters = "finished", replace(start.parameters)   # twins share theirs
    loser, asked = field.reached[1], []
    monkeypatch.setattr(
        "moe_fast.race.may_be_better",
        lambda design, one, of_leader, errors: asked.append(errors) or one is not loser.parameters,
    )
    starts = field.result(field.effort.n_finalists)
    assert set(asked) == {n_errors}
    finalists = [start for start in starts if start.status == "finished"]
    assert len(finalists) == most
    assert finalists[0] is field.reached[0]
    assert loser.status == "eliminated"


@pytest.fixture
def vouched_for():
    """Starts of three kinds that end at one optimum of a sample, where the spectral one began (not all seeds' do)."""
    sim = mf.make_moe(6000, 6, 2, random_state=0)
    task = make_task(sim.X, sim.y, 2)
    field = _Field(task, task.design.on(task.design.rows.take(slice(2000))))
    for kind in ("spectral", "growth", "partition"):
        assert not field.agree((6, 0.66))
        field.enter(kind, make_start(kind, field.design, 2, np.random.default_rng(1), field.objective))
    return field


def test_starts_agree_where_none_of_the_others_may_be_better(agreed, monkeypatch):
    """On more rows than the sample's. Kills: an end while another optimum is as good as the sample can tell."""
    two_thirds = 6, 0.66
    assert agreed.agree(two_thirds)
    assert not agreed.agree((8, 0.66))
    asked = []
    monkeypatch.setattr("moe_fast.race.may_be_better", lambda design, one, of_leader: asked.append(one) or True)
    assert not agreed.agree(two_thirds)
    assert asked[0] in [start.parameters for start in agreed.starts[-2:]]   # not of the best itself
    agreed.is_sample = False
    assert agreed.agree(two_thirds)
    agreed.starts[2].status = "degenerate"
    assert not agreed.agree(two_thirds)
    agreed.starts[2].status = "finished"
    agreed.n_enlarged = 1    # made from a smaller mixture, not drawn
    assert not agreed.agree(two_thirds)
    assert not agreed.agree(None)


def test_starts_at_one_optimum_go_on_as_one(agreed, monkeypatch):
    """Kills: each run on the new rows, those that end elsewhere taken along, starts lost or in another order."""
    ran, run = [], _Field.run
    monkeypatch.setattr(_Field, "run", lambda self, start, *a: ran.append(start.index) or run(self, start, *a))
    agreed.n_enlarged = 1
    field = agreed.on(agreed.task.design)
    assert field.n_enlarged == 1
    assert len(ran) == 3
    assert {4, 5} < set(ran)
    assert [start.index for start in field.starts] == list(range(6))
    one = next(start for start in field.starts if start.index in ran and start.index < 4)
    for start in field.starts[:4]:
        assert start.parameters is one.parameters
        assert start.value == one.value
        assert (start.status == "duplicate") == (start is not one)
        assert start.history == one.history


def test_twins_of_a_start_that_degenerates_are_degenerate(agreed, monkeypatch):
    """Kills: a race that ends because five starts agree on a spike."""
    monkeypatch.setattr(Support, "by_chance", lambda self, design, sums: np.array([True, False]))
    field = agreed.on(agreed.task.design)
    assert {start.status for start in field.starts} == {"degenerate"}
    assert not field.agree((6, 0.66))


@pytest.mark.parametrize(("n_starts", "drawn"), [(4, 4), (5, 5), (9, 6)])
def test_few_starts_may_agree_too(n_starts, drawn):
    """Kills: a second look, and moves, because fewer starts than six were asked for."""
    sim = mf.make_moe(6000, 6, 2, random_state=0)
    starts = race(make_task(sim.X, sim.y, 2), "partition", n_starts)
    assert [start.kind for start in starts] == drawn * ["partition"]


def test_few_moves_begin_at_any_kind(monkeypatch):
    """Kills: three moves that are always the same three kinds."""
    sim = mf.make_moe(300, 3, 2, random_state=0)
    begun = set()
    for seed in range(30):
        task = make_task(sim.X, sim.y, 2, random_state=seed)
        field = entered(task, ["partition"], short_iter=1)
        field.run_on(1)
        monkeypatch.setattr(field, "reach", lambda start: None)
        field.move(2)
        first, second = [start.kind for start in field.starts[1:]]
        kinds = list(MOVES)
        assert kinds[(kinds.index(first) + 1) % len(kinds)] == second
        begun.add(first)
    assert begun == set(MOVES)


def test_tiny_data_run_all_starts_and_moves(bent):
    """Kills: an end by agreement: tonedata's optimum is one that few starts find; as many moves where starts agree."""
    sim = mf.make_moe(200, 4, 2, random_state=0)
    for data, n_experts, least, most in (((sim.X, sim.y), 2, 80, 100), (bent, 8, 91, 1000)):
        _, starts = run(*data, n_experts)
        assert sum(start.kind in KINDS for start in starts) == 44
        assert least <= sum(start.kind in MOVES for start in starts) <= most


def test_finalists_come_first_and_best_first(bent):
    """Kills: an order by index, the worst first, finalists that are far behind, curvatures of the race forgotten."""
    task, starts = run(*bent, 3)
    finalists = [start for start in starts if start.status == "finished"]
    assert 1 < len(finalists) <= 4
    curvatures = [start.curvature_of(task.design) for start in finalists]   # none where EM alone arrived
    assert curvatures[0] is not None
    assert all(curvature.definite for curvature in curvatures if curvature is not None)
    assert starts[: len(finalists)] == finalists
    values = [start.value for start in finalists]
    assert values == sorted(values, reverse=True)
    # A duplicate of the best may lie above it by what the race calls the same.
    assert values[0] > max(start.value for start in starts if start.status != "degenerate") - 1e-6
    assert values[-1] > values[0] - 1.0
    assert {start.status for start in starts[len(finalists) :]} <= {"eliminated", "duplicate", "degenerate"}


def test_a_start_near_an_optimum_will_end_there(bent):
    """And one at another of about the same value will not. Kills: values alone compared, stale densities."""
    task = make_task(*bent, 3)
    field = entered(task, 3 * ("partition", "tree", "local", "random"))
    field.run_on(12)
    best, other = [start for start in field.reached if start.status == "finished"][:2]
    nudged = replace(best, index=99, parameters=replace(best.parameters, expert=best.parameters.expert + 1e-3))
    nudged.value = best.value - 5e-3
    assert field.will_end_at(best, nudged)
    far = replace(other, index=100, value=best.value - 5e-3)
    assert not field.will_end_at(best, far)
    nudged.parameters = other.parameters
    assert not field.will_end_at(best, nudged)


def test_a_start_above_the_leader_is_never_known(bent):
    """Kills: a better optimum taken for the end of one that was near; a way that others passed not remembered."""
    task = make_task(*bent, 3)
    field = entered(task, ["tree"], short_iter=5)
    first = field.starts[0]
    on_its_way = replace(first)
    field.reach(first)
    assert first.value > on_its_way.value + 1e-4
    assert field.is_known(on_its_way)
    assert field.is_known(replace(first, value=first.value - 1e-5))
    assert not field.is_known(replace(first, value=first.value + 1e-5))
    elsewhere = replace(on_its_way.parameters, expert=on_its_way.parameters.expert + 1.0)
    assert not field.is_known(replace(on_its_way, index=99, parameters=elsewhere))


def test_a_move_that_falls_behind_is_given_up(bent):
    """Kills: every move run to the end; the leader's own parameters given up; a stage without a bound."""
    task = make_task(*bent, 3)
    field = entered(task, ["tree"])
    field.run_on(1)
    leader = field.reached[0]
    bad = make_start("random", task.design, 3, np.random.default_rng(0))
    leader.value += 10.0
    assert field.try_move("swap", bad).status == "eliminated"
    assert field.starts[-1].n_iter <= 20
    leader.value -= 10.0
    assert field.try_move("swap", leader.parameters).status == "duplicate"


def test_a_run_that_falls_behind_the_leader_ends_and_ranks_last(bent, monkeypatch):
    """Kills: a leader's value per row taken for that of all rows, a lost run among the elite."""
    monkeypatch.setattr("moe_fast.task._LAP", 2)
    task = make_task(*bent, 3)
    field = entered(task, ("tree", "partition", "random"), short_iter=1)
    field.in_kernel = False   # where it goes all the way in one call
    tree, partition, random = field.starts
    field.reach(tree)
    tree.value = -100.0
    field.reach(partition)
    assert partition.status == "finished"
    assert field.reached[0] is partition
    partition.value += 10.0
    field.reach(random)
    assert random.status == "eliminated"
    assert field.reached[-1] is random


def test_moves_borrow_from_the_elite(bent, monkeypatch):
    """Kills: the leader as its own donor, starts that are no optima as donors, the leader as the only base."""
    task = make_task(*bent, 3)
    field = entered(task, 3 * ("partition", "tree", "local", "random"))
    field.run_on(6)
    seen = []

    def record(kind, design, parameters, donor, rng, objective):
        seen.append((kind, id(parameters), id(donor)))
        return parameters

    monkeypatch.setattr(
        "moe_fast.race.moves_for", lambda design: {kind: partial(record, kind) for kind in ("swap", "cross", "recut")}
    )
    elite = [id(start.parameters) for start in field.reached if start.status == "finished"][:6]
    field.move(150)
    assert len(elite) >= 3
    for kind in ("swap", "cross", "recut"):
        bases = [base for one, base, _ in seen if one == kind]
        assert set(bases) == set(elite[:2])
        assert 0.5 < bases.count(elite[0]) / len(bases) < 0.85
    assert {donor for _, _, donor in seen} == set(elite)
    assert all(base != donor for _, base, donor in seen)


def test_a_degenerate_leader_is_no_measure(bent):
    """Kills: sound moves given up because they are below a spike."""
    task = make_task(*bent, 3)
    field = entered(task, ["tree"])
    field.run_on(1)
    leader = field.reached[0]
    leader.status, leader.value = "degenerate", leader.value + 10.0
    other = make_start("partition", task.design, 3, np.random.default_rng(0))
    assert field.try_move("swap", other).status == "finished"
    field.reach(field.starts[-1])
    assert field.reached[0] is field.starts[-1]


@pytest.mark.parametrize(
    ("n", "n_parameters", "patience"),
    [(28, 9, 80), (1400, 40, 96), (500, 100, 240), (500, 400, 288), (5600, 100, 60), (14_000, 400, 28), (10**6, 9, 3)],
)
def test_patience_grows_with_the_parameters_and_falls_with_the_rows(n, n_parameters, patience):
    assert default_patience(n, n_parameters) == patience


@pytest.mark.parametrize(
    ("n", "n_parameters", "patience"),
    [(28, 9, 80), (200, 9, 80), (400, 9, 40), (500, 9, 32), (500, 100, 60), (1400, 40, 24), (10**6, 400, 3)],
)
def test_patience_is_a_quarter_where_the_best_is_clear(n, n_parameters, patience):
    """But for tiny and odd data. Kills: eighty moves of 500 rows; few of tonedata, whose starts agree on the second."""
    assert default_patience(n, n_parameters, is_clear=True) == patience


def test_the_best_is_clear_where_it_was_found_often_and_no_other_may_be_better(agreed, monkeypatch):
    """Kills: a leader found three times, one that others may overtake, a look at the leader's own twins."""
    asked = []
    monkeypatch.setattr("moe_fast.race.may_be_better", lambda design, one, of_leader: bool(asked.append(one)))
    assert agreed.is_clear()
    others = [start.parameters for start in agreed.starts[-2:]]
    assert len(asked) == 2
    assert all(any(one is other for other in others) for one in asked)
    agreed.starts[0].status = "degenerate"
    assert not agreed.is_clear()
    agreed.starts[0].status = "finished"
    agreed.n_enlarged = 1    # made from a smaller mixture
    assert not agreed.is_clear()
    agreed.n_enlarged = 0
    monkeypatch.setattr("moe_fast.race.may_be_better", lambda design, one, of_leader: one is others[1])
    assert not agreed.is_clear()


def test_a_race_moves_less_from_a_clear_leader(monkeypatch):
    """Kills: is_clear not asked, or asked before the best were run on."""
    asked = []
    monkeypatch.setattr(_Field, "move", lambda self, patience: asked.append(patience))
    monkeypatch.setattr(_Field, "agree", lambda self, enough: False)
    sim = mf.make_moe(900, 10, 3, noise_std=0.1, random_state=0)
    run(sim.X, sim.y, 3)
    monkeypatch.setattr(_Field, "is_clear", lambda self: bool(asked.append(any(s.reached for s in self.starts))))
    run(sim.X, sim.y, 3)
    assert asked == [34, True, 139]


def test_a_chase_ends_where_ten_more_laps_would_not_catch_up():
    """Kills: the gain of one iteration taken for a lap's, an end before the second lap, `stop` not asked."""

    def run(values, to_beat, stop=lambda state: False):
        chase = Chase(to_beat, stop)
        for iteration, value in enumerate(values, 1):
            if chase(State(iteration, value, value, None, None)):
                return iteration, bool(chase.lost)
        return None, bool(chase.lost)

    slow = np.linspace(0.0, 1.0, 101)[1:]   # 0.2 a lap: 2 in ten
    assert run(slow, 2.5) == (40, True)
    assert run(slow, 2.1) == (None, False)
    assert run(slow, -np.inf) == (None, False)
    assert run(slow, 2.3, lambda state: state.iteration == 3) == (3, False)


def test_near_its_end_a_run_is_lost_by_what_newtons_method_promises():
    """And by laps of five. Kills: the promise taken for what is left, a rule for runs that begin far off."""

    def lost_at(gains, left=np.inf, near_end=True):
        chase = Chase(1000.0, lambda state: False, near_end)
        values = np.cumsum(gains)
        states = (State(i, value, value, None, None, left) for i, value in enumerate(values, 1))
        return next((state.iteration for state in states if chase(state)), None)

    # At iteration 10, the end of the second lap: 951 behind, 980 in 200 iterations; 955 behind, 900 in 200.
    steady = np.full(60, 4.9)
    assert lost_at(steady) is None
    assert lost_at(np.full(60, 4.5)) == 10
    assert lost_at(steady * 0.7, near_end=False) == 40
    assert lost_at(steady, left=33.0) == 1
    assert lost_at(steady, left=34.0) is None
    assert lost_at(steady, left=33.0, near_end=False) is None


def test_a_leader_is_not_lost_by_rounding():
    """Kills: a fall by rounding, of a run ahead of the other, taken for one that will never come up."""
    chase = Chase(0.0, lambda state: False, near_end=True)
    assert not any(chase(State(i, 1e-12 - 1e-14 * i, 0.0, None, None)) for i in range(1, 40))


def test_only_the_finish_of_a_race_begins_near_an_end(bent, monkeypatch):
    """Kills: starts of fit_em, never run before, given up on their first plateau."""
    seen = []

    class Recorded(Chase):
        def __init__(self, *arguments, near_end=False):
            super().__init__(*arguments, near_end)
            seen.append(near_end)

    monkeypatch.setattr("moe_fast.task.Chase", Recorded)
    mf.fit_em(*bent, 3, init="random", n_init=2, random_state=0)
    assert set(seen) == {False}
    seen.clear()
    mf.fit(*bent, 3, n_starts=2, random_state=0)
    assert set(seen) == {True}


def no_way(design, start):
    """An outcome of no iterations."""
    return maximise(design, start, Objective(), max_iter=0, tol=0.0)


def test_a_gate_beyond_its_limit_is_scaled_down_as_a_whole():
    """As one expert less leaves it. Kills: such a start, also of annealing, from which no step gains; coefficients cut
    one by one.
    """
    sim = mf.make_moe(300, 3, 3, orthogonal_gate=False, random_state=0)
    task = make_task(sim.X, sim.y, 3)
    gate = task.gate_limit * np.array([[1.0, -2.0, 0.5, 0.0], [0.1, 0.0, 0.2, 0.3]])
    given = Parameters(np.zeros((3, 4)), gate, np.ones(3))
    np.testing.assert_allclose(task.admissible(given).gate, 0.5 * gate)
    assert np.abs(gate).max() == 2.0 * task.gate_limit   # the one that came in stays
    field = _Field(task, task.design)
    field.enter("random", given)
    assert np.abs(field.starts[0].parameters.gate).max() <= task.gate_limit
    begun = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "moe_fast.task.maximise", lambda design, start, *_, **__: begun.append(start) or no_way(design, start)
        )
        make_task(sim.X, sim.y, 3, noise=0.1).anneal(task.design, Start("random", 0, given))
    np.testing.assert_allclose(begun[0].gate, 0.5 * gate)


@pytest.mark.parametrize(("n_samples", "seed"), [(600, 2), (24_000, 3)])
def test_every_start_of_fit_em_is_run_to_its_end(n_samples, seed):
    """On large data too, where a race drops those that a sample shows to be behind.

    Kills: starts given up or left out as duplicates, ends on a sample, losers without a log-likelihood.
    """
    sim = mf.make_moe(n_samples, 6, 5, noise_std=0.3, random_state=seed)
    many = mf.fit_em(sim.X, sim.y, 5, init="random", n_init=6, random_state=2)
    assert sorted(start.status for start in many.starts) == ["finished"] * 5 + ["winner"]
    ends = [start.log_likelihood for start in many.starts]
    task = make_task(sim.X, sim.y, 5, random_state=2)
    starts = [task.design.model(make_start("random", task.design, 5, task.rng), **task.names) for _ in range(6)]
    same_sample = partial(deepcopy, task.rng)
    alone = [mf.fit_em(sim.X, sim.y, 5, init=start, random_state=same_sample()) for start in starts]
    np.testing.assert_allclose(ends, [fit.log_likelihood for fit in alone], rtol=1e-9)
    assert max(ends) > min(ends) + 1.0


def test_a_time_limit_ends_fit_em_after_its_first_start():
    """Of large data too. Kills: every start climbed on a sample, or an iteration of each, however late; called run."""
    sim = mf.make_moe(24_000, 6, 3, random_state=0)
    with pytest.warns(mf.ConvergenceWarning, match="time_limit"):
        fit = mf.fit_em(sim.X, sim.y, 3, n_init=200, time_limit=0.02, random_state=0)
    statuses = [start.status for start in fit.starts]
    assert statuses.count("eliminated") == len(statuses) - 1
    assert statuses.count("winner") == 1


def test_newtons_method_takes_over_where_the_kernel_does_not_arrive(bent, monkeypatch):
    """Kills: a run of the kernel's taken for an optimum wherever it ends, at a saddle too; Newton's method always."""
    task = make_task(*bent, 3)
    took_over = []
    monkeypatch.setattr("moe_fast.race.maximise", lambda *a, **o: took_over.append(1) or maximise(*a, **o))
    field = entered(task, ["tree"])
    start = field.starts[0]
    here = start.parameters
    field.reach(start)
    assert took_over == []
    assert start.curvature.definite
    monkeypatch.setattr(task, "take_curvature", lambda start, *others: start.keep(None, task.design))
    field.reach(start)
    assert took_over == [1]
    monkeypatch.undo()
    monkeypatch.setattr("moe_fast.race.maximise", lambda *a, **o: took_over.append(1) or maximise(*a, **o))
    monkeypatch.setattr("moe_fast.race._LONG_ITER", 1)
    start.parameters = replace(here, expert=here.expert + 0.1)
    field.reach(start)
    assert took_over == [1, 1]


def test_a_saddle_promises_nothing(bent):
    """Kills: a promise by curvatures taken with their absolute values, as if a maximum lay there."""
    task = make_task(*bent, 3)
    start = make_start("tree", task.design, 3, np.random.default_rng(0), task.objective())
    curvature = Curvature.factor(np.diag([-4.0, -9.0]), np.ones(2))
    pace = Pace(task.design, start, task.objective(), 1e-9, newton=True, quasi_newton=True, curvature=curvature)
    assert pace.steps_to_maximum
    pace.curvature = Curvature.factor(np.diag([-4.0, 2.0]), np.ones(2))
    assert not pace.steps_to_maximum
    pace.curvature = curvature
    pace.to_em()
    assert not pace.steps_to_maximum


def test_only_newtons_steps_promise_what_is_left(bent):
    """Kills: what EM's step promised taken for it, which is a fraction."""
    task = make_task(*bent, 3)
    start = make_start("tree", task.design, 3, np.random.default_rng(0), task.objective())
    states = []
    outcome = maximise(task.design, start, task.objective(0.01), max_iter=300, tol=1e-12, callback=states.append)
    left = np.array([outcome.objective - state.objective for state in states])
    promised = np.array([state.promised for state in states])
    assert np.isinf(promised).any()
    assert np.isfinite(promised).any()
    assert (30.0 * promised >= left).all()


def test_a_known_curvature_serves_any_number_of_rows(bent):
    """Kills: a curvature of fewer rows taken as it is; one of a saddle kept."""
    task = make_task(*bent, 3)
    field = entered(task, ["tree"])
    start = field.starts[0]
    half = task.design.on(task.design.rows.take(slice(None, None, 2)))
    curvature = Curvature.factor(-np.diag([4.0, 9.0]), np.ones(2))
    start.keep(curvature, half)
    gradient = np.array([8.0, 9.0])
    np.testing.assert_allclose(start.curvature_of(half).solve(gradient), [2.0, 1.0])
    np.testing.assert_allclose(start.curvature_of(task.design).solve(gradient), [1.0, 0.5])
    start.keep(Curvature.factor(np.diag([-4.0, 2.0]), np.ones(2)), half)
    assert start.curvature_of(half) is None


def test_small_experts_are_those_with_less_than_half_a_fair_share():
    """Kills: n / (4k), by which an expert of 2.9 of 28 rows would do."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((28, 1))
    task = make_task(x, rng.standard_normal(28), 3)
    sums = SimpleNamespace(weight=np.array([22.1, 3.01, 2.89]))
    assert task.support.too_small(task.design, sums).tolist() == [False, False, True]
    few = make_task(x[:12], rng.standard_normal(12), 3)
    sums = SimpleNamespace(weight=np.array([7.8, 2.1, 1.9]))
    assert few.support.too_small(few.design, sums).tolist() == [False, False, True]


def test_few_rows_fitted_almost_exactly_are_chance_and_many_are_not():
    """Kills: many rows of a target without noise called chance; the rule where the noise is shared."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 3)), rng.standard_normal(300)
    task = make_task(X, y, 3)
    b = task.support.barrier(task.design)
    sums = SimpleNamespace(weight=np.array([14.9, 14.9, 270.2]), sum_squares=np.array([0.9 * b, 1.1 * b, 0.5 * b]))
    assert task.support.by_chance(task.design, sums).tolist() == [True, False, False]
    shared = make_task(X, y, 3, noise="shared")
    assert not shared.support.by_chance(shared.design, sums).any()


@pytest.mark.parametrize(
    ("n", "noise", "lacking"),
    [
        (14, "per_expert", [1]),     # 3 experts of 4 coefficients and a sigma
        (15, "per_expert", []),
        (12, "shared", [1]),         # 12 coefficients and a sigma
        (13, "shared", []),
        (11, 0.5, [1]),
        (12, 0.5, []),
    ],
)
@pytest.mark.parametrize("redundant", [False, True])
def test_where_rows_are_fewer_than_parameters_experts_that_lack_rows_are_unsupported(n, noise, lacking, redundant):
    """But no worse than others in the race. Kills: a sigma each where there is one, redundant columns counted."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 3))
    if redundant:
        X = np.column_stack([X, X[:, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.CollinearityWarning)
        task = make_task(X, rng.standard_normal(n), 3, noise=noise, sample_weight=np.full(n, 2.0))
    n_own = 4 + (noise == "per_expert")
    weight = 2.0 * np.array([n_own, n_own - 0.5, n - 2 * n_own + 0.5])
    weight[2] = max(weight[2], 2.0 * n_own)
    outcome = SimpleNamespace(sums=SimpleNamespace(weight=weight, sum_squares=np.full(3, 1e6)))
    assert task.support.unsupported(outcome, []) == lacking
    assert task.support.is_sound(outcome, [])
    assert task.support.unsupported(outcome, [2]) == []   # a collapse was said already


def test_where_no_finalist_ends_sound_others_are_finished(monkeypatch):
    """Unless one collapsed on many rows, as on data without noise, where others are merely worse.

    Kills: those left out, also where an expert collapsed on a few rows of one y, more of them finished than needed,
    the worst first, one that reached no optimum.
    """
    sim = mf.make_moe(300, 3, 2, random_state=0)
    task = make_task(sim.X, sim.y, 2)
    field = _Field(task, task.design)
    for seed in range(5):
        field.enter("partition", make_start("partition", task.design, 2, np.random.default_rng(seed)))
    outcome = maximise(task.design, field.starts[0].parameters, task.objective(), max_iter=1, tol=1e-3)
    for start, value in zip(field.starts, (9.0, 1.0, 3.0, 2.0, 5.0), strict=True):
        start.value, start.reached = value, start.index != 4
        start.status = "eliminated" if start.index else "finished"
    finished = []

    def finish_one(self, start, to_beat):
        finished.append(start.index)
        return outcome, collapsed

    def is_sound(self, outcome, collapsed):
        return finished[-1] in (1, 3)

    collapsed = []
    monkeypatch.setattr(Task, "finish_one", finish_one)
    monkeypatch.setattr(Support, "is_sound", is_sound)
    monkeypatch.setattr(ending, "_warn", lambda *args: None)
    task.finish(field.starts)
    assert finished == [0, 2, 3]
    assert [start.status for start in field.starts] == [
        "degenerate", "eliminated", "degenerate", "winner", "eliminated"
    ]
    finished.clear()
    collapsed = [0]
    outcome.sums.sum_squares[0] = 0.0
    for start in field.starts:
        start.status = "eliminated" if start.index else "finished"
    task.finish(field.starts)
    assert finished == [0]
    finished.clear()
    for start in field.starts:
        start.status = "eliminated" if start.index else "finished"
    weight, outcome.sums.weight[0] = outcome.sums.weight[0], 74.0   # of 300 rows, two experts
    task.finish(field.starts)
    assert finished == [0, 2, 3]
    finished.clear()
    for start in field.starts:
        start.status = "eliminated" if start.index else "finished"
    outcome.sums.weight[0], outcome.sums.sum_squares[0] = weight, 2.0 * task.support.barrier(task.design)
    task.finish(field.starts)
    assert finished == [0, 2, 3]


def test_a_start_that_came_to_an_expert_by_chance_is_out_of_the_race(bent, monkeypatch):
    """Kills: the rule about few rows fitted almost exactly in the finish alone."""
    task = make_task(*bent, 3)
    field = entered(task, ["tree"])
    monkeypatch.setattr(Support, "by_chance", lambda self, design, sums: np.array([False, True, False]))
    field.reach(field.starts[0])
    assert field.starts[0].status == "degenerate"


@pytest.mark.parametrize(
    ("noise", "likelihoods", "collapsed", "winner"),
    [((1e-4, 0.1), (10.0, 9.0), (True, True), 1), ((0.1, 0.1), (90.0, 9.0), (True, False), 1),
     ((0.1, 0.1), (90.0, 9.0), (True, True), 0), ((0.1, 0.1), (10.0, 9.0), (False, False), 0),
     ((1e-4, 0.1), (10.0, 9.0), (False, False), 1)],
)   # fmt: skip
def test_a_sound_end_wins_and_spikes_are_judged_with_the_barrier(monkeypatch, noise, likelihoods, collapsed, winner):
    """An expert that leaves next to nothing of y in few rows is no better than a collapsed one.

    Kills: ends compared by plain likelihood, a collapsed one that beats a sound one, a barrier for all.
    """
    sim = mf.make_moe(300, 3, 2, random_state=0)
    task = make_task(sim.X, sim.y, 2)
    field = _Field(task, task.design)
    for seed in range(2):
        field.enter("partition", make_start("partition", task.design, 2, np.random.default_rng(seed)))
    ends = []
    for start, noise_std, likelihood in zip(field.starts, noise, likelihoods, strict=True):
        parameters = replace(start.parameters, noise_std=np.full(2, noise_std * task.support.residual_std))
        outcome = maximise(task.design, parameters, task.objective(), max_iter=1, tol=1e-3)
        if noise_std < 0.1:
            outcome.sums.weight[0], outcome.sums.sum_squares[0] = 10.0, 0.0
        ends.append(replace(outcome, parameters=parameters, log_likelihood=likelihood))
        start.status = "finished"
    to_beat = []

    def finish_one(self, start, value):
        to_beat.append(value)
        return ends[start.index], [0] if collapsed[start.index] else []

    monkeypatch.setattr(Task, "finish_one", finish_one)
    monkeypatch.setattr(ending, "_warn", lambda *args: None)
    task.finish(field.starts)
    assert [start.status for start in field.starts].index("winner") == winner
    sound = [not spike and noise_std > 1e-3 for spike, noise_std in zip(collapsed, noise, strict=True)]
    assert to_beat == [-np.inf, ends[0].objective if sound[0] else -np.inf]
    loser = field.starts[1 - winner]
    assert loser.status == ("finished" if sound[loser.index] else "degenerate")


def test_large_data_keep_finalists_that_a_sample_cannot_tell_apart():
    """Kills: the best on the sample taken for the best on all rows; the same optimum finished twice."""
    sim = mf.make_moe(3000, 3, 2, noise_std=0.5, random_state=0)
    task = make_task(sim.X, sim.y, 2)
    parameters = make_start("spectral", task.design, 2, np.random.default_rng(0))
    field = _Field(task, task.design)
    field.enter("spectral", parameters)
    start = field.starts[0]
    near = replace(
        start, index=1, value=start.value - 1e-5,
        parameters=replace(start.parameters, expert=start.parameters.expert + 2e-2),
    )
    same = replace(start, index=2, value=start.value - 1e-9)
    worse = replace(
        start, index=3, value=start.value - 1.0,
        parameters=replace(start.parameters, expert=start.parameters.expert + 2.0),
    )
    kept = task.still_in([worse, same, near, start], task.design)
    assert [one.index for one in kept] == [0, 1]
    assert [same.status, worse.status] == ["duplicate", "eliminated"]


def test_finalists_that_other_rows_tell_apart_are_not_climbed_with(monkeypatch):
    """Of a race; the leader always is. Kills: every finalist climbed with, those left out lost as spares."""
    sim = mf.make_moe(20_000, 3, 2, noise_std=0.5, random_state=0)
    task = make_task(sim.X, sim.y, 2)
    model = task.design.parameters(sim.model)
    near, far = (replace(model, expert=model.expert + shift) for shift in (1e-3, 1.0))
    climbed, approach = [], Task.approach
    monkeypatch.setattr(
        Task, "approach", lambda self, start, sample: climbed.append(start.index) or approach(self, start, sample)
    )

    def finalists():
        climbed.clear()
        starts = [Start("random", i, there, -1.0 - i) for i, there in enumerate((model, far, near))]
        for start in starts:
            start.reached = True
        return starts

    task.finish(finalists())
    assert climbed == [0, 2]
    task.finish(finalists()[1:])
    assert climbed == [1, 2]
    task.finish(finalists(), give_up=False)
    assert climbed == [0, 1, 2]
    finished, finish_one = [], Task.finish_one
    monkeypatch.setattr(
        Task, "finish_one", lambda self, start, *a: finished.append(start.index) or finish_one(self, start, *a)
    )
    monkeypatch.setattr(Support, "is_sound", lambda self, outcome, collapsed: False)
    task.finish(finalists())
    assert finished[1:] == [1]   # after one of the other two, which end at one optimum


def test_nothing_is_taken_from_a_sample_in_which_an_expert_collapses():
    """Kills: a spike's end, and its curvature, for where all rows begin."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, (400, 1))
    y = np.where(np.arange(400) % 2, 2.0 * x[:, 0] + 5.0, rng.standard_normal(400))   # every second row on one line
    task = make_task(x, y, 2)
    model = mf.MixtureOfExperts([[0.0], [2.0]], [0.0, 5.0], noise_std=[1.0, 0.1])
    start = Start("model", 0, task.design.parameters(model))
    before = start.parameters
    task.approach(start, task.design.on(task.design.rows.take(slice(0, 300))))
    assert start.parameters is before
    assert start.value == -math.inf
    assert start.curvature is None


def test_the_fits_of_a_selection_have_the_time_limit_each():
    """Kills: fits of a selection, or of its folds, without one."""
    sim = mf.make_moe(300, 3, 2, random_state=0)
    task = make_task(sim.X, sim.y, 1, time_limit=60.0)
    again = task.again(2, np.arange(100))
    assert again.deadline - again.began == pytest.approx(task.deadline - task.began)
    assert make_task(sim.X, sim.y, 1).again(2).deadline == math.inf
