"""Data as people have it: does `mf.fit` with its defaults fit what can be identified, and say what cannot?"""

import warnings

import numpy as np
import pytest

import moe_fast as mf
from moe_fast import collinearity, task
from moe_fast.activations import get_activation
from moe_fast.collinearity import Dependence
from moe_fast.design import Design, Parameters
from moe_fast.rows import Rows

N_SAMPLES = 400


@pytest.fixture(scope="module")
def sim():
    return mf.make_moe(N_SAMPLES, 3, 2, orthogonal_gate=False, random_state=0)


@pytest.fixture(scope="module")
def clean(sim):
    return mf.fit(sim.X, sim.y, 2, random_state=0)


def noise(n=N_SAMPLES, seed=1):
    return np.random.default_rng(seed).standard_normal(n)


def two_lines(x, seed=0):
    """y from one of two lines in the standardised x."""
    rng = np.random.default_rng(seed)
    z = (x - x.mean()) / x.std()
    return np.where(rng.random(len(x)) < 0.5, z, 1.0 - z) + 0.1 * rng.standard_normal(len(x))


def warned(*warned_of):
    """All of these and nothing else: pytest makes other warnings errors."""
    return pytest.warns(mf.CollinearityWarning, match="".join(f"(?=.*{text})" for text in warned_of))


# ---- columns that say nothing new ----


@pytest.mark.parametrize("value", [0.0, 7.0, 1e12 / 3.0, -1e-9])
def test_a_constant_column(sim, clean, value):
    """Kills: a coefficient for it, or a parameter counted."""
    X = np.insert(sim.X, 1, value, axis=1)
    with warned(r"column 1 of X \(columns count from 0\) is constant or a combination"):
        fit = mf.fit(X, sim.y, 2, random_state=0)
    assert fit.redundant_features == fit.redundant_gate_features == (1,)
    assert not fit.model.coef[:, 1].any()
    assert not fit.model.gate_coef[:, 1].any()
    np.testing.assert_allclose(np.delete(fit.model.coef, 1, axis=1), clean.model.coef, rtol=1e-5)
    assert fit.log_likelihood == pytest.approx(clean.log_likelihood)
    assert (fit.n_parameters, fit.bic) == (clean.n_parameters, pytest.approx(clean.bic))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_column_that_is_a_sum_of_others(sim, clean, dtype):
    """Kills: coefficients dealt out among them; another number of parameters; a tolerance too fine for float32."""
    X = np.c_[sim.X, sim.X[:, 0] + 2.0 * sim.X[:, 1] - 5.0].astype(dtype)
    with warned("column 3 of X"):
        fit = mf.fit(X, sim.y, 2, random_state=0)
    assert fit.redundant_features == (3,)
    np.testing.assert_allclose(fit.model.coef[:, :3], clean.model.coef, atol=1e-4)
    assert fit.log_likelihood == pytest.approx(clean.log_likelihood, abs=1e-3)
    assert fit.log_likelihood == pytest.approx(fit.model.log_likelihood(X, sim.y), abs=1e-4)
    assert fit.n_parameters == clean.n_parameters


def test_dummies_of_every_category_beside_an_intercept(sim):
    """The last of them is left at zero: the others' coefficients are differences from it."""
    pd = pytest.importorskip("pandas")
    kind = np.random.default_rng(1).choice(["a", "b", "c"], N_SAMPLES)
    frame = pd.DataFrame(sim.X, columns=["u", "v", "w"]).join(pd.get_dummies(kind))
    y = sim.y + np.select([kind == "a", kind == "b"], [3.0, 1.0], 0.0)
    with warned("column 'c' of X is constant or a combination", "its coefficient is set to zero"):
        fit = mf.fit(frame, y, 2, random_state=0)
    np.testing.assert_allclose(fit.model.coef[:, 3:], [[3.0, 1.0, 0.0]] * 2, atol=0.1)
    assert "constant or combinations of the columns before, left at zero: c" in fit.summary()
    without = mf.fit(frame.drop(columns="c"), y, 2, random_state=0)
    assert (fit.n_parameters, fit.log_likelihood) == (without.n_parameters, pytest.approx(without.log_likelihood))


