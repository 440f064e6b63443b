"""Formulas: what the experts and the gate see, written in the columns of a table.

``"log(price) ~ log(carat) + cut"`` is read by formulaic. What a fit must remember to do the same to new rows is the
text and the levels of the factors, and nothing else, so that a model with a formula is a few lines of JSON. For that,
what a term may hold is a short list (`_Expression`): columns, numbers, arithmetic, comparisons and the functions
below, each of which looks at one row at a time. The list is checked before anything is evaluated: a formula from a
file can run no other code.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from .tables import find_columns, holds_numbers, need, numbers, parsed, refuse_missing, rows_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Formula", "quoted"]

Level = str | int | float | bool

_FUNCTIONS = {
    name: getattr(np, name)
    for name in ("abs", "cos", "exp", "expm1", "log", "log10", "log1p", "log2", "sin", "sqrt", "tanh")
}
_CONTRASTS = ("treatment", "sum", "helmert", "diff")
_OF_THE_WHOLE_TABLE = ("bs", "cc", "center", "cr", "cs", "lag", "poly", "scale", "standardize", "te")
_N_NAMED = 10   # levels that a message lists


@dataclass(frozen=True)
class Formula:
    """Formulas of a model, and the levels of their factors.

    Made by `fit_formula`, and found as ``model.formula``; its methods give the matrices that the formula makes of a
    table.

    Attributes
    ----------
    text : str
        Target and experts: ``"log(price) ~ log(carat) + cut"``.
    gate : str or None
        The gate's features: ``"~ log(carat)"``. None where it has the experts', or where it is constant.
    levels : dict
        The levels of each factor, ``{"cut": ("Fair", "Good")}``; the first is the reference.
    """

    text: str
    gate: str | None = None
    levels: Mapping[str, tuple[Level, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str, gate: str | None, data: pd.DataFrame) -> Formula:
        """Read formulas for a table; `learn` adds the levels of their factors.

        Parameters
        ----------
        text : str
            ``"target ~ terms"``; the term ``.`` stands for every column but the target's.
        gate : str or None
            ``"~ terms"``.
        data : pandas.DataFrame

        Returns
        -------
        formula : Formula

        Raises
        ------
        ValueError
            If a formula cannot be read or holds what it may not, or a column is not there.
        """
        if not isinstance(text, str):
            raise TypeError(f"formula must be text, got {type(text).__name__}")
        target, tilde, experts = text.partition("~")
        if not (target.strip() and tilde):
            raise ValueError(f'formula {text!r} has no target; wanted "target ~ features"')
        for formula_text, right in ((text, experts), (gate, (gate or "").partition("~")[2])):
            if right.lstrip().startswith("~"):
                raise ValueError(f"formula {formula_text!r} has a ~ too many")
        if gate is not None and gate.partition("~")[0].strip():
            raise ValueError(f"gate formula {gate!r} has a target; wanted '~ features', as the gate has none")
        others = [name for name in data.columns if name not in _read(target).columns]
        formula = cls(
            f"{target.strip()} ~ {_spelt_out(experts, others)}",
            None if gate is None else f"~ {_spelt_out(gate.partition('~')[2], others)}",
        )
        find_columns(data, list(formula.columns), "formula")
        if len(formula.target_columns) == 1 and formula.target_columns[0] in formula.input_columns:
            of_experts = formula.target_columns[0] in formula._experts().columns
            raise ValueError(
                f"{'' if of_experts else 'gate '}formula {(text if of_experts else gate)!r}: column "
                f"{formula.target_columns[0]!r} holds the target, so it cannot be a feature"
            )
        if not formula._experts().columns:
            raise ValueError(f"formula {text!r} has no features for the experts")
        if formula.gate_is_constant and not formula.gate_intercept:
            raise ValueError(f"gate formula {gate!r} leaves the gate nothing; '~ 1' is a constant gate")
        return formula

    def learn(self, data: pd.DataFrame) -> Formula:
        """The same formulas with the levels that their factors have in a table.

        Parameters
        ----------
        data : pandas.DataFrame
            The rows of the fit, without missing values.

        Returns
        -------
        formula : Formula

        Raises
        ------
        ValueError
            If a column that would be a factor holds both numbers and text, or one value only, or if text that a
            formula compares with is in no row.
        """
        levels: dict[str, tuple[Level, ...]] = {}
        for part in self._parts():
            levels |= part.learn_levels(data)
        return Formula(self.text, self.gate, levels)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table that a fit needs: those of the target first."""
        return tuple(dict.fromkeys([*self.target_columns, *self.input_columns]))

    @property
    def target_columns(self) -> tuple[str, ...]:
        """The columns of a table that the target is made of."""
        return self._target().columns

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The columns of a table that a prediction needs."""
        return tuple(dict.fromkeys(name for part in self._parts() for name in part.columns))

    @property
    def intercept(self) -> bool:
        """Whether the experts have an intercept."""
        return self._experts().intercept

    @property
    def gate_intercept(self) -> bool:
        """Whether the gate has an intercept."""
        return self.gate is None or _read(self.gate.partition("~")[2]).intercept

    @property
    def gate_is_constant(self) -> bool:
        """Whether the gate's formula is ``~ 1``."""
        return self.gate is not None and not _read(self.gate.partition("~")[2]).columns

    def features(self, data: pd.DataFrame) -> pd.DataFrame:
        """The experts' features of each row.

        Parameters
        ----------
        data : pandas.DataFrame of n_samples rows
            Holds the columns `input_columns`, and any others.

        Returns
        -------
        X : pandas.DataFrame of shape (n_samples, n_features)
            float64, finite, without a column for the intercept.

        Raises
        ------
        ValueError
            If a column is not there, a value is missing, a number is wanted where there is text, a level was not
            seen in the fit, or a term is not finite; names the rows by the labels of the table's index.
        """
        return self._matrix(self._experts(), data)

    def gate_features(self, data: pd.DataFrame) -> pd.DataFrame | None:
        """The gate's own features of each row; None if it has none of its own. As `features`."""
        return None if self.gate is None else self._matrix(_read(self.gate.partition("~")[2]), data)

    def target(self, data: pd.DataFrame) -> pd.Series:
        """The target of each row, as it was fitted: for ``log(price) ~ ...``, the logarithm. As `features`."""
        return self._matrix(self._target(), data).iloc[:, 0]

    def matrices(self, data: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, pd.DataFrame | None]:
        """X, y and gate_features of a table, for whatever takes them: ``mf.infer``, ``mf.fit_gate``, pictures.

        Parameters
        ----------
        data : pandas.DataFrame of n_samples rows
            Holds the columns `columns`.

        Returns
        -------
        X : pandas.DataFrame of shape (n_samples, n_features)
        y : pandas.Series of shape (n_samples,)
        gate_features : pandas.DataFrame of shape (n_samples, n_gate_features), or None
        """
        data = as_frame(data)
        return self.features(data), self.target(data), self.gate_features(data)

    def to_dict(self) -> dict[str, Any]:
        """As plain text and lists, for a model's JSON file."""
        return {
            "text": self.text,
            "gate": self.gate,
            "levels": {factor: list(levels) for factor, levels in self.levels.items()},
        }

    @classmethod
    def from_dict(cls, document: Any) -> Formula:
        """The formula that `to_dict` described; ValueError if it is none."""
        if not isinstance(document, dict) or document.keys() != {"text", "gate", "levels"}:
            raise ValueError(f"formula must be an object with text, gate and levels, got {document!r}")
        text, gate, levels = document["text"], document["gate"], document["levels"]
        if not isinstance(text, str) or not isinstance(gate, str | None):
            raise ValueError(f"the formula's text and gate must be text, got {text!r} and {gate!r}")
        if not isinstance(levels, dict) or not all(
            isinstance(of, list) and all(isinstance(level, str | int | float | bool) for level in of)
            for of in levels.values()
        ):
            raise ValueError(f"the formula's levels must be lists of text or numbers, got {levels!r}")
        return cls(text, gate, {factor: tuple(of) for factor, of in levels.items()})

    def __str__(self) -> str:
        return self.text if self.gate is None else f"{self.text}, gate {self.gate}"

    def _target(self) -> _Part:
        part = _read(self.text.partition("~")[0])
        if len(part.formula) != 2 or not part.intercept or len(part.formula[1].factors) != 1:   # formulaic's 1, and y
            raise ValueError(f"{part.text!r} is not one target; arithmetic goes into I(), as in I(y / 1000)")
        return part

    def _experts(self) -> _Part:
        return _read(self.text.partition("~")[2])

    def _parts(self) -> Iterator[_Part]:
        yield self._experts()
        if self.gate is not None:
            yield _read(self.gate.partition("~")[2])

    def _matrix(self, part: _Part, data: pd.DataFrame) -> pd.DataFrame:
        formulaic = _formulaic()
        columns = self._columns_for(part, as_frame(data))
        categorical = need("formulaic.parser.types").Factor.Kind.CATEGORICAL
        spec = formulaic.ModelSpec(
            part.formula,
            na_action="ignore",   # there are none: rows stay rows
            encoder_state={
                factor: (categorical, {"categories": list(levels)})
                for factor, levels in self.levels.items()
                if factor in part.factors
            },
        )
        try:
            with np.errstate(all="ignore"):   # what is not finite is refused below, by row
                matrix = spec.get_model_matrix(columns, context=_FUNCTIONS)
        except formulaic.errors.FormulaicError as error:
            raise ValueError(f"formula {part.text!r} cannot be evaluated: {_first_line(error)}") from error
        matrix = need("pandas").DataFrame(matrix).iloc[:, int(part.intercept):].astype("float64")
        for name in matrix.columns:
            wrong = ~np.isfinite(matrix[name])
            if wrong.any():
                raise ValueError(f"{name} is not finite {rows_of(wrong)}")
        return matrix

    def _columns_for(self, part: _Part, data: pd.DataFrame) -> pd.DataFrame:
        """The columns of this part: numbers where numbers are wanted, levels that are known where levels are."""
        find_columns(data, list(part.columns), "formula")
        data = data[list(part.columns)]
        refuse_missing(data, "fill them in or leave those rows out")
        columns = {}
        for name in part.columns:
            column = data[name]
            factors = [factor for factor in part.factors if factor in self.levels and part.factors[factor] == name]
            for factor in factors:
                column = _as_levels(column, self.levels[factor], name)
            wants_numbers = name in part.numeric or (name in part.factors and name not in self.levels)
            columns[name] = numbers(data, [name])[name] if wants_numbers else column
        return need("pandas").DataFrame(columns, index=data.index)


