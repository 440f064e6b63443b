"""Tables: read a file, choose its columns, turn them into numbers.

Every message names the table's own words: its columns, and its rows by the labels of its index, which `read_table`
counts from 1 below the header.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

STANDARD_STREAM = "-"   # in place of a file: standard input or output

_N_NAMED = 5       # rows that a message names
_N_COLUMNS = 20    # columns that a message lists
_N_LEVELS = 20     # values of a text column that is taken for a factor unasked


class UsageError(ValueError):
    """What the command line asks for is not there, or cannot be."""


def need(module: str, extra: str = "cli") -> Any:
    """Import a module of an extra, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise   # the module is there, and something that it needs is not
        raise ImportError(f"this needs {error.name}: pip install 'moe_fast[{extra}]'") from error


def read_table(path: str) -> pd.DataFrame:
    """Read CSV (also compressed, tab-separated as .tsv, or "-" for standard input), Parquet or Feather.

    Raises
    ------
    UsageError
        If there is no such file.
    ValueError
        If it is not such a table, or has no rows.
    """
    pandas = need("pandas")
    if path != STANDARD_STREAM and not Path(path).is_file():
        raise UsageError(f"no such file: {path}" if not Path(path).exists() else f"not a file: {path}")
    suffixes = Path(path).suffixes
    try:
        if suffixes[-1:] == [".parquet"]:
            table = pandas.read_parquet(path)
        elif suffixes[-1:] in ([".feather"], [".arrow"]):
            table = pandas.read_feather(path)
        else:
            table = pandas.read_csv(
                sys.stdin if path == STANDARD_STREAM else path,
                sep="\t" if ".tsv" in suffixes else ",",
                low_memory=False,   # a column's type from all of it, not from chunks
                **_exact_floats(pandas.__version__),
            )
    except UnicodeError as error:   # an EncodeError from standard input, which takes in what it cannot decode
        raise ValueError(f"{path} is not text in UTF-8: {error}; write it again in that encoding") from error
    except (ValueError, OSError) as error:   # pandas' and pyarrow's own errors are ValueErrors
        raise ValueError(f"{path} cannot be read as a table: {error}") from error
    table.columns = [str(name) for name in table.columns]
    if len(table.columns) == 1 and any(sign in table.columns[0] for sign in ";\t"):
        raise ValueError(
            f"{path} has one column, {table.columns[0]!r}: wanted commas between columns, or tabs in a .tsv"
        )
    if len(table) == 0:
        raise ValueError(f"{path} has no rows under its header")
    table.index = pandas.RangeIndex(1, len(table) + 1)
    return table


def write_table(table: pd.DataFrame, path: str) -> None:
    """Write without row numbers, every number exact: Parquet by the name's end, else CSV; "-" is standard output."""
    if Path(path).suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_csv(sys.stdout if path == STANDARD_STREAM else path, index=False)


def find_columns(table: pd.DataFrame, asked: str | Sequence[str], asker: str) -> list[str]:
    """The columns that were asked for, as a list or as text "A,B,...", in that order.

    Raises
    ------
    UsageError
        If one is not in the table, or there or asked for twice; names the asker (an option) and the nearest column.
    """
    if isinstance(asked, str):
        asked = [asked] if asked in table.columns else [name.strip() for name in asked.split(",")]
    for name in asked:
        if name not in table.columns:
            raise UsageError(f"{asker}: no column {name!r}{_nearest(name, table.columns)}")
        if asked.count(name) > 1:
            raise UsageError(f"{asker}: column {name!r} is named twice")
        if (n_same := int((table.columns == name).sum())) > 1:
            raise UsageError(f"{asker}: the table has {n_same} columns {name!r}")
    return list(asked)


def usable_columns(table: pd.DataFrame, taken: Iterable[str]) -> tuple[list[str], list[str]]:
    """The columns left over for features: (those that can be, those that cannot).

    A column with some numbers and some text counts as numbers: `numbers` then refuses it and names the rows,
    where leaving it out would hide a slip of the pen. Text of 2 to 20 different values is a factor; of more, it is
    names or notes. A column without a name is no feature: so R's write.csv writes row numbers.
    """
    chosen: list[str] = []
    left_out: list[str] = []
    for name in table.columns.drop(list(taken)):
        if name.startswith("Unnamed: "):   # as pandas calls it
            usable = False
        elif is_text(table[name]):
            usable = 2 <= table[name].nunique() <= _N_LEVELS
        else:
            usable = holds_numbers(table[name]) or bool(parsed(table[name]).notna().any())
        (chosen if usable else left_out).append(name)
    return chosen, left_out


