"""Standard errors: against differences of the log-likelihood, closed forms, other software, and refits."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy.special import erfc

import moe_fast as mf
from moe_fast import _em
from moe_fast.activations import get_activation
from moe_fast.design import Design, Parameters
from moe_fast.determined import Determined
from moe_fast.inference import FreeParameters
from moe_fast.objective import Objective
from moe_fast.rows import Rows
from moe_fast.task import Task

ARRAYS = ("coef", "intercept", "gate_coef", "gate_intercept", "noise_std")
NPREG = Path(__file__).parents[1] / "examples" / "npreg.csv"


@pytest.fixture(scope="module")
def npreg():
    """Gruen and Leisch's example: yn of a line and a parabola in x."""
    x, y = np.loadtxt(NPREG, delimiter=",", skiprows=1, usecols=(0, 1)).T
    return np.column_stack([x, x**2]), y


SCALE, SHIFT = np.array([2.0, 30.0]), np.array([3.0, -20.0])


def simulated(n_samples=600, n_experts=2, seed=0, **options):
    """Rows far from standard (scaled alone where there are no intercepts), and the model in their units."""
    settings = {"orthogonal_gate": False, "intercept": 1.0, "gate_intercept": 0.5, "noise_std": 0.2} | options
    sim = mf.make_moe(n_samples, 2, n_experts, random_state=seed, **settings)
    shift = SHIFT if settings["intercept"] and settings["gate_intercept"] else 0.0 * SHIFT
    return mf.Simulation(sim.X * SCALE + shift, sim.y, sim.labels, in_units(sim.model, SCALE, shift))


def in_units(model, scale, shift):
    """The model of the rows X * scale + shift, given that of X."""
    coef, gate_coef = model.coef / scale, model.gate_coef / scale
    return mf.MixtureOfExperts(
        coef, model.intercept - coef @ shift, gate_coef, model.gate_intercept - gate_coef @ shift, model.noise_std,
        model.activation,
    )


def fitted(sim, **options):
    return mf.fit_em(
        sim.X, sim.y, sim.model.n_experts, init=sim.model, activation=sim.model.activation, **options
    )


# ---- against differences of the log-likelihood ----


def free_entries(model, noise, fit_intercept, gate_intercept, experts_held):
    """(array, index) of the free numbers in the order of the covariance, from the documentation alone."""
    k = model.n_experts
    entries = []
    if not experts_held:
        for j in range(k):
            entries += [("intercept", j)] if fit_intercept else []
            entries += [("coef", (j, a)) for a in range(model.n_features)]
    for j in range(k - 1):
        entries += [("gate_intercept", j)] if gate_intercept else []
        entries += [("gate_coef", (j, a)) for a in range(model.n_gate_features)]
    if not experts_held:
        places = {"per_expert": range(k), "shared": [...], "held": []}[noise]
        entries += [("noise_std", place) for place in places]
    return entries


def at(model, entries, move):
    arrays = {name: getattr(model, name).copy() for name in ARRAYS}
    for (name, index), change in zip(entries, move, strict=True):
        arrays[name][index] += change
    return mf.MixtureOfExperts(
        **arrays, activation=model.activation, gate=model.gate, uses_gate_features=model.uses_gate_features
    )


def second_differences(value, steps):
    """Second derivatives in units of the steps: central, and mixed by polarisation."""
    moves = np.diag(steps)
    middle = value(0.0 * steps)
    out = np.empty((len(steps), len(steps)))
    for a, e in enumerate(moves):
        for b, f in enumerate(moves[: a + 1]):
            if a == b:
                out[a, a] = value(e) - 2.0 * middle + value(-e)
            else:
                out[a, b] = out[b, a] = 0.25 * (value(e + f) - value(e - f) - value(f - e) + value(-e - f))
    return out


