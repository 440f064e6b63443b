"""Tables of times, from the CSV that run.py wrote: all of them, and for the README those in float64 with all threads.

    python bench/table.py                    # into docs/benchmarks.md and README.md, between their markers
    python bench/table.py --print

All cases are shown, lost ones too.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
OWN = "moe_fast"

Row = dict[str, str]


def table(rows: list[Row]) -> str:
    """Markdown: what was measured where, a table of steps, a table of fits, a table of memory."""
    groups = defaultdict(list)
    for row in rows:
        groups["steps" if row["group"] == "steps" else "memory" if row["group"] == "memory" else "fits"].append(row)
    own = next(row for row in rows if row["library"] == OWN)
    parts = [_where(own, max(int(row["threads"]) for row in rows))]
    if groups["steps"]:
        parts.append(_steps(groups["steps"]))
    if groups["fits"]:
        parts.append(_fits(groups["fits"]))
    if groups["memory"]:
        parts.append(_memory(groups["memory"]))
    return "\n\n".join(parts)


def brief(rows: list[Row]) -> list[Row]:
    """What a first look needs: whole steps and fits, float64, all threads."""
    most = max(int(row["threads"]) for row in rows)
    parts = {"second moment", "third moment", "information"}
    return [
        row for row in rows
        if int(row["threads"]) == most and row["dtype"] == "float64" and row["step"] not in parts
        and row["group"] != "memory"
    ]  # fmt: skip


def _where(row: Row, n_threads: int) -> str:
    return (
        f"{row['cpu']}, {row['cores']} cores, {row['instruction_set']}; numpy {row['numpy']} with {row['blas']}; "
        f"moe_fast {row['version']}; {row['date']}. Medians of one run of `python bench/run.py`, {n_threads} threads "
        f"where nothing else is said. The limit of a step is the larger of one read of X and its flops at the rate of "
        f"a large dgemm, both measured in the same run. Numbers behind × say how many times longer numpy takes."
    )


def _steps(rows: list[Row]) -> str:
    lines = [
        "| step | case | dtype | threads | moe_fast | of the limit | numpy by blocks | numpy full-array | literal d³ |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, libraries in _grouped(rows, "step", "case", "dtype", "threads").items():
        own = libraries[OWN]
        times = [_ratio(libraries.get(name), own) for name in ("numpy blocks", "numpy full", "numpy literal")]
        over = f"{float(own['over_limit']):.2f} times"
        lines.append(_line(*key, _time(own), over, *times))
    return "\n".join(lines)


def _fits(rows: list[Row]) -> str:
    lines = [
        "| fit | case | dtype | threads | library | time | × | log-likelihood | passes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, libraries in _grouped(rows, "step", "case", "dtype", "threads").items():
        own = libraries[OWN]
        for library, row in libraries.items():
            passes = "" if row["passes"] in ("", "nan") else f"{float(row['passes']):.1f}"
            reached = f"{float(row['objective']):.2f}"
            lines.append(_line(*key, library, _time(row), _ratio(row, own), reached, passes))
            key = ("", "", "", "")   # said once
    return "\n".join(lines)


def _memory(rows: list[Row]) -> str:
    lines = [
        "| memory above X and y | case | dtype | peak | bytes a row and expert |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        peak, each = float(row["peak_bytes"]), float(row["peak_bytes_a_row_expert"])
        task = row["step"].removeprefix("memory of ")
        lines.append(_line(task, row["case"], row["dtype"], f"{peak / 1e6:.1f} MB", f"{each:.1f}"))
    return "\n".join(lines)


def _grouped(rows: list[Row], *names: str) -> dict[tuple[str, ...], dict[str, Row]]:
    """Rows by the values of some columns, and then by library."""
    groups: dict[tuple[str, ...], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        groups[tuple(row[name] for name in names)][row["library"]] = row
    return {key: libraries for key, libraries in groups.items() if OWN in libraries}


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _time(row: Row) -> str:
    seconds = float(row["seconds_median"])
    return f"{seconds:.2f} s" if seconds >= 1.0 else f"{1e3 * seconds:.3g} ms"


def _ratio(row: Row | None, own: Row) -> str:
    return "" if row is None else f"{float(row['seconds_median']) / float(own['seconds_median']):.3g}"


def insert(text: str, content: str) -> str:
    """The text with the content between its markers."""
    head, found, rest = text.partition(BEGIN)
    tail = rest.partition(END)
    if not found or not tail[1]:
        raise ValueError(f"no {BEGIN} ... {END}")
    return f"{head}{BEGIN}\n\n{content}\n\n{END}{tail[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, default=HERE / "results" / "run.csv")
    parser.add_argument("--print", action="store_true", dest="only_print")
    arguments = parser.parse_args()
    with arguments.csv.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for name, shown in (("docs/benchmarks.md", rows), ("README.md", brief(rows))):
        content, path = table(shown), HERE.parent / name
        if arguments.only_print:
            print(content, end="\n\n")
        else:
            path.write_text(insert(path.read_text(), content))
            print(f"{path} has the table of {arguments.csv}")


if __name__ == "__main__":
    main()
