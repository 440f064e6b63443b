"""Do the pictures show what they say: the right numbers in the right place, in every shape of model?"""

import subprocess
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from scipy import stats

import moe_fast as mf
from moe_fast import plot_fit

matplotlib.use("agg")
from matplotlib import pyplot
from matplotlib.collections import LineCollection


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    pyplot.close("all")


def one_feature():
    """A model of two lines, and rows from it."""
    model = mf.MixtureOfExperts(
        coef=[[2.0], [-1.0]],
        intercept=[0.0, 1.0],
        gate_coef=[[3.0], [0.0]],
        noise_std=[0.1, 0.2],
        feature_names=["age"],
        target_name="pay",
    )
    X = np.random.default_rng(0).uniform(-1, 1, (60, 1))
    return model, X, model.sample(X, 0)[0]


def legend(ax):
    """The texts of the picture's legend, wherever it is."""
    return [text.get_text() for text in (ax.get_legend() or ax.figure.legends[0]).get_texts()]


def curves(ax):
    """The experts' curves, as arrays of points."""
    return [
        np.concatenate([collection.get_segments()[0][:1], [segment[1] for segment in collection.get_segments()]])
        for collection in ax.collections
        if isinstance(collection, LineCollection)
    ]


def test_one_feature_shows_data_experts_and_gate():
    """Kills: curves of the wrong expert or off the data's range, points mislaid, a gate panel with swapped rows."""
    model, X, y = one_feature()
    ax = plot_fit(model, X, y)
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), np.column_stack([X, y]))
    for k, curve in enumerate(curves(ax)):
        np.testing.assert_allclose(curve[:, 1], model.expert_means(curve[:, :1])[:, k])
        assert curve[[0, -1], 0].tolist() == [X.min(), X.max()]
    (gate,) = [panel for panel in ax.figure.axes if panel is not ax]
    for k, line in enumerate(gate.lines):
        x, probability = line.get_data()
        np.testing.assert_allclose(probability, model.gate_proba(x[:, None])[:, k])
    assert (gate.get_xlabel(), ax.get_ylabel()) == ("age", "pay")
    labels = legend(ax)
    assert labels[0].startswith("1: 0 + 2 age, σ = 0.1, ")
    assert labels[1].startswith("2: 1 - 1 age, σ = 0.2, ")


def test_points_are_coloured_by_responsibility():
    model, X, y = one_feature()
    ax = plot_fit(model, X, y)
    first, second = (np.array(matplotlib.colors.to_rgb(line.get_color())) for line in ax.figure.axes[1].lines)
    resp = model.responsibilities(X, y)
    np.testing.assert_allclose(
        ax.collections[0].get_facecolors()[:, :3], resp[:, :1] * first + resp[:, 1:] * second, atol=1e-12
    )


def test_curve_that_leaves_the_data_does_not_squeeze_it():
    _, X, y = one_feature()
    wild = mf.MixtureOfExperts([[2.0], [1e6]], noise_std=0.1)
    low, high = plot_fit(wild, X, y).get_ylim()
    assert y.min() - 0.1 * np.ptp(y) < low < y.min() < y.max() < high < y.max() + 0.1 * np.ptp(y)


def test_several_features_show_prediction_and_coefficients():
    """Kills: observed and predicted swapped; coefficients unscaled, or of the gate in place of the experts."""
    simulation = mf.make_moe(300, 4, 3, random_state=0)
    X = simulation.X * [1.0, 10.0, 1.0, 1.0]
    model = mf.MixtureOfExperts(simulation.model.coef, gate_coef=simulation.model.gate_coef, noise_std=0.1)
    ax = plot_fit(model, X, simulation.y)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), np.column_stack([model.predict(X), simulation.y]))
    _, experts, gate = ax.figure.axes
    for panel, coef in ((experts, model.coef), (gate, model.gate_coef)):
        dots = np.array([dot.get_offsets()[:, 0] for dot in panel.collections[1:]])
        np.testing.assert_allclose(dots, coef * X.std(axis=0))
        assert [label.get_text() for label in panel.get_yticklabels()] == ["x0", "x1", "x2", "x3"]
        assert panel.yaxis_inverted()