def as_frame(data: Any) -> pd.DataFrame:
    """A table of any make as a pandas frame."""
    pandas = need("pandas", "formula")
    if isinstance(data, pandas.DataFrame):
        return data
    if hasattr(data, "to_pandas"):   # polars, pyarrow
        return data.to_pandas()
    if isinstance(data, Mapping):
        return pandas.DataFrame(data)
    raise TypeError(f"data must be a data frame, or a mapping from column names to columns, got {type(data).__name__}")


def quoted(name: str) -> str:
    """A column's name as a formula writes it: in backticks unless it is a word."""
    if "`" in name or "~" in name:
        raise ValueError(f"column {name!r} cannot be named in a formula: rename it without ` and ~")
    return name if name.isidentifier() else f"`{name}`"


# ---- reading ----


@dataclass(frozen=True)
class _Part:
    """One side of a formula, found to hold nothing but what it may."""

    text: str
    formula: Any                             # formulaic's SimpleFormula
    columns: tuple[str, ...]
    factors: Mapping[str, str]               # what is a factor if it holds text, and what C() makes one: its column
    numeric: frozenset[str]                  # columns of which numbers are wanted
    compared: Mapping[str, frozenset[str]]   # columns compared with text, and which text
    intercept: bool

    def learn_levels(self, data: pd.DataFrame) -> dict[str, tuple[Level, ...]]:
        """The levels of the factors among `factors`."""
        for name, words in self.compared.items():
            unknown = sorted(words.difference(data[name].drop_duplicates()))
            if unknown:
                raise ValueError(f"no row has {name} == {unknown[0]!r}; it has {_listed(_levels(data[name], name))}")
        levels = {}
        for factor, name in self.factors.items():
            if factor != name or not holds_numbers(data[name]):
                if factor == name:
                    _refuse_mixture(data[name], name)
                levels[factor] = _levels(data[name], name)
                if len(levels[factor]) < 2:
                    raise ValueError(f"column {name!r} has one value only, {levels[factor][0]!r}: leave it out")
        return levels


