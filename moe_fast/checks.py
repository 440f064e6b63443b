"""Checks at the border: what a caller gives becomes what the inside trusts.

Every public function passes its arguments through here once, before any work. A wrong kind (sparse, text,
complex, an object that is no number) is a ``TypeError``; a wrong value or shape is a ``ValueError``. The
message names the argument, what was wanted and what came. Nothing here writes to the caller's arrays, and
nothing is copied that can be used as it is.
"""

from __future__ import annotations

import difflib
import numbers
import operator
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import scipy
from numpy.typing import NDArray

__all__ = [
    "CONSTANT",
    "check_aligned",
    "check_choice",
    "check_flag",
    "check_held_noise",
    "check_integer",
    "check_matrix",
    "check_positive",
    "check_probabilities",
    "check_random_state",
    "check_target_size",
    "check_target_varies",
    "check_vector",
    "check_weights",
    "feature_names",
]

CONSTANT = 1e-13   # ratio of standard deviation to mean, up to which a column is constant to working precision

_BLOCK_SIZE = 1 << 16   # values looked at together: half a megabyte of float64, which stays in a core's cache
_N_NAMED = 3            # offending rows, or columns, that a message names
_LARGEST_TARGET = 1e50      # the variance of y^3 takes sixth powers, which overflow beyond
_LARGEST_WILD_TARGET = 1e150     # of rows that next to no weight is given: their squares are numbers yet
_ROUNDING = 1e-16           # of a number, about
_SMALLEST_SPREAD = 1e-100   # squares of residuals that are much smaller than y vanish below


def check_matrix(
    X: Any,
    name: str,
    *,
    n_features: int | None = None,
    n_samples: int | None = None,
    allow_f_order: bool = False,
) -> NDArray[np.floating]:
    """A finite, two-dimensional, non-empty matrix of float32 or float64.

    Parameters
    ----------
    X : array_like or data frame of shape (n_samples, n_features)
        C-ordered, aligned float32 or float64 of native byte order is used as it is, also when it is read-only
        or memory-mapped. Other float32 is copied to C order; all other real numbers (integers, booleans,
        float16, long double, objects that are numbers) are copied to C-ordered float64.
    name : str
        The argument's name, for messages.
    n_features, n_samples : int, optional
        The shape wanted, where it is known.
    allow_f_order : bool
        Use Fortran-ordered floats as they are, too.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        Shares memory with the input where it could; treat it as read-only.

    Raises
    ------
    TypeError
        If X is sparse, complex, text, dates, or holds objects that are not numbers.
    ValueError
        If X is not two-dimensional, is empty or masked, has not the shape wanted, or has NaN or infinity.

    Notes
    -----
    Reads X once; the check for NaN and infinity goes by blocks and makes no temporary of the size of X.
    """
    array = _as_real_array(X, name)
    shape = array.shape
    if array.ndim == 1:
        raise ValueError(
            f"{name} is one-dimensional, shape {shape}; wanted (n_samples, n_features): "
            f"use {name}.reshape(-1, 1) for a single feature, {name}.reshape(1, -1) for a single row"
        )
    if array.ndim != 2:
        raise ValueError(f"{name} has {array.ndim} dimensions, shape {shape}; wanted (n_samples, n_features)")
    if array.size == 0:
        raise ValueError(f"{name} is empty, shape {shape}; wanted at least one row and one column")
    if n_samples is not None and shape[0] != n_samples:
        raise ValueError(f"{name} has {shape[0]} rows, shape {shape}; wanted n_samples = {n_samples}")
    if n_features is not None and shape[1] != n_features:
        raise ValueError(f"{name} has {shape[1]} columns, shape {shape}; wanted {n_features}")

    dtype = np.float32 if array.dtype.kind == "f" and array.dtype.itemsize == 4 else np.float64
    array = _convert(array, dtype, keep_f_order=allow_f_order)
    _refuse_non_finite(array, name, feature_names(X))
    return array