def test_dummies_of_every_category_and_nothing_else():
    """There are as many different rows as columns, and many y in each. Kills: taken for more columns than rows."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 600)
    y = np.where(rng.random(600) < 0.5, 1.0 * kind, -2.0 * kind - 1.0) + 0.1 * rng.standard_normal(600)
    dummies = np.eye(3)[kind]
    with warned("column 2 of X"):
        fit = mf.fit(dummies, y, 2, random_state=0)
    assert (fit.redundant_features, fit.redundant_gate_features) == ((2,), (2,))
    assert fit.n_parameters == 2 * 3 + 2 + 3
    assert fit.log_likelihood == pytest.approx(mf.fit(dummies[:, :2], y, 2, random_state=0).log_likelihood)
    with warned("column 0 of X"):
        assert mf.fit(np.ones((600, 1)), y, 2, random_state=0).n_parameters == 2 + 2 + 1
    with warned("column 0 of gate_features"):
        assert mf.fit(dummies[:, :1], y, 2, gate_features=np.ones((600, 1)), random_state=0).n_parameters == 4 + 2 + 1


def test_without_intercept_a_constant_column_is_its_own(sim):
    """It is the intercept then; to the gate, which has one, it says nothing."""
    X = np.insert(sim.X, 0, 1.0, axis=1)
    with warned("column 0 of X, in the gate,"):
        fit = mf.fit(X, sim.y + 2.0, 2, fit_intercept=False, random_state=0)
    assert (fit.redundant_features, fit.redundant_gate_features) == ((), (0,))
    np.testing.assert_allclose(fit.model.coef[:, 0], 2.0, atol=0.1)
    assert "the same in the gate: x0" in fit.summary()


@pytest.mark.parametrize("n_looked_at", [4096, 100])
def test_redundant_gate_features(sim, monkeypatch, n_looked_at):
    monkeypatch.setattr(collinearity, "_ROWS", n_looked_at)
    Z = np.c_[sim.X[:, 0], np.ones(N_SAMPLES), 3.0 * sim.X[:, 0]]
    with warned(r"columns 1, 2 of gate_features \(columns count from 0\) are constant or a combination"):
        fit = mf.fit(sim.X, sim.y, 2, gate_features=Z, random_state=0)
    assert (fit.redundant_features, fit.redundant_gate_features) == ((), (1, 2))
    assert not fit.model.gate_coef[:, 1:].any()
    assert fit.n_parameters == 2 * 4 + 2 + 2
    with warned("columns 1, 2 of gate_features"):
        gate = mf.fit_gate(sim.X, sim.y, fit.model, gate_features=Z)
    assert gate.n_parameters == 2


def test_fit_gate_leaves_experts_as_given(sim, clean):
    X = np.c_[sim.X, sim.X[:, 0]]
    coef = np.c_[clean.model.coef, [1.0, 2.0]]
    given = mf.MixtureOfExperts(coef, clean.model.intercept, noise_std=clean.model.noise_std)
    with warned("column 3 of X, in the gate,"):
        fit = mf.fit_gate(X, sim.y, given)
    np.testing.assert_array_equal(np.sort(fit.model.coef, axis=0), np.sort(coef, axis=0))


def test_a_column_nearly_a_copy_is_kept(sim):
    """Kills: a tolerance so wide that it takes columns which can still be told apart."""
    X = np.c_[sim.X, sim.X[:, 0] + 1e-3 * noise()]
    fit = mf.fit(X, sim.y + 1e3 * (X[:, 3] - X[:, 0]), 2, random_state=0)
    assert fit.redundant_features == ()
    np.testing.assert_allclose(fit.model.coef[:, 3], 1e3, rtol=0.1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_of_large_data_all_rows_are_asked_before_a_column_is_called_redundant(monkeypatch, dtype, fit_intercept):
    """A dummy whose few ones are in no row of the sample. Kills: trust in the sample; a wrong Gram of all rows."""
    monkeypatch.setattr(collinearity, "_ROWS", 100)
    rng = np.random.default_rng(0)
    x, rare = 3.0 + rng.standard_normal(4000), np.zeros(4000)
    rare[[1, 2, 3, 81, 82, 83]] = 1.0    # every fortieth row is looked at
    y = 0.5 * x + 0.1 * rng.standard_normal(4000) + 5.0 * rare
    X = np.c_[x, rare].astype(dtype)
    fit = mf.fit_em(X, y, 1, fit_intercept=fit_intercept)
    assert fit.redundant_features == fit.redundant_gate_features == ()
    assert fit.model.coef[0, 1] == pytest.approx(5.0, abs=0.5)
    with warned("columns 2, 3 of X"):
        fit = mf.fit_em(np.c_[X, 2.0 * x, x - rare].astype(dtype)[:, [0, 1, 3, 2]], y, 1, fit_intercept=fit_intercept)
    assert fit.redundant_features == (2, 3)


def test_more_columns_than_a_warning_names(sim):
    with warned(r"columns 3, 4, 5, 6, 7, 8, 9, 10 and 2 more of X"):
        mf.fit_em(np.c_[sim.X, np.ones((N_SAMPLES, 10))], sim.y, 1)


def test_dependence_on_columns_before():
    """The first of a dependent set is kept, whichever is larger. Kills: pivoting; a combination that is wrong."""
    A = np.random.default_rng(0).standard_normal((50, 3))
    M = np.c_[A[:, 0], 1e-3 * A[:, 0], A[:, 1], 2.0 * A[:, 0] - A[:, 1], np.zeros(50), A[:, 2]]
    found = Dependence.of(M.T @ M)
    assert found.columns.tolist() == [1, 3, 4]
    coefficients = np.arange(12.0).reshape(2, 6)
    moved = found.without(coefficients)
    assert not moved[:, [1, 3, 4]].any()
    np.testing.assert_allclose(M @ moved.T, M @ coefficients.T)


# ---- units ----


def test_features_of_very_different_scale(sim, clean):
    scale = np.array([1e-8, 1.0, 1e8])
    fit = mf.fit(sim.X * scale, sim.y, 2, random_state=0)
    np.testing.assert_allclose(fit.model.coef * scale, clean.model.coef, rtol=1e-4)
    assert fit.log_likelihood == pytest.approx(clean.log_likelihood)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.float32])
def test_years_as_they_are(dtype):
    year = np.random.default_rng(0).integers(1990, 2021, N_SAMPLES)
    y = two_lines(year)
    centred = mf.fit((year - 2005.0)[:, np.newaxis], y, 2, random_state=0)
    fit = mf.fit(year[:, np.newaxis].astype(dtype), y, 2, random_state=0)
    assert fit.log_likelihood == pytest.approx(centred.log_likelihood, abs=1e-3)
    np.testing.assert_allclose(fit.model.coef, centred.model.coef, rtol=1e-3)


def test_a_year_and_its_square_are_two_columns():
    year = np.random.default_rng(0).integers(1990, 2021, N_SAMPLES).astype(float)
    y = two_lines(year) + 0.01 * (year - 2005.0) ** 2
    fit = mf.fit(np.c_[year, year**2], y, 2, random_state=0)
    assert fit.redundant_features == ()
    np.testing.assert_allclose(fit.model.coef[:, 1], 0.01, rtol=0.1)


# ---- rows ----


def test_every_row_four_times(sim):
    X, y = sim.X[:150], sim.y[:150]
    once = mf.fit(X, y, 2, random_state=0)
    four = mf.fit(np.tile(X, (4, 1)), np.tile(y, 4), 2, random_state=0)
    assert four.log_likelihood == pytest.approx(4.0 * once.log_likelihood, rel=1e-6)
    np.testing.assert_allclose(four.model.coef, once.model.coef, atol=1e-4)


def test_outliers_get_an_expert_of_their_own():
    """One row in a hundred is off by a hundred sigma; with one expert more the others are where they were."""
    sim = mf.make_moe(1000, 3, 2, orthogonal_gate=False, random_state=0)
    y = sim.y.copy()
    y[::100] += 10.0 * np.tile([1.0, -1.0], 5)
    fit = mf.fit(sim.X, y, 3, random_state=0)
    nearest = np.argmin(np.abs(fit.model.coef[:, np.newaxis] - sim.model.coef).max(axis=2), axis=0)
    assert nearest[0] != nearest[1]
    np.testing.assert_allclose(fit.model.coef[nearest], sim.model.coef, atol=0.03)
    np.testing.assert_allclose(fit.model.noise_std[nearest], 0.1, atol=0.02)


def test_counts_as_features_and_as_target():
    rng = np.random.default_rng(0)
    X = rng.poisson(3.0, (N_SAMPLES, 2))
    y = np.where(rng.random(N_SAMPLES) < 0.5, X @ [3, 1], 20 - X @ [1, 2]) + rng.integers(-1, 2, N_SAMPLES)
    fit = mf.fit(X, y, 2, random_state=0)
    order = np.argsort(fit.model.coef[:, 0])
    np.testing.assert_allclose(fit.model.coef[order], [[-1.0, -2.0], [3.0, 1.0]], atol=0.15)


def test_hardly_more_rows_than_parameters(sim):
    """14 parameters: a result with finite numbers each time, and a word where an expert fits its rows exactly."""
    for n in (5, 6, 8, 12, 14, 15, 16, 20, 30):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit = mf.fit(sim.X[:n], sim.y[:n], 2, n_starts=20, random_state=0)
        assert np.isfinite(fit.model.predict(sim.X)).all()
        assert np.isfinite(fit.log_likelihood)
        assert bool(fit.penalised or fit.unsupported) == bool(caught), n
        # Two experts of one line, with no rows of their own, may be all that is not a spike.
        assert fit.penalised or fit.unsupported or n > 9   # below ten rows one of two experts has less than its five


def test_no_more_rows_than_columns():
    """They do not say which columns are redundant: none is left out. (The fit of minimum norm: test_fit.py.)"""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((10, 15)), rng.standard_normal(10)
    with pytest.warns(mf.ConvergenceWarning, match="collapsed"):
        fit = mf.fit(X, y, 1, random_state=0)
    assert fit.redundant_features == ()
    np.testing.assert_allclose(fit.model.predict(X), y, atol=1e-6)


def test_weights_and_repeated_rows_agree_with_fewer_rows_than_columns():
    """Kills: rows that are there three times taken for rows enough to tell which columns are redundant."""
    rng = np.random.default_rng(0)
    X, y, other = rng.standard_normal((15, 30)), rng.standard_normal(15), rng.standard_normal((5, 30))
    with pytest.warns(mf.ConvergenceWarning, match="collapsed"):
        weighted = mf.fit(X, y, 1, sample_weight=np.full(15, 3.0), random_state=0)
    with pytest.warns(mf.ConvergenceWarning, match="collapsed"):
        repeated = mf.fit(np.repeat(X, 3, axis=0), np.repeat(y, 3), 1, random_state=0)
    np.testing.assert_allclose(weighted.model.predict(other), repeated.model.predict(other), atol=1e-8)


def test_more_experts_than_the_data_supports():
    """One line through 80 rows, and sixteen experts asked for: usable, and a message names what to try."""
    X = noise(80)[:, np.newaxis]
    y = X[:, 0] + 0.1 * noise(80, seed=2)
    with pytest.warns(mf.ConvergenceWarning, match=r"(the data may not support n_experts = 16|Fewer experts)"):
        fit = mf.fit(X, y, 16, random_state=0)
    assert np.mean(np.abs(fit.model.predict(X) - X[:, 0])) < 0.15


def test_an_expert_on_rows_that_it_fits_almost_exactly():
    """Six rows of five hundred on a line of their own, by 1e-4: no collapse, and yet hardly structure."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(500)
    y = x + 0.1 * rng.standard_normal(500)
    y[:6] = 3.0 - x[:6] + 1e-4 * rng.standard_normal(6)
    with pytest.warns(mf.ConvergenceWarning, match=r"expert 2 holds fewer rows .* or fits few rows almost exactly"):
        fit = mf.fit(x[:, np.newaxis], y, 2, random_state=0)
    assert (fit.unsupported, fit.penalised) == ((1,), False)
    assert "experts 2 may be chance" in fit.summary()
    assert mf.fit(x[:, np.newaxis], y, 2, noise="shared", random_state=0).unsupported == ()