@lru_cache(maxsize=256)
def _read(text: str) -> _Part:
    """Read one side of a formula."""
    formulaic = _formulaic()
    _refuse_lone_powers(text)
    try:
        formula = formulaic.Formula(text.strip())
    except SyntaxError as error:   # of a function's argument
        # Names in backticks are columns; those within a function's parentheses Python reads too.
        reserved = [name for name in re.findall(r"\([^()]*`(\w+)`", text) if keyword.iskeyword(name)]
        hint = f": {reserved[0]!r} is a word of Python's own, rename the column" if reserved else ""
        raise ValueError(f"formula {text.strip()!r} cannot be read: {error.msg}{hint}") from error
    except formulaic.errors.FormulaicError as error:
        raise ValueError(f"formula {text.strip()!r} cannot be read: {_first_line(error)}") from error
    if not isinstance(formula, formulaic.SimpleFormula):
        raise ValueError(f"formula {text.strip()!r} has several parts; wanted terms joined by +")
    columns: dict[str, None] = {}
    factors: dict[str, str] = {}
    numeric: set[str] = set()
    compared: dict[str, set[str]] = {}
    for factor in dict.fromkeys(factor for term in formula for factor in term.factors):
        if factor.eval_method.value == "lookup":
            columns[factor.expr] = None
            factors[factor.expr] = factor.expr
        elif factor.eval_method.value == "python":
            found = _Expression(factor.expr)
            columns |= dict.fromkeys(found.columns)
            factors |= {factor.expr: found.grouped} if found.grouped else {}
            numeric |= found.numeric
            for name, words in found.compared.items():
                compared.setdefault(name, set()).update(words)
    return _Part(
        text=text.strip(),
        formula=formula,
        columns=tuple(columns),
        factors=factors,
        numeric=frozenset(numeric),
        compared={name: frozenset(words) for name, words in compared.items()},
        intercept=any(term.degree == 0 for term in formula),
    )


