"""Does select_n_experts choose the number of experts that is there, by what its table says, and nothing collapsed?"""

import sys
from dataclasses import replace

import numpy as np
import pytest

import moe_fast as mf
from moe_fast import selection as module
from moe_fast.activations import get_activation
from moe_fast.density import log_density
from moe_fast.design import Design
from moe_fast.moves import enlarge, split_expert
from moe_fast.rows import Rows
from moe_fast.task import Start

CRITERIA = ("bic", "aic", "icl")


@pytest.fixture(scope="module")
def sim():
    return mf.make_moe(600, 3, 2, random_state=0)


@pytest.fixture(scope="module")
def selection(sim):
    return mf.select_n_experts(sim.X, sim.y, range(1, 5), n_starts=8, random_state=0)


@pytest.mark.statistical
@pytest.mark.parametrize("n_experts", [1, 2, 3])
def test_the_true_number_is_found(n_experts):
    """The rate, over many seeds, is in docs/selection.md."""
    sim = mf.make_moe(1000, 5, n_experts, random_state=n_experts)
    selection = mf.select_n_experts(sim.X, sim.y, range(1, n_experts + 2), n_starts=6, random_state=0)
    assert selection.n_experts == selection.choose("icl") == n_experts
    assert selection.best is selection.fits[n_experts]


def test_the_table_is_that_of_the_fits(selection, sim):
    """Kills: a column of another; a fit of another number of experts in a row."""
    assert [row.n_experts for row in selection.table] == list(selection.fits) == [1, 2, 3, 4]
    for row, fit in zip(selection.table, selection.fits.values(), strict=True):
        assert fit.model.n_experts == row.n_experts
        assert row.log_likelihood == pytest.approx(fit.model.log_likelihood(sim.X, sim.y))
        for name in ("log_likelihood", "n_parameters", *CRITERIA, "converged", "penalised"):
            assert getattr(row, name) == getattr(fit, name)
        assert np.isnan(row.held_out)
        assert row.seconds > 0.0
    for criterion in CRITERIA:
        best = min((row for row in selection.table if row.sound), key=lambda row: getattr(row, criterion))
        assert selection.choose(criterion) == best.n_experts


def test_the_likelihood_of_sound_fits_does_not_fall(selection):
    values = [row.log_likelihood for row in selection.table if row.sound]
    assert len(values) >= 2
    assert (np.diff(values) >= -1e-6).all()


@pytest.mark.parametrize("options", [{}, {"gate": "constant"}, {"noise": 0.1}])
def test_a_race_gone_wrong_does_not_end_below_the_smaller_mixture(sim, monkeypatch, options):
    """Kills: no fit from the one before. The race finds nothing but experts that are all alike."""
    true_race = module.race

    def poor_race(task, init, n_starts, smaller=None):
        [start, *_] = true_race(task, init, n_starts, smaller)
        if task.n_experts > 2:
            parameters = start.parameters
            parameters.expert[:] = parameters.expert[0]
            parameters.gate[:] = 0.0
            parameters.noise_std[:] = 0.3
        return [Start("poor", 0, start.parameters)]

    monkeypatch.setattr(module, "race", poor_race)
    fits = mf.select_n_experts(sim.X, sim.y, [2, 3, 5], n_starts=8, random_state=0, **options).fits
    assert fits[3].log_likelihood >= fits[2].log_likelihood - 1e-6
    assert fits[5].log_likelihood >= fits[3].log_likelihood - 1e-6
    assert {start.kind for start in fits[3].starts} == {"split"}


