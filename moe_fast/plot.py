"""Pictures of a fit and of how it was found. They need matplotlib (the extra `plot`), imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from .checks import check_integer, check_matrix, check_vector
from .distribution import standardise
from .inference import Estimates
from .model import MixtureOfExperts
from .result import FitResult, StartReport
from .selection import Selection
from .spectral import SpectralResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_coefficients",
    "plot_fit",
    "plot_history",
    "plot_residuals",
    "plot_responsibilities",
    "plot_selection",
    "plot_spectrum",
]

FloatArray = NDArray[np.float64]

_N_DRAWN = 5000      # rows drawn; more would only blacken the picture
_N_UNLIKELY = 100    # of them the least likely: no outlier is hidden
_N_BESIDE = 20       # features whose coefficients are drawn beside a fit, the largest; more labels could not be read
_N_FEATURES = 40     # and in a picture of their own
_N_GRID = 400        # points on a curve
_N_RESIDUALS = 2000  # points of a quantile plot
_LONG = 300          # iterations from which an axis is logarithmic
_CHARACTER = 0.06    # inches, of a legend's text
_LONGEST_NAME = 24   # characters of a name; a longer one loses its middle

# Okabe and Ito's colours, told apart by colour-blind readers too.
_COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#999999", "#F0E442"]
_BLUE, _RED, _GREY = "#0072B2", "#D55E00", "0.6"


# ---- the fitted model ----


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
        Inputs. At most 5000 rows are drawn: some evenly spaced, and the hundred that the model finds least likely.
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

    Raises
    ------
    ValueError, TypeError
        If the rows are not of the model's shape.
    """
    model = _model(fit)
    X, gate_features = model.matrices(X, gate_features)
    resp = model.responsibilities(X, y, gate_features=gate_features)
    predicted = model.predict(X, gate_features=gate_features)
    drawn = _rows_drawn(model.log_density(X, y, gate_features=gate_features))
    X, y = check_matrix(X, "X"), check_vector(y, "y")
    gate_inputs = X if gate_features is None else check_matrix(gate_features, "gate_features")
    colours = _colours(model.n_experts)
    one_feature = model.n_features == 1

    side_panels: list[Axes] = []
    new_figure = ax is None
    if ax is None:
        ax, *side_panels = _fit_panels(model)
    feature_names = _names(model.feature_names, model.n_features, "x")
    position, label = (X[:, 0], feature_names[0]) if one_feature else (predicted, "predicted")
    ax.scatter(position[drawn], y[drawn], s=16, c=_mixed(resp[drawn], colours), alpha=0.7, linewidths=0)
    if one_feature:
        _draw_curves(ax, model, X[:, 0], colours)
    else:
        ax.axline((y.mean(), y.mean()), slope=1, color="black", linewidth=0.8, linestyle="--")
    ax.set(xlabel=label, ylabel=_shown(model.target_name or "y"))
    ax.set_title(_title(fit, len(drawn), len(y)), fontsize="medium")
    sizes = fit.effective_sizes if isinstance(fit, FitResult) else resp.sum(axis=0)
    labels = [
        f"{k + 1}: {_formula(model, k)}σ = {model.noise_std[k]:.3g}, {100 * share:.0f} % of rows"
        for k, share in enumerate(sizes / sizes.sum())
    ]
    _draw_legend(ax, _expert_handles(colours), labels, "expert", outside=new_figure)

    if not one_feature and side_panels:
        panel = side_panels.pop(0)
        _draw_coefficients(panel, model.coef, X, feature_names, colours)
        panel.set_title("experts, × sd", fontsize="medium")
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
            panel.set_title(_gate_title(model, ", × sd"), fontsize="medium")
    return ax


def _gate_title(model: MixtureOfExperts, unit: str) -> str:
    return f"gate: log odds against expert {model.n_experts}{unit}"