class _Expression(ast.NodeVisitor):
    """Which columns an expression such as ``log(x)``, ``I(x**2)`` or ``C(group)`` uses, and how.

    Raises ValueError at whatever is not on the list.
    """

    _PLAIN = (
        *(ast.Expression, ast.Constant, ast.UnaryOp, ast.USub, ast.UAdd, ast.Invert, ast.BinOp, ast.Add, ast.Sub),
        *(ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr, ast.Load),
        *(ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
    )

    def __init__(self, text: str) -> None:
        self.text = text
        self.columns: dict[str, None] = {}
        self.numeric: set[str] = set()
        self.compared: dict[str, set[str]] = {}
        self.grouped: str | None = None   # the column that C() makes a factor
        self._names: dict[str, str] = {}   # what stands for a name in backticks
        sanitize = need("formulaic.utils.code", "formula").sanitize_variable_names
        tree = ast.parse(sanitize(text, {}, self._names), mode="eval")   # formulaic has done so
        call = tree.body
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "C":
            self._visit_factor(call)
        else:
            self.visit(tree)

    def _visit_factor(self, call: ast.Call) -> None:
        if not call.args or not isinstance(call.args[0], ast.Name) or len(call.args) > 2 or call.keywords:
            raise self._refusal("C() takes one column, and a coding such as contr.sum if you like")
        self.grouped = self._column(call.args[0])
        for coding in call.args[1:]:
            named = coding.func if isinstance(coding, ast.Call) else coding
            values = [*coding.args, *(pair.value for pair in coding.keywords)] if isinstance(coding, ast.Call) else []
            if not (
                isinstance(named, ast.Attribute)
                and isinstance(named.value, ast.Name)
                and named.value.id == "contr"
                and named.attr in _CONTRASTS
                and all(isinstance(value, ast.Constant) for value in values)
            ):
                raise self._refusal(f"a coding is one of {', '.join(f'contr.{kind}' for kind in _CONTRASTS)}")

    def visit_Name(self, node: ast.Name) -> None:
        self.numeric.add(self._column(node))

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            name = node.func.attr if node.func.value.id == "np" else ""
        if name in _OF_THE_WHOLE_TABLE:
            raise self._refusal(
                f"{name}() of a row depends on all other rows; make the column before the fit "
                f"(features need no scaling; a polynomial is x + I(x**2))"
            )
        if name not in _FUNCTIONS and node.func.__dict__.get("id") != "I":
            raise self._refusal(f"only these functions may be used: I, C, {', '.join(_FUNCTIONS)}")
        if len(node.args) != 1 or node.keywords:
            raise self._refusal(f"{name or 'I'}() takes one argument")
        self.visit(node.args[0])

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        words = {side.value for side in sides if isinstance(side, ast.Constant) and isinstance(side.value, str)}
        if not words:
            self.generic_visit(node)
            return
        for side in sides:
            if isinstance(side, ast.Name):
                self.compared.setdefault(self._column(side), set()).update(words)
            elif not isinstance(side, ast.Constant):
                raise self._refusal("text can be compared with a column only")

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.BitXor):
            raise self._refusal("a power is written **, as in I(x**2)")
        if not isinstance(node, self._PLAIN):
            raise self._refusal(
                "only columns, numbers, arithmetic, comparisons and these functions may be used: "
                f"I, C, {', '.join(_FUNCTIONS)}"
            )
        super().generic_visit(node)

    def _column(self, node: ast.Name) -> str:
        name = self._names.get(node.id, node.id)
        self.columns[name] = None
        return name

    def _refusal(self, reason: str) -> ValueError:
        return ValueError(f"formula: in {self.text}: {reason}")


