"""What each command of ``moe-fast`` does: read its files, call the package, print and write."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import moe_fast as mf

from .formula import Formula, quoted
from .formula_fit import prepare
from .plot import plot_fit, plot_selection
from .tables import (
    UsageError,
    find_columns,
    is_text,
    need,
    numbers,
    read_table,
    refuse_missing,
    usable_columns,
    where,
    write_table,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare", "fit", "info", "predict", "say", "select", "simulate"]


def say(text: str) -> None:
    """A line to the person at the terminal, not into what is piped on."""
    print(f"moe-fast: {text}", file=sys.stderr)


# ---- the data of a fit ----


@dataclass(frozen=True)
class _Data:
    """What a table gives to a fit: ``mf.fit(X, y, n_experts, **options)``."""

    X: pd.DataFrame
    y: pd.Series
    options: dict[str, Any]
    formula: Formula | None = None

    def keep_formula(self, result: mf.FitResult) -> mf.FitResult:
        """The result with a model that can make these features of other tables."""
        return result if self.formula is None else replace(result, model=result.model.with_formula(self.formula))


def _training_data(arguments: argparse.Namespace) -> _Data:
    table = read_table(arguments.data)
    if arguments.where:
        table = where(table, arguments.where)
    weights = _one_column(table, arguments.weights, "--weights") if arguments.weights else None
    gate = arguments.gate_formula
    if gate is not None:
        _refuse_beside(arguments, "--gate-formula", gate_features=None, gate="softmax")
        gate = gate if "~" in gate else f"~ {gate}"
    if arguments.formula is not None:
        _refuse_beside(arguments, "--formula", target=None, features=None, gate_features=None, no_intercept=False)
        return _data_by_formula(table, arguments.formula, gate, weights, arguments)
    if arguments.target is None:
        raise UsageError("name the target with --target, or give --formula")
    return _data_by_columns(table, gate, weights, arguments)


def _refuse_beside(arguments: argparse.Namespace, option: str, **defaults: Any) -> None:
    for name, default in defaults.items():
        if getattr(arguments, name) != default:
            raise UsageError(f"{option} says it: leave out --{name.replace('_', '-')}")


def _data_by_columns(
    table: pd.DataFrame, gate_formula: str | None, weights: str | None, arguments: argparse.Namespace
) -> _Data:
    target = _one_column(table, arguments.target, "--target")
    gate = find_columns(table, arguments.gate_features, "--gate-features") if arguments.gate_features else []
    roles = [target, *gate, *([weights] if weights else [])]
    if arguments.features:
        features = find_columns(table, arguments.features, "--features")
    else:
        features, left_out = usable_columns(table, roles)
        if left_out:
            say(f"no features, since they hold no numbers and no few levels, or have no name: {', '.join(left_out)}")
        if not features:
            raise UsageError("no column is left for the experts: name theirs with --features")
    for name, role in ((target, "target"), (weights, "weights")):
        if name in features or name in gate:
            raise UsageError(f"column {name!r} holds the {role}, so it cannot be a feature")

    if gate and arguments.gate == "constant":
        raise UsageError("--gate constant has no features: leave out --gate-features")
    if gate_formula or any(is_text(table[name]) for name in [*features, *gate]):
        formula = f"{quoted(target)} ~ {_sum(features)}" + (" - 1" if arguments.no_intercept else "")
        return _data_by_formula(table, formula, f"~ {_sum(gate)}" if gate else gate_formula, weights, arguments)

    used = _whole_rows(numbers(table, list(dict.fromkeys([*features, *roles]))), arguments)
    options = {
        "fit_intercept": not arguments.no_intercept,
        "gate": arguments.gate,
        "gate_features": used[gate] if gate else None,
        "sample_weight": used[weights] if weights else None,
    }
    return _Data(used[features], used[target], options)


def _sum(columns: Sequence[str]) -> str:
    return " + ".join(map(quoted, columns))


def _data_by_formula(
    table: pd.DataFrame, formula: str, gate: str | None, weights: str | None, arguments: argparse.Namespace
) -> _Data:
    read = Formula.read(formula, gate, table)
    used = _whole_rows(table[list(dict.fromkeys([*read.columns, *([weights] if weights else [])]))], arguments)
    prepared = prepare(formula, used, gate=gate or arguments.gate, drop_missing=False, sample_weight=weights)
    for factor, (reference, *others) in prepared.formula.levels.items():
        say(f"{factor} is a factor: dummies for {', '.join(map(str, others))}, against {reference}")
    return _Data(prepared.X, prepared.y, prepared.options, prepared.formula)


def _whole_rows(used: pd.DataFrame, arguments: argparse.Namespace) -> pd.DataFrame:
    if not arguments.drop_missing:
        refuse_missing(used, "give --drop-missing to leave those rows out")
        return used
    whole = used.notna().all(axis=1)
    say(f"{(~whole).sum()} of {len(used)} rows have missing values and were left out")
    if not whole.any():
        raise ValueError("no row is without missing values")
    return used[whole]


def _one_column(table: pd.DataFrame, name: str, option: str) -> str:
    names = find_columns(table, name, option)
    if len(names) > 1:
        raise UsageError(f"{option} takes one column, got {len(names)}: {name}")
    return names[0]


# ---- fit ----


def fit(arguments: argparse.Namespace) -> None:
    _check_outputs(arguments.save, arguments.plot)
    _check_picture(arguments.plot)
    data = _training_data(arguments)
    with _progress("iterations") as bar:

        def callback(state: mf.State) -> None:
            bar.set_postfix_str(f"objective {state.objective:.6g}", refresh=False)
            bar.update()

        result = data.keep_formula(
            mf.fit(
                data.X,
                data.y,
                arguments.experts,
                **data.options,
                **_model_options(arguments),
                callback=callback if bar is not None else None,
            )
        )
    if arguments.save:
        result.model.save(arguments.save)
    coefficients = None
    if arguments.infer or arguments.robust:
        coefficients = mf.infer(
            result,
            data.X,
            data.y,
            gate_features=data.options["gate_features"],
            sample_weight=data.options["sample_weight"],
            covariance="sandwich" if arguments.robust else "observed",
        ).summary()
    if arguments.plot:
        axes = plot_fit(result, data.X, data.y, gate_features=data.options["gate_features"])
        axes.figure.savefig(arguments.plot)   # type: ignore[union-attr]   # a figure of its own, no SubFigure
    if arguments.json:
        inferred = {} if coefficients is None else {"coefficients": _coefficients_as_json(coefficients.to_frame())}
        _print_json(_fit_as_json(result) | inferred)
        return
    print(f"{arguments.data}: {len(data.y)} rows, {data.y.name} on {', '.join(data.X.columns)}")
    print(result.summary())
    if coefficients is not None:
        print(f"\n{coefficients}")


def _model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "activation": arguments.activation,
        "noise": arguments.noise,
        "n_starts": arguments.starts,
        "n_threads": arguments.threads,
        "random_state": arguments.seed,
    }


def _fit_as_json(result: mf.FitResult) -> dict[str, Any]:
    plain = [
        *("log_likelihood", "aic", "bic", "icl", "n_parameters", "n_samples", "n_iter", "n_passes"),
        *("converged", "penalised", "seconds"),
    ]
    model = result.model
    names = list(model.feature_names or ())
    gate_names = list(model.gate_feature_names or ()) if model.uses_gate_features else names
    starts = [_without_nan(asdict(start)) for start in result.starts]   # a start that collapsed ends nowhere
    for start in starts:
        del start["history"]   # of all iterations of all starts: longer than all the rest
    return {
        **{name: getattr(result, name) for name in plain},
        **{name: [expert + 1 for expert in getattr(result, name)] for name in ("separated", "unsupported")},
        "redundant_features": [names[b] for b in result.redundant_features],
        "redundant_gate_features": [gate_names[b] for b in result.redundant_gate_features],
        "mixing_weights": result.mixing_weights.tolist(),
        "effective_sizes": result.effective_sizes.tolist(),
        "starts": starts,
        "model": result.model.to_dict(),
    }


def _coefficients_as_json(frame: pd.DataFrame) -> list[dict[str, Any]]:
    frame = frame.set_axis(["coef", "std_err", "z", "p", "lower", "upper"], axis=1).reset_index()
    return [_without_nan(row) for row in frame.to_dict("records")]


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has neither NaN nor infinity: null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, allow_nan=False))


def _check_outputs(*paths: str | None) -> None:
    """Refuse before the work what could not be written after it."""
    for path in filter(None, paths):
        if not Path(path).absolute().parent.is_dir():
            raise UsageError(f"no folder {Path(path).parent} to write {path} in")


def _check_table(path: str) -> None:
    """Refuse a name by whose end others would take the table for what it is not."""
    if Path(path).suffix in (".xlsx", ".xls", ".json", ".feather", ".arrow", ".tsv"):
        raise UsageError(f"cannot write {path}: a table is written as CSV (.csv) or Parquet (.parquet)")


def _check_picture(path: str | None) -> None:
    """Refuse a kind of picture that cannot be drawn; otherwise get ready to draw without a screen."""
    if path is None:
        return
    need("matplotlib").use("agg")
    known = need("matplotlib.backend_bases").FigureCanvasBase.get_supported_filetypes()
    kind = Path(path).suffix[1:].lower()
    if kind not in known:
        raise UsageError(f"cannot draw {path}: its name must end in one of .{', .'.join(sorted(known))}")


@contextmanager
def _progress(unit: str, total: int | None = None) -> Iterator[Any]:
    """A bar that shows, on a terminal and after the first second, how far the work is; None where no one looks."""
    if not sys.stderr.isatty():
        yield None
        return
    with need("tqdm").tqdm(unit=f" {unit}", total=total, delay=1.0, leave=False) as bar:
        yield bar


# ---- select ----


def select(arguments: argparse.Namespace) -> None:
    _check_outputs(arguments.save, arguments.plot)
    _check_picture(arguments.plot)
    data = _training_data(arguments)
    with _progress("fits") as bar:

        def progress(n_done: int, n_fits: int) -> None:
            bar.total = n_fits
            bar.update(n_done - bar.n)

        selection = mf.select_n_experts(
            data.X,
            data.y,
            arguments.experts,
            criterion=arguments.criterion,
            n_folds=arguments.folds,
            **data.options,
            **_model_options(arguments),
            progress=progress if bar is not None else None,
        )
    best = data.keep_formula(selection.best)
    if arguments.save:
        best.model.save(arguments.save)
    if arguments.plot:
        plot_selection(selection)[0].figure.savefig(arguments.plot)
    if arguments.json:
        chosen = {"n_experts": selection.n_experts, "criterion": selection.criterion}
        table = [_without_nan(asdict(row)) for row in selection.table]
        _print_json({**chosen, "table": table, "fit": _fit_as_json(best)})
        return
    print(f"{arguments.data}: {len(data.y)} rows, {data.y.name} on {', '.join(data.X.columns)}")
    print(selection.summary())


# ---- predict ----


def predict(arguments: argparse.Namespace) -> None:
    model = mf.load(arguments.model)
    table = read_table(arguments.data)
    _check_outputs(arguments.output)
    _check_table(arguments.output)
    inputs, as_arguments = _prediction_inputs(model, table, arguments)
    if not arguments.skip_missing:
        refuse_missing(inputs, "give --skip-missing to leave those rows unpredicted")
    whole = inputs.notna().all(axis=1)
    if not whole.any():
        raise ValueError("no row is without missing values")
    X, gate = as_arguments(inputs[whole])

    columns = {"prediction": model.predict(X, top_k=arguments.top_k, **gate)}
    if arguments.details:
        for name, values in (("gate", model.gate_proba(X, **gate)), ("mean", model.expert_means(X))):
            columns |= {f"{name}_{k + 1}": values[:, k] for k in range(model.n_experts)}
    predictions = need("pandas").DataFrame(columns, index=table.index[whole])
    write_table(predictions.reindex(table.index), arguments.output)
    observed = _observed(model, table[whole])
    if observed is not None:
        say(_quality(predictions["prediction"], observed))


Split = Callable[["pd.DataFrame"], tuple["pd.DataFrame", dict[str, "pd.DataFrame"]]]


def _prediction_inputs(
    model: mf.MixtureOfExperts, table: pd.DataFrame, arguments: argparse.Namespace
) -> tuple[pd.DataFrame, Split]:
    """The columns that a prediction needs, and what makes X and gate_features of rows of them."""
    if model.formula is not None:
        if arguments.features or arguments.gate_features:
            raise UsageError(f"{arguments.model} has a formula, which names its columns: {model.formula}")
        names = find_columns(table, list(model.formula.input_columns), "the model")
        return table[names], lambda rows: (rows, {})
    X = _prediction_columns(table, arguments.features, "--features", model.feature_names, model.n_features)
    if not model.uses_gate_features:
        if arguments.gate_features:
            raise UsageError(f"--gate-features: the gate of {arguments.model} has no features of its own")
        return X, lambda rows: (rows, {})
    gate = _prediction_columns(
        table, arguments.gate_features, "--gate-features", model.gate_feature_names, model.n_gate_features
    )
    inputs = need("pandas").concat([X, gate], axis=1)   # a column may be in both
    return inputs, lambda rows: (rows.iloc[:, : X.shape[1]], {"gate_features": rows.iloc[:, X.shape[1] :]})


def _prediction_columns(
    table: pd.DataFrame, asked: str | None, option: str, fitted: Sequence[str] | None, n_wanted: int
) -> pd.DataFrame:
    """The columns asked for, else those the model was fitted to, under the names it knows them by."""
    if asked:
        names = find_columns(table, asked, option)
    elif fitted is not None:
        names = find_columns(table, list(fitted), "the model")
    else:
        raise UsageError(f"the model has no column names: name the {n_wanted} it was fitted to with {option}")
    if len(names) != n_wanted:
        raise UsageError(f"{option} names {len(names)} columns, the model has {n_wanted}")
    if fitted is not None and names != list(fitted) and sorted(names) == sorted(fitted):
        raise UsageError(f"{option} has the model's columns in another order; the model's: {','.join(fitted)}")
    return numbers(table, names).set_axis(names if fitted is None else list(fitted), axis=1)


def _observed(model: mf.MixtureOfExperts, table: pd.DataFrame) -> pd.Series | None:
    """The target of those rows that have one, where the file has it."""
    if model.formula is not None:
        names = list(model.formula.target_columns)
    else:
        names = [model.target_name] if model.target_name else []
    if not names or not set(names) <= set(table.columns):
        return None
    table = table[table[names].notna().all(axis=1)]
    if table.empty:
        return None
    return numbers(table, names)[names[0]] if model.formula is None else model.formula.target(table)


def _quality(predicted: pd.Series, observed: pd.Series) -> str:
    """How well the predictions meet a target that is in the file, too."""
    residuals = observed - predicted[observed.index]
    rmse = math.sqrt((residuals**2).mean())
    return f"{observed.name} is in the file: root mean squared error {rmse:.6g} over {len(residuals)} rows"


# ---- simulate ----


def simulate(arguments: argparse.Namespace) -> None:
    _check_outputs(arguments.save, arguments.output)
    _check_table(arguments.output)
    simulation = mf.make_moe(
        arguments.rows,
        arguments.features,
        arguments.experts,
        activation=arguments.activation,
        noise_std=arguments.noise,
        gate_norm=arguments.gate_norm,
        orthogonal_gate=arguments.features > arguments.experts,   # as in theory, where there is room
        random_state=arguments.seed,
    )
    names = [f"x{a + 1}" for a in range(arguments.features)]
    table = need("pandas").DataFrame(simulation.X, columns=names)
    table["y"] = simulation.y
    if arguments.labels:
        table["expert"] = simulation.labels + 1
    write_table(table, arguments.output)
    if arguments.save:
        replace(simulation.model, feature_names=tuple(names), target_name="y").save(arguments.save)


# ---- compare and info ----


def compare(arguments: argparse.Namespace) -> None:
    _check_outputs(arguments.output, arguments.csv)
    _check_picture(arguments.output)
    from . import compare as experiment

    with _progress("runs") as bar:

        def progress(text: str) -> None:
            bar.set_description(text, refresh=False)
            bar.update()

        results = experiment.run(
            n_runs=arguments.runs,
            n_iter=arguments.iterations,
            n_threads=arguments.threads,
            random_state=arguments.seed,
            progress=progress if bar is not None else None,
        )
    experiment.write_csv(results, arguments.csv)
    experiment.plot(results).savefig(arguments.output)
    print(experiment.report(results))
    say(f"wrote {arguments.output} and {arguments.csv}")


def info(arguments: argparse.Namespace) -> None:
    config = mf.show_config()
    if arguments.json:
        _print_json(config)
        return
    for name, value in config.items():
        if isinstance(value, bool):
            value = "yes" if value else "no"
        print(f"{name}: {', '.join(value) if isinstance(value, list | tuple) else value}")