def _fit_panels(model: MixtureOfExperts) -> list[Axes]:
    has_gate = model.n_experts > 1 and (model.n_gate_features > 0 or model.n_features == 1)
    if model.n_features == 1 and not model.uses_gate_features:   # the gate's panel shares the data's x
        ratios = [3, 1] if has_gate else [1]
        return _new_panels((len(ratios), 1), (7.0, 6.5), sharex=True, height_ratios=ratios)
    n_panels = 1 + (model.n_features > 1) + has_gate
    names = [*(model.feature_names or ()), *(model.gate_feature_names or ())]
    return _new_panels((1, n_panels), (1.4 + 3.6 * n_panels + 2.0 * _name_width(names), 5.0))


def _rows_drawn(log_density: FloatArray) -> NDArray[np.intp]:
    n_rows = len(log_density)
    if n_rows <= _N_DRAWN:
        return np.arange(n_rows)
    even = np.linspace(0, n_rows - 1, _N_DRAWN - _N_UNLIKELY).round().astype(np.intp)
    return np.union1d(even, np.argpartition(log_density, _N_UNLIKELY)[:_N_UNLIKELY])


def _draw_curves(ax: Axes, model: MixtureOfExperts, x: NDArray[Any], colours: FloatArray) -> None:
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


def _draw_gate(ax: Axes, model: MixtureOfExperts, x: NDArray[Any], colours: FloatArray) -> None:
    grid = np.linspace(x.min(), x.max(), _N_GRID)[:, None]
    for probability, colour in zip(model.gate_proba(grid).T, colours, strict=True):
        ax.plot(grid[:, 0], probability, color=colour, linewidth=2.0)


def _draw_coefficients(
    ax: Axes, coef: FloatArray, X: NDArray[Any], names: list[str], colours: FloatArray
) -> None:
    """One row a feature, one dot an expert; in units that make features comparable."""
    scaled = coef * X.std(axis=0, dtype=np.float64)
    largest = _label_largest(ax, scaled, names, _N_BESIDE)
    rows = np.arange(len(largest))
    ax.hlines(rows, scaled[:, largest].min(axis=0), scaled[:, largest].max(axis=0), color="0.8", zorder=0)
    for values, colour in zip(scaled[:, largest], colours, strict=True):
        ax.scatter(values, rows, s=36, color=colour)


def _label_largest(ax: Axes, coef: FloatArray, names: list[str], most: int) -> NDArray[np.intp]:
    """Give each feature a row, the first on top; of many features, the ones of the largest coefficients, in order."""
    largest = np.sort(np.argsort(-np.abs(coef).max(axis=0), kind="stable")[:most])
    ax.axvline(0.0, color="black", linewidth=0.8)
    ax.set_yticks(np.arange(len(largest)), [names[a] for a in largest])
    ax.set_ylim(len(largest) - 0.5, -0.5)
    if len(largest) < len(names):
        ax.set_xlabel(f"the {len(largest)} largest of {len(names)} features")
    return largest


def _formula(model: MixtureOfExperts, k: int) -> str:
    """An expert of one feature as text; longer ones do not fit into a legend."""
    if model.n_features > 1:
        return ""
    slope, name = model.coef[k, 0], _names(model.feature_names, 1, "x")[0]
    intercept = model.intercept[k] + 0.0   # never "-0"
    line = f"{intercept:.3g} {'-' if slope < 0 else '+'} {abs(slope):.3g} {name}"
    return f"{line}, " if model.activation.name == "linear" else f"{model.activation.name}({line}), "


def _title(fit: FitResult | MixtureOfExperts, n_drawn: int, n_rows: int) -> str:
    rows = f"{n_rows} rows" if n_drawn == n_rows else f"{n_drawn} of {n_rows} rows drawn"
    if isinstance(fit, FitResult):
        return f"log-likelihood {fit.log_likelihood:.2f}, BIC {fit.bic:.2f}, {rows}"
    return rows


