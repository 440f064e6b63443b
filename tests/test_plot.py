"""Does the picture show the fit: the right numbers in the right place, in every shape of model?"""

import matplotlib
import numpy as np
import pytest

import moe_fast as mf
from moe_fast.plot import plot_fit

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
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
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
    assert f"{share:.0f} % of rows" in ax.get_legend().get_texts()[0].get_text()


def test_own_axes_get_the_main_panel_alone():
    model, X, y = one_feature()
    _, ax = pyplot.subplots()
    assert plot_fit(model, X, y, ax) is ax
    assert ax.figure.axes == [ax]


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
               for line in panels[0].get_legend().get_lines()}
    assert len(colours) == n_experts


def test_large_data_is_thinned_evenly():
    model, _, _ = one_feature()
    X = np.linspace(0, 1, 20_001)[:, None]
    ax = plot_fit(model, X, X[:, 0])
    drawn = ax.collections[0].get_offsets()[:, 0]
    assert len(drawn) == 5000
    assert (drawn[0], drawn[-1]) == (0, 1)
    assert np.ptp(np.diff(drawn)) < 1.01 / 20_000
    assert ax.get_title() == "5000 of 20001 rows drawn"