CASES = {
    "linear": ({}, {}),
    "tanh, shared noise": ({"activation": "tanh"}, {"noise": "shared"}),
    "sigmoid, held noise": ({"activation": "sigmoid", "noise_std": 0.05}, {"noise": 0.05}),
    "constant gate": ({"gate_norm": 0.0}, {"gate": "constant"}),
    "no intercepts": ({"intercept": 0.0, "gate_intercept": 0.0}, {"fit_intercept": False, "gate_intercept": False}),
    "no intercept of the gate": ({"gate_intercept": 0.0}, {"gate_intercept": False}),
    "three experts, weights": ({"n_experts": 3, "n_samples": 900}, {"weighted": True}),
    "gate features": ({"gate_norm": 0.0}, {"gate_features": True}),
    "the gate alone": ({}, {"gate alone": True}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """(sim, fit, arguments that fit and infer share)."""
    settings, options = CASES[request.param]
    sim, options, given = simulated(**settings), dict(options), {}
    model = sim.model
    if options.pop("weighted", False):
        given["sample_weight"] = np.random.default_rng(0).uniform(0.5, 2.0, len(sim.y))
    if options.pop("gate_features", False):
        given["gate_features"] = 5.0 + np.random.default_rng(1).standard_normal((len(sim.y), 1))
    if options.pop("gate alone", False):
        return sim, mf.fit_gate(sim.X, sim.y, model, **given), given
    if options.get("gate") == "constant":
        model = mf.MixtureOfExperts(
            model.coef, model.intercept, None, model.gate_intercept, model.noise_std, model.activation, gate="constant"
        )
    fit = mf.fit_em(
        sim.X, sim.y, model.n_experts, init=model, activation=model.activation, tol=1e-12, **options, **given
    )
    return sim, fit, given


def test_observed_information_is_the_second_derivative(case):
    """Kills: the delta method through shifts and scales left out, a held parameter among the free, d log sigma."""
    sim, fit, given = case
    found = mf.infer(fit, sim.X, sim.y, **given)
    entries = free_entries(fit.model, fit.noise, fit.fit_intercept, fit.gate_intercept, fit.experts_held)
    assert len(entries) == fit.n_parameters == len(found.parameter_names)
    std_err = np.sqrt(np.diagonal(found.covariance))
    step = 0.02   # standard errors: truncation 1e-4, rounding 1e-13 * n / step^2

    def value(move):
        return at(fit.model, entries, move).log_likelihood(sim.X, sim.y, **given)

    information = -second_differences(value, step * std_err) / step**2
    wanted = np.linalg.inv(information)   # in units of the standard errors
    got = found.covariance / np.outer(std_err, std_err)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-3)


def test_sandwich_is_that_of_the_rows_scores(case):
    """Kills: weights squared, a score without the gate's part, blocks of rows dropped."""
    sim, fit, given = case
    bread = mf.infer(fit, sim.X, sim.y, **given).covariance
    entries = free_entries(fit.model, fit.noise, fit.fit_intercept, fit.gate_intercept, fit.experts_held)
    std_err = np.sqrt(np.diagonal(bread))
    rows = {name: value for name, value in given.items() if name != "sample_weight"}

    def log_density(move):
        return at(fit.model, entries, move).log_density(sim.X, sim.y, **rows)

    moves = np.diag(1e-4 * std_err)
    scores = np.column_stack([(log_density(e) - log_density(-e)) / (2.0 * e.sum()) for e in moves])
    weight = given.get("sample_weight", np.ones(len(sim.y)))
    wanted = bread @ (scores.T * weight @ scores) @ bread
    got = mf.infer(fit, sim.X, sim.y, **given, covariance="sandwich").covariance
    np.testing.assert_allclose(got / np.outer(std_err, std_err), wanted / np.outer(std_err, std_err), atol=1e-5)


def test_blocks_of_scores_add_up(monkeypatch):
    """Kills: a block of rows with shifts and scales of its own."""
    sim = simulated()
    fit = fitted(sim)
    whole = mf.infer(fit, sim.X, sim.y, covariance="sandwich").covariance
    monkeypatch.setattr("moe_fast.inference._SCORE_ROWS", 170)
    cut = mf.infer(fit, sim.X, sim.y, covariance="sandwich").covariance
    np.testing.assert_allclose(cut, whole, rtol=1e-9)


# ---- closed forms, and other software ----


@pytest.mark.parametrize("covariance", ["observed", "sandwich"])
def test_one_linear_expert_is_least_squares(covariance):
    """sigma^2 (D'D)^-1 and White's (HC0); sigma / sqrt(2n) for a normal law. Kills: s^2 with n - p."""
    sim = simulated()
    fit = mf.fit(sim.X, sim.y, 1)
    found = mf.infer(fit, sim.X, sim.y, covariance=covariance)
    D = np.column_stack([np.ones(len(sim.y)), sim.X])
    beta, *_ = np.linalg.lstsq(D, sim.y)
    residual = sim.y - D @ beta
    variance, inverse = np.mean(residual**2), np.linalg.inv(D.T @ D)
    square = {"observed": variance, "sandwich": residual**2}[covariance]
    wanted = np.sqrt(np.diagonal(inverse @ (D.T * square @ D) @ inverse))
    np.testing.assert_allclose(found.standard_errors.intercept, wanted[:1], rtol=1e-6)
    np.testing.assert_allclose(found.standard_errors.coef[0], wanted[1:], rtol=1e-6)
    if covariance == "observed":
        np.testing.assert_allclose(found.standard_errors.noise_std, np.sqrt(variance / (2 * len(sim.y))), rtol=1e-6)


def test_npreg_as_flexmix_has_it(npreg):
    """refit() of flexmix 2.3.18, by numerical differentiation, constant gate; its noise_std has a log."""
    X, y = npreg
    fit = mf.fit(X, y, 2, gate="constant", random_state=0)
    found = mf.infer(fit, X, y).standard_errors
    np.testing.assert_allclose(found.intercept, [1.32377, 1.009206], rtol=1e-3)
    np.testing.assert_allclose(found.coef, [[0.59158, 0.05526], [0.509610, 0.049755]], rtol=1e-3)
    np.testing.assert_allclose(found.noise_std / fit.model.noise_std, np.sqrt([0.0061232, 0.0066725]), rtol=1e-3)
    assert found.gate_intercept[0] == pytest.approx(np.sqrt(0.025254), rel=1e-3)


def test_npreg_with_a_gate_as_flexmix_has_it(npreg):
    """flexmix with FLXPmultinom(~ x + I(x^2))."""
    X, y = npreg
    fit = mf.fit(X, y, 2, random_state=0)
    found = mf.infer(fit, X, y).standard_errors
    np.testing.assert_allclose(found.intercept, [1.388473, 1.028566], rtol=2e-3)
    np.testing.assert_allclose(found.coef, [[0.612667, 0.0569809], [0.520290, 0.0504516]], rtol=2e-3)
    np.testing.assert_allclose(found.noise_std / fit.model.noise_std, [0.0797087, 0.0841377], rtol=2e-3)
    np.testing.assert_allclose(found.gate_intercept[0], 0.484227, rtol=2e-3)
    np.testing.assert_allclose(found.gate_coef[0], [0.231120, 0.0218602], rtol=2e-3)


def test_the_guide_shows_what_is_computed(npreg):
    """docs/inference.md beside flexmix and refits: 100 refits know a standard error to 7 %."""
    page = Path(__file__).parents[1] / "docs" / "inference.md"
    if not page.exists():
        pytest.skip("docs/inference.md is not beside the tests")
    lines = page.read_text(encoding="utf-8").splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("| parameter | estimate | infer |"))
    shown = [line.strip("| ").split(" | ") for line in lines[head + 2 : head + 11]]
    X, y = npreg
    fit = mf.fit(X, y, 2, gate="constant", random_state=0)
    columns = [
        mf.infer(fit, X, y), mf.infer(fit, X, y, covariance="sandwich"),
        mf.bootstrap(fit, X, y, 100, kind="parametric", random_state=1), mf.bootstrap(fit, X, y, 100, random_state=1),
    ]
    names = [name.replace("x1", "x^2").replace("x0", "x") for name in columns[0].parameter_names]
    for name, estimate, *errors in shown:
        at = names.index(name)
        infer, flexmix, sandwich, *refits = map(float, errors)
        assert float(estimate) == pytest.approx(columns[0].estimates[at], abs=6e-5)
        found = [np.sqrt(column.covariance[at, at]) for column in columns]
        assert [infer, sandwich] == pytest.approx(found[:2], abs=6e-5)
        assert flexmix == pytest.approx(found[0], abs=2e-4)
        assert refits == pytest.approx(found[2:], rel=0.3)


# ---- units, weights, types, threads ----


def test_scaling_and_shifting_columns_is_no_news():
    """z of slopes stays; errors of intercepts are those of the shifted model. Kills: scale in place of 1 / scale."""
    sim = simulated()
    one = mf.infer(fitted(sim), sim.X, sim.y)
    scale, shift = np.array([1e-3, 50.0]), np.array([7.0, -2.0])
    X = sim.X * scale + shift
    other = mf.infer(mf.fit_em(X, sim.y, 2, init=in_units(sim.model, scale, shift)), X, sim.y)
    np.testing.assert_allclose(other.z_values.coef, one.z_values.coef, rtol=1e-4)
    np.testing.assert_allclose(other.z_values.gate_coef, one.z_values.gate_coef, rtol=1e-4)
    np.testing.assert_allclose(other.standard_errors.noise_std, one.standard_errors.noise_std, rtol=1e-4)
    # The intercept of the old units is a combination of the new ones'.
    jacobian = np.array([1.0, *shift])
    block = other.covariance[:3, :3]
    assert jacobian @ block @ jacobian == pytest.approx(one.covariance[0, 0], rel=1e-4)


