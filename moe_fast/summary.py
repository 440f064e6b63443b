"""Tables of coefficients, laid out as statsmodels lays out its own: for a terminal, a notebook, or as a data frame."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Block", "Summary"]

_GAP = 3   # spaces between the two columns of the header


@dataclass(frozen=True, eq=False)
class Block:
    """The rows of one expert, or of one row of the gate.

    Attributes
    ----------
    name : str
    parameters : tuple of str
    values : ndarray of shape (n_parameters, n_columns)
        NaN stands for what does not exist, and is left blank.
    """

    name: str
    parameters: tuple[str, ...]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Summary:
    """A table of coefficients. `print` it, end a notebook's cell with it, or ask for a frame.

    Attributes
    ----------
    title : str
    header : tuple of (label, value)
        Shown above the table in two columns, the first half on the left.
    columns : tuple of str
        "coef", "std err", "z", "P>|z|", and the ends of the interval.
    blocks : tuple of Block
    notes : tuple of str
        Shown below the table.
    """

    title: str
    header: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        tables = [self._cells(block) for block in self.blocks]
        widths = [max(map(len, column)) for column in zip(*itertools.chain(*tables), strict=True)]
        widths = [max(widths[0], 12), *(max(width, 8) for width in widths[1:])]
        wide = sum(widths) + 2 * (len(widths) - 1)
        header = self._header_pairs()
        half = max((wide - _GAP) // 2, *(len(label) + len(value) + 2 for pair in header for label, value in pair))
        width = max(wide, 2 * half + _GAP)
        widths[0] += width - wide
        double, single = "=" * width, "-" * width
        lines = [self.title.center(width).rstrip(), double]
        for pair in header:
            cells = [f"{label}:{value.rjust(half - len(label) - 1)}" if label else "" for label, value in pair]
            lines.append((" " * _GAP).join(cells).rstrip())
        lines.append(double)
        for table in tables:
            for number, (name, *cells) in enumerate(table):
                padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
                lines.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
                if number == 0:
                    lines.append(single)
            lines.append(double)
        return "\n".join([*lines, *self.notes])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """The table for a notebook."""

        def cell(tag: str, text: str, side: str) -> str:
            return f'<{tag} style="text-align: {side}; padding: 0.1em 0.5em">{html.escape(text)}</{tag}>'

        def row(tag: str, name: str, *texts: str) -> str:
            return f"<tr>{cell(tag, name, 'left')}{''.join(cell(tag, text, 'right') for text in texts)}</tr>"

        def label_and_value(label: str, value: str) -> str:
            return cell("th", f"{label}:" if label else "", "left") + cell("td", value, "right")

        parts = ['<table class="simpletable">', f"<caption>{html.escape(self.title)}</caption>"]
        for pair in self._header_pairs():
            parts.append(f"<tr>{''.join(itertools.starmap(label_and_value, pair))}</tr>")
        parts += ["</table>", '<table class="simpletable">']
        for block in self.blocks:
            head, *rows = self._cells(block)
            parts += [row("th", *head), *(row("td", *texts) for texts in rows)]
        parts.append("</table>")
        parts += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        return "\n".join(parts)

    def to_frame(self) -> pd.DataFrame:
        """The table as a data frame.

        Returns
        -------
        frame : pandas.DataFrame
            Rows by (block, parameter), columns as shown; NaN where the table is blank.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas") from error
        index = pd.MultiIndex.from_tuples(
            [(block.name, parameter) for block in self.blocks for parameter in block.parameters],
            names=["block", "parameter"],
        )
        return pd.DataFrame(
            np.vstack([block.values for block in self.blocks]), index=index, columns=list(self.columns)
        )

    def _header_pairs(self) -> list[tuple[tuple[str, str], tuple[str, str]]]:
        half = -(-len(self.header) // 2)
        left, right = self.header[:half], self.header[half:]
        return list(itertools.zip_longest(left, right, fillvalue=("", "")))

    def _cells(self, block: Block) -> list[list[str]]:
        """The block as text, its head first."""
        formats: list[Callable[[float], str]] = [_number] * len(self.columns)
        formats[2], formats[3] = "{:.3f}".format, "{:.3f}".format
        rows = [
            [parameter, *("" if math.isnan(v) else show(v) for show, v in zip(formats, values, strict=True))]
            for parameter, values in zip(block.parameters, block.values.tolist(), strict=True)
        ]
        return [[block.name, *self.columns], *rows]


def _number(value: float) -> str:
    """Four decimals, as statsmodels shows; four digits where that would show none, or too many."""
    return f"{value:.4f}" if value == 0.0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3e}"