def test_a_target_that_does_not_vary_is_refused(sim):
    with pytest.raises(ValueError, match="y is constant: every row is 3, so there is nothing to fit"):
        mf.fit(sim.X, np.full(N_SAMPLES, 3.0), 2)


def test_a_target_without_noise():
    """Experts that fit exactly collapse, which is said, and are found all the same.

    Kills: as many rows as they hold called too few, since their noise is the barrier's.
    """
    rng = np.random.default_rng(5)
    lines = np.array([[-1, 1], [1, 2]])
    X = rng.poisson(3.0, (800, 2))
    y = np.where(rng.random(800) < 0.5, X @ lines[0], X @ lines[1])
    with pytest.warns(mf.ConvergenceWarning, match="collapsed"):
        fit = mf.fit(X, y, 2, random_state=0)
    assert (fit.penalised, fit.unsupported) == (True, ())
    order = np.argsort(fit.model.coef[:, 0])
    np.testing.assert_allclose(fit.model.coef[order], lines, atol=1e-5)


@pytest.mark.parametrize("size", [1e4, 1e5, 1e6])
def test_outliers_far_out_hide_nothing(size):
    """1 % of y, an expert of their own. Kills: a scale of the noise that is theirs, by which two lines are blurred to
    one; one trim where it takes several.
    """
    rng = np.random.default_rng(2)
    x = rng.standard_normal((400, 1))
    y = np.where(rng.random(400) < 0.5, 1.0 + x[:, 0], -2.0 - x[:, 0]) + 0.3 * rng.standard_normal(400)
    y[:5] = size * (1.0 + 0.1 * rng.standard_normal(5))
    fit = mf.fit(x, y, 3, random_state=0)
    np.testing.assert_allclose(np.sort(fit.model.coef[:2, 0]), [-1.0, 1.0], atol=0.1)
    np.testing.assert_allclose(fit.model.noise_std[:2], 0.3, atol=0.05)
    assert mf.select_n_experts(x, y, [2, 3, 4], random_state=0).n_experts == 3