@pytest.mark.parametrize("covariance", ["observed", "sandwich"])
def test_weight_two_is_the_row_twice(covariance):
    """Kills: weights squared in the sandwich; a row of weight zero that counts."""
    sim = simulated()
    weight = np.random.default_rng(0).integers(0, 3, len(sim.y))
    repeated = np.repeat(sim.X, weight, axis=0), np.repeat(sim.y, weight)
    fit = fitted(sim, sample_weight=weight)
    weighted = mf.infer(fit, sim.X, sim.y, sample_weight=weight, covariance=covariance)
    plain = mf.infer(fit, *repeated, covariance=covariance)
    np.testing.assert_allclose(weighted.covariance, plain.covariance, rtol=1e-6)
    assert weighted.n_samples == plain.n_samples == weight.sum()


def test_four_times_the_weight_halves_the_errors():
    sim = simulated()
    fit = fitted(sim)
    one = mf.infer(fit, sim.X, sim.y)
    four = mf.infer(fit, sim.X, sim.y, sample_weight=np.full(len(sim.y), 4.0))
    np.testing.assert_allclose(four.standard_errors.coef, one.standard_errors.coef / 2, rtol=1e-9)


@pytest.mark.parametrize("covariance", ["observed", "sandwich"])
def test_same_bits_for_every_number_of_threads(covariance):
    sim = simulated(n_samples=20_000)
    fit = fitted(sim)
    one, *more = (
        mf.infer(fit, sim.X, sim.y, covariance=covariance, n_threads=n).covariance.tobytes() for n in (1, 2, 3, 4)
    )
    assert all(other == one for other in more)


def test_float32_and_frames(npreg):
    pd = pytest.importorskip("pandas")
    X, y = npreg
    frame = pd.DataFrame(X, columns=["x", "x^2"])
    fit = mf.fit(frame, pd.Series(y, name="yn"), 2, gate="constant", random_state=0)
    named = mf.infer(fit, frame, y)
    assert named.parameter_names[:5] == (
        "expert 1: intercept", "expert 1: x", "expert 1: x^2", "expert 2: intercept", "expert 2: x"
    )
    narrow = mf.infer(fit, X.astype(np.float32), y)
    np.testing.assert_allclose(narrow.standard_errors.coef, named.standard_errors.coef, rtol=1e-5)
    with pytest.raises(ValueError, match="columns"):
        mf.infer(fit, frame[["x^2", "x"]], y)


def test_a_fit_by_formula_takes_its_table():
    """Kills: columns of the table taken for features, the gate's own features not made."""
    pytest.importorskip("formulaic")
    pd = pytest.importorskip("pandas")
    data = pd.read_csv(NPREG)
    fit = mf.fit_formula("yn ~ x + I(x ** 2)", data, 2, gate="~ x", random_state=0)
    found = mf.infer(fit, data, data.yn)
    x = data.x.to_numpy()
    plain = mf.infer(fit, np.column_stack([x, x**2]), data.yn, gate_features=x[:, None])
    np.testing.assert_array_equal(found.covariance, plain.covariance)
    assert "gate 1: x" in found.parameter_names
    boot = mf.bootstrap(fit, data, data.yn, 3, random_state=0)
    assert boot.log_likelihood == pytest.approx(fit.log_likelihood)


# ---- which parameters are free ----


def test_what_is_held_has_no_error():
    sim = simulated()
    fit = fitted(sim, noise=0.2)
    found = mf.infer(fit, sim.X, sim.y)
    assert fit.noise == "held"
    assert np.isnan(found.standard_errors.noise_std).all()
    assert np.isnan(found.conf_int().noise_std).all()
    assert not any("noise" in name for name in found.parameter_names)
    assert found.undetermined == ()
    assert "held at 0.2, 0.2" in str(found.summary())
    assert np.isnan(found.standard_errors.gate_coef[-1]).all()


def test_held_experts():
    """Intercepts of experts that are held may be there while nothing of them is fitted."""
    sim = simulated()
    found = mf.infer(mf.fit_gate(sim.X, sim.y, sim.model), sim.X, sim.y)
    assert found.parameter_names == ("gate 1: intercept", "gate 1: x0", "gate 1: x1")
    assert np.isnan(found.standard_errors.coef).all()
    assert np.isfinite(found.standard_errors.gate_coef[0]).all()
    assert "Experts and noise are held" in str(found.summary())


def test_a_bare_model_takes_what_it_is_told():
    sim = simulated()
    fit = fitted(sim, noise="shared")
    assert "all experts: noise std" in mf.infer(fit, sim.X, sim.y).parameter_names
    told = mf.infer(fit.model, sim.X, sim.y, noise="shared")
    np.testing.assert_array_equal(told.covariance, mf.infer(fit, sim.X, sim.y).covariance)
    std_err = told.standard_errors.noise_std
    assert std_err[0] == std_err[1] > 0
    own = fitted(sim)
    np.testing.assert_array_equal(
        mf.infer(own.model, sim.X, sim.y).covariance, mf.infer(own, sim.X, sim.y).covariance
    )


@pytest.mark.filterwarnings("ignore::moe_fast.ConvergenceWarning")   # so few rows
def test_intervals_of_noise_stay_positive(npreg):
    """Symmetric on the log scale. Kills: estimate +- 1.96 standard errors."""
    X, y = npreg
    fit = mf.fit(X[:24], y[:24], 2, gate="constant", random_state=0)
    found = mf.infer(fit, X[:24], y[:24])
    lower, upper = found.conf_int(level=1 - 1e-12).noise_std.T
    assert (lower > 0).all()
    np.testing.assert_allclose(lower * upper, fit.model.noise_std**2, rtol=1e-9)


def test_z_p_and_intervals_belong_together():
    sim = simulated()
    found = mf.infer(fitted(sim), sim.X, sim.y)
    estimate, std_err, model = found.model.coef, found.standard_errors.coef, found.model
    np.testing.assert_allclose(found.z_values.coef, estimate / std_err)
    np.testing.assert_allclose(found.conf_int(0.9).coef[..., 1], estimate + 1.6448536 * std_err, rtol=1e-6)
    np.testing.assert_allclose(found.p_values.coef, erfc(np.abs(found.z_values.coef) / np.sqrt(2.0)), rtol=1e-9)
    excludes_zero = np.prod(found.conf_int().gate_coef[0], axis=-1) > 0
    np.testing.assert_array_equal(excludes_zero, found.p_values.gate_coef[0] < 0.05)
    assert np.isnan(found.p_values.noise_std).all()
    np.testing.assert_array_equal(found.estimates[:3], [model.intercept[0], *model.coef[0]])


# ---- where the rows say nothing ----


def warned(match, *arguments, **options):
    with pytest.warns(UserWarning, match=match):
        return mf.infer(*arguments, **options)