def test_fit_result_states_its_likelihood_and_shares():
    model, X, y = one_feature()
    fit = mf.fit_em(X, y, 2, init=model)
    ax = plot_fit(fit, X, y)
    assert ax.get_title() == f"log-likelihood {fit.log_likelihood:.2f}, BIC {fit.bic:.2f}, 60 rows"
    share = 100 * fit.effective_sizes[0] / 60
    assert f"{share:.0f} % of rows" in legend(ax)[0]


def test_own_axes_get_the_main_panel_alone():
    model, X, y = one_feature()
    _, ax = pyplot.subplots()
    assert plot_fit(model, X, y, ax) is ax
    assert ax.figure.axes == [ax]
    assert ax.get_legend() is not None
    assert ax.figure.legends == []


@pytest.mark.parametrize(("n_features", "n_panels"), [(1, 2), (3, 3)])
def test_gate_with_features_of_its_own(n_features, n_panels):
    rng = np.random.default_rng(0)
    X, Z, y = rng.standard_normal((40, n_features)), 5 * rng.standard_normal((40, 2)), rng.standard_normal(40)
    model = mf.MixtureOfExperts(
        rng.standard_normal((2, n_features)),
        gate_coef=[[1.0, -2.0], [0.0, 0.0]],
        uses_gate_features=True,
        gate_feature_names=["hour", "day"],
    )
    panels = plot_fit(model, X, y, gate_features=Z).figure.axes
    assert len(panels) == n_panels
    assert [label.get_text() for label in panels[-1].get_yticklabels()] == ["hour", "day"]
    np.testing.assert_allclose(panels[-1].collections[1].get_offsets()[:, 0], [1.0, -2.0] * Z.std(axis=0))


@pytest.mark.parametrize(("n_features", "n_panels"), [(1, 2), (3, 2)])
def test_constant_gate_has_no_coefficients_to_draw(n_features, n_panels):
    rng = np.random.default_rng(0)
    model = mf.MixtureOfExperts(rng.standard_normal((2, n_features)), gate="constant")
    X, y = rng.standard_normal((40, n_features)), rng.standard_normal(40)
    assert len(plot_fit(model, X, y).figure.axes) == n_panels


@pytest.mark.parametrize(("n_experts", "n_features"), [(1, 1), (1, 2), (12, 30)])
def test_few_and_many(n_experts, n_features):
    """One expert has no gate; more experts than colours get some all the same; of many features the largest show."""
    rng = np.random.default_rng(0)
    model = mf.MixtureOfExperts(rng.standard_normal((n_experts, n_features)))
    X, y = rng.standard_normal((40, n_features)), rng.standard_normal(40)
    panels = plot_fit(model, X, y).figure.axes
    assert len(panels) == (n_features > 1) + 1 + (n_experts > 1)
    if n_features > 20:
        assert len(panels[1].get_yticks()) == 20
        assert panels[1].get_xlabel() == "the 20 largest of 30 features"
    colours = {line.get_color() if isinstance(line.get_color(), str) else tuple(line.get_color())
               for line in panels[0].figure.legends[0].get_lines()}
    assert len(colours) == n_experts


def test_large_data_is_thinned_evenly_but_for_the_least_likely_rows():
    """Kills: outliers that thinning hides, a stretch of the data without rows."""
    model = mf.MixtureOfExperts([[1.0]], noise_std=0.1)
    X = np.linspace(0, 1, 20_002)[:, None]
    y = X[:, 0].copy()
    y[7:14_000:140] += 50.0
    ax = plot_fit(model, X, y)
    drawn = np.asarray(ax.collections[0].get_offsets())
    assert (drawn[:, 1] > 10.0).sum() == 100
    even = drawn[drawn[:, 1] < 10.0, 0]
    assert 4800 <= len(even) <= 4900
    assert (even[0], even[-1]) == (0, 1)
    assert np.diff(even).max() < 10.0 / 20_000
    assert ax.get_title() == f"{len(drawn)} of 20002 rows drawn"


def test_names_are_shortened_and_taken_literally():
    """Kills: a pair of dollars that begins a formula, a long name that squeezes the panel."""
    names = ["$a$ and $b", "the area of the house and of its garden"]
    model = mf.MixtureOfExperts([[1.0, 2.0]], feature_names=names)
    X, y = np.random.default_rng(0).standard_normal((20, 2)), np.zeros(20)
    ax = plot_fit(model, X, y)
    ax.figure.canvas.draw()
    first, second = (label.get_text() for label in ax.figure.axes[1].get_yticklabels())
    assert first == r"\$a\$ and \$b"
    assert len(second) == 24
    assert second.startswith("the area of")
    assert second.endswith("ts garden")


