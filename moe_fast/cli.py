"""The command ``moe-fast``: fit, predict, simulate, compare, info.

Each command reads its files, calls the package and prints. Exit codes: 0 done; 1 the data, a file or an option's
value was refused; 2 the command line is wrong (an unknown option or column, a missing file); 130 interrupted.
In all that it prints, writes and draws experts count from 1.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import moe_fast as mf

from .plot import plot_fit
from .tables import (
    STANDARD_STREAM,
    UsageError,
    columns_of_numbers,
    find_columns,
    need,
    numbers,
    read_table,
    refuse_missing,
    write_csv,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

DONE, REFUSED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default that of this process.

    Returns
    -------
    code : int
        The process's exit code.
    """
    arguments = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *where: _say(f"warning: {message}")   # and no source line
            arguments.run(arguments)
            sys.stdout.flush()
    except BrokenPipeError:   # who reads our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (UsageError, FileNotFoundError) as error:
        return _fail(error, WRONG_USAGE)
    except (ValueError, OSError, ImportError) as error:
        return _fail(error, REFUSED)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    return DONE


def _say(text: str) -> None:
    print(f"moe-fast: {text}", file=sys.stderr)


def _fail(error: object, code: int) -> int:
    _say(f"error: {error}")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="moe-fast", description="Mixture-of-experts regression.")
    parser.add_argument("--version", action="version", version=f"moe-fast {mf.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, add_options, text in (
        ("fit", _fit, _fit_options, "Fit a mixture of experts to a table and print it."),
        ("predict", _predict, _predict_options, "Predict new rows' target with a saved model; writes CSV."),
        ("simulate", _simulate, _simulate_options, "Draw rows from a random mixture of experts; writes CSV."),
        ("compare", _compare, _compare_options, "Draw EM's error by iteration, from several starts."),
        ("info", _info, None, "Print versions, OpenMP, BLAS and threads."),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if add_options:
            add_options(command.add_argument)
    return parser


_TABLE = "CSV (.tsv: by tabs; also .gz), Parquet or Feather with a header; - for CSV on standard input"


# ---- fit ----


def _fit_options(add: Callable[..., Any]) -> None:
    add("data", help=_TABLE)
    add("--target", required=True, metavar="COLUMN")
    add("--experts", required=True, type=int, metavar="K", help="number of experts")
    add("--features", metavar="A,B,...", help="columns of the experts; default: every one left over")
    add("--gate-features", metavar="A,B,...", help="columns of the gate; default: those of the experts")
    add("--weights", metavar="COLUMN", help="a weight for each row")
    add("--activation", type=_activation, default="linear", metavar="G", help=_ACTIVATIONS)
    add("--noise", type=_number_or_text, default="per_expert", metavar="KIND", help=_NOISES)
    add("--gate", default="softmax", metavar="KIND", help="softmax (default) or constant")
    add("--no-intercept", action="store_true", help="experts without intercepts")
    add("--drop-missing", action="store_true", help="leave out rows with missing values")
    add("--seed", type=int, default=0, help="of the random starts (default 0)")
    add("--threads", type=int, metavar="N", help="default: OMP_NUM_THREADS, else every core at hand")
    add("--save", metavar="FILE", help="write the model as JSON, for `moe-fast predict` and mf.load")
    add("--plot", metavar="FILE", help="write a picture of the fit (.png, .pdf, .svg)")
    add("--json", action="store_true", help="print the result as JSON instead of as text")


_ACTIVATIONS = "linear (default), sigmoid, tanh, relu, leaky_relu or leaky_relu:SLOPE"
_NOISES = "per_expert (default), shared, or a standard deviation to hold"


def _activation(text: str) -> str | mf.Activation:
    name, colon, slope = text.partition(":")
    if not colon:
        return name
    if name != "leaky_relu":
        raise argparse.ArgumentTypeError(f"{text!r}: only leaky_relu takes a slope")
    try:
        return mf.LeakyReLU(float(slope))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@dataclass(frozen=True)
class _Columns:
    """What a table gives to the package."""

    X: pd.DataFrame
    gate_features: pd.DataFrame | None
    y: pd.Series
    weights: pd.Series | None


def _fit(arguments: argparse.Namespace) -> None:
    _check_outputs(arguments.save, arguments.plot)
    _check_picture(arguments.plot)
    data = _training_columns(read_table(arguments.data), arguments)
    with _progress() as callback:
        fit = mf.fit(
            data.X,
            data.y,
            arguments.experts,
            activation=arguments.activation,
            noise=arguments.noise,
            fit_intercept=not arguments.no_intercept,
            gate=arguments.gate,
            gate_features=data.gate_features,
            sample_weight=data.weights,
            n_threads=arguments.threads,
            random_state=arguments.seed,
            callback=callback,
        )
    if arguments.save:
        fit.model.save(arguments.save)
    if arguments.plot:
        axes = plot_fit(fit, data.X, data.y, gate_features=data.gate_features)
        axes.figure.savefig(arguments.plot)   # type: ignore[union-attr]   # a figure of its own, no SubFigure
    if arguments.json:
        print(json.dumps(_as_json(fit), indent=2, allow_nan=False))
    else:
        print(f"{arguments.data}: {len(data.y)} rows, {data.y.name} on {', '.join(data.X.columns)}")
        print(fit.summary())


def _training_columns(table: pd.DataFrame, arguments: argparse.Namespace) -> _Columns:
    target = _one_column(table, arguments.target, "--target")
    weights = _one_column(table, arguments.weights, "--weights") if arguments.weights else None
    gate = find_columns(table, arguments.gate_features, "--gate-features") if arguments.gate_features else []
    roles = [target, *gate, *([weights] if weights else [])]
    if arguments.features:
        features = find_columns(table, arguments.features, "--features")
    else:
        features, left_out = columns_of_numbers(table, roles)
        if left_out:
            _say(f"no features, since they hold no numbers or have no name: {', '.join(left_out)}")
        if not features:
            raise UsageError("no column is left for the experts: name theirs with --features")
    for name, role in ((target, "target"), (weights, "weights")):
        if name in features or name in gate:
            raise UsageError(f"column {name!r} holds the {role}, so it cannot be a feature")

    used = numbers(table, list(dict.fromkeys([*features, *roles])))
    if arguments.drop_missing:
        whole = used.notna().all(axis=1)
        _say(f"{(~whole).sum()} of {len(used)} rows have missing values and were left out")
        used = used[whole]
        if used.empty:
            raise ValueError("no row is without missing values")
    else:
        refuse_missing(used, "give --drop-missing to leave those rows out")
    return _Columns(
        X=used[features],
        gate_features=used[gate] if gate else None,
        y=used[target],
        weights=used[weights] if weights else None,
    )


def _one_column(table: pd.DataFrame, name: str, option: str) -> str:
    names = find_columns(table, name, option)
    if len(names) > 1:
        raise UsageError(f"{option} takes one column, got {len(names)}: {name}")
    return names[0]


def _check_outputs(*paths: str | None) -> None:
    """Refuse before the work what could not be written after it."""
    for path in filter(None, paths):
        if not Path(path).absolute().parent.is_dir():
            raise UsageError(f"no folder {Path(path).parent} to write {path} in")


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
def _progress() -> Iterator[Callable[[Any], None] | None]:
    """A callback for a fit that shows, on a terminal and after the first second, how far it is."""
    if not sys.stderr.isatty():
        yield None
        return
    with need("tqdm").tqdm(unit=" iterations", delay=1.0, leave=False) as bar:

        def callback(state: Any) -> None:
            bar.set_postfix_str(f"objective {state.objective:.6g}", refresh=False)
            bar.update()

        yield callback


def _as_json(fit: mf.FitResult) -> dict[str, Any]:
    plain = [
        *("log_likelihood", "aic", "bic", "icl", "n_parameters", "n_samples", "n_iter", "n_passes"),
        *("converged", "penalised", "separated", "seconds"),
    ]
    starts = [asdict(start) for start in fit.starts]
    for start in starts:
        if not math.isfinite(start["log_likelihood"]):   # a start that collapsed: JSON has no infinity
            start["log_likelihood"] = None
    return {
        **{name: getattr(fit, name) for name in plain},
        "mixing_weights": fit.mixing_weights.tolist(),
        "effective_sizes": fit.effective_sizes.tolist(),
        "starts": starts,
        "model": fit.model.to_dict(),
    }


# ---- predict ----


def _predict_options(add: Callable[..., Any]) -> None:
    add("model", help="file written by `moe-fast fit --save` or model.save")
    add("data", help=_TABLE)
    add("--features", metavar="A,B,...", help="default: the columns the model was fitted to")
    add("--gate-features", metavar="A,B,...", help="default: the columns the gate was fitted to")
    add("--top-k", type=int, metavar="K", help="use only the K likeliest experts of each row")
    add("--details", action="store_true", help="add each expert's gate probability and mean")
    add("--skip-missing", action="store_true", help="leave rows with missing values unpredicted")
    add("--output", default=STANDARD_STREAM, metavar="FILE", help="default: standard output")


def _predict(arguments: argparse.Namespace) -> None:
    model = mf.load(arguments.model)
    table = read_table(arguments.data)
    X = _prediction_columns(table, arguments.features, "--features", model.feature_names, model.n_features)
    gate: dict[str, pd.DataFrame] = {}
    if model.uses_gate_features:
        gate["gate_features"] = _prediction_columns(
            table, arguments.gate_features, "--gate-features", model.gate_feature_names, model.n_gate_features
        )
    elif arguments.gate_features:
        raise UsageError(f"--gate-features: the gate of {arguments.model} has no features of its own")

    inputs = need("pandas").concat([X, *gate.values()], axis=1)
    if not arguments.skip_missing:
        refuse_missing(inputs, "give --skip-missing to leave those rows unpredicted")
    whole = inputs.notna().all(axis=1)
    X, gate = X[whole], {name: features[whole] for name, features in gate.items()}
    if X.empty:
        raise ValueError("no row is without missing values")

    columns = {"prediction": model.predict(X, top_k=arguments.top_k, **gate)}
    if arguments.details:
        for name, values in (("gate", model.gate_proba(X, **gate)), ("mean", model.expert_means(X))):
            columns |= {f"{name}_{k + 1}": values[:, k] for k in range(model.n_experts)}
    predictions = need("pandas").DataFrame(columns, index=X.index)
    write_csv(predictions.reindex(table.index), arguments.output)
    target = model.target_name
    if target is not None and target in table.columns:
        _say(_quality(predictions["prediction"], numbers(table, [target])[target]))


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


def _quality(predicted: pd.Series, observed: pd.Series) -> str:
    """How well the predictions meet a target that is in the file, too."""
    residuals = (observed - predicted).dropna()
    rmse = math.sqrt((residuals**2).mean())
    return f"{observed.name} is in the file: root mean squared error {rmse:.6g} over {len(residuals)} rows"


# ---- simulate ----


def _simulate_options(add: Callable[..., Any]) -> None:
    add("--rows", type=int, default=1000, metavar="N")
    add("--features", type=int, default=5, metavar="D")
    add("--experts", type=int, default=3, metavar="K")
    add("--activation", type=_activation, default="linear", metavar="G", help=_ACTIVATIONS)
    add("--noise", type=float, default=0.1, metavar="SD", help="standard deviation (default 0.1)")
    add("--gate-norm", type=float, default=1.0, metavar="W", help="default 1; 0: experts drawn blindly")
    add("--labels", action="store_true", help="add the column expert: which one made the row, from 1")
    add("--seed", type=int, default=0)
    add("--save", metavar="FILE", help="write the true model as JSON")
    add("--output", default=STANDARD_STREAM, metavar="FILE", help="default: standard output")


def _simulate(arguments: argparse.Namespace) -> None:
    _check_outputs(arguments.save, arguments.output)
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
    write_csv(table, arguments.output)
    if arguments.save:
        simulation.model.save(arguments.save)


# ---- compare and info ----


def _compare_options(add: Callable[..., Any]) -> None:
    add("--runs", type=int, default=20, help="data sets of each kind, each with its own starts (default 20)")
    add("--iterations", type=int, default=100, help="of every method (default 100)")
    add("--seed", type=int, default=0)
    add("--threads", type=int, metavar="N", help="default: OMP_NUM_THREADS, else every core at hand")
    add("--output", default="compare.png", metavar="FILE", help="the figure (default compare.png)")
    add("--csv", default="compare.csv", metavar="FILE", help="its numbers (default compare.csv)")


def _compare(arguments: argparse.Namespace) -> None:
    _check_outputs(arguments.output, arguments.csv)
    _check_picture(arguments.output)
    from . import compare

    results = compare.run(
        n_runs=arguments.runs,
        n_iter=arguments.iterations,
        n_threads=arguments.threads,
        random_state=arguments.seed,
        progress=_say,
    )
    compare.write_csv(results, arguments.csv)
    compare.plot(results).savefig(arguments.output)
    print(compare.report(results))
    _say(f"wrote {arguments.output} and {arguments.csv}")


def _info(arguments: argparse.Namespace) -> None:
    for name, value in mf.show_config().items():
        if isinstance(value, bool):
            value = "yes" if value else "no"
        print(f"{name}: {', '.join(value) if isinstance(value, list | tuple) else value}")