@pytest.mark.filterwarnings("ignore::moe_fast.CollinearityWarning")
@pytest.mark.parametrize("covariance", ["observed", "sandwich"])
@pytest.mark.parametrize(
    ("column", "lost"),
    [
        (lambda X: 2.0 * X[:, 0], {"x0", "x2"}),
        (lambda X: 2.0 * X[:, 0] + 3.0, {"intercept", "x0", "x2"}),
        (lambda X: np.full(len(X), 7.3), {"intercept", "x2"}),
    ],
    ids=["collinear", "collinear and shifted", "constant"],
)
def test_dependent_columns(column, lost, covariance):
    """Only what hangs on them is lost, all else as without. Kills: NaN for all, or a pseudo-inverse's numbers."""
    sim = simulated()
    X = np.column_stack([sim.X, column(sim.X)])
    zeros = np.zeros((2, 1))
    start = mf.MixtureOfExperts(
        np.hstack([sim.model.coef, zeros]), sim.model.intercept, np.hstack([sim.model.gate_coef, zeros]),
        sim.model.gate_intercept, sim.model.noise_std,
    )
    fit = mf.fit_em(X, sim.y, 2, init=start)
    found = warned("undetermined by these rows.*expert 1: x2", fit, X, sim.y, covariance=covariance)
    blocks = "expert 1", "expert 2", "gate 1"
    assert set(found.undetermined) == {f"{block}: {name}" for block in blocks for name in lost}
    assert dict(found.summary().header)["AIC"] == f"{fit.aic:.2f}"   # redundant columns are not counted
    without = mf.infer(fitted(sim), sim.X, sim.y, covariance=covariance).standard_errors
    np.testing.assert_allclose(found.standard_errors.coef[:, 1], without.coef[:, 1], rtol=1e-4)
    np.testing.assert_allclose(found.standard_errors.noise_std, without.noise_std, rtol=1e-4)


def test_nearly_dependent_columns_are_determined():
    """A year and its square. Kills: a threshold that takes them for dependent."""
    rng = np.random.default_rng(0)
    year = rng.integers(1985, 2020, 800).astype(float)
    X = np.column_stack([year, year**2])
    y = 1.0 + 0.5 * (year - 2000) + 0.01 * (year - 2000) ** 2 + rng.standard_normal(800)
    fit = mf.fit(X, y, 1)
    found = mf.infer(fit, X, y)
    assert found.undetermined == ()
    centred = np.column_stack([np.ones(800), year - 2000, (year - 2000) ** 2])
    wanted = fit.model.noise_std[0] * np.sqrt(np.linalg.inv(centred.T @ centred)[2, 2])
    assert found.standard_errors.coef[0, 1] == pytest.approx(wanted, rel=1e-4)


def with_dummy(seed, n, n_rows_of_second):
    """Two lines, a dummy that is one in `n_rows_of_second` of the second's rows only, and the lines."""
    rng = np.random.default_rng(seed)
    dummy = rng.random(n) < 0.3
    dummy[:n_rows_of_second] = True
    x = rng.standard_normal(n)
    first = dummy | (rng.random(n) < 0.5)
    first[:n_rows_of_second] = False
    y = np.where(first, 5.0 + x, -5.0 - x) + 0.3 * rng.standard_normal(n)
    return np.column_stack([x, dummy]), y, mf.MixtureOfExperts([[1.0, 0.0], [-1.0, 0.0]], [5.0, -5.0], noise_std=0.3)


@pytest.mark.parametrize("covariance", ["observed", "sandwich"])
@pytest.mark.parametrize("tol", [1e-6, 1e-8, 1e-10])
def test_a_dummy_that_is_zero_in_all_of_an_experts_rows(covariance, tol):
    """Its coefficients are where EM ended, whatever curvature that left; all else is as if it were known.

    Kills: no curvature to rounding as the rule, by which the sandwich has variances below zero, or small ones.
    """
    X, y, lines = with_dummy(0, 400, 0)
    fit = mf.fit_em(X, y, 2, init=lines, tol=tol)
    found = warned("undetermined", fit, X, y, covariance=covariance)
    second = int(np.argmin(fit.model.intercept))
    assert set(found.undetermined) == {f"expert {second + 1}: x1", "gate 1: x1"}
    alone = fit.model.noise_std[second] / np.sqrt(fit.effective_sizes[second])
    assert found.standard_errors.intercept[second] == pytest.approx(alone, rel=0.1)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_dummy_that_is_one_in_one_of_an_experts_rows(scale):
    """Kills: two rows as the fewest that determine; rows counted by weights as they come."""
    X, y, lines = with_dummy(0, 40_000, 1)
    weight = np.full(40_000, scale)
    fit = mf.fit_em(X, y, 2, init=lines, sample_weight=weight)
    found = mf.infer(fit, X, y, sample_weight=weight)
    assert found.undetermined == ()
    second = int(np.argmin(fit.model.intercept))
    wanted = fit.model.noise_std[second] / np.sqrt(scale)
    assert found.standard_errors.coef[second, 1] == pytest.approx(wanted, rel=0.1)


def test_information_that_is_singular_to_rounding():
    """It may pass Cholesky's test, and have an inverse of any sign, or none. Kills: that inverse taken for one."""
    x = np.linspace(-2.0, 2.0, 50)[:, np.newaxis]
    design = Design(Rows(x, np.abs(x[:, 0]), None), get_activation("linear"))
    parameters, objective = Parameters(np.ones((1, 2)), np.zeros((0, 2)), np.ones(1)), Objective("per_expert")
    sums = design.run(parameters, _em.INFORMATION | _em.EXPERT_GRAM)
    for seed in range(400):
        rng = np.random.default_rng(seed)
        q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        information = 50.0 * (q * [1.0, 1.0, 10.0 ** -rng.uniform(15.0, 17.0)]) @ q.T
        found = Determined.of(design, parameters, objective, sums, 0.5 * (information + information.T))
        assert (np.linalg.eigvalsh(found.inverse) > -1e-12).all()
        assert found._flat.shape == (3, 1)