def test_the_scale_of_the_noise(sim):
    """Kills: rows left out of data without outliers; a scale of nothing, or chance, where most rows are on a line."""

    def scale(y):
        options = dict(activation="linear", noise="per_expert", fit_intercept=True, gate="softmax", gate_intercept=True)
        other = dict.fromkeys(
            ("gate_features", "sample_weight", "time_limit", "tol", "n_threads", "random_state", "callback")
        )
        return task.Task.check(sim.X, y, 2, max_iter=10, **options, **other).support.residual_std

    D = np.c_[np.ones(N_SAMPLES), sim.X]
    of_line = np.std(sim.y - D @ np.linalg.lstsq(D, sim.y, rcond=None)[0])
    assert scale(sim.y) == pytest.approx(of_line)
    wild = sim.y.copy()
    wild[::100] += 1e6
    assert scale(wild) == pytest.approx(of_line, rel=0.1)
    rare = np.where(np.arange(N_SAMPLES) % 20, 0.0, 1.0)   # its zeros are on a line, once its ones are left out
    assert scale(rare) > 0.1
    for seed in range(10):   # some rounds leave out some of the others, others not
        rng = np.random.default_rng(seed)
        few = np.where(rng.random(N_SAMPLES) < 0.9, 0.0, sim.X @ [1.0, 2.0, -1.0] + 3.0)
        assert 0.6 < scale(few) < 1.6