def check_vector(y: Any, name: str, *, n_samples: int | None = None) -> NDArray[np.float64]:
    """A finite, one-dimensional, non-empty float64 vector.

    Parameters
    ----------
    y : array_like of shape (n_samples,), or a data frame of one column
        Contiguous float64 is used as it is, anything else is copied.
    name : str
        The argument's name, for messages.
    n_samples : int, optional
        The length wanted: the rows of X.

    Returns
    -------
    y : ndarray of shape (n_samples,)
        Shares memory with the input where it could; treat it as read-only.

    Raises
    ------
    TypeError, ValueError
        As for `check_matrix`.
    """
    array = _as_real_array(y, name)
    if _is_frame(y) and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        hint = f": use {name}.ravel()" if array.ndim == 2 and 1 in array.shape else ""
        raise ValueError(f"{name} has shape {array.shape}; wanted one dimension, (n_samples,){hint}")
    if array.size == 0:
        raise ValueError(f"{name} is empty; wanted at least one value")
    if n_samples is not None and array.size != n_samples:
        raise ValueError(f"{name} has {array.size} values; wanted n_samples = {n_samples}, as in X")

    array = _convert(array, np.float64)
    _refuse_non_finite(array, name)
    return array


def check_weights(sample_weight: Any, n_samples: int) -> NDArray[np.float64] | None:
    """Weights of the rows: None, or a float64 vector, non-negative, with a positive and finite sum."""
    if sample_weight is None:
        return None
    weights = check_vector(sample_weight, "sample_weight", n_samples=n_samples)
    if weights.min() < 0.0:
        rows = np.flatnonzero(weights < 0.0)
        raise ValueError(
            f"sample_weight has {_count(rows.size, 'negative value')}, {_first('row', rows)} "
            f"(rows count from 0); wanted weights of at least 0"
        )
    with np.errstate(over="ignore"):
        total = weights.sum()
    if total == 0.0:
        raise ValueError("sample_weight is zero in every row; wanted at least one positive weight")
    if not np.isfinite(total):
        raise ValueError("the sum of sample_weight overflows; divide the weights by their largest")
    return weights


def check_target_varies(y: NDArray[np.float64], sample_weight: NDArray[np.float64] | None = None) -> None:
    """Refuse a target that is the same in every row of positive weight (arguments checked before)."""
    counted = y if sample_weight is None else y[sample_weight > 0.0]
    if counted.min() == counted.max():
        raise ValueError(
            f"y is constant: every row is {counted[0]:g}, so there is nothing to fit; "
            f"check that y is the column meant, or that the rows were not filtered down to one value"
        )


def check_target_size(y: NDArray[np.float64], *, wild_rows: bool = False) -> None:
    """Refuse a target whose powers leave the range of a float64; of wild rows only squares are taken."""
    low, high = float(y.min()), float(y.max())
    largest, allowed = max(abs(low), abs(high)), _LARGEST_WILD_TARGET if wild_rows else _LARGEST_TARGET
    if largest > allowed:
        raise ValueError(f"y has values up to {largest:.3g}; wanted at most {allowed:g}: scale y down")
    if high - low < _SMALLEST_SPREAD:
        raise ValueError(f"y varies by {high - low:.3g}; wanted at least {_SMALLEST_SPREAD:g}: scale y up")