def test_a_row_far_out_tells_of_its_own_expert_alone():
    """A code for what is missing, of the other's. Kills: a direction measured by how far all rows spread."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 2))
    first = rng.random(200) < 1.0 / (1.0 + np.exp(2.0 * X[:, 0]))
    X[np.flatnonzero(~first)[0], 0] = 9999.0
    lines = mf.MixtureOfExperts([[-1.0, 1.0], [2.0, 0.0]], [1.0, -1.0], noise_std=0.3)
    y = np.where(first, X @ [-1.0, 1.0] + 1.0, X @ [2.0, 0.0] - 1.0) + 0.3 * rng.standard_normal(200)
    fit = mf.fit_em(X, y, 2, init=lines)
    found = mf.infer(fit, X, y)
    assert found.undetermined == ()
    assert found.standard_errors.coef[np.argmin(fit.model.coef[:, 0]), 0] < 0.1


@pytest.mark.parametrize("first", [1960, 1990])
def test_powers_of_a_year_are_determined_as_those_of_the_year_centred(first):
    """Kills: eigenvalues of curvatures, which such columns leave less of than pivots, for what is determined."""
    rng = np.random.default_rng(0)
    year = rng.integers(first, first + 31, 400).astype(float)
    c = (year - first - 15.0) / 15.0
    y = np.where(rng.random(400) < 0.5, 3.0 + c**3, -3.0 - c) + 0.3 * rng.standard_normal(400)
    X, centred = np.column_stack([year, year**2, year**3]), np.column_stack([c, c**2, c**3])
    fits = [mf.fit(x, y, 2, gate="constant", random_state=0) for x in (X, centred)]
    z = [mf.infer(fit, x, y).z_values.coef[:, 2] for fit, x in zip(fits, (X, centred), strict=True)]
    np.testing.assert_allclose(*z, rtol=1e-3)


def test_many_rows_that_hold_an_expert_with_little_probability_each():
    """A thousand of a million tell enough. Kills: how sure each row is for how many tell."""
    rng = np.random.default_rng(0)
    dummy = rng.random(30_000) < 0.5
    first = rng.random(30_000) < np.where(dummy, 0.998, 0.5)
    y = np.where(first, 5.0, -5.0) + 0.3 * rng.standard_normal(30_000)
    X = dummy[:, np.newaxis].astype(float)
    fit = mf.fit_em(X, y, 2, init=mf.MixtureOfExperts([[0.0], [0.0]], [5.0, -5.0], noise_std=0.3))
    assert mf.infer(fit, X, y).undetermined == ()


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_weights_of_any_size_leave_the_same_undetermined(scale):
    """Kills: rows counted by weights as they come."""
    X, y, lines = with_dummy(0, 400, 0)
    weight = np.full(400, scale)
    fit = mf.fit_em(X, y, 2, init=lines, sample_weight=weight)
    second = int(np.argmin(fit.model.intercept))
    found = warned("undetermined", fit, X, y, sample_weight=weight)
    assert set(found.undetermined) == {f"expert {second + 1}: x1", "gate 1: x1"}


def test_an_expert_without_rows():
    sim = simulated()
    fit = fitted(sim)
    grown = mf.MixtureOfExperts(
        np.vstack([fit.model.coef, [[0.0, 0.0]]]), np.append(fit.model.intercept, 0.0),
        np.vstack([fit.model.gate_coef, [[0.0, 0.0]]]), np.append(fit.model.gate_intercept, -200.0),
        np.append(fit.model.noise_std, 1.0),
    ).permute([0, 2, 1])
    found = warned("expert 2: intercept", grown, sim.X, sim.y)
    lost = {name for name in found.parameter_names if name.startswith(("expert 2", "gate 2"))}
    assert set(found.undetermined) == lost
    wanted = mf.infer(fit, sim.X, sim.y).standard_errors
    np.testing.assert_allclose(found.standard_errors.coef[[0, 2]], wanted.coef, rtol=1e-6)
    np.testing.assert_allclose(found.standard_errors.gate_coef[0], wanted.gate_coef[0], rtol=1e-6)


def test_a_dead_relu():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 2))
    truth = mf.MixtureOfExperts([[0, 0], [1.0, 1.0]], [-5.0, 1.0], noise_std=0.3, activation="relu", gate="constant")
    y, _ = truth.sample(X, rng)
    fit = mf.fit_em(X, y, 2, init=truth, activation="relu", gate="constant")
    dead = int(np.argmin(fit.model.intercept))
    found = warned(f"expert {dead + 1}: intercept", fit, X, y)
    assert set(found.undetermined) == {f"expert {dead + 1}: {name}" for name in ("intercept", "x0", "x1")}
    assert np.isfinite(found.standard_errors.noise_std).all()


@pytest.fixture(scope="module")
def separated():
    """Expert 1 right of 0.1 and two that overlap left of it."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, (500, 1))
    left = np.where(rng.random(500) < 0.5, -3.0 - x[:, 0], -6.0)
    y = np.where(x[:, 0] > 0.1, 3.0 + x[:, 0], left) + 0.1 * rng.standard_normal(500)
    return x, y, mf.fit(x, y, 3, random_state=0)


def test_a_gate_that_separates(separated):
    """Its row is lost; that between the two which overlap is not. Kills: all separated experts' rows NaN."""
    x, y, fit = separated
    assert fit.separated == (0, 1, 2)
    found = warned("separates experts 1 from 2, 3 without error", fit, x, y)
    assert found.undetermined == ("gate 1: intercept", "gate 1: x0")
    left = fit.model.responsibilities(x, y)[:, 0] < 0.5
    sizes = found.standard_errors
    two = mf.fit(x[left], y[left], 2, random_state=0)
    alone = mf.infer(two, x[left], y[left]).standard_errors
    np.testing.assert_allclose(sizes.gate_coef[1], alone.gate_coef[0], rtol=1e-3)
    np.testing.assert_allclose(sizes.coef[1:], alone.coef, rtol=1e-3)


def test_a_gate_that_separates_the_last_expert(separated):
    """Then every row of the gate, which is against the last, is lost, and the experts are as before."""
    x, y, fit = separated
    found = warned("separates experts 1, 2 from 3", fit.model.permute([1, 2, 0]), x, y)
    assert set(found.undetermined) == {name for name in found.parameter_names if name.startswith("gate")}
    before = warned("separates", fit, x, y).standard_errors
    np.testing.assert_allclose(found.standard_errors.coef, before.coef[[1, 2, 0]], rtol=1e-6)


def test_a_gate_that_separates_before_its_limit():
    """Steep enough to be told, with some curvature left. Kills: the zero of the curvature alone as the rule."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-1.0, 0.0, 250), rng.uniform(0.3, 1.0, 250)])[:, None]
    y = np.where(x[:, 0] > 0.15, 3.0, -3.0) + x[:, 0] + 0.1 * rng.standard_normal(500)
    fit = mf.fit(x, y, 2, random_state=0).model
    steep = np.sign(fit.gate_coef[0, 0]) * 60.0 / x.std()
    model = mf.MixtureOfExperts(
        fit.coef, fit.intercept, [[steep], [0.0]], [-0.15 * steep, 0.0], fit.noise_std
    )
    found = warned("separates experts 1 from 2", model, x, y)
    assert found.undetermined == ("gate 1: intercept", "gate 1: x0")


def test_a_fit_with_the_barrier_has_its_curvature():
    """Rows that one expert fits exactly. Kills: the plain likelihood's, which has no maximum there."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, (200, 1))
    y = np.where(np.arange(200) < 60, 2.0 * x[:, 0], -x[:, 0] + 0.3 * rng.standard_normal(200))
    with pytest.warns(mf.ConvergenceWarning, match="collapsed"):
        fit = mf.fit(x, y, 2, gate="constant", random_state=0)
    assert fit.penalised
    found = mf.infer(fit, x, y)
    assert "with the barrier" in str(found.summary())
    exact = int(np.argmin(fit.model.noise_std))
    weight, noise = fit.effective_sizes[exact], fit.model.noise_std[exact]
    # The curvature of weight log s + (squares + barrier) / (2 s^2) in log s at its minimum, rows known to be its own.
    assert found.standard_errors.noise_std[exact] == pytest.approx(noise / np.sqrt(2 * weight), rel=0.05)