@pytest.mark.parametrize("noise", ["per_expert", "shared", 0.1])
def test_a_rare_event(noise):
    """Whose samples may be all zeros. Kills: a sample of one y raced on; a start made from such rows."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((10_000, 2)), np.zeros(10_000)
    y[rng.choice(10_000, 4, replace=False)] = rng.lognormal(size=4)
    for seed in range(6):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mf.ConvergenceWarning)
            fit = mf.fit(X, y, 2, noise=noise, random_state=seed, max_iter=5)
        assert np.isfinite(fit.log_likelihood)

def test_y_out_of_range_in_a_row_of_no_weight(sim):
    """Such a row is as absent. Kills: its size looked at."""
    weight = np.r_[0.0, np.ones(N_SAMPLES - 1)]
    y = np.r_[1e300, sim.y[1:]]
    assert mf.fit_em(sim.X, y, 2, sample_weight=weight, init="kmeans", random_state=0).converged


def gate_of_years():
    """Years, and a target whose gate is a cubic in them."""
    rng = np.random.default_rng(3)
    year = rng.integers(1950, 2021, 1500).astype(float)
    c = year - 1985.0
    first = rng.random(1500) < 1.0 / (1.0 + np.exp(-(c / 10.0 - (c / 20.0) ** 3)))
    y = np.where(first, 1.0 + 0.02 * c, -1.0 - 0.02 * c + 0.001 * c**2) + 0.5 * rng.standard_normal(1500)
    return year, y


def powers(x):
    return np.stack([x, x**2, x**3], axis=1)


def test_powers_of_a_year_are_as_good_as_those_of_the_year_centred():
    """What is the cube's own is 1e-5 of it: its gate is steep. Kills: a limit that knows nothing of it."""
    year, y = gate_of_years()
    centred = mf.fit(powers(year - 1985.0), y, 2, random_state=0)
    raw = mf.fit(powers(year), y, 2, random_state=0)
    assert raw.log_likelihood == pytest.approx(centred.log_likelihood, abs=1e-5)
    assert raw.converged
    assert not raw.separated
    errors = [mf.infer(raw, powers(year), y), mf.infer(centred, powers(year - 1985.0), y)]
    np.testing.assert_allclose(*(each.standard_errors.gate_coef[0, 2] for each in errors), rtol=1e-4)
    again = mf.fit_em(powers(year), y, 2, init=raw)
    assert again.log_likelihood == pytest.approx(raw.log_likelihood, abs=1e-6)


