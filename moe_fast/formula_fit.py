"""The public `fit_formula`: a fit whose columns are written as formulas."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from .checks import check_aligned, check_choice, check_vector
from .fit import fit
from .formula import Formula, as_frame
from .result import FitResult
from .tables import find_columns, refuse_missing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["fit_formula"]

_SAID_BY_FORMULAS = ("fit_intercept", "gate_features", "X", "y")


def fit_formula(
    formula: str,
    data: Any,
    n_experts: int,
    *,
    gate: str = "softmax",
    missing: str = "refuse",
    sample_weight: str | ArrayLike | None = None,
    **options: Any,
) -> FitResult:
    """Fit a mixture of experts to the columns of a table, named in a formula.

    Parameters
    ----------
    formula : str
        Target and features, ``"log(price) ~ log(carat) + cut"``. Text columns, and ``C(column)``, become dummies. The
        experts have intercepts unless the formula says ``- 1`` or ``0 +``. See docs/formula.md for what it may hold.
    data : DataFrame or mapping
        Columns by name; pandas, polars, or a mapping from names to arrays.
    n_experts : int
    gate : str, default "softmax"
        ``"~ log(carat)"``: the gate's own features, with an intercept unless it says ``- 1``. ``"~ 1"`` is
        "constant". "softmax" is a gate on the experts' features, with an intercept.
    missing : {"refuse", "drop"}, default "refuse"
        What is done about rows with a missing value in a column of the formulas.
    sample_weight : str or array_like of shape (n_samples,), optional
        A column's name, or a weight for each row of the table; as for `fit`.
    **options
        Passed to `fit`: ``activation``, ``noise``, ``random_state``, ...

    Returns
    -------
    result : FitResult
        ``result.model`` keeps the formula: its methods take tables with the same columns, and it is saved with it.
        Its predictions are of the formula's target: of ``log(price)``, if the formula says so.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad; before any work. Messages name rows by the labels of the table's index.
    ImportError
        If formulaic is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import moe_fast as mf
    >>> rng = np.random.default_rng(0)
    >>> x, group = rng.uniform(1, 9, 300), rng.choice(["a", "b"], 300)
    >>> data = {"x": x, "group": group, "y": np.where(x < 5, 1, 8) * np.log(x) + (group == "b")}
    >>> data["y"] += 0.1 * rng.standard_normal(300)
    >>> result = mf.fit_formula("y ~ log(x) + group", data, 2, gate="~ x", random_state=0)
    >>> result.model.feature_names, result.model.gate_feature_names
    (('log(x)', 'group[T.b]'), ('x',))
    """
    for name in _SAID_BY_FORMULAS:
        if name in options:
            raise TypeError(f"fit_formula takes no {name}: the formulas say it")
    check_choice(missing, "missing", ("refuse", "drop"))
    task = prepare(formula, as_frame(data), gate=gate, drop_missing=missing == "drop", sample_weight=sample_weight)
    if "gate_intercept" in options and "gate_intercept" in task.options:
        raise TypeError("fit_formula takes no gate_intercept with a gate formula: the formula says it")
    result = fit(task.X, task.y, n_experts, **task.options, **options)
    return replace(result, model=result.model.with_formula(task.formula))


@dataclass(frozen=True)
class Prepared:
    """What formulas make of a table, as `fit` takes it: ``fit(X, y, n_experts, **options)``."""

    formula: Formula
    X: pd.DataFrame
    y: pd.Series
    options: dict[str, Any]


def prepare(
    formula: str, data: pd.DataFrame, *, gate: str, drop_missing: bool, sample_weight: str | ArrayLike | None
) -> Prepared:
    """Read formulas for a table; arguments as for `fit_formula`."""
    has_gate_formula = isinstance(gate, str) and "~" in gate
    read = Formula.read(formula, gate if has_gate_formula else None, data)
    if has_gate_formula:
        gate = "softmax"
        if read.gate_is_constant:
            read, gate = replace(read, gate=None), "constant"

    weight_column = find_columns(data, [sample_weight], "sample_weight") if isinstance(sample_weight, str) else []
    used = data[list(dict.fromkeys([*read.columns, *weight_column]))]
    whole = used.notna().all(axis=1).to_numpy()
    if not drop_missing:
        refuse_missing(used, 'missing="drop" leaves those rows out')
    elif not whole.any():
        raise ValueError("no row is without missing values")
    used = used[whole]
    if weight_column:
        sample_weight = used[weight_column[0]]
    elif sample_weight is not None:
        check_aligned(data, sample_weight=sample_weight)
        sample_weight = check_vector(sample_weight, "sample_weight", n_samples=len(data))[whole]

    learned = read.learn(used)
    if gate == "softmax" and learned.gate is None and learned.levels and not learned.intercept:
        # Without an intercept a factor has a dummy for every level: one too many beside the gate's intercept.
        learned = Formula(learned.text, f"~ {learned.text.partition('~')[2].strip()} + 1").learn(used)
    X, y, gate_features = learned.matrices(used)
    options: dict[str, Any] = {
        "fit_intercept": learned.intercept,
        "gate": gate,
        "gate_features": gate_features,
        "sample_weight": sample_weight,
    }
    if learned.gate is not None:
        options["gate_intercept"] = learned.gate_intercept
    return Prepared(learned, X, y, options)
