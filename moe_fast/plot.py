"""The picture of a fit. Needs matplotlib (the extra `plot`), imported when a picture is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import check_matrix, check_vector
from .model import MixtureOfExperts
from .result import FitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_fit"]

_N_DRAWN = 5000      # rows drawn, evenly spaced through the data; more would only blacken the picture
_N_FEATURES = 20     # coefficients drawn, the largest ones; more labels could not be read
_N_GRID = 400        # points on a curve

# Okabe and Ito's colours, told apart by colour-blind readers too.
_COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#999999"]


def plot_fit(
    fit: FitResult | MixtureOfExperts,
    X: ArrayLike,
    y: ArrayLike,
    ax: Axes | None = None,
    *,
    gate_features: ArrayLike | None = None,
) -> Axes:
    """Draw the data, shared out among the experts, and what the experts and the gate say of it.

    With one feature: the rows and the experts' curves, fainter where the gate makes an expert unlikely, and
    the gate beneath. With several: the targets against the predictions, and beside them the coefficients of
    experts and gate, each times its feature's standard deviation. A row's colour mixes its experts' by
    responsibility.

    Parameters
    ----------
    fit : FitResult or MixtureOfExperts
        What to draw.
    X : array_like of shape (n_samples, n_features)
        Inputs. At most 5000 rows are drawn, evenly spaced.
    y : array_like of shape (n_samples,)
        Targets.
    ax : matplotlib Axes, optional
        Where to draw the main panel, which is then the only one. Default: a new figure with all panels.
    gate_features : array_like of shape (n_samples, n_gate_features), optional
        The gate's own features: needed if the model uses them.

    Returns
    -------
    ax : matplotlib Axes
        The main panel; ``ax.figure`` is the figure.
    """
    model = fit.model if isinstance(fit, FitResult) else fit
    resp = model.responsibilities(X, y, gate_features=gate_features)
    predicted = model.predict(X, gate_features=gate_features)
    X, y = check_matrix(X, "X"), check_vector(y, "y")
    gate_inputs = X if gate_features is None else check_matrix(gate_features, "gate_features")
    colours = _colours(model.n_experts)
    one_feature = model.n_features == 1

    side_panels: list[Axes] = []
    if ax is None:
        ax, *side_panels = _new_panels(model)
    feature_names = _names(model.feature_names, model.n_features, "x")
    position, label = (X[:, 0], feature_names[0]) if one_feature else (predicted, "predicted")
    drawn = np.linspace(0, len(y) - 1, min(len(y), _N_DRAWN)).round().astype(int)
    mixed = np.clip(resp[drawn] @ colours, 0, 1)   # rounding may take a sum just above one
    ax.scatter(position[drawn], y[drawn], s=16, c=mixed, alpha=0.7, linewidths=0)
    if one_feature:
        _draw_curves(ax, model, X[:, 0], colours)
    else:
        ax.axline((y.mean(), y.mean()), slope=1, color="black", linewidth=0.8, linestyle="--")
    ax.set(xlabel=label, ylabel=model.target_name or "y")
    ax.set_title(_title(fit, len(drawn), len(y)), fontsize="medium")
    sizes = fit.effective_sizes if isinstance(fit, FitResult) else resp.sum(axis=0)
    _draw_legend(ax, model, sizes / sizes.sum(), colours)

    if not one_feature and side_panels:
        panel = side_panels.pop(0)
        _draw_coefficients(panel, model.coef, X, feature_names, colours)
        panel.set_title("experts: coefficient × sd of feature", fontsize="medium")
    if side_panels:
        panel = side_panels.pop(0)
        if one_feature and not model.uses_gate_features:
            _draw_gate(panel, model, X[:, 0], colours)
            panel.set(xlabel=label, ylabel="gate probability", ylim=(-0.03, 1.03))
            ax.set_xlabel("")
        else:
            names = feature_names
            if model.uses_gate_features:
                names = _names(model.gate_feature_names, model.n_gate_features, "z")
            _draw_coefficients(panel, model.gate_coef, gate_inputs, names, colours)
            panel.set_title("gate: log odds against the last expert, × sd", fontsize="medium")
    return ax


def _new_panels(model: MixtureOfExperts) -> list[Axes]:
    from matplotlib import pyplot

    has_gate = model.n_experts > 1 and (model.n_gate_features > 0 or model.n_features == 1)
    if model.n_features == 1 and not model.uses_gate_features:   # the gate's panel shares the data's x
        ratios = [3, 1] if has_gate else [1]
        shape, size = (len(ratios), 1), (7.0, 6.0)
        more: dict[str, Any] = {"sharex": True, "height_ratios": ratios}
    else:
        n_panels = 1 + (model.n_features > 1) + has_gate
        shape, size, more = (1, n_panels), (1.4 + 3.6 * n_panels, 5.0), {}
    return list(pyplot.subplots(*shape, figsize=size, layout="constrained", squeeze=False, **more)[1].flat)


def _draw_curves(ax: Axes, model: MixtureOfExperts, x: NDArray[Any], colours: NDArray[np.float64]) -> None:
    """The experts over the range of x, each as opaque as the gate makes it likely."""
    from matplotlib.collections import LineCollection

    grid = np.linspace(x.min(), x.max(), _N_GRID)[:, None]
    means = model.expert_means(grid)
    opacity = np.ones_like(means) if model.uses_gate_features else 0.2 + 0.8 * model.gate_proba(grid)
    for k, colour in enumerate(colours):
        points = np.column_stack([grid[:, 0], means[:, k]])
        segments = np.stack([points[:-1], points[1:]], axis=1)
        rgba = np.column_stack([np.tile(colour, (len(segments), 1)), opacity[1:, k]])
        # autolim=False: a curve may leave the range of the data, and must not squeeze them.
        ax.add_collection(LineCollection(list(segments), colors=rgba, linewidths=2.0), autolim=False)


def _draw_gate(ax: Axes, model: MixtureOfExperts, x: NDArray[Any], colours: NDArray[np.float64]) -> None:
    grid = np.linspace(x.min(), x.max(), _N_GRID)[:, None]
    for probability, colour in zip(model.gate_proba(grid).T, colours, strict=True):
        ax.plot(grid[:, 0], probability, color=colour, linewidth=2.0)


def _draw_coefficients(
    ax: Axes, coef: NDArray[np.float64], X: NDArray[Any], names: list[str], colours: NDArray[np.float64]
) -> None:
    """One row a feature, one dot an expert; in units that make features comparable."""
    scaled = coef * X.std(axis=0, dtype=np.float64)
    largest = np.sort(np.argsort(-np.abs(scaled).max(axis=0), kind="stable")[:_N_FEATURES])
    rows = np.arange(len(largest))
    ax.axvline(0.0, color="black", linewidth=0.8)
    ax.hlines(rows, scaled[:, largest].min(axis=0), scaled[:, largest].max(axis=0), color="0.8", zorder=0)
    for values, colour in zip(scaled[:, largest], colours, strict=True):
        ax.scatter(values, rows, s=36, color=colour)
    ax.set_yticks(rows, [names[a] for a in largest])
    ax.invert_yaxis()
    if len(largest) < len(names):
        ax.set_xlabel(f"the {len(largest)} largest of {len(names)} features")


def _draw_legend(
    ax: Axes, model: MixtureOfExperts, shares: NDArray[np.float64], colours: NDArray[np.float64]
) -> None:
    from matplotlib.lines import Line2D

    labels = [
        f"{k + 1}: {_formula(model, k)}σ = {model.noise_std[k]:.3g}, {100 * share:.0f} % of rows"
        for k, share in enumerate(shares)
    ]
    handles = [Line2D([], [], color=colour, marker="o", linewidth=2.0) for colour in colours]
    ax.legend(handles, labels, title="expert", fontsize="small", framealpha=0.8)


def _formula(model: MixtureOfExperts, k: int) -> str:
    """An expert of one feature as text; longer ones do not fit into a legend."""
    if model.n_features > 1:
        return ""
    slope, name = model.coef[k, 0], _names(model.feature_names, 1, "x")[0]
    line = f"{model.intercept[k]:.3g} {'-' if slope < 0 else '+'} {abs(slope):.3g} {name}"
    return f"{line}, " if model.activation.name == "linear" else f"{model.activation.name}({line}), "


def _title(fit: FitResult | MixtureOfExperts, n_drawn: int, n_rows: int) -> str:
    rows = f"{n_rows} rows" if n_drawn == n_rows else f"{n_drawn} of {n_rows} rows drawn"
    if isinstance(fit, FitResult):
        return f"log-likelihood {fit.log_likelihood:.2f}, BIC {fit.bic:.2f}, {rows}"
    return rows


def _names(names: Sequence[str] | None, n_columns: int, letter: str) -> list[str]:
    return [f"{letter}{a}" for a in range(n_columns)] if names is None else list(names)


def _colours(n_experts: int) -> NDArray[np.float64]:
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    if n_experts <= len(_COLOURS):
        return np.array([to_rgb(colour) for colour in _COLOURS[:n_experts]])
    return colormaps["turbo"](np.linspace(0, 1, n_experts))[:, :3]