def plot_coefficients(
    fit: FitResult | MixtureOfExperts,
    ax: Any = None,
    *,
    inference: Estimates | None = None,
    level: float = 0.95,
    intercept: bool = False,
    X: ArrayLike | None = None,
    gate_features: ArrayLike | None = None,
) -> NDArray[Any]:
    """Draw the coefficients of the experts, and beside them those of the gate, with confidence intervals.

    Parameters
    ----------
    fit : FitResult or MixtureOfExperts
        What to draw.
    ax : sequence of matplotlib Axes, optional
        Where to draw: two, or one if the gate has no coefficients (one expert, or a constant gate). Default: a new
        figure.
    inference : Inference, optional
        From ``infer(fit, X, y)``, or a bootstrap: draw its intervals. A coefficient that the data does not determine
        has none.
    level : float, default 0.95
        Probability that an interval is to cover its coefficient.
    intercept : bool, default False
        Draw the intercepts too.
    X : array_like of shape (n_samples, n_features), optional
        Multiply each coefficient (no intercept) by the standard deviation of its feature, so that features compare.
        Default: coefficients as they are.
    gate_features : array_like of shape (n_samples, n_gate_features), optional
        The gate's own features: needed beside X if the model uses them.

    Returns
    -------
    axes : ndarray of matplotlib Axes, shape (1,) or (2,)
        A row for each feature; of more than 40, the ones of the largest coefficients.

    Raises
    ------
    ValueError, TypeError
        If inference is of another model, or an argument is bad.
    """
    model = _model(fit)
    intervals = None
    if inference is not None:
        if not isinstance(inference, Estimates):
            raise TypeError(f"inference must come from infer or bootstrap, got {type(inference).__name__}")
        if inference.model != model:
            raise ValueError("inference is of another model than fit")
        intervals = inference.conf_int(level)
    scale, gate_scale = np.ones(model.n_features), np.ones(model.n_gate_features)
    if X is not None:
        X, gate_features = model.matrices(X, gate_features)
        scale = check_matrix(X, "X", n_features=model.n_features).std(axis=0, dtype=np.float64)
        gate_scale = scale[: model.n_gate_features]
        if model.uses_gate_features:
            if gate_features is None:
                raise ValueError("gate_features are needed beside X: this model's gate has features of its own")
            gate_inputs = check_matrix(gate_features, "gate_features", n_features=model.n_gate_features)
            gate_scale = gate_inputs.std(axis=0, dtype=np.float64)

    names = _names(model.feature_names, model.n_features, "x")
    gate_names = _names(model.gate_feature_names, model.n_gate_features, "z") if model.uses_gate_features else names
    unit = "" if X is None else ", × sd"
    blocks = [(f"experts{unit}", "", model.n_experts, scale, names)]
    if model.n_experts > 1 and (model.n_gate_features or intercept):
        labels = gate_names[: model.n_gate_features]    # a constant gate has none
        blocks.append((_gate_title(model, unit), "gate_", model.n_experts - 1, gate_scale, labels))
    n_rows = min(_N_FEATURES, max(len(labels) for *_, labels in blocks) + intercept)
    size = len(blocks) * (4.4 + _name_width(names + gate_names)), 1.6 + n_rows * max(0.3, 0.12 * model.n_experts)
    axes = _panels(ax, len(blocks), (1, len(blocks)), size)
    colours = _colours(model.n_experts)
    for panel, (title, prefix, n_drawn, factor, labels) in zip(axes, blocks, strict=True):
        coef = _columns(model, prefix, factor, intercept)[:n_drawn]
        bounds = None if intervals is None else _columns(intervals, prefix, factor, intercept)[:n_drawn]
        _draw_intervals(panel, coef, bounds, ["intercept"] * intercept + labels, colours)
        panel.set_title(title, fontsize="medium")
    labels = [str(k + 1) for k in range(model.n_experts)]
    _draw_legend(axes[0], _expert_handles(colours), labels, "expert", outside=ax is None)
    return axes


def _columns(arrays: Any, prefix: str, factor: FloatArray, intercept: bool) -> FloatArray:
    """Coefficients, or their intervals in a third axis, times a factor each; before them the intercepts if asked."""
    coef, first = getattr(arrays, f"{prefix}coef"), getattr(arrays, f"{prefix}intercept")
    coef = coef * factor.reshape(-1, *[1] * (coef.ndim - 2))
    return np.concatenate([first[:, np.newaxis], coef], axis=1) if intercept else coef


