"""The command ``moe-fast``: what its options are, how it begins and how it ends.

`commands` holds what each command does. In all that it prints, writes and draws experts count from 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import moe_fast as mf

from . import commands
from .tables import STANDARD_STREAM, UsageError

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
            warnings.showwarning = lambda message, *where: commands.say(f"warning: {message}")   # and no source line
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


def _fail(error: object, code: int) -> int:
    commands.say(f"error: {error}")
    return code


Add = Callable[..., Any]   # ArgumentParser.add_argument

_EXIT_CODES = """\
exit codes:
  0    done
  1    the data, a file or an option's value was refused, or a fit failed
  2    the command line is wrong: an unknown option or column, a missing file
  130  interrupted
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moe-fast",
        description="Mixture-of-experts regression. `moe-fast COMMAND --help` has the options, and examples.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"moe-fast {mf.__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, add_options, text, examples in (
        ("fit", commands.fit, _fit_options, "Fit a mixture of experts to a table and print it.", _FIT_EXAMPLES),
        (
            *("select", commands.select, _select_options),
            *("Fit several numbers of experts to a table, compare and choose.", _SELECT_EXAMPLES),
        ),
        (
            *("predict", commands.predict, _predict_options),
            *("Predict new rows' target with a saved model; writes CSV or Parquet.", _PREDICT_EXAMPLES),
        ),
        (
            *("simulate", commands.simulate, _simulate_options),
            *("Draw rows from a random mixture of experts; writes CSV or Parquet.", _SIMULATE_EXAMPLES),
        ),
        (
            *("compare", commands.compare, _compare_options),
            *("Draw EM's error by iteration, from several starts.", _COMPARE_EXAMPLES),
        ),
        ("info", commands.info, _info_options, "Print versions, OpenMP, BLAS and threads.", _INFO_EXAMPLES),
    ):
        command = subparsers.add_parser(
            name,
            help=text,
            description=text,
            epilog="examples:\n" + "".join(f"  {example}\n" for example in examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        add_options(command.add_argument)
    return parser


# ---- what several commands take ----

_TABLE = "CSV (.tsv: by tabs; also .gz), Parquet or Feather with a header; - for CSV on standard input"
_ACTIVATIONS = "linear (default), sigmoid, tanh, relu, leaky_relu or leaky_relu:SLOPE"
_NOISES = "per_expert (default), shared, or a standard deviation to hold"
_SAVE = "write the model as JSON, for `moe-fast predict` and mf.load"
_JSON = "print the result as JSON instead of as text"
_THREADS = "default: OMP_NUM_THREADS, else every core at hand"


def _data_options(add: Add) -> None:
    """Which rows and columns of a file."""
    add("data", help=_TABLE)
    add("--target", metavar="COLUMN", help="what is fitted; or give --formula")
    add("--features", metavar="A,B,...", help="columns of the experts; default: every one left over")
    add("--gate-features", metavar="A,B,...", help="columns of the gate; default: those of the experts")
    add("--formula", metavar="'Y ~ A + B'", help="target and features in one, such as 'log(y) ~ log(a) + b'")
    add("--gate-formula", metavar="'~ A'", help="the gate's features; '~ 1' is a constant gate")
    add("--weights", metavar="COLUMN", help="a weight for each row")
    add("--where", metavar="CONDITION", help="use only rows for which it holds, such as 'a > 0 and b == \"x\"'")
    add("--drop-missing", action="store_true", help="leave out rows with missing values")


def _model_options(add: Add) -> None:
    """Which model, and how it is sought."""
    add("--activation", type=_activation, default="linear", metavar="G", help=_ACTIVATIONS)
    add("--noise", type=_number_or_text, default="per_expert", metavar="KIND", help=_NOISES)
    add("--gate", default="softmax", metavar="KIND", help="softmax (default) or constant")
    add("--no-intercept", action="store_true", help="experts without intercepts")
    add("--starts", type=int, metavar="N", help="starts that are drawn; default: by the number of rows")
    add("--seed", type=int, default=0, help="of the random starts (default 0)")
    add("--threads", type=int, metavar="N", help=_THREADS)


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


# ---- fit ----

_FIT_EXAMPLES = (
    "moe-fast fit tone.csv --target tuned --experts 2",
    "moe-fast fit data.parquet --target y --features x1,x2 --gate-features age --experts 3 --save model.json",
    "moe-fast fit diamonds.csv --formula 'log(price) ~ log(carat) + cut' --gate-formula '~ log(carat)' --experts 3",
    "moe-fast fit wages.csv --formula 'log(wage) ~ age + I(age**2)' --where 'wage > 0' --drop-missing --experts 2",
    "moe-fast fit tone.csv --target tuned --experts 2 --infer --plot tone.png",
    "moe-fast fit - --target y --experts 2 --json < data.csv",
)


def _fit_options(add: Add) -> None:
    _data_options(add)
    add("--experts", required=True, type=int, metavar="K", help="number of experts")
    _model_options(add)
    add("--infer", action="store_true", help="print standard errors, tests and intervals, too")
    add("--robust", action="store_true", help="--infer by the sandwich, for noise that is not as the model has it")
    add("--save", metavar="FILE", help=_SAVE)
    add("--plot", metavar="FILE", help="write a picture of the fit (.png, .pdf, .svg)")
    add("--json", action="store_true", help=_JSON)


# ---- select ----

_SELECT_EXAMPLES = (
    "moe-fast select data.csv --target y --experts 1-6 --plot criteria.png",
    "moe-fast select data.csv --formula 'log(y) ~ log(x) + city' --criterion held_out --save model.json",
    "moe-fast select data.csv --target y --experts 2,4,8 --json",
)


def _select_options(add: Add) -> None:
    _data_options(add)
    add("--experts", type=_numbers_of_experts, default="1-5", metavar="A-B", help="also A,B,...; default 1-5")
    add("--criterion", default="bic", metavar="NAME", help="bic (default), aic, icl or held_out")
    add("--folds", type=int, default=5, metavar="N", help="parts of the rows that held_out holds out (default 5)")
    _model_options(add)
    add("--save", metavar="FILE", help=_SAVE)
    add("--plot", metavar="FILE", help="write a picture of the criteria (.png, .pdf, .svg)")
    add("--json", action="store_true", help=_JSON)


def _numbers_of_experts(text: str) -> list[int]:
    try:
        first, dash, last = text.partition("-")
        found = list(range(int(first), int(last) + 1)) if dash else [int(number) for number in text.split(",")]
    except ValueError:
        found = []
    if not found:   # as 3-1 too
        raise argparse.ArgumentTypeError(f"{text!r}: wanted A-B or A,B,..., such as 1-5")
    return found


# ---- predict ----

_PREDICT_EXAMPLES = (
    "moe-fast predict model.json new.csv > predictions.csv",
    "moe-fast predict model.json new.parquet --details --output predictions.parquet",
)


def _predict_options(add: Add) -> None:
    add("model", help="file written by `moe-fast fit --save` or model.save")
    add("data", help=_TABLE)
    add("--features", metavar="A,B,...", help="default: the columns the model was fitted to")
    add("--gate-features", metavar="A,B,...", help="default: the columns the gate was fitted to")
    add("--top-k", type=int, metavar="K", help="use only the K likeliest experts of each row")
    add("--details", action="store_true", help="add each expert's gate probability and mean")
    add("--skip-missing", action="store_true", help="leave rows with missing values unpredicted")
    add("--output", default=STANDARD_STREAM, metavar="FILE", help="default: CSV on standard output")


# ---- simulate ----

_SIMULATE_EXAMPLES = (
    "moe-fast simulate --rows 1000 --features 5 --experts 3 > data.csv",
    "moe-fast simulate --rows 50 --activation relu --labels --save truth.json --output data.parquet",
)


def _simulate_options(add: Add) -> None:
    add("--rows", type=int, default=1000, metavar="N")
    add("--features", type=int, default=5, metavar="D")
    add("--experts", type=int, default=3, metavar="K")
    add("--activation", type=_activation, default="linear", metavar="G", help=_ACTIVATIONS)
    add("--noise", type=float, default=0.1, metavar="SD", help="standard deviation (default 0.1)")
    add("--gate-norm", type=float, default=1.0, metavar="W", help="default 1; 0: experts drawn blindly")
    add("--labels", action="store_true", help="add the column expert: which one made the row, from 1")
    add("--seed", type=int, default=0)
    add("--save", metavar="FILE", help="write the true model as JSON")
    add("--output", default=STANDARD_STREAM, metavar="FILE", help="default: CSV on standard output")


# ---- compare and info ----

_COMPARE_EXAMPLES = (
    "moe-fast compare",
    "moe-fast compare --runs 5 --iterations 50 --output compare.pdf --csv runs.csv",
)


def _compare_options(add: Add) -> None:
    add("--runs", type=int, default=20, help="data sets of each kind, each with its own starts (default 20)")
    add("--iterations", type=int, default=100, help="of every method (default 100)")
    add("--seed", type=int, default=0)
    add("--threads", type=int, metavar="N", help=_THREADS)
    add("--output", default="compare.png", metavar="FILE", help="the figure (default compare.png)")
    add("--csv", default="compare.csv", metavar="FILE", help="its numbers (default compare.csv)")


_INFO_EXAMPLES = ("moe-fast info", "moe-fast info --json")


def _info_options(add: Add) -> None:
    add("--json", action="store_true", help="print JSON instead of text")
