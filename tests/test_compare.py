"""Does the comparison measure what it says, and is the same start the same for all?"""

import csv

import numpy as np
import pytest

import moe_fast as mf
from moe_fast import compare, reference
from moe_fast.compare import METHODS, TRUTH, Method, Outcome, Setting

EASY = Setting(n_experts=2, n_features=4, n_samples=800)
TANH = Setting(n_experts=2, n_features=4, n_samples=800, activation="tanh")


@pytest.fixture(scope="module")
def outcomes():
    return compare.run([EASY, TANH], n_runs=3, n_iter=30, random_state=1)


def by_method(outcomes, setting=EASY):
    return {outcome.method: outcome for outcome in outcomes if outcome.setting == setting}


def test_one_outcome_for_each_setting_and_method(outcomes):
    assert [(outcome.setting, outcome.method) for outcome in outcomes] == [
        (setting, method) for setting in (EASY, TANH) for method in METHODS
    ]
    for outcome in outcomes:
        assert outcome.coef_error.shape == outcome.gate_error.shape == outcome.log_likelihood.shape == (3, 31)


def test_first_point_is_the_start(outcomes):
    """Kills: a path that begins after the first iteration; methods that start from different experts."""
    runs = by_method(outcomes)
    start = runs[Method("random")].coef_error[:, 0]
    assert (start == runs[Method("random", noise="estimated")].coef_error[:, 0]).all()
    assert (start == runs[Method("random", m_step="gradient")].coef_error[:, 0]).all()
    assert (start != runs[Method("spectral")].coef_error[:, 0]).all()
    assert (start > 0.3).all()
    assert (runs[TRUTH].coef_error[:, 0] == 0).all()
    assert (runs[Method("spectral")].gate_error[:, 0] == pytest.approx(1.0))   # a gate of zeros, the true one of norm 1


def test_likelihood_never_falls(outcomes):
    for outcome in outcomes:
        assert (np.diff(outcome.log_likelihood) > -1e-9).all(), outcome.method


@pytest.mark.parametrize("setting", [EASY, TANH], ids=str)
def test_em_ends_at_the_maximum_from_every_start(outcomes, setting):
    """Kills: errors without matching, noise not held, an M-step that stops short. k = 2, n = 800 defeats no start."""
    runs = by_method(outcomes, setting)
    for method in (Method("random"), Method("spectral")):
        np.testing.assert_allclose(runs[method].coef_error[:, -1], runs[TRUTH].coef_error[:, -1], rtol=1e-3)
        np.testing.assert_allclose(runs[method].gate_error[:, -1], runs[TRUTH].gate_error[:, -1], rtol=1e-3)
    estimated = runs[Method("random", noise="estimated")].log_likelihood[:, -1]
    assert (estimated > runs[TRUTH].log_likelihood[:, -1]).all()   # two parameters more


def test_em_is_plain_em():
    """Kills: an EM that Newton's method helps, as it would here, where EM is slow; noise that moves when held."""
    simulation = mf.make_moe(400, 4, 2, activation="sigmoid", noise_std=0.1, random_state=0)
    start = mf.MixtureOfExperts(np.eye(4)[:2], noise_std=0.1, activation="sigmoid")
    got = compare._path(simulation, Method("random"), start, 40, None)[:, 2]
    params = reference.Params(np.column_stack([np.zeros(2), start.coef]), np.zeros((2, 5)), np.full(2, 0.1))
    options = {"activation": "sigmoid", "noise": 0.1, "fit_intercept": False, "gate_intercept": False}
    _, history = reference.em_fit(simulation.X, simulation.y, params, max_iter=40, tol=0.0, **options)
    np.testing.assert_allclose(got, history / 400, rtol=0, atol=1e-9)


def test_gradient_steps_climb_more_slowly(outcomes):
    """Kills: a "gradient" method that takes EM's own M-step."""
    runs = by_method(outcomes)
    gradient, newton = runs[Method("random", m_step="gradient")], runs[Method("random")]
    assert (gradient.log_likelihood[:, 3] < newton.log_likelihood[:, 3]).all()
    assert (gradient.log_likelihood[:, -1] > gradient.log_likelihood[:, 0]).all()