def test_no_maximum_is_said():
    sim = simulated()
    fit = fitted(sim)
    with pytest.warns(mf.ConvergenceWarning, match="no maximum of the likelihood of these rows"):
        mf.infer(fit, sim.X[:300], sim.y[:300] + 0.1)


def test_a_saddle_is_said():
    """Two equal experts: the likelihood grows as they part. Kills: a negative variance, or its root's warning."""
    sim = simulated()
    one = mf.fit(sim.X, sim.y, 1).model
    both = mf.MixtureOfExperts(
        np.repeat(one.coef, 2, axis=0), np.repeat(one.intercept, 2), noise_std=np.repeat(one.noise_std, 2)
    )
    found = warned("does not curve down there", both, sim.X, sim.y)
    assert len(found.undetermined) == len(found.parameter_names)


def test_a_relu_that_rests_on_a_kink_is_a_maximum():
    """Its gradient is not zero, and it converged. Kills: a warning for the rows of the fit."""
    sim = simulated(n_samples=200, seed=154, activation="relu", noise_std=0.5)
    fit = fitted(sim)
    assert np.isfinite(mf.infer(fit, sim.X, sim.y).covariance).all()
    with pytest.warns(mf.ConvergenceWarning, match="no maximum"):
        mf.infer(fit.model, sim.X, sim.y)


# ---- arguments ----


def test_bad_arguments():
    sim = simulated()
    fit, X, y = fitted(sim), sim.X, sim.y
    with pytest.raises(TypeError, match="fit must be a FitResult or a MixtureOfExperts, got dict"):
        mf.infer({}, X, y)
    with pytest.raises(ValueError, match=r"unknown covariance 'sandwhich'; did you mean 'sandwich'\?"):
        mf.infer(fit, X, y, covariance="sandwhich")
    with pytest.raises(ValueError, match="unknown noise"):
        mf.infer(fit, X, y, noise="free")
    with pytest.raises(ValueError, match="noise is 'shared', but the model has noise_std"):
        mf.infer(fit, X, y, noise="shared")
    with pytest.raises(ValueError, match="fit_intercept is False, but the model has such intercepts"):
        mf.infer(fit, X, y, fit_intercept=False)
    with pytest.raises(TypeError, match="gate_intercept must be True or False, got 1"):
        mf.infer(fit, X, y, gate_intercept=1)
    with pytest.raises(ValueError, match="X has 1 columns"):
        mf.infer(fit, X[:, :1], y)
    with pytest.raises(ValueError, match="gate_features were given"):
        mf.infer(fit, X, y, gate_features=X)
    with pytest.raises(ValueError, match="nothing of this model was fitted"):
        mf.infer(mf.fit_gate(X, y, mf.fit(X, y, 1).model), X, y)
    found = mf.infer(fit, X, y)
    with pytest.raises(ValueError, match="level must be above 0 and below 1, got 95"):
        found.conf_int(95)
    with pytest.raises(TypeError, match="level must be a positive number"):
        found.summary("0.95")


def test_places_of_the_free_parameters():
    """Every number of the vector comes back to where it was. Kills: intercept and coefficients exchanged."""
    sim = simulated(n_experts=3)
    for noise in ("per_expert", "shared", "held"):
        free = FreeParameters(fitted(sim, noise=0.2).model, noise)
        back = free.arrays(free.vector(free.model))
        np.testing.assert_array_equal(back.coef, free.model.coef)
        np.testing.assert_array_equal(back.intercept, free.model.intercept)
        np.testing.assert_array_equal(back.gate_coef[:-1], free.model.gate_coef[:-1])
        if noise != "held":
            np.testing.assert_array_equal(back.noise_std, free.model.noise_std)


# ---- the summary ----


@pytest.fixture(scope="module")
def summary(npreg):
    X, y = npreg
    return mf.infer(mf.fit(X, y, 2, gate="constant", random_state=0), X, y).summary()


def test_summary_in_a_terminal(summary):
    lines = str(summary).splitlines()
    assert lines[0].strip() == "Mixture of experts"
    assert "Covariance:   observed information   BIC:                       1332.75" in lines
    head = lines.index("expert 1          coef   std err         z     P>|z|    [0.025    0.975]")
    assert lines[head + 2] == "intercept      14.7129    1.3238    11.114     0.000   12.1184   17.3075"
    assert lines[head + 5] == "noise std       3.4509    0.2700                        2.9603    4.0229"
    assert [line.split("  ")[0] for line in lines if "P>|z|" in line] == ["expert 1", "expert 2", "gate 1"]
    assert lines[-1] == "Gate: log odds against expert 2."
    rules = [line for line in lines if set(line) <= {"=", "-"}]
    assert len({len(rule) for rule in rules}) == 1
    assert max(map(len, lines)) == len(rules[0])
    assert repr(summary) == str(summary)


def test_summary_at_another_level(npreg):
    X, y = npreg
    found = mf.infer(mf.fit(X, y, 2, gate="constant", random_state=0), X, y)
    assert "[0.05     0.95]" in str(found.summary(level=0.9))


def test_summary_in_a_notebook(summary):
    """Well formed, with the same cells; names are escaped."""
    from xml.etree import ElementTree

    root = ElementTree.fromstring(f"<div>{summary._repr_html_()}</div>")
    header, table = root.findall("table")
    assert header.find("caption").text == "Mixture of experts"
    rows = [["".join(cell.itertext()) for cell in row] for row in table.findall("tr")]
    assert rows[0] == ["expert 1", "coef", "std err", "z", "P>|z|", "[0.025", "0.975]"]
    assert rows[1] == ["intercept", "14.7129", "1.3238", "11.114", "0.000", "12.1184", "17.3075"]
    assert "P>|z|" not in summary._repr_html_()


def test_summary_as_a_frame(summary):
    pytest.importorskip("pandas")
    frame = summary.to_frame()
    assert list(frame.columns) == ["coef", "std err", "z", "P>|z|", "[0.025", "0.975]"]
    assert frame.index.names == ["block", "parameter"]
    assert frame.loc[("gate 1", "intercept"), "std err"] == pytest.approx(0.15892, abs=1e-4)
    assert np.isnan(frame.loc[("expert 1", "noise std"), "z"])
    assert len(frame) == 9