def is_text(column: pd.Series) -> bool:
    """Whether a column holds text and no number, or categories."""
    if column.dtype == "category":
        return True
    types = need("pandas").api.types
    is_written = types.is_string_dtype(column.dtype) or types.is_object_dtype(column.dtype)
    return is_written and not parsed(column).notna().any() and bool(column.notna().any())


def where(table: pd.DataFrame, condition: str) -> pd.DataFrame:
    """The rows for which a condition such as "x > 0 and city == 'Oslo'" holds.

    Raises
    ------
    ValueError
        If the condition cannot be read, is none, or holds for no row.
    """
    try:
        holds = table.eval(condition, engine="python")
    except Exception as error:   # whatever the words of a condition lead to in pandas
        raise ValueError(f"condition {condition!r} cannot be evaluated: {error}") from error
    if not need("pandas").api.types.is_bool_dtype(holds) or len(holds) != len(table):
        raise ValueError(f"condition {condition!r} must be true or false in each row")
    if not holds.any():
        raise ValueError(f"condition {condition!r} holds for no row")
    return table[holds]


def numbers(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """These columns as float64; a missing value is NaN.

    Raises
    ------
    ValueError
        If a column holds text, dates or infinities; names the column and the rows.
    """
    result = need("pandas").DataFrame(index=table.index)
    for name in columns:
        column = table[name]
        values = column.astype("float64") if holds_numbers(column) else parsed(column)
        text = values.isna() & column.notna()
        if text.any():
            found = column[text].iloc[0]
            raise ValueError(f"column {name!r} must hold numbers, but has {found!r} {rows_of(text)}")
        infinite = np.isinf(values)
        if infinite.any():
            raise ValueError(f"column {name!r} is infinite {rows_of(infinite)}")
        result[name] = values
    return result


def rows_of(rows: pd.Series) -> str:
    """The labels of a mask's True rows, as text: "in rows 4, 9 and 12", "in 37 rows, first 4, 9, 12, 13, 20"."""
    found = [str(label) for label in rows.index[rows]]
    if len(found) == 1:
        return f"in row {found[0]}"
    if len(found) <= _N_NAMED:
        return f"in rows {', '.join(found[:-1])} and {found[-1]}"
    return f"in {len(found)} rows, first {', '.join(found[:_N_NAMED])}"


def refuse_missing(table: pd.DataFrame, advice: str) -> None:
    """Raise ValueError if a value is missing, naming the columns and rows, and what to do about it."""
    missing = table.isna()
    columns = [repr(name) for name in table.columns[missing.any()]]
    if columns:
        word = "column" if len(columns) == 1 else "columns"
        where = rows_of(missing.any(axis=1))
        raise ValueError(f"values are missing from {word} {_listed(columns)} {where}; {advice}")


def _exact_floats(pandas_version: str) -> dict[str, str]:
    """What makes read_csv give the nearest double: nothing since pandas 3.1, which warns of the argument."""
    major, minor = pandas_version.split(".")[:2]
    return {} if (int(major), int(minor)) >= (3, 1) else {"float_precision": "round_trip"}


def holds_numbers(column: pd.Series) -> bool:
    types = need("pandas").api.types
    return types.is_numeric_dtype(column.dtype) and not types.is_complex_dtype(column.dtype)   # bool counts


def parsed(column: pd.Series) -> pd.Series:
    """Text read as numbers where it is, NaN elsewhere; dates and the like are no numbers."""
    pandas = need("pandas")
    if not (pandas.api.types.is_string_dtype(column.dtype) or pandas.api.types.is_object_dtype(column.dtype)):
        return pandas.Series(np.nan, index=column.index)
    return pandas.to_numeric(column, errors="coerce").astype("float64")


def _nearest(name: str, columns: Sequence[str]) -> str:
    by_lower_case = {column.lower(): column for column in columns}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    guess = f"; did you mean {by_lower_case[near[0]]!r}?" if near else ""
    return f"{guess} (columns: {_listed(list(columns))})"


def _listed(words: Sequence[str]) -> str:
    more = "" if len(words) <= _N_COLUMNS else f", and {len(words) - _N_COLUMNS} more"
    return ", ".join(words[:_N_COLUMNS]) + more