def test_powers_of_a_year_that_the_gate_alone_sees():
    """Beside a column that repeats one of them. Kills: the limit by the experts' columns; one that forgets what is a
    column's own where another is redundant.
    """
    year, y = gate_of_years()
    x = np.random.default_rng(0).standard_normal((1500, 1))
    centred = mf.fit(x, y, 2, gate_features=powers(year - 1985.0), random_state=0)
    with warned("column 3 of gate_features"):
        raw = mf.fit(x, y, 2, gate_features=np.c_[powers(year), 2.0 * year + 1.0], random_state=0)
    assert raw.log_likelihood == pytest.approx(centred.log_likelihood, abs=1e-5)
    assert raw.converged


def test_a_gate_that_the_limit_holds_back_is_said(monkeypatch):
    """Kills: `converged` all the same; a word where the gate needs no more."""
    monkeypatch.setattr(task, "_GATE_LIMIT_OF_OWN", 1e-3)
    year, y = gate_of_years()
    centred = mf.fit(powers(year - 1985.0), y, 2, random_state=0)
    assert centred.converged
    with pytest.warns(mf.ConvergenceWarning, match="came to 1e.04 per standard deviation.*subtract an offset"):
        raw = mf.fit(powers(year), y, 2, random_state=0)
    assert raw.log_likelihood < centred.log_likelihood - 1.0
    assert not raw.converged
    assert not raw.separated