def collapsing():
    """A line, and six rows in one place off it: a second expert closes in on them, and raises the likelihood."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 1))
    y = x[:, 0] + 0.3 * rng.standard_normal(200)
    return np.vstack([x, np.full((6, 1), 0.5)]), np.r_[y, np.full(6, 3.0)]


def test_a_collapsed_expert_does_not_win():
    X, y = collapsing()
    selection = mf.select_n_experts(X, y, [1, 2], random_state=0)   # whose fit of two warns of nothing
    assert selection.fits[2].bic < selection.fits[1].bic
    assert selection.n_experts == 1
    assert [row.sound for row in selection.table] == [True, False]
    assert "an expert on too few rows" in selection.summary()


def test_where_every_fit_collapsed_one_is_chosen_with_a_warning():
    X, y = collapsing()
    with pytest.warns(mf.ConvergenceWarning, match="in every fit an expert stands on too few rows"):
        selection = mf.select_n_experts(X, y, [2], random_state=0)
    assert selection.n_experts == 2


def test_an_expert_that_is_not_supported_does_not_win(selection):
    """Kills: soundness that looks at `penalised` alone."""
    table = [replace(row, sound=row.n_experts != 2) for row in selection.table]
    assert replace(selection, table=tuple(table)).choose("bic") != 2
    assert not module._is_sound(replace(selection.best, unsupported=(1,)))
    assert module._is_sound(selection.best)


def test_a_fit_that_has_not_converged_is_told(sim):
    with pytest.warns(mf.ConvergenceWarning, match="of 2 experts, has not converged"):
        selection = mf.select_n_experts(sim.X, sim.y, [1, 2], n_starts=4, max_iter=0, random_state=0)
    assert "not converged" in selection.summary()


# ---- rows held out ----


def test_leaving_out_each_row_of_one_line():
    """One expert, every row a part of its own: leave-one-out least squares, whose residuals have a closed form."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 2)), rng.standard_normal(30)
    weight = rng.uniform(0.5, 2.0, 30)
    [row] = mf.select_n_experts(
        X, y, [1], criterion="held_out", n_folds=30, sample_weight=weight, random_state=0
    ).table
    D = np.column_stack([np.ones(30), X])
    density = np.empty(30)
    for i in range(30):
        seen = np.arange(30) != i
        root = np.sqrt(weight[seen])
        line = np.linalg.lstsq(D[seen] * root[:, None], y[seen] * root, rcond=None)[0]
        variance = np.average((y[seen] - D[seen] @ line) ** 2, weights=weight[seen])
        density[i] = -0.5 * ((y[i] - D[i] @ line) ** 2 / variance + np.log(2 * np.pi * variance))
    assert row.held_out == pytest.approx(np.average(density, weights=weight), rel=1e-6)
    deviation = weight * (density - row.held_out)
    assert row.held_out_error == pytest.approx(np.sqrt(np.sum(deviation**2)) / weight.sum(), rel=1e-6)


def test_held_out_rows_choose_the_true_number(sim):
    calls = []
    selection = mf.select_n_experts(
        sim.X, sim.y, [1, 2, 3], criterion="held_out", n_folds=3, n_starts=4, random_state=0,
        progress=lambda *done: calls.append(done),
    )
    assert selection.n_experts == 2
    assert calls == [(done, 12) for done in range(1, 13)]
    for row in selection.table:   # more is known of rows that were seen
        assert row.held_out < row.log_likelihood / 600
        assert row.held_out_error > 0.0
        assert row.held_out_error < 0.2 or row.n_experts == 3   # a third fits a few rows too well
    assert "held out" in selection.summary()


def test_gate_features_and_frames_are_held_out_too(sim):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(sim.X, columns=list("abc"))
    selection = mf.select_n_experts(
        frame[["a", "b"]], pandas.Series(sim.y, name="t"), [1, 2], criterion="held_out", n_folds=2, n_starts=4,
        gate_features=frame[["c"]], random_state=0,
    )
    assert selection.fits[2].model.gate_feature_names == ("c",)
    assert selection.best.model.target_name == "t"


# ---- the rest ----


def test_threads_and_seed_do_not_change_a_bit(sim, selection):
    for n_threads in (1, 3):
        again = mf.select_n_experts(sim.X, sim.y, range(1, 5), n_starts=8, random_state=0, n_threads=n_threads)
        assert [fit.model for fit in again.fits.values()] == [fit.model for fit in selection.fits.values()]


def test_the_best_is_as_good_as_a_fit_by_itself(sim, selection):
    alone = mf.fit(sim.X, sim.y, 2, random_state=1)
    assert selection.best.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-3)


def test_options_reach_the_fits(sim):
    X = sim.X.copy()
    X.flags.writeable = False
    selection = mf.select_n_experts(
        X, sim.y, [1, 2], gate="constant", noise=0.1, fit_intercept=False, n_starts=3, random_state=0
    )
    assert selection.best.n_parameters == 2 * 3 + 1
    assert selection.best.model.noise_std.tolist() == [0.1, 0.1]
    assert not selection.best.model.intercept.any()


def test_an_exception_in_progress_ends_it(sim):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mf.select_n_experts(sim.X, sim.y, [1, 2], n_starts=2, progress=interrupt)