# ---- coefficients ----


def two_features():
    """A model of two features and three experts with a gate, and rows from it."""
    model = mf.MixtureOfExperts(
        coef=[[2.0, -1.0], [-1.0, 0.5], [0.0, 3.0]],
        intercept=[0.0, 1.0, -1.0],
        gate_coef=[[1.0, 0.5], [-1.0, 0.2], [0.0, 0.0]],
        gate_intercept=[0.3, -0.2, 0.0],
        noise_std=0.3,
    )
    X = np.random.default_rng(0).standard_normal((400, 2)) * [1.0, 3.0]
    return model, X, model.sample(X, 0)[0]


def dots(panel, n_rows):
    """Where the dots lie, a row an expert."""
    lines = [line for line in panel.lines if line.get_marker() == "o" and len(line.get_xdata()) == n_rows]
    return np.array([line.get_xdata() for line in lines]), np.array([line.get_ydata() for line in lines])


def bars(panel):
    """Both ends of the intervals, (experts, rows, 2)."""
    collections = [c for c in panel.collections if isinstance(c, LineCollection)]
    return np.array([[segment[:, 0] for segment in collection.get_segments()] for collection in collections])


def test_coefficients_of_experts_and_gate():
    """Kills: gate and experts swapped, the reference's row of zeros drawn, scales of the wrong features."""
    model, X, _ = two_features()
    experts, gate = mf.plot_coefficients(model)
    np.testing.assert_array_equal(dots(experts, 2)[0], model.coef)
    np.testing.assert_array_equal(dots(gate, 2)[0], model.gate_coef[:2])
    assert gate.get_title() == "gate: log odds against expert 3"
    assert bars(experts).size == 0
    experts, gate = mf.plot_coefficients(model, X=X)
    np.testing.assert_allclose(dots(experts, 2)[0], model.coef * X.std(axis=0))
    np.testing.assert_allclose(dots(gate, 2)[0], model.gate_coef[:2] * X.std(axis=0))
    assert legend(experts) == ["1", "2", "3"]


def test_intervals_are_those_of_the_inference():
    """Kills: bars about zero or unscaled, of another level, of another expert; a bar where nothing is known."""
    model, X, y = two_features()
    fit = mf.fit_em(X, y, 3, init=model)
    inference = mf.infer(fit, X, y)
    interval = inference.conf_int(0.8)
    scale = X.std(axis=0)[:, None]
    experts, gate = mf.plot_coefficients(fit, inference=inference, level=0.8, X=X, intercept=True)
    for panel, coef, intercept in (
        (experts, interval.coef, interval.intercept), (gate, interval.gate_coef[:2], interval.gate_intercept[:2])
    ):
        np.testing.assert_allclose(bars(panel), np.concatenate([intercept[:, None], coef * scale], axis=1))
        middle, height = dots(panel, 3)
        np.testing.assert_allclose(bars(panel).mean(axis=2), middle)
        segments = [c.get_segments() for c in panel.collections if isinstance(c, LineCollection)]
        np.testing.assert_allclose([[segment[0, 1] for segment in row] for row in segments], height)
    held = mf.infer(fit, X, y, noise="held", experts_held=True)
    experts, gate = mf.plot_coefficients(fit, inference=held)
    experts.figure.canvas.draw()
    lines = [c for c in experts.collections if isinstance(c, LineCollection)]
    assert not any(len(segment) for line in lines for segment in line.get_segments())
    assert np.isfinite(bars(gate)).all()
    with pytest.raises(ValueError, match="inference is of another model"):
        mf.plot_coefficients(model, inference=inference)
    with pytest.raises(TypeError, match="inference must come from infer or bootstrap, got FitResult"):
        mf.plot_coefficients(fit, inference=fit)


def test_experts_of_a_row_lie_within_it_one_below_the_other():
    model, _, _ = two_features()
    heights = dots(mf.plot_coefficients(model, intercept=True)[0], 3)[1]
    assert np.all(np.diff(heights, axis=0) > 0)
    np.testing.assert_array_equal(heights.round(), [[0, 1, 2]] * 3)
    np.testing.assert_allclose(heights.mean(axis=0), [0, 1, 2])


