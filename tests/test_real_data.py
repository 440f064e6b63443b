"""The tone data (Cohen 1980, as in R's mixtools): the optimum known, which random starts do not find."""

from pathlib import Path

import numpy as np
import pytest

import moe_fast as mf
from moe_fast.activations import get_activation
from moe_fast.design import Design
from moe_fast.em import maximise, overall_line
from moe_fast.objective import Objective
from moe_fast.rows import Rows

FILE = Path(__file__).parents[1] / "examples" / "tone.csv"


@pytest.fixture(scope="module")
def tone():
    """Stretch ratio as the one feature, tuned as the target."""
    table = np.loadtxt(FILE, delimiter=",", skiprows=1)
    return table[:, :1], table[:, 1]


def test_the_file_is_whole(tone):
    X, y = tone
    assert FILE.read_text().splitlines()[0] == '"stretchratio","tuned"'
    assert X.shape == (150, 1)
    assert y.sum() == pytest.approx(310.832, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_two_experts_reach_the_good_optimum(tone, seed):
    """145.6503, not the usual 142.848. Kills: RANSAC without a noise of its own, a floor of noise at 1e-2 sd(y)."""
    fit = mf.fit(*tone, 2, random_state=seed)
    assert fit.log_likelihood == pytest.approx(145.6503, abs=1e-3)
    assert fit.model.noise_std.min() == pytest.approx(0.0045, abs=1e-4)
    assert fit.converged
    assert not fit.penalised
    assert fit.separated == ()
    small = int(np.argmin(fit.model.noise_std))
    assert fit.effective_sizes[small] / 150 == pytest.approx(0.37, abs=0.02)
    assert fit.model.coef[small, 0] == pytest.approx(1.0, abs=0.01)   # tuned to the stretch ratio itself


@pytest.mark.parametrize("seed", range(5))
def test_three_experts_reach_the_best_known(tone, seed):
    fit = mf.fit(*tone, 3, random_state=seed)
    assert fit.log_likelihood == pytest.approx(239.5508, abs=1e-3)
    assert fit.converged


@pytest.mark.parametrize(("n_experts", "best"), [(2, 145.4168), (3, 238.7957)])
def test_a_constant_gate_reaches_the_best_known(tone, n_experts, best):
    fit = mf.fit(*tone, n_experts, gate="constant", random_state=0)
    assert fit.log_likelihood == pytest.approx(best, abs=1e-3)


def test_random_starts_do_not(tone):
    """Why the race has other kinds; this one's end is the usual one."""
    fit = mf.fit_em(*tone, 2, init="partition", n_init=10, random_state=0)
    assert fit.log_likelihood == pytest.approx(142.848, abs=1e-3)


def test_the_barrier_is_weak(tone):
    """At the strength of `fit` (test_fit.py pins it) it moves the optimum by 0.03, to 145.62."""
    design = Design(Rows.check(*tone), get_activation("linear"))
    best = mf.fit(*tone, 2, random_state=0)
    barrier = 2.0 * (0.02 * overall_line(design)[1]) ** 2
    start = design.parameters(best.model)
    outcome = maximise(design, start, Objective(barrier=barrier), max_iter=200, tol=1e-10)
    assert best.log_likelihood - outcome.log_likelihood == pytest.approx(0.03, abs=0.015)


def test_in_other_units(tone):
    """Cents above 1900, and a target in thousandths. Kills: a limit of collapse in the units of y."""
    X, y = tone
    fit = mf.fit(1200.0 * X + 1900.0, 1e-3 * y, 2, random_state=0)
    assert fit.log_likelihood - 150 * np.log(1e3) == pytest.approx(145.6503, abs=1e-3)


def test_with_every_row_twice(tone):
    """Repeated rows are no spike: twice the log-likelihood, by repetition or by weight."""
    X, y = tone
    twice = mf.fit(np.repeat(X, 2, axis=0), np.repeat(y, 2), 2, random_state=0)
    weighted = mf.fit(X, y, 2, sample_weight=np.full(150, 2.0), random_state=0)
    assert twice.log_likelihood == pytest.approx(2 * 145.6503, abs=2e-3)
    assert weighted.log_likelihood == pytest.approx(2 * 145.6503, abs=2e-3)
    assert not twice.penalised