def _formulaic() -> Any:
    formulaic = need("formulaic", "formula")
    need("formulaic.errors", "formula")
    return formulaic


def _tokens(text: str) -> list[tuple[str, str]]:
    """The formula's tokens and their kinds; those of a formula that cannot be read end where it cannot."""
    tokens = []
    try:
        for token in need("formulaic.parser.algos.tokenize", "formula").tokenize(text):
            tokens.append((str(token.token), token.kind.name))
    except _formulaic().errors.FormulaicError:
        pass   # said better by the parser, which comes next
    return tokens


def _refuse_lone_powers(text: str) -> None:
    """Refuse ``x^2``: for formulaic, as for R, it means x and no square."""
    tokens = _tokens(text)
    for (name, kind), (operator, _) in pairwise(tokens):
        if kind in ("NAME", "PYTHON") and operator in ("^", "**"):
            raise ValueError(f"formula: {name}{operator} means {name} alone; a square is I({name}**2)")


def _spelt_out(text: str, available: Iterable[str]) -> str:
    """The formula with every column available in place of the term ``.``."""
    if (".", "VALUE") not in _tokens(text):
        return text.strip()
    formula = _formulaic().Formula(text, _context={"__formulaic_variables_available__": list(available)})
    terms = [
        ":".join(
            quoted(factor.expr) if factor.eval_method.value == "lookup" else factor.expr for factor in term.factors
        )
        for term in formula
        if term.degree > 0
    ]
    has_intercept = len(terms) < len(formula)
    return " + ".join(terms if has_intercept else ["0", *terms])


# ---- levels ----


def _levels(column: pd.Series, name: str) -> tuple[Level, ...]:
    """The levels of a factor, sorted, or in the order of a categorical column."""
    column = column.dropna()
    if column.dtype == "category":
        found = column.cat.remove_unused_categories().cat.categories.tolist()
    else:
        found = column.drop_duplicates().tolist()
        if len({isinstance(level, str) for level in found}) == 1:   # numbers and text have no common order
            found.sort()
    if not all(isinstance(level, str | int | float) for level in found):
        raise ValueError(f"column {name!r} holds {type(found[0]).__name__} values: neither numbers nor levels")
    if found and all(isinstance(level, float) and level.is_integer() for level in found):
        found = [int(level) for level in found]   # integers that a missing value made floats
    return tuple(found)


def _as_levels(column: pd.Series, levels: tuple[Level, ...], name: str) -> pd.Series:
    """A factor's column, every value one of its levels."""
    values = column.astype(object)
    if holds_numbers(column) and all(isinstance(level, str) for level in levels):
        values = values.map(lambda value: f"{value:.17g}" if isinstance(value, float) else str(value))
    unknown = ~values.isin(levels)
    if unknown.any():
        found = values[unknown].iloc[0]
        raise ValueError(
            f"column {name!r} has {found!r} {rows_of(unknown)}, which is none of the fit's levels: {_listed(levels)}"
        )
    return values


def _refuse_mixture(column: pd.Series, name: str) -> None:
    """Text here and numbers there is a slip of the pen more often than a factor."""
    if column.dtype == "category":
        return
    text = parsed(column).isna() & column.notna()
    if 0 < text.sum() < column.notna().sum():
        found = column[text].iloc[0]
        raise ValueError(
            f"column {name!r} must hold numbers, but has {found!r} {rows_of(text)}; "
            f"C({quoted(name)}) takes every value, numbers too, for a level"
        )


def _listed(levels: tuple[Level, ...]) -> str:
    more = "" if len(levels) <= _N_NAMED else f" and {len(levels) - _N_NAMED} more"
    return ", ".join(map(str, levels[:_N_NAMED])) + more


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