def test_coefficients_with_intercepts():
    model, X, _ = two_features()
    for panel, intercept, coef in zip(
        mf.plot_coefficients(model, X=X, intercept=True), [model.intercept, model.gate_intercept[:2]],
        [model.coef, model.gate_coef[:2]], strict=True,
    ):
        np.testing.assert_allclose(dots(panel, 3)[0], np.column_stack([intercept, coef * X.std(axis=0)]))
        assert [label.get_text() for label in panel.get_yticklabels()] == ["intercept", "x0", "x1"]


def test_coefficients_of_a_gate_with_features_of_its_own():
    rng = np.random.default_rng(0)
    X, Z = rng.standard_normal((40, 3)), 5.0 * rng.standard_normal((40, 2))
    model = mf.MixtureOfExperts(
        rng.standard_normal((2, 3)), gate_coef=[[1.0, -2.0], [0.0, 0.0]], uses_gate_features=True,
        gate_feature_names=["hour", "day"],
    )
    gate = mf.plot_coefficients(model, X=X, gate_features=Z)[1]
    np.testing.assert_allclose(dots(gate, 2)[0], [[1.0, -2.0] * Z.std(axis=0)])
    assert [label.get_text() for label in gate.get_yticklabels()] == ["hour", "day"]
    with pytest.raises(ValueError, match="gate_features are needed beside X"):
        mf.plot_coefficients(model, X=X)
    with pytest.raises(ValueError, match="gate_features"):
        mf.plot_coefficients(model, X=X, gate_features=X)