def test_errors_are_root_mean_squares_after_matching():
    simulation = mf.make_moe(50, 4, 3, random_state=0)
    truth = simulation.model
    coef, gate_coef = truth.coef.copy(), truth.gate_coef.copy()
    coef[0, 1] += 0.3
    gate_coef[1] += 0.2
    off = mf.MixtureOfExperts(coef, gate_coef=gate_coef, noise_std=0.1)
    coef_error, gate_error, log_likelihood = compare._quality(off.permute([2, 0, 1]), simulation)
    assert coef_error == pytest.approx(0.3 / np.sqrt(3))
    assert gate_error == pytest.approx(0.4 / np.sqrt(2))
    assert log_likelihood == pytest.approx(off.log_likelihood(simulation.X, simulation.y) / 50)


def test_iterations_to_optimum():
    """Kills: an optimum that counts only if it is held to the end, or is compared with another run's."""
    truth = outcome_of([[-1.0, -1.0, -1.0], [-5.0, -5.0, -5.0]])
    got = compare.iterations_to_optimum(outcome_of([[-3.0, -1.0009, -1.0], [-9.0, -8.0, -5.0011]]), truth)
    np.testing.assert_array_equal(got, [1, np.nan])


def outcome_of(log_likelihood):
    values = np.array(log_likelihood)
    return Outcome(EASY, TRUTH, values, values, values)


def test_same_seed_same_numbers_whatever_runs_beside():
    alone = compare.run([TANH], n_runs=1, n_iter=3, random_state=1)
    beside = compare.run([EASY, TANH], n_runs=2, n_iter=3, random_state=1)
    other = compare.run([TANH], n_runs=1, n_iter=3, random_state=2)
    for a, b, c in zip(alone, by_method(beside, TANH).values(), other, strict=True):
        assert a.log_likelihood.tobytes() == b.log_likelihood[:1].tobytes()
        assert (a.log_likelihood != c.log_likelihood).all()


def test_progress_is_told_after_each_run():
    lines = []
    compare.run([EASY], n_runs=2, n_iter=1, progress=lines.append)
    assert lines == [f"{EASY}: run 1 of 2", f"{EASY}: run 2 of 2"]


def test_csv_holds_every_number(outcomes, tmp_path):
    compare.write_csv(outcomes, tmp_path / "compare.csv")
    with open(tmp_path / "compare.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(METHODS) * 3 * 31
    wanted = {"activation": "tanh", "start": "spectral", "noise": "estimated", "m_step": "newton", "run": "1"}
    (row,) = [row for row in rows if wanted.items() <= row.items() and row["iteration"] == "7"]
    outcome = by_method(outcomes, TANH)[Method("spectral", noise="estimated")]
    assert float(row["coef_error"]) == pytest.approx(outcome.coef_error[1, 7], rel=1e-7)
    assert float(row["gate_error"]) == pytest.approx(outcome.gate_error[1, 7], rel=1e-7)
    assert float(row["log_likelihood"]) == pytest.approx(outcome.log_likelihood[1, 7], rel=1e-7)


def test_report_has_a_line_for_each_method(outcomes):
    lines = compare.report(outcomes).splitlines()
    runs = by_method(outcomes)
    outcome = runs[Method("random")]
    (line,) = [line for line in lines[: len(METHODS) + 1] if line.startswith("  random start, EM, σ held ")]
    needed = np.median(compare.iterations_to_optimum(outcome, runs[TRUTH]))
    assert line.split()[-4:] == [
        "3/3",
        f"{needed:.0f}",
        f"{outcome.coef_error[:, -1].mean():.4f}",
        f"{outcome.gate_error[:, -1].mean():.4f}",
    ]
    assert sum(line.startswith("  ") for line in lines) == 2 * len(METHODS)   # a header, and all methods but the truth


def test_figure_shows_means_and_states_its_settings(outcomes, tmp_path):
    """Kills: a mean over the wrong axis, columns in the wrong order, a setting left unsaid."""
    figure = compare.plot(outcomes)
    figure.savefig(tmp_path / "compare.png")
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    upper = figure.axes[1]   # experts' error of the second setting
    assert upper.get_title() == "2 tanh experts\nd = 4, n = 800"
    for line, outcome in zip(upper.lines, by_method(outcomes, TANH).values(), strict=True):
        if outcome.method == TRUTH:
            assert line.get_ydata()[0] == pytest.approx(outcome.coef_error[:, -1].mean())
        else:
            np.testing.assert_allclose(line.get_ydata(), outcome.coef_error.mean(axis=0))
        assert line.get_label() == str(outcome.method)
    bars = figure.axes[4].patches
    assert [bar.get_width() for bar in bars[:1]] == [1.0]
    text = figure.get_supxlabel()
    for stated in ("σ = 0.1", "norm 1", "3 data sets", "30 iterations", "no intercepts", "10% to 90%", "0.001"):
        assert stated in text