def test_a_gate_of_a_long_tail_is_told_what_is_wrong():
    """Its bulk is a small part of its standard deviation. Kills: words about columns that depend on each other."""
    rng = np.random.default_rng(0)
    z, x = np.exp(4.0 * rng.standard_normal(1000)), rng.standard_normal(1000)
    first = rng.random(1000) < 1.0 / (1.0 + np.exp(-4.0 * (z - 1.0)))
    y = np.where(first, 1.0 + x, -1.0 - x) + 0.3 * rng.standard_normal(1000)
    with pytest.warns(mf.ConvergenceWarning, match=r"does not separate; a column may have values far out") as told:
        mf.fit(x[:, np.newaxis], y, 2, gate_features=z[:, np.newaxis], random_state=0)
    assert len(told) == 1


@pytest.mark.parametrize("seed", [8, 20])
def test_a_gate_at_its_limit_that_would_gain_nothing_more_is_converged(seed):
    """One value of x lies on the border. Kills: a word where nothing is lost; Newton's steps by the curvature of what
    is at the limit too, which gain at no length and leave it to EM, for up to a thousand iterations.
    """
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 41, 800) - 20.0
    border = rng.integers(-15, 15) + 0.5
    y = np.where(x > border, 3.0 + 0.02 * x, -3.0 - 0.02 * x) + 0.3 * rng.standard_normal(800)
    fit = mf.fit(powers(x), y, 2, random_state=0)
    assert fit.converged
    assert fit.n_iter < 30


def test_a_column_nearly_redundant_is_left_out_of_the_climb():
    """The fourth power of a year, to 11 digits a combination of the others. Kills: it left out at the end only."""
    year, y = gate_of_years()
    X = np.c_[powers(year), year**4]
    with warned("column 3 of X"):
        fit = mf.fit(X, y, 2, random_state=0)
    without = mf.fit(powers(year), y, 2, random_state=0)
    assert fit.n_parameters == without.n_parameters
    assert fit.log_likelihood == pytest.approx(without.log_likelihood, abs=1e-6)
    assert fit.history[-1] == pytest.approx(fit.log_likelihood, abs=1e-6)


@pytest.mark.parametrize("init", ["random", "growth"])
def test_what_a_start_had_for_a_column_left_out_is_no_part_of_the_fit(sim, clean, init):
    """Kills: coefficients that no row told moved onto the columns that were fitted, of experts or gate."""
    with warned("column 3 of X"):
        fit = mf.fit_em(np.c_[sim.X, sim.X[:, 0] - sim.X[:, 2]], sim.y, 2, init=init, random_state=1)
    assert fit.log_likelihood == pytest.approx(fit.history[-1], abs=1e-6)
    assert fit.log_likelihood == pytest.approx(clean.log_likelihood, abs=1e-3)
    whole = Design(Rows.check(np.c_[sim.X, sim.X[:, 0]], sim.y), get_activation("linear"))
    design = whole.without(*collinearity.dependences(whole))
    seen = design.seen(Parameters(np.ones((2, 5)), np.ones((1, 5)), np.ones(2)))   # a gate may have some by a move
    np.testing.assert_array_equal(seen.expert, np.tile([1.0, 1.0, 1.0, 1.0, 0.0], (2, 1)))
    np.testing.assert_array_equal(seen.gate, [[1.0, 1.0, 1.0, 1.0, 0.0]])


def test_some_rows_of_a_design_without_a_column_take_models_as_it_does(sim):
    """Kills: coefficients divided by the scale of a column that was left out."""
    X = np.c_[sim.X, sim.X[:, 1]]
    whole = Design(Rows.check(X, sim.y), get_activation("linear"))
    design = whole.without(*collinearity.dependences(whole))
    coef, intercept = np.arange(1.0, 9.0).reshape(2, 4), np.array([1.0, 2.0])
    rows = design.expert_rows(coef, intercept)
    np.testing.assert_array_equal(design.on(design.rows.take(slice(0, 50))).expert_rows(coef, intercept), rows)
    np.testing.assert_allclose(design.expert_matrix @ rows.T, X @ coef.T + intercept)