def test_tables_of_a_model_with_a_formula():
    """Kills: columns of the table drawn in place of the features that the formula makes of them."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("formulaic")
    rng = np.random.default_rng(0)
    table = pandas.DataFrame({"area": rng.uniform(1, 5, 80), "age": rng.uniform(0, 9, 80)})
    table["price"] = np.log(table["area"]) * np.where(table["age"] > 4, 2, -1) + 0.1 * rng.standard_normal(80)
    fit = mf.fit_formula("price ~ log(area)", table, 2, gate="~ age", random_state=0)
    ax = mf.plot_fit(fit, table, table["price"])
    np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 0], np.log(table["area"]))
    experts, gate = mf.plot_coefficients(fit, X=table)
    np.testing.assert_allclose(dots(experts, 1)[0], fit.model.coef * np.log(table["area"]).std(ddof=0))
    np.testing.assert_allclose(dots(gate, 1)[0], fit.model.gate_coef[:1] * table["age"].std(ddof=0))


@pytest.mark.parametrize(
    ("model", "n_panels"),
    [
        (mf.MixtureOfExperts([[1.0]]), 1),
        (mf.MixtureOfExperts([[1.0], [2.0]], gate="constant"), 1),
        (mf.MixtureOfExperts(np.eye(12, 50)), 2),
    ],
)
def test_coefficients_of_few_and_many(model, n_panels):
    axes = mf.plot_coefficients(model)
    axes[0].figure.canvas.draw()
    assert axes.shape == (n_panels,)
    assert len(axes[0].get_yticks()) == min(40, model.n_features)


# ---- responsibilities ----


def test_responsibilities_are_counted_on_a_root_scale():
    """Kills: the experts swapped, rows near zero counted, counts on a plain scale, panels on different scales."""
    model, X, y = one_feature()
    axes = mf.plot_responsibilities(model, X, y, n_bins=10, smallest=0.01)
    resp = model.responsibilities(X, y)
    assert (resp < 0.01).any(axis=0).all()
    for k, panel in enumerate(axes):
        held = resp[resp[:, k] >= 0.01, k]
        np.testing.assert_array_equal([bar.get_height() for bar in panel.patches], np.histogram(held, 10, (0, 1))[0])
        assert panel.get_title() == f"expert {k + 1}\n{60 - len(held)} rows below 0.01 left out"
        np.testing.assert_allclose(panel.yaxis.get_transform().transform([0.0, 4.0, 25.0]), [0.0, 2.0, 5.0])
    assert axes[0].get_ylim() == axes[1].get_ylim()
    tallest = max(bar.get_height() for panel in axes for bar in panel.patches)
    assert axes[0].get_ylim() == (0.0, pytest.approx(1.05 * tallest))


def test_rows_of_a_marked_expert_are_counted_in_every_panel():
    model, X, y = one_feature()
    resp = model.responsibilities(X, y)
    own = resp[:, 1] > 0.5
    for k, panel in enumerate(mf.plot_responsibilities(model, X, y, mark=1, n_bins=5)):
        counts = [bar.get_height() for bar in panel.patches]
        np.testing.assert_array_equal(counts[5:], np.histogram(resp[own & (resp[:, k] >= 1e-4), k], 5, (0, 1))[0])
    with pytest.raises(ValueError, match="mark"):
        mf.plot_responsibilities(model, X, y, mark=2)


@pytest.mark.parametrize("n_experts", [1, 5, 8])
def test_a_panel_for_each_expert(n_experts):
    model = mf.MixtureOfExperts(np.arange(n_experts)[:, None])
    X = np.ones((30, 1))
    axes = mf.plot_responsibilities(model, X, np.zeros(30))
    axes[0].figure.canvas.draw()
    assert axes.shape == (n_experts,)
    assert axes[0].figure.axes == list(axes)


# ---- residuals ----


def drawn_residuals(ax):
    return np.asarray(ax.collections[1].get_offsets()).T


def test_residuals_of_one_expert_are_its_own():
    """Kills: the sign, a residual not in units of the noise, rows and quantiles out of step."""
    model = mf.MixtureOfExperts([[2.0]], [1.0], noise_std=0.5)
    X = np.linspace(-1, 1, 21)[:, None]
    y = model.sample(X, 0)[0]
    expected, residuals = drawn_residuals(mf.plot_residuals(model, X, y))
    np.testing.assert_allclose(residuals, np.sort((y - 1.0 - 2.0 * X[:, 0]) / 0.5))
    np.testing.assert_allclose(expected, stats.norm.ppf((np.arange(21) + 0.5) / 21))


def test_residuals_are_of_the_whole_mixture():
    """Kills: residuals of the likeliest expert, or of the mean, whose law is not normal."""
    model, X, y = two_features()
    _, residuals = drawn_residuals(mf.plot_residuals(model, X, y))
    np.testing.assert_allclose(residuals, np.sort(stats.norm.ppf(model.cdf(X, y))), atol=1e-9)
    assert stats.kstest(residuals, "norm").pvalue > 0.01


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_residuals_stay_finite_far_out(sign):
    """Kills: a quantile of a distribution function that has become 0 or 1."""
    model = mf.MixtureOfExperts([[0.0], [0.0]], [0.0, 1.0])
    far = sign * np.array([50.0, 1e4, 1e170])
    residuals = np.sort(sign * drawn_residuals(mf.plot_residuals(model, np.zeros((3, 1)), far))[1])
    assert np.isfinite(residuals).all()
    np.testing.assert_allclose(residuals[:2], sign * far[:2], rtol=0.03)


def test_points_outside_the_band_are_rare():
    """Kills: a band of other ranks, or of another level. 95 % of points lie within when the model holds."""
    inside = []
    for seed in range(20):
        y = np.random.default_rng(seed).standard_normal(400)
        ax = mf.plot_residuals(mf.MixtureOfExperts([[0.0]]), np.zeros((400, 1)), y)
        expected, residuals = drawn_residuals(ax)
        band = ax.collections[0].get_paths()[0].vertices
        lower, upper = (
            np.array([side(band[np.abs(band[:, 0] - x) < 1e-9, 1]) for x in expected]) for side in (np.min, np.max)
        )
        inside.append(((lower < residuals) & (residuals < upper)).mean())
        pyplot.close("all")
    assert 0.91 < np.mean(inside) < 0.985


def test_of_many_residuals_the_tails_are_drawn_in_full():
    y = np.random.default_rng(0).standard_normal(50_000)
    expected, residuals = drawn_residuals(mf.plot_residuals(mf.MixtureOfExperts([[0.0]]), np.zeros((50_000, 1)), y))
    assert len(residuals) <= 2000
    np.testing.assert_allclose(residuals[:20], np.sort(y)[:20])
    np.testing.assert_allclose(residuals[-20:], np.sort(y)[-20:])
    assert np.diff(expected[20:-20]).max() < 0.05


# ---- choice of k ----


def selection(criterion, held_out=np.nan):
    """Three numbers of experts, of which the last is not sound; two is chosen."""
    table = tuple(
        mf.SelectionRow(
            n_experts=k, log_likelihood=-50.0 * k, n_parameters=3 * k, aic=100.0 - k, bic=200.0 + (k - 2) ** 2,
            icl=300.0 + k, held_out=held_out - (k - 2) ** 2, held_out_error=0.25 * k, converged=True, penalised=False,
            sound=k < 3, seconds=1.0,
        )
        for k in (1, 2, 3)
    )
    return mf.Selection(2, criterion, table, {})


def test_selection_shows_the_criteria_and_the_choice():
    """Kills: criteria swapped, the wrong one ringed, a row that is not sound drawn like the others."""
    (ax,) = mf.plot_selection(selection("bic"))
    lines = {line.get_label(): line for line in ax.lines}
    for name in ("aic", "bic", "icl"):
        x, values = lines[name.upper()].get_data()
        np.testing.assert_array_equal(x, [1, 2, 3])
        np.testing.assert_array_equal(values, [getattr(row, name) for row in selection("bic").table])
    (ring,) = [line for line in ax.lines if line.get_markersize() > 10]
    assert (*ring.get_xdata(), *ring.get_ydata()) == (2, 200.0)
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert sorted((*line.get_xdata(), *line.get_ydata()) for line in hollow) == [(3, 97.0), (3, 201.0), (3, 303.0)]
    assert ax.get_title() == "2 chosen by BIC"
    assert legend(ax) == ["AIC", "BIC", "ICL", "hollow: too few rows"]
    assert [*ax.get_xticks()] == [1, 2, 3]


def test_selection_by_rows_held_out_has_a_panel_for_them():
    criteria, held_out = mf.plot_selection(selection("held_out", -5.0))
    (line,) = [line for line in held_out.lines if line.get_label() == "held out"]
    np.testing.assert_array_equal(line.get_ydata(), [-6.0, -5.0, -6.0])
    (errors,) = [c for c in held_out.collections if isinstance(c, LineCollection)]
    np.testing.assert_array_equal([np.ptp(segment[:, 1]) / 2 for segment in errors.get_segments()], [0.25, 0.5, 0.75])
    (ring,) = [line for line in held_out.lines if line.get_markersize() > 10]
    assert (*ring.get_xdata(), *ring.get_ydata()) == (2, -5.0)
    assert not [line for line in criteria.lines if line.get_markersize() > 10]
    assert criteria.get_title() == "2 chosen by held out"
    with pytest.raises(TypeError, match="selection must be a Selection, got tuple"):
        mf.plot_selection(selection("bic").table)


# ---- starts ----


def fit_with(*starts):
    _, X, y = one_feature()
    return replace(mf.fit_em(X, y, 1), log_likelihood=-10.0, starts=starts)


def start(index, status, history):
    return mf.StartReport("random", index, history[-1], len(history) - 1, status, history)


def test_history_shows_every_start():
    """Kills: histories or ends out of step, the losers drawn over the winner, wrong counts."""
    lost, also_lost = (-90.0, -60.0, -50.0), (-80.0, -70.0)
    won, fell = (-70.0, -30.0, -20.0, -10.0), (-99.0, 500.0)
    ax = mf.plot_history(fit_with(start(0, "winner", won), start(1, "eliminated", lost), start(2, "degenerate", fell),
                                  start(3, "eliminated", also_lost)))
    paths = [tuple(line.get_ydata()) for line in ax.lines if line.get_marker() != "o"]
    assert set(paths) == {lost, also_lost, won, fell}
    assert paths[-1] == won
    ends = [(*line.get_xdata(), *line.get_ydata()) for line in ax.lines if line.get_marker() == "o"]
    assert set(ends) == {(3, -10.0), (2, -50.0), (1, -70.0), (1, 500.0)}
    assert legend(ax) == ["degenerate: 1", "eliminated: 2", "winner: start 0 (random)"]
    low, high = ax.get_ylim()
    assert low < -70.0    # the lowest sound end
    assert -10.0 < high < 0.0
    assert ax.get_xscale() == "linear"


def test_history_limits_leave_the_first_steps_below():
    steep = (-1e6, -1e3, *np.linspace(-20.0, -10.0, 40))
    low, _ = mf.plot_history(fit_with(start(0, "winner", steep))).get_ylim()
    assert -25.0 < low < -15.0
    low, high = mf.plot_history(fit_with(start(0, "winner", (-10.0, -10.0 + 1e-9)))).get_ylim()
    assert high - low > 1.0
    low, _ = mf.plot_history(fit_with(start(0, "winner", (-10.0, -9.0)), start(1, "eliminated", (-np.inf,)))).get_ylim()
    assert np.isfinite(low)


def test_long_histories_are_logarithmic():
    ax = mf.plot_history(fit_with(start(0, "winner", tuple(np.linspace(-20.0, -10.0, 1000)))))
    ax.figure.canvas.draw()
    assert ax.get_xscale() == "symlog"


def test_history_of_a_fit():
    _, X, y = one_feature()
    fit = mf.fit_em(X, y, 2, n_init=3, random_state=0)
    ax = mf.plot_history(fit)
    assert len([line for line in ax.lines if line.get_marker() != "o"]) == 3
    with pytest.raises(TypeError, match="FitResult"):
        mf.plot_history(fit.model)
    with pytest.raises(ValueError, match="no starts"):
        mf.plot_history(replace(fit, starts=()))


# ---- spectrum ----


def heights(panel):
    return [bar.get_height() for bar in panel.patches if bar.get_width() < 1.0]


@pytest.mark.parametrize(("n_experts", "n_features"), [(3, 6), (2, 2)])
def test_spectrum_shows_all_eigenvalues(n_experts, n_features):
    """Kills: the experts' eigenvalues and the rest in one colour, weights at the wrong expert, the gap to another."""
    sim = mf.make_moe(20_000, n_features, n_experts, orthogonal_gate=False, random_state=1)
    result = mf.fit_spectral(sim.X, sim.y, n_experts, random_state=0)
    left, right = mf.plot_spectrum(result)
    np.testing.assert_array_equal(heights(left), result.eigenvalues)
    colours = [bar.get_facecolor() for bar in left.patches if bar.get_width() < 1.0]
    assert len(set(colours[:n_experts])) == 1
    assert colours.count(colours[0]) == n_experts
    np.testing.assert_array_equal(heights(right), result.tensor_eigenvalues)
    assert [text.get_text() for text in right.texts] == [f"p = {p:.2f}" for p in result.mixing_weights]
    if n_features > n_experts:
        ratio = result.eigenvalues[n_experts - 1] / np.abs(result.eigenvalues[n_experts:]).max()
        assert left.get_title() == f"T2, number {n_experts} is {ratio:.3g} times the largest of the rest"
    else:
        assert left.get_title() == "T2"
    with pytest.raises(TypeError, match="SpectralResult"):
        mf.plot_spectrum(sim.model)


