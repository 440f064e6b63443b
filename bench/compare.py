"""Is a commit slower than the one before? Builds both and lets them take turns.

    python bench/compare.py main               # main against HEAD
    python bench/compare.py v0.1 .             # v0.1 against this folder as it is, built in place
    python bench/compare.py main --cases S1,S4 --tasks fit --repeats 11

A regression is a median more than 15 % and more than 50 ms above the base's; the exit code is then 1. Building needs
what CONTRIBUTING.md asks for: a compiler, setuptools, Cython and numpy.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import cases
import machine

HERE = Path(__file__).parent
ROOT = HERE.parent
SLOWER, LONGER = 1.15, 0.05
DEFAULT_CASES = "S1,S2,S4,n=1e6 d=20 k=3"
_SLOW = {"fit": ("S1", "S2", "S4")}   # tasks that are not run on the largest case
TASKS = ("spectral", "3 iterations", "fit_em", "fit", "predict", "log-likelihood")


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A folder with a commit's package, compiled; "." is this one."""
    if commit == ".":
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        _run("git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            print(f"building {commit}", flush=True)
            _run(sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=tree)
            yield tree
        finally:
            _run("git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree))


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


class Build:
    """A process that has imported one build."""

    def __init__(self, tree: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(tree)},
        )  # fmt: skip
        imported = Path(self._answer()["file"])
        if tree not in imported.parents:
            raise RuntimeError(f"wanted the build in {tree}, but imported {imported}")

    def time(self, task: str, case: str, n_samples: int) -> dict[str, float]:
        """Seconds, and the objective reached."""
        assert self._process.stdin is not None
        print(json.dumps([task, case, n_samples]), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the build's process ended; its message is above")
        return json.loads(line)

    def close(self) -> None:
        self._process.communicate()


def compare(builds: dict[str, Build], task: str, case: str, n_samples: int, repeats: int) -> dict[str, Any]:
    """Medians of both builds, which take turns and change who is first."""
    seconds: dict[str, list[float]] = {side: [] for side in builds}
    reached = {side: build.time(task, case, n_samples)["objective"] for side, build in builds.items()}   # warm-up
    for turn in range(repeats):
        for side in sorted(builds, reverse=bool(turn % 2)):
            seconds[side].append(builds[side].time(task, case, n_samples)["seconds"])
    base, head = median(seconds["base"]), median(seconds["head"])
    return {
        "task": task, "case": case, "n_samples": n_samples, "repeats": repeats, "base": base, "head": head,
        "ratio": head / base, "base_objective": reached["base"], "head_objective": reached["head"],
        "regression": head > SLOWER * base and head > base + LONGER,
    }  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="commit")
    parser.add_argument("head", nargs="?", default="HEAD", help='commit, or "." (default: %(default)s)')
    parser.add_argument("--cases", default=DEFAULT_CASES, help="comma-separated (default: %(default)s)")
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--rows", type=int, help="at most so many rows a case: a check that all runs")
    parser.add_argument("--repeats", type=int, default=7, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "compare.csv")
    return parser.parse_args()


def main() -> int:
    machine.restart_without_openblas_settings()
    arguments = _arguments()
    results = []
    with checkout(arguments.base) as base, checkout(arguments.head) as head:
        builds = {"base": Build(base), "head": Build(head)}
        print(f"{'task':16}{'case':18}{'base ms':>10}{'head ms':>10}{'ratio':>8}  objectives")
        for case in arguments.cases.split(","):
            n_samples = min(cases.NAMED[case].n_samples, arguments.rows or sys.maxsize)
            for task in arguments.tasks.split(","):
                if case not in _SLOW.get(task, (case,)):
                    continue
                result = compare(builds, task, case, n_samples, arguments.repeats)
                results.append(result)
                print(
                    f"{task:16}{case:18}{1e3 * result['base']:10.2f}{1e3 * result['head']:10.2f}"
                    f"{result['ratio']:8.2f}  {result['base_objective']:.8g} {result['head_objective']:.8g}"
                    f"{'  REGRESSION' if result['regression'] else ''}",
                    flush=True,
                )
        for build in builds.values():
            build.close()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(results[0]))
        writer.writeheader()
        writer.writerows(results)
    return int(any(result["regression"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