def test_long_names_keep_the_table_in_line():
    pd = pytest.importorskip("pandas")
    sim = simulated()
    X = pd.DataFrame(sim.X, columns=["a very long name of a column, indeed", "<b>"])
    fit = mf.fit_em(X, sim.y, 2, init=sim.model)
    shown = mf.infer(fit, X, sim.y).summary()
    lines = str(shown).splitlines()
    assert len({len(line) for line in lines if "P>|z|" in line or line.startswith("=")}) == 1
    assert "&lt;b&gt;" in shown._repr_html_()


# ---- coverage; bench/coverage.py measures it at length ----


@pytest.mark.statistical
def test_intervals_cover():
    """60 fits with 13 intervals each; 0.95 +- 0.011 if independent. Kills: errors off by a fifth (0.90, 0.98)."""
    hits = []
    for seed in range(60):
        sim = simulated(n_samples=500, seed=seed)
        fit = fitted(sim)
        model = fit.model.permute(mf.match_experts(fit.model, sim.model))
        ends = mf.infer(model, sim.X, sim.y).conf_int()
        for name in ARRAYS:
            inside = (getattr(ends, name)[..., 0] < getattr(sim.model, name)) & (
                getattr(sim.model, name) < getattr(ends, name)[..., 1]
            )
            hits += inside[: 1 if name.startswith("gate") else 2].ravel().tolist()
    assert 0.925 < np.mean(hits) < 0.975


# ---- the bootstrap ----


@pytest.mark.parametrize("kind", ["case", "parametric"])
def test_bootstrap_agrees_with_the_information(kind):
    """150 refits know a standard error to 6 %; data 2000 rows, where both should be the same."""
    sim = simulated(n_samples=2000)
    fit = fitted(sim)
    boot = mf.bootstrap(fit, sim.X, sim.y, 150, kind=kind, random_state=0)
    found = mf.infer(fit, sim.X, sim.y)
    ratio = np.sqrt(np.diagonal(boot.covariance) / np.diagonal(found.covariance))
    assert np.abs(ratio - 1.0).max() < 0.2
    assert np.abs(ratio.mean() - 1.0) < 0.06
    width = np.ptp(boot.conf_int().coef, axis=-1) / np.ptp(found.conf_int().coef, axis=-1)
    assert np.abs(width - 1.0).max() < 0.3
    assert boot.replicates.shape == (150, fit.n_parameters)
    np.testing.assert_allclose(
        boot.conf_int(0.8).intercept[0], np.quantile(boot.replicates[:, 0], [0.1, 0.9]), rtol=1e-12
    )
    assert f"{kind} bootstrap (150)" in str(boot.summary())
    assert boot.parameter_names == found.parameter_names


def test_bootstrap_repeats_itself():
    sim = simulated()
    fit = fitted(sim)
    one, two = (
        mf.bootstrap(fit, sim.X, sim.y, 5, random_state=3, n_threads=n).replicates.tobytes() for n in (1, 3)
    )
    assert one == two


def test_bootstrap_keeps_experts_apart():
    """Equal shares: refits order experts by chance. Kills: replicates in the refit's own order."""
    sim = simulated(gate_norm=0.0, gate_intercept=0.0)
    fit = mf.fit(sim.X, sim.y, 2, gate="constant", random_state=0)
    boot = mf.bootstrap(fit, sim.X, sim.y, 40, random_state=0)
    first = boot.replicates[:, 0]
    assert np.ptp(first) < 0.5 * abs(fit.model.intercept[0] - fit.model.intercept[1])
    gate = boot.replicates[:, boot.parameter_names.index("gate 1: intercept")]
    assert gate.min() < 0 < gate.max()


def test_bootstrap_of_weighted_rows():
    """Counts that add up to the weights, in proportion to them. Kills: each row drawn alike; n rows drawn."""
    sim = simulated(n_samples=300)
    weight = np.where(sim.labels == 0, 9, 1)   # uneven: without weights the gate is another
    fit = fitted(sim, sample_weight=weight)
    weighted = mf.bootstrap(fit, sim.X, sim.y, 60, sample_weight=weight, random_state=0)
    found = mf.infer(fit, sim.X, sim.y, sample_weight=weight)
    std_err = np.sqrt(np.diagonal(found.covariance))
    assert (np.abs(weighted.replicates.mean(axis=0) - weighted.estimates) < 0.7 * std_err).all()
    assert np.abs((weighted.replicates.std(axis=0) / std_err).mean() - 1.0) < 0.15
    with pytest.raises(ValueError, match="adds up to 1; weights count rows"):
        mf.bootstrap(fit, sim.X, sim.y, 5, sample_weight=weight / weight.sum())
    with pytest.raises(ValueError, match="in whole numbers"):
        mf.bootstrap(fit, sim.X, sim.y, 5, sample_weight=weight / 2, kind="parametric")
    assert mf.bootstrap(fit, sim.X, sim.y, 3, sample_weight=weight, kind="parametric").n_samples == weight.sum()