def test_summary_marks_the_choice(selection):
    lines = selection.summary().splitlines()
    assert lines[0].startswith("Number of experts by BIC: 2")
    assert [line.split()[1] for line in lines if line.startswith("*")] == ["2"]
    assert "larger" not in lines[-1]


def test_summary_says_that_more_might_be_better(sim):
    summary = mf.select_n_experts(sim.X, sim.y, [1, 2], n_starts=4, random_state=0).summary()
    assert summary.endswith("the largest number tried was chosen: a larger one may be better")


def test_to_frame(selection, monkeypatch):
    pytest.importorskip("pandas")
    frame = selection.to_frame()
    assert frame.index.tolist() == [1, 2, 3, 4]
    assert frame["bic"].idxmin() == 2
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install"):
        selection.to_frame()


@pytest.mark.parametrize(
    ("error", "options", "words"),
    [
        (TypeError, {"n_experts": 3}, "n_experts must be numbers of experts to try"),
        (TypeError, {"n_experts": "12"}, "n_experts must be numbers of experts to try"),
        (ValueError, {"n_experts": []}, "n_experts is empty"),
        (ValueError, {"n_experts": [0, 1]}, "n_experts must be at least 1, got 0"),
        (ValueError, {"n_experts": [700]}, "n_experts = 700 is more than the 600 rows"),
        (ValueError, {"criterion": "dic"}, "unknown criterion 'dic'"),
        (ValueError, {"n_folds": 1}, "n_folds must be at least 2"),
        (ValueError, {"criterion": "held_out", "n_folds": 601}, "n_folds = 601 leaves too few"),
        (ValueError, {"criterion": "held_out", "n_folds": 2, "n_experts": [301]}, "leaves too few of the 600 rows"),
        (TypeError, {"noise": [0.1, 0.2]}, "noise must be a positive number"),
        (ValueError, {"n_starts": 0}, "n_starts must be at least 1"),
        (TypeError, {"progress": 1}, "progress must be callable"),
    ],
)
def test_bad_arguments(sim, error, options, words):
    with pytest.raises(error, match=words):
        mf.select_n_experts(sim.X, sim.y, **options)


def test_held_out_is_not_chosen_by_when_no_rows_were(selection):
    with pytest.raises(ValueError, match="no rows were held out"):
        selection.choose("held_out")


# ---- starts from a smaller mixture ----


@pytest.mark.parametrize("gate", ["softmax", "constant"])
def test_twins_have_the_same_density(sim, gate):
    """Kills: odds not halved, or halved for one of the two."""
    design = Design(Rows.check(sim.X, sim.y), get_activation("linear"), gate=gate)
    rng = np.random.default_rng(0)
    model = mf.fit(sim.X, sim.y, 2, gate=gate, n_starts=4, random_state=0).model
    parameters = design.parameters(model)
    for k in range(2):
        twins = split_expert(design, parameters, k, rng, apart=0.0)
        np.testing.assert_allclose(log_density(design, twins), log_density(design, parameters))
        apart = split_expert(design, parameters, k, rng)
        odds = np.vstack([apart.gate, np.zeros((1, design.n_gate_columns))])
        before = np.vstack([parameters.gate, np.zeros((1, design.n_gate_columns))])
        before[k, 0] -= np.log(2.0)
        np.testing.assert_allclose(odds[[0, k + 1]].mean(axis=0) - odds[2 - k], before[k] - before[1 - k])
        np.testing.assert_allclose(apart.expert[[0, k + 1]].mean(axis=0), parameters.expert[k])
        assert np.abs(log_density(design, apart) - log_density(design, parameters)).max() > 0.01
    larger = list(enlarge(design, parameters, 4, rng))
    assert [kind for kind, _ in larger] == ["split", "add"] * 2
    assert {made.n_experts for _, made in larger} == {4}


def test_folds_are_drawn_at_random():
    """Rows in the order of their groups, as many as there are folds. Kills: every fifth row a fold."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 1))
    y = np.tile([0.0, 10.0, 20.0, 30.0, 40.0], 60) + x[:, 0] + 0.3 * rng.standard_normal(300)
    found = mf.select_n_experts(x, y, [5], criterion="held_out", n_folds=5, n_starts=6, random_state=0)
    assert found.table[0].held_out > -4.0   # about -2.3; with a group unseen -100 and less