def check_held_noise(noise: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Refuse a noise, given by the caller, whose ratio to y's values has no digits."""
    largest = max(abs(float(y.min())), abs(float(y.max())))
    least = _ROUNDING * largest
    if noise.max() > _LARGEST_TARGET or noise.min() < least:
        raise ValueError(
            f"noise must be at least {least:.3g}, below which the rounding of y is larger, and at most "
            f"{_LARGEST_TARGET:g}, got {noise.tolist()}"
        )


def check_choice(value: Any, name: str, choices: Sequence[str]) -> str:
    """One of the choices; a miss names the nearest of them."""
    listed = ", ".join(choices)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {listed}; got {_describe(value)}")
    if value not in choices:
        near = difflib.get_close_matches(value.lower(), choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown {name} {value!r}{hint} (choices: {listed})")
    return value


def check_integer(value: Any, name: str, minimum: int, maximum: int | None = None) -> int:
    """An integer (Python's or numpy's, not a boolean) between two bounds, both allowed."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {_describe(value)}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {_describe(value)}") from None
    if number < minimum or (maximum is not None and number > maximum):
        upper = "" if maximum is None else f" and at most {maximum}"
        raise ValueError(f"{name} must be at least {minimum}{upper}, got {number}")
    return number


def check_aligned(X: Any, **others: Any) -> None:
    """Refuse columns with the labels of X's rows in another order: rows are taken by position.

    Other labels are let pass, as where an index was reset.
    """
    labels: Any = getattr(X, "index", None)
    for name, other in others.items():
        own: Any = getattr(other, "index", None)
        if not (hasattr(labels, "equals") and hasattr(own, "equals")) or len(labels) != len(own) or labels.equals(own):
            continue
        if labels.nlevels != own.nlevels or own[0] not in labels:   # labels of another kind
            continue
        if labels.is_unique and own.is_unique and own.isin(labels).all():
            raise ValueError(
                f"{name} has the row labels of X in another order, and rows are taken by position: give both one "
                f"order, as by {name}.reindex(X.index), or pass {name}.to_numpy() if its order is right"
            )


def check_flag(value: Any, name: str) -> bool:
    """True or False, and nothing that is merely taken for them."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_positive(value: Any, name: str, below: float = np.inf) -> float:
    """A finite real number above zero, and below a bound."""
    if not isinstance(value, numbers.Real) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a positive number, got {_describe(value)}")
    number = float(value)
    if not 0.0 < number < below:
        wanted = "positive and finite" if below == np.inf else f"above 0 and below {below:g}"
        raise ValueError(f"{name} must be {wanted}, got {number:g}")
    return number


def check_probabilities(value: Any, name: str) -> NDArray[np.float64]:
    """Numbers from 0 to 1, both allowed: one (an array of no dimensions), or a vector."""
    array = _as_real_array(value, name)
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; wanted one number, or a vector")
    bad = array[~((array >= 0.0) & (array <= 1.0))]
    if bad.size:
        raise ValueError(f"{name} must be from 0 to 1, got {bad[0]:g}")
    return array.astype(np.float64)


def check_random_state(random_state: Any) -> np.random.Generator:
    """The generator to draw from.

    Parameters
    ----------
    random_state : None, int, SeedSequence, BitGenerator, Generator or RandomState
        None draws a fresh seed from the system. A Generator is used as it is, so it moves on. A legacy
        RandomState gives the seed of a new Generator, and moves on too.
    """
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(0, 1 << 32, size=4, dtype=np.uint32))
    accepted = (np.random.Generator, np.random.BitGenerator, np.random.SeedSequence)
    if random_state is None or isinstance(random_state, accepted):
        return np.random.default_rng(random_state)
    try:
        return np.random.default_rng(check_integer(random_state, "random_state", 0))
    except TypeError:
        shown = _describe(random_state)
        raise TypeError(f"random_state must be None, an integer or a numpy Generator, got {shown}") from None


def feature_names(X: Any) -> list[str] | None:
    """Column names of a data frame; None for anything else, and for names that are not all text."""
    if not _is_frame(X):
        return None
    names = list(X.columns)
    return names if all(isinstance(name, str) for name in names) else None


def _is_frame(X: Any) -> bool:
    """A pandas or polars frame, told by what it offers, so that neither need be installed."""
    return hasattr(X, "columns") and hasattr(X, "dtypes") and hasattr(X, "to_numpy")


def _as_real_array(value: Any, name: str) -> NDArray[Any]:
    """As a plain array of booleans, integers or floats, of any shape and order; else refused."""
    if scipy.sparse.issparse(value):
        kind = type(value).__name__
        raise TypeError(f"{name} is sparse ({kind}); wanted a dense array: use {name}.toarray()")
    if np.ma.is_masked(value):
        raise ValueError(f"{name} has masked values; drop those rows or fill them in")
    if value is None:
        raise TypeError(f"{name} is None; wanted an array of numbers")
    try:
        array = np.asarray(value)
    except ValueError as error:   # ragged lists
        raise ValueError(f"{name} cannot be made an array: {error}") from None
    if array.dtype.kind == "O":
        array = _from_objects(array, name, feature_names(value))
    if array.dtype.kind not in "biuf":
        kinds = {"c": "complex numbers", "U": "text", "S": "bytes", "M": "dates", "m": "time spans"}
        raise TypeError(f"{name} holds {kinds.get(array.dtype.kind, array.dtype)}; wanted real numbers")
    return array


def _from_objects(values: NDArray[np.object_], name: str, columns: list[str] | None) -> NDArray[np.float64]:
    """Float64 from objects that are real numbers; None and pandas' NA become NaN, to be refused by row."""
    if values.ndim == 0:
        raise TypeError(f"{name} must be an array of numbers, got {_describe(values.item())}")
    out = np.empty(values.shape)
    for place, value in np.ndenumerate(values):
        if value is None or type(value).__name__ in ("NAType", "NaTType"):
            out[place] = np.nan
        elif isinstance(value, (numbers.Real, Decimal, np.bool_)):
            out[place] = float(value)
        else:
            where = f"row {place[0]}"
            if len(place) == 2:
                where += f", column {columns[place[1]]!r}" if columns else f", column {place[1]}"
            raise TypeError(f"{name} must hold numbers only; {where} holds {_describe(value)}")
    return out


def _convert(array: NDArray[Any], dtype: type, keep_f_order: bool = False) -> NDArray[Any]:
    """Native, aligned, C-contiguous (or F-contiguous, if kept), copied only where it must be."""
    order: Literal["C", "F"] = "C"
    if keep_f_order and array.flags.f_contiguous and not array.flags.c_contiguous:
        order = "F"
    with np.errstate(over="ignore"):   # a long double beyond float64 becomes infinite, then refused as such
        return np.require(array, dtype, [order, "ALIGNED", "ENSUREARRAY"])


def _refuse_non_finite(array: NDArray[Any], name: str, columns: list[str] | None = None) -> None:
    """Raise if any value is NaN or infinite, with how many, the first rows and the first columns."""
    table = array if array.ndim == 2 else array[:, np.newaxis]
    if all(_is_finite(table[block]) for block in _blocks(table)):
        return
    count, rows, cols = 0, np.zeros(table.shape[0], bool), np.zeros(table.shape[1], bool)
    for block in _blocks(table):
        bad = ~np.isfinite(table[block])
        count += int(bad.sum())
        rows[block[0]] |= bad.any(axis=1)
        cols[block[1]] |= bad.any(axis=0)
    where = _first("row", np.flatnonzero(rows))
    if array.ndim == 2:
        labels = np.flatnonzero(cols) if columns is None else [repr(columns[b]) for b in np.flatnonzero(cols)]
        where += f" ({_listed('column', labels)})"
    raise ValueError(
        f"{name} has {_count(count, 'value')} that {'is' if count == 1 else 'are'} NaN or infinite, {where}; "
        f"rows count from 0. Drop those rows or fill them in"
    )


def _blocks(table: NDArray[Any]) -> Iterator[tuple[slice, slice]]:
    """Cut a matrix into contiguous runs of about _BLOCK_SIZE values: rows, or columns in Fortran order."""
    axis = 0 if table.flags.c_contiguous else 1
    step = max(1, _BLOCK_SIZE // table.shape[1 - axis])
    for start in range(0, table.shape[axis], step):
        run = slice(start, start + step)
        yield (run, slice(None)) if axis == 0 else (slice(None), run)


def _is_finite(block: NDArray[Any]) -> bool:
    """A finite sum proves a block finite, without a temporary; an infinite one may just have overflowed."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = block.sum()
    return bool(np.isfinite(total) or np.isfinite(block).all())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _first(noun: str, labels: Sequence[Any] | NDArray[Any]) -> str:
    return f"{'first in' if len(labels) > _N_NAMED else 'in'} {_listed(noun, labels)}"


def _listed(noun: str, labels: Sequence[Any] | NDArray[Any]) -> str:
    plural = "" if len(labels) == 1 else "s"
    return f"{noun}{plural} {', '.join(map(str, labels[:_N_NAMED]))}"


def _describe(value: Any) -> str:
    """A value and its type, short enough for a message."""
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:37] + '...'} ({type(value).__name__})"