def test_parametric_bootstrap_of_weighted_rows_is_that_of_rows_repeated():
    """Kills: a target drawn once for a row that counts twice."""
    sim = simulated()
    weight = np.random.default_rng(0).integers(0, 4, len(sim.y))
    fit = fitted(sim, sample_weight=weight)
    weighted = mf.bootstrap(fit, sim.X, sim.y, 3, kind="parametric", sample_weight=weight, random_state=0)
    repeated = np.repeat(sim.X, weight, axis=0), np.repeat(sim.y, weight)
    plain = mf.bootstrap(fit, *repeated, 3, kind="parametric", random_state=0)
    np.testing.assert_allclose(weighted.replicates, plain.replicates, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("how", ["held noise", "shared", "gate alone", "gate features"])
def test_bootstrap_refits_as_the_fit_was(how, monkeypatch):
    """Kills: a noise that moves though held, experts that move in a fit of the gate."""
    sim = simulated()
    given = {"gate_features": sim.X[:, :1] ** 2} if how == "gate features" else {}
    if how == "gate alone":
        fit = mf.fit_gate(sim.X, sim.y, sim.model)
    elif how == "gate features":
        fit = mf.fit(sim.X, sim.y, 2, random_state=0, **given)
    else:
        fit = fitted(sim, noise=0.2 if how == "held noise" else "shared")
    refits, finish = [], Task.finish

    def spy(task, starts):
        refits.append(finish(task, starts))
        return refits[-1]

    monkeypatch.setattr(Task, "finish", spy)
    boot = mf.bootstrap(fit, sim.X, sim.y, 3, random_state=0, **given)
    assert len(refits) == 4   # the rows as they are, first
    for refit in refits:
        assert (refit.noise, refit.fit_intercept, refit.gate_intercept, refit.experts_held) == (
            fit.noise, fit.fit_intercept, fit.gate_intercept, fit.experts_held
        )
    if how == "held noise":
        assert refits[0].model.noise_std.tolist() == [0.2, 0.2]
    assert boot.replicates.shape == (3, fit.n_parameters)
    assert boot.parameter_names == mf.infer(fit, sim.X, sim.y, **given).parameter_names
    assert (boot.replicates.std(axis=0) > 0).all()


def test_bootstrap_warns_once():
    """Kills: a warning a refit."""
    sim = simulated()
    with pytest.warns(mf.ConvergenceWarning, match="3 of 3 refits did not converge") as caught:
        boot = mf.bootstrap(fitted(sim), sim.X, sim.y, 3, max_iter=1, random_state=0)
    assert len(caught) == 1
    assert boot.n_not_converged == 3


def test_bootstrap_of_other_rows_than_the_fits():
    """Kills: errors about an optimum that is none of these targets'; options that are found bad refit by refit."""
    sim = simulated()
    fit = fitted(sim)
    for y in (1.5 * sim.y, sim.y + 0.5):
        with pytest.warns(mf.ConvergenceWarning, match="no maximum of the likelihood of these rows"):
            mf.bootstrap(fit, sim.X, y, 2, random_state=0)
    drawn = []
    for bad in ({"max_iter": -1}, {"n_threads": 0}, {"tol": 0.0}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
            mf.bootstrap(fit, sim.X, sim.y, 5, progress=lambda *done: drawn.append(done), random_state=0, **bad)
    assert not drawn


@pytest.mark.parametrize("kind", ["case", "parametric"])
def test_bootstrap_of_large_data_repeats_itself(kind):
    """Which is climbed on a sample first. Kills: a sample that the system's entropy draws."""
    sim = mf.make_moe(25_000, 3, 2, random_state=0)
    fit = mf.fit(sim.X, sim.y, 2, random_state=0)
    one, other = (mf.bootstrap(fit, sim.X, sim.y, 2, kind=kind, random_state=0).replicates for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_bootstraps_side_by_side_leave_warnings_alone():
    """Kills: filters that one thread restores while another's are in force."""
    sim = simulated(200)
    fit, before = fitted(sim), list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: mf.bootstrap(fit, sim.X, sim.y, 20, random_state=seed).conf_int(), range(8)))
    assert warnings.filters == before


def test_bootstrap_progress_and_stopping(capsys):
    sim = simulated()
    fit = fitted(sim)
    seen = []

    def watch(done, total):
        seen.append((done, total))
        return done == 3

    with pytest.warns(mf.ConvergenceWarning, match="Stopped after 3 of 10 refits"):
        boot = mf.bootstrap(fit, sim.X, sim.y, 10, progress=watch, random_state=0)
    assert seen == [(1, 10), (2, 10), (3, 10)]
    assert len(boot.replicates) == 3
    mf.bootstrap(fit, sim.X, sim.y, 3, progress=True, random_state=0)
    assert capsys.readouterr().err.endswith("bootstrap: 3 of 3 refits\n")
    with pytest.raises(ValueError, match="raise time_limit"):
        mf.bootstrap(fit, sim.X, sim.y, 10, time_limit=1e-9)
    with pytest.raises(TypeError, match="progress must be"):
        mf.bootstrap(fit, sim.X, sim.y, 10, progress="yes")
    with pytest.raises(ValueError, match="n_resamples must be at least 2"):
        mf.bootstrap(fit, sim.X, sim.y, 1)


def test_bootstrap_of_a_constant_column():
    """Which no refit has a coefficient of. Kills: a standard error of zero; a warning of no numbers."""
    sim = simulated()
    X = np.column_stack([sim.X[:, 0], np.zeros(len(sim.y))])
    with pytest.warns(mf.CollinearityWarning, match="column 1 of X"):
        fit = mf.fit(X, sim.y, 1)
    assert fit.model.coef[0, 1] == 0.0
    boot = mf.bootstrap(fit, X, sim.y, 3, random_state=0)
    assert boot.undetermined == ("expert 1: x1",)
    assert np.isnan(boot.conf_int().coef[0, 1]).all()
    assert np.isfinite(boot.conf_int().coef[0, 0]).all()
    assert "x1" in str(boot.summary())


def test_bootstrap_interrupted():
    """Ctrl-C is no end like another: it raises."""
    sim = simulated()

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mf.bootstrap(fitted(sim), sim.X, sim.y, 10, progress=interrupt)


def test_bootstrap_says_which_refits_were_odd(separated):
    x, y, fit = separated
    with pytest.warns(mf.ConvergenceWarning, match="4 of 4 refits had a gate that separates") as caught:
        boot = mf.bootstrap(fit, x, y, 4, random_state=0)
    assert len(caught) == 1
    assert boot.n_separated == 4
    assert boot.n_collapsed == 0
    assert "4 of 4 refits" in str(boot.summary())


def test_a_coefficient_of_zero_has_an_interval():
    """Warnings are errors here. Kills: the log scale of a noise taken of it."""
    x, y = np.tile([-1.0, -1.0, 1.0, 1.0], 10)[:, np.newaxis], np.tile([0.0, 1.0, 0.0, 1.0], 10)
    low, high = mf.infer(mf.fit(x, y, 1), x, y).conf_int().coef[0, 0]
    assert low == pytest.approx(-high)
    assert 0.1 < high < 0.3


def test_resamples_that_cannot_be_fitted_are_left_out():
    """Kills: an error by which all refits are lost; zero counted as a coefficient; progress that stands still."""
    rng = np.random.default_rng(0)
    told = []
    x, y = rng.standard_normal((40, 1)), np.r_[3.0, 5.0, np.zeros(38)]
    with pytest.warns(mf.ConvergenceWarning, match="resamples could not be fitted, and are left out: y is constant"):
        found = mf.bootstrap(mf.fit(x, y, 1), x, y, 60, random_state=0, progress=lambda *done: told.append(done))
    assert 40 < len(found.replicates) < 60
    assert told == [(done, 60) for done in range(1, 61)]
    X = np.c_[rng.standard_normal(60), np.r_[1.0, 1.0, np.zeros(58)]]
    y = X[:, 0] + 5.0 * X[:, 1] + 0.3 * rng.standard_normal(60)
    with pytest.warns(mf.ConvergenceWarning, match=r"of 60 refits lacked rows that tell a column from others"):
        found = mf.bootstrap(mf.fit(X, y, 1), X, y, 60, random_state=0)
    lacking = np.isnan(found.replicates)
    assert 0 < lacking[:, 2].sum() < 30
    assert (lacking[:, :3] == lacking[:, 2:3]).all()   # an intercept means something else without the dummy
    assert not lacking[:, 3].any()
    assert found.standard_errors.coef[0, 1] == pytest.approx(np.nanstd(found.replicates[:, 2], ddof=1))
    assert found.conf_int().coef[0, 1, 0] > 4.0   # the coefficient is 5