def _draw_intervals(
    ax: Axes, coef: FloatArray, bounds: FloatArray | None, names: list[str], colours: FloatArray
) -> None:
    """One row a feature, in it the experts one below the other."""
    largest = _label_largest(ax, coef, names, _N_FEATURES)
    for row in range(1, len(largest), 2):
        ax.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0)
    offsets = 0.8 * ((np.arange(len(colours)) + 0.5) / len(colours) - 0.5)
    for k, values in enumerate(coef[:, largest]):
        height = np.arange(len(largest)) + offsets[k]
        ax.plot(values, height, "o", markersize=5, color=colours[k])
        if bounds is not None:
            ax.hlines(height, *bounds[k, largest].T, color=colours[k], linewidth=1.5)


def plot_responsibilities(
    fit: FitResult | MixtureOfExperts,
    X: ArrayLike,
    y: ArrayLike,
    ax: Any = None,
    *,
    gate_features: ArrayLike | None = None,
    mark: int | None = None,
    n_bins: int = 20,
    smallest: float = 1e-4,
) -> NDArray[Any]:
    """Draw how surely rows belong to each expert: a rootogram [1]_ of the responsibilities, a panel an expert.

    Well-separated experts have rows near one and near zero only; rows in between are shared. Counts are on a
    square-root scale, where few rows still show beside many, and the many rows that an expert has nothing to do
    with are left out.

    Parameters
    ----------
    fit : FitResult or MixtureOfExperts
        What to draw.
    X : array_like of shape (n_samples, n_features)
        Inputs.
    y : array_like of shape (n_samples,)
        Targets.
    ax : sequence of n_experts matplotlib Axes, optional
        Where to draw. Default: a new figure.
    gate_features : array_like of shape (n_samples, n_gate_features), optional
        The gate's own features: needed if the model uses them.
    mark : int, optional
        Number of an expert from 0 on: darken, in every panel, the rows that are likeliest its own. It shows whom an
        expert overlaps with.
    n_bins : int, default 20
        Bars between 0 and 1.
    smallest : float, default 1e-4
        Responsibilities below are left out, and counted in the panel's title.

    Returns
    -------
    axes : ndarray of matplotlib Axes, shape (n_experts,)

    Raises
    ------
    ValueError, TypeError
        If the rows are not of the model's shape, or an argument is bad.

    References
    ----------
    .. [1] F. Leisch, *FlexMix: a general framework for finite mixture models and latent class regression in R*,
       Journal of Statistical Software 11(8), 2004, section 4.
    """
    model = _model(fit)
    n_experts = model.n_experts
    n_bins = check_integer(n_bins, "n_bins", 1)
    if mark is not None:
        mark = check_integer(mark, "mark", 0, n_experts - 1)
    resp = model.responsibilities(X, y, gate_features=gate_features)
    n_columns = min(n_experts, 4)
    n_rows = -(-n_experts // n_columns)
    axes = _panels(ax, n_experts, (n_rows, n_columns), (1.0 + 2.6 * n_columns, 0.6 + 2.4 * n_rows), sharey=True)
    bins = np.linspace(0.0, 1.0, n_bins + 1)
    for k, (panel, colour) in enumerate(zip(axes, _colours(n_experts), strict=True)):
        held = resp[:, k] >= smallest
        panel.set_yscale("function", functions=(_root, np.square))
        panel.hist(resp[held, k], bins, color=colour, edgecolor="white", linewidth=0.5)
        if mark is not None:
            own = held & (resp.argmax(axis=1) == mark)
            panel.hist(resp[own, k], bins, color="black", alpha=0.6, edgecolor="white", linewidth=0.5)
        n_cut = len(resp) - held.sum()
        panel.set_title(f"expert {k + 1}\n{n_cut} rows below {smallest:g} left out", fontsize="medium")
        panel.set(xlim=(0.0, 1.0))
        panel.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0", "", "0.5", "", "1"])
    top = max(panel.dataLim.y1 for panel in axes)
    for panel in axes:
        panel.set(ylim=(0.0, 1.05 * max(top, 1.0)))
    for panel in axes[::n_columns]:
        panel.set_ylabel("rows")
    for panel in axes[-n_columns:]:
        panel.set_xlabel("responsibility")
    return axes


def _root(counts: ArrayLike) -> FloatArray:
    return np.sqrt(np.maximum(counts, 0.0))   # a locator may ask below zero


def plot_residuals(
    fit: FitResult | MixtureOfExperts,
    X: ArrayLike,
    y: ArrayLike,
    ax: Axes | None = None,
    *,
    gate_features: ArrayLike | None = None,
) -> Axes:
    """Draw quantile residuals against the quantiles of a normal law.

    A row's residual [1]_ is ``z = Phi^-1(F(y | x))``, with F the distribution function of the whole mixture: standard
    normal if the model holds, whatever the number of experts. Points above the line on the right, or below it on the
    left, are tails heavier than the model's.

    Parameters
    ----------
    fit : FitResult or MixtureOfExperts
        What to draw.
    X : array_like of shape (n_samples, n_features)
        Inputs.
    y : array_like of shape (n_samples,)
        Targets.
    ax : matplotlib Axes, optional
        Where to draw. Default: a new figure.
    gate_features : array_like of shape (n_samples, n_gate_features), optional
        The gate's own features: needed if the model uses them.

    Returns
    -------
    ax : matplotlib Axes
        Of many rows at most 2000 points are drawn, the tails in full. In the grey band each point alone would lie with
        a probability of 95 % if the model were true and known.

    Raises
    ------
    ValueError, TypeError
        If the rows are not of the model's shape.

    References
    ----------
    .. [1] P. K. Dunn, G. K. Smyth, *Randomized quantile residuals*, Journal of Computational and Graphical Statistics
       5(3), 1996.
    """
    model = _model(fit)
    resp = model.responsibilities(X, y, gate_features=gate_features)
    residuals = _quantile_residuals(model, X, y, gate_features)
    n_rows = len(residuals)
    order = np.argsort(residuals, kind="stable")
    normal = scipy.stats.norm
    expected = normal.ppf((np.arange(1, n_rows + 1) - 0.5) / n_rows)
    # Evenly spaced in what is drawn, not in rows: the middle is dense, every point of the tails is there.
    drawn = np.unique(np.searchsorted(expected, np.linspace(expected[0], expected[-1], _N_RESIDUALS)))
    new_figure = ax is None
    (ax,) = _panels(ax, 1, (1, 1), (6.0, 6.0))
    rank = drawn + 1
    band = [normal.ppf(scipy.stats.beta.ppf(p, rank, n_rows + 1 - rank)) for p in (0.025, 0.975)]
    grey = ax.fill_between(expected[drawn], *band, color="0.85", linewidth=0)
    ax.axline((0.0, 0.0), slope=1, color="black", linewidth=0.8, linestyle="--")
    rows, colours = order[drawn], _colours(model.n_experts)
    ax.scatter(expected[drawn], residuals[rows], s=16, c=_mixed(resp[rows], colours), linewidths=0)
    ax.set(xlabel="normal quantile", ylabel="quantile residual")
    ax.set_title(f"mean {residuals.mean():.3f}, sd {residuals.std():.3f}, {n_rows} rows", fontsize="medium")
    labels = [*(f"expert {k + 1}" for k in range(model.n_experts)), "95 %, point by point"]
    _draw_legend(ax, [*_expert_handles(colours), grey], labels, None, outside=new_figure)
    return ax


def _quantile_residuals(
    model: MixtureOfExperts, X: ArrayLike, y: ArrayLike, gate_features: ArrayLike | None
) -> FloatArray:
    """``Phi^-1(F(y | x))`` from the logarithm of the nearer tail: finite far beyond where F is 0 or 1 to rounding."""
    residual = standardise(check_vector(y, "y"), model.expert_means(X), model.noise_std)
    gate = model.gate_proba(X, gate_features=gate_features)
    special = scipy.special
    lower = special.logsumexp(special.log_ndtr(residual), b=gate, axis=1)
    upper = special.logsumexp(special.log_ndtr(-residual), b=gate, axis=1)
    return np.where(lower < upper, special.ndtri_exp(lower), -special.ndtri_exp(upper))


# ---- how it was found ----

_CRITERIA = {"aic": ("AIC", "#0072B2", "o"), "bic": ("BIC", "#D55E00", "s"), "icl": ("ICL", "#009E73", "^")}


def plot_selection(selection: Selection, ax: Any = None) -> NDArray[Any]:
    """Draw the criteria against the number of experts, the one chosen marked.

    Parameters
    ----------
    selection : Selection
        From `select_n_experts`.
    ax : sequence of matplotlib Axes, optional
        Where to draw: one for AIC, BIC and ICL, and a second if log-likelihood was held out. Default: a new figure.

    Returns
    -------
    axes : ndarray of matplotlib Axes, shape (1,) or (2,)
        The number chosen is a dotted line, its value by the criterion that chose it is ringed. Hollow: an expert lives
        on too few rows, and such a number is not chosen. Bars: one standard error of the held-out log-likelihood.

    Raises
    ------
    TypeError
        If selection is no Selection.
    """
    _check_kind(selection, "selection", Selection)
    table = selection.table
    numbers = [row.n_experts for row in table]
    held_out = np.array([row.held_out for row in table])
    n_panels = 1 + bool(np.isfinite(held_out).any())
    axes = _panels(ax, n_panels, (1, n_panels), (1.0 + 5.0 * n_panels, 4.2))
    criteria, *others = axes
    for name, (label, colour, marker) in _CRITERIA.items():
        values = [getattr(row, name) for row in table]
        _draw_criterion(criteria, selection, values, label, colour, marker, ringed=name == selection.criterion)
    criteria.set(ylabel="criterion, smaller is better")
    for panel in others:
        errors = [row.held_out_error for row in table]
        panel.errorbar(numbers, held_out, errors, fmt="none", color=_GREY)
        ringed = selection.criterion == "held_out"
        _draw_criterion(panel, selection, held_out, "held out", "black", "D", ringed=ringed)
        panel.set(ylabel="held-out log-likelihood per row, larger is better")
    for panel in axes:
        panel.axvline(selection.n_experts, color=_GREY, linestyle=":", zorder=0)
        panel.ticklabel_format(axis="y", useOffset=False)
        panel.set(xlabel="experts", xticks=numbers)
    by = selection.criterion.replace("_", " ") if others else selection.criterion.upper()
    criteria.set_title(f"{selection.n_experts} chosen by {by}", fontsize="medium")
    if not all(row.sound for row in table):
        criteria.plot([], [], "o", color="black", markerfacecolor="white", label="hollow: too few rows")
    criteria.legend(fontsize="small")
    return axes


def _draw_criterion(
    ax: Axes, selection: Selection, values: Any, label: str, colour: str, marker: str, *, ringed: bool
) -> None:
    numbers = np.array([row.n_experts for row in selection.table])
    sound = np.array([row.sound for row in selection.table])
    values = np.asarray(values)
    ax.plot(numbers, values, color=colour, marker=marker, label=label)
    ax.plot(numbers[~sound], values[~sound], color=colour, marker=marker, linestyle="none", markerfacecolor="white")
    if ringed:
        chosen = numbers == selection.n_experts
        ax.plot(numbers[chosen], values[chosen], "o", markersize=14, color=colour, markerfacecolor="none")


# Drawn in this order, the winner on top.
_STATUS: dict[str, dict[str, Any]] = {
    "degenerate": {"color": "#D55E00", "linestyle": ":"},
    "duplicate": {"color": "0.75"},
    "eliminated": {"color": "#56B4E9"},
    "finished": {"color": "#0072B2"},
    "winner": {"color": "black", "linewidth": 2.0},
}


def plot_history(fit: FitResult, ax: Axes | None = None) -> Axes:
    """Draw the objective against EM iterations for every start, and where each start ended.

    Flat stretches followed by a rise are why short runs are not the last word; ends at several heights are local
    maxima, and how many starts end at the highest says how easily it is found.

    Parameters
    ----------
    fit : FitResult
        What to draw.
    ax : matplotlib Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    ax : matplotlib Axes
        Its lower limit is such that the ends of all sound starts show; their first steps may lie below. Beyond ten
        iterations the axis is logarithmic if a start took more than 300.

    Notes
    -----
    Large data is climbed on samples first, whose log-likelihood is scaled to all rows: a curve jumps where the rows
    change.

    Raises
    ------
    TypeError
        If fit is no FitResult: a model alone has no history.
    ValueError
        If it holds no starts.
    """
    _check_kind(fit, "fit", FitResult)
    drawn = [start for start in fit.starts if start.history]
    if not drawn:
        raise ValueError("fit has no starts with a history to draw")
    new_figure = ax is None
    (ax,) = _panels(ax, 1, (1, 1), (7.0, 5.5))
    handles, labels = [], []
    for status, style in _STATUS.items():
        starts = [start for start in drawn if start.status == status]
        for start in starts:
            (line,) = ax.plot(start.history, **{"linewidth": 1.0, **style})
            ax.plot(start.n_iter, start.history[-1], "o", markersize=4, color=style["color"])
        if starts:
            handles.append(line)
            name = f"start {starts[0].index} ({starts[0].kind})" if status == "winner" else str(len(starts))
            labels.append(f"{status}: {name}")
    if max(start.n_iter for start in drawn) > _LONG:
        ax.set_xscale("symlog", linthresh=10.0)
    else:
        _count_along(ax.xaxis)
    ax.set(xlabel="EM iteration", ylabel="log-likelihood", ylim=_history_limits(drawn))
    ax.set_xlim(left=0.0)
    ax.set_title(f"log-likelihood {fit.log_likelihood:.2f}, starts: {len(drawn)}", fontsize="medium")
    _draw_legend(ax, handles, labels, None, outside=new_figure)
    return ax


def _history_limits(starts: Sequence[StartReport]) -> tuple[float, float]:
    """Limits that show every sound end, and of the way there all but the first, steepest steps."""
    sound = [start.history for start in starts if start.status != "degenerate"] or [start.history for start in starts]
    values = np.concatenate(sound)
    values = values[np.isfinite(values)]
    top = values.max()
    # A difference below one is no difference between models.
    low = min(top - 1.0, np.quantile(values, 0.1), *(history[-1] for history in sound if np.isfinite(history[-1])))
    margin = 0.05 * (top - low)
    return float(low - margin), float(top + margin)


def plot_spectrum(spectral: SpectralResult, ax: Any = None) -> NDArray[Any]:
    """Draw the eigenvalues that the spectral step rests on: of T2, and of the whitened tensor.

    Left: T2 has as many eigenvalues clear of the rest (grey, noise about zero) as there are experts that the moments
    can tell apart. Right: the tensor's eigenvalues are ``p^-1/2``, p an expert's mixing weight; in theory none is below
    one.

    Parameters
    ----------
    spectral : SpectralResult
        From `fit_spectral`.
    ax : sequence of two matplotlib Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    axes : ndarray of matplotlib Axes, shape (2,)

    Raises
    ------
    TypeError
        If spectral is no SpectralResult.
    """
    _check_kind(spectral, "spectral", SpectralResult)
    left, right = axes = _panels(ax, 2, (1, 2), (9.0, 4.4), width_ratios=[2, 1])
    values, n_experts = spectral.eigenvalues, len(spectral.coef)
    number = np.arange(1, len(values) + 1)
    left.bar(number[:n_experts], values[:n_experts], color=_BLUE)
    noise = np.abs(values[n_experts:]).max(initial=0.0)
    left.bar(number[n_experts:], values[n_experts:], color=_GREY)
    left.axhspan(-noise, noise, color="0.92", zorder=0)
    left.axhline(0.0, color="black", linewidth=0.8)
    left.set(xlabel="number", ylabel="eigenvalue", xlim=(0.4, len(values) + 0.6))
    _count_along(left.xaxis)
    title = "T2"
    if noise > 0.0:    # zero where there are as many features as experts
        title += f", number {n_experts} is {values[n_experts - 1] / noise:.3g} times the largest of the rest"
    left.set_title(title, fontsize="medium")

    bars = right.bar(number[:n_experts], spectral.tensor_eigenvalues, color=_BLUE)
    texts = [f"p = {p:.2f}" for p in spectral.mixing_weights]
    right.bar_label(bars, texts, padding=3, fontsize="small", rotation=90 if n_experts > 4 else 0)
    right.axhline(1.0, color="black", linewidth=0.8, linestyle="--")
    right.margins(y=0.25 if n_experts > 4 else 0.12)
    right.set(xlabel="expert", xlim=(0.4, n_experts + 0.6), xticks=number[:n_experts])
    right.set_title(f"whitened tensor, residual {spectral.residual:.3g}", fontsize="medium")
    return axes


# ---- what the pictures share ----


def _model(fit: FitResult | MixtureOfExperts) -> MixtureOfExperts:
    model = fit.model if isinstance(fit, FitResult) else fit
    if not isinstance(model, MixtureOfExperts):
        raise TypeError(f"fit must be a FitResult or a MixtureOfExperts, got {type(fit).__name__}")
    return model


def _check_kind(value: Any, name: str, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def _new_panels(shape: tuple[int, int], size: tuple[float, float], **layout: Any) -> list[Axes]:
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ImportError("a picture needs matplotlib: pip install 'moe_fast[plot]'") from error
    return list(pyplot.subplots(*shape, figsize=size, layout="constrained", squeeze=False, **layout)[1].flat)


def _panels(
    ax: Any, n_panels: int, shape: tuple[int, int], size: tuple[float, float], **layout: Any
) -> NDArray[Any]:
    """The Axes given, or those of a new figure, without the ones that no panel needs."""
    if ax is None:
        panels = _new_panels(shape, size, **layout)
        for panel in panels[n_panels:]:
            panel.remove()
        return np.array(panels[:n_panels], dtype=object)
    given = np.asarray(ax, dtype=object).ravel()
    for panel in given:
        if not hasattr(panel, "scatter"):
            raise TypeError(f"ax must hold matplotlib Axes, got {type(panel).__name__}")
    if len(given) != n_panels:
        raise ValueError(f"ax holds {len(given)} Axes, expected {n_panels}")
    return given


def _count_along(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def _expert_handles(colours: FloatArray) -> list[Any]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=colour, marker="o", linewidth=2.0) for colour in colours]


def _draw_legend(ax: Axes, handles: list[Any], labels: list[str], title: str | None, *, outside: bool) -> None:
    """A legend: beneath the panels of a figure of our own, where it hides nothing."""
    if outside:
        width = 0.55 + _CHARACTER * max(map(len, labels))
        inches = ax.figure.get_figwidth()   # type: ignore[union-attr]   # no SubFigure
        n_columns = int(np.clip(inches // width, 1, len(labels)))
        ax.figure.legend(
            handles, labels, title=title, fontsize="small", ncols=n_columns, loc="outside lower center"
        )
    else:
        ax.legend(handles, labels, title=title, fontsize="small", framealpha=0.8)


def _names(names: Sequence[str] | None, n_columns: int, letter: str) -> list[str]:
    return [f"{letter}{a}" for a in range(n_columns)] if names is None else [_shown(name) for name in names]


def _shown(name: str) -> str:
    """A name short enough for a label, and taken literally: a pair of dollars would begin a formula."""
    if len(name) > _LONGEST_NAME:
        half = (_LONGEST_NAME - 1) // 2
        name = f"{name[: _LONGEST_NAME - 1 - half]}…{name[-half:]}"
    return name.replace("$", r"\$")


def _name_width(names: Sequence[str]) -> float:
    """Inches that the longest takes beside a panel."""
    return 0.085 * min(_LONGEST_NAME, max(map(len, names), default=2))


def _mixed(resp: FloatArray, colours: FloatArray) -> FloatArray:
    """Each row's mixture of the experts' colours."""
    return np.clip(resp @ colours, 0.0, 1.0)   # rounding may take a sum just above one


def _colours(n_experts: int) -> FloatArray:
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    if n_experts <= len(_COLOURS):
        return np.array([to_rgb(colour) for colour in _COLOURS[:n_experts]])
    return colormaps["viridis"](np.linspace(0.0, 0.95, n_experts))[:, :3]