def test_a_start_with_coefficients_of_a_redundant_column(sim, clean):
    """They are moved onto the columns that it repeats, of experts and gate. Kills: numbers that are none, the column's
    part of the start lost.
    """
    X = np.c_[sim.X, 2.0 * sim.X[:, 0] + 3.0]
    model, share = clean.model, np.array([[0.5], [-1.0]])
    coef, gate_coef = np.c_[model.coef, share], np.c_[model.gate_coef, share]
    coef[:, :1] -= 2.0 * share
    gate_coef[:, :1] -= 2.0 * share
    start = mf.MixtureOfExperts(
        coef, model.intercept - 3.0 * share[:, 0], gate_coef, model.gate_intercept - 3.0 * share[:, 0], model.noise_std
    )
    with warned("column 3 of X"):
        fit = mf.fit_em(X, sim.y, 2, init=start)
    assert fit.history[0] == pytest.approx(clean.log_likelihood, abs=1e-6)
    assert fit.n_iter <= 2
    assert not fit.model.coef[:, 3].any()


def test_starts_of_a_y_with_many_zeros_and_of_a_large_one(sim):
    """Warnings are errors here. Kills: the logarithm of a leaf of zeros, a scale of nothing."""
    y = np.maximum(sim.X.sum(axis=1) + 0.5 * noise(), 0.0)
    for kind in ("tree", "local"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mf.ConvergenceWarning)
            mf.fit_em(sim.X, y, 3, init=kind, n_init=5, max_iter=20, random_state=0)
            mf.fit_em(sim.X[:, :1], 1e30 * np.round(y), 2, init=kind, n_init=5, max_iter=20, random_state=0)


@pytest.mark.parametrize(("activation", "lowest"), [("sigmoid", "0"), ("tanh", "-1")])
def test_a_target_out_of_the_activations_range(activation, lowest):
    """Kills: coefficients of 1e15 without a word, by fit and by infer."""
    rng = np.random.default_rng(0)
    x = rng.uniform(20.0, 80.0, (300, 1))
    y = 0.5 * x[:, 0] + 2.0 * rng.standard_normal(300)
    with pytest.warns(mf.ConvergenceWarning, match=rf"saturated: .* between {lowest} and 1, y between .*: scale y"):
        fit = mf.fit(x, y, 2, activation=activation, random_state=0)
    with pytest.warns(UserWarning, match=f"the {activation} is flat on all rows of expert 1, 2"):
        mf.infer(fit, x, y)
    inside = (y - y.min()) / np.ptp(y)
    mf.infer(mf.fit(x, inside, 1, activation=activation), x, inside)   # warnings are errors here


@pytest.mark.parametrize("what", ["y", "sample_weight", "gate_features"])
def test_row_labels_in_another_order_are_refused(what):
    """Kills: a shuffled series taken by position without a word; labels that merely differ refused."""
    pd = pytest.importorskip("pandas")
    sim = mf.make_moe(200, 3, 2, random_state=0)
    X = pd.DataFrame(sim.X)
    columns = {"y": pd.Series(sim.y), "sample_weight": pd.Series(np.linspace(1.0, 2.0, len(sim.y))), "gate_features": X}
    options = {"init": "kmeans", "max_iter": 2, "tol": 1.0, "random_state": 0}

    def fit(**given):
        given = {"y": sim.y} | given
        return mf.fit_em(X, given.pop("y"), 2, **given, **options)

    shuffled = columns[what].sample(frac=1.0, random_state=0)
    with pytest.raises(ValueError, match=f"{what} has the row labels of X in another order"):
        fit(**{what: shuffled})
    model = fit(**{what: shuffled.sort_index()}).model
    panel = pd.MultiIndex.from_product([range(20), range(10)])
    assert fit(**{what: columns[what].set_axis(panel)}).model == model
    twice = columns[what].set_axis(np.arange(200) // 2)
    assert fit(**{what: twice}).model == model
    assert fit(**{what: columns[what].set_axis(np.arange(len(X)) + 5)}).model == model
    if what == "y":
        with pytest.raises(ValueError, match="y has the row labels"):
            model.log_likelihood(X, shuffled)
        with pytest.raises(ValueError, match="y has the row labels"):
            mf.infer(model, X, shuffled)