# ---- what they share ----


def test_axes_of_ones_own():
    model, X, y = one_feature()
    figure, axes = pyplot.subplots(1, 2)
    assert mf.plot_responsibilities(model, X, y, axes).tolist() == axes.tolist()
    assert mf.plot_coefficients(model, list(axes)).tolist() == axes.tolist()
    assert axes[0].get_legend() is not None
    assert figure.axes == list(axes)
    with pytest.raises(ValueError, match="ax holds 1 Axes, expected 2"):
        mf.plot_coefficients(model, axes[0])
    with pytest.raises(TypeError, match="ax must hold matplotlib Axes, got int"):
        mf.plot_coefficients(model, [1, 2])


@pytest.mark.parametrize("draw", [mf.plot_fit, mf.plot_residuals, mf.plot_responsibilities])
def test_what_is_no_fit_is_refused(draw):
    with pytest.raises(TypeError, match="fit must be a FitResult or a MixtureOfExperts, got ndarray"):
        draw(np.zeros((2, 1)), np.zeros((2, 1)), np.zeros(2))


def test_all_pictures_are_names_of_the_package_and_need_no_matplotlib_before_they_are_drawn():
    """Kills: matplotlib at the head of plot.py, a picture left out, a missing matplotlib without advice."""
    program = """
import sys
sys.modules["matplotlib"] = None
import moe_fast as mf
from moe_fast import plot
assert [name for name in mf.__all__ if name.startswith("plot_")] == plot.__all__
assert set(plot.__all__) <= set(dir(mf))
mf.plot_residuals(mf.MixtureOfExperts([[1.0]]), [[1.0]], [1.0])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stderr.strip().endswith("ImportError: a picture needs matplotlib: pip install 'moe_fast[plot]'")
