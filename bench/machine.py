"""The machine a benchmark runs on: what it is, how many threads it may use, and how fast it reads and multiplies.

Every benchmark calls `restart_without_openblas_settings` first.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import threadpoolctl

_OPENBLAS_SETTINGS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
DGEMM_SIZE = 2000


def restart_without_openblas_settings() -> None:
    """Begin this program again without the settings that make numpy's BLAS another than its users have.

    OpenBLAS reads them as it is loaded, so that to unset them later would change nothing.
    """
    found = [name for name in _OPENBLAS_SETTINGS if os.environ.pop(name, None) is not None]
    if found:
        print(f"restarting without {' and '.join(found)}: numpy's BLAS as its users have it", flush=True)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, str]:
    """What a result must say of where it was measured."""
    import moe_fast as mf

    config = mf.show_config()
    return {
        "cpu": _cpu_name(),
        "cores": str(n_cores()),
        "instruction_set": config["instruction_set"],
        "blas": "; ".join(sorted(set(config["blas"]))),
        "numpy": config["numpy"],
        "moe_fast": f"{mf.__version__} {_commit(Path(mf.__file__).parent)}".strip(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit(folder: Path) -> str:
    """Of the checkout that the package was imported from, if it was one."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


@contextmanager
def blas_threads(n_threads: int) -> Iterator[None]:
    """numpy's BLAS on so many threads."""
    with threadpoolctl.threadpool_limits(limits=n_threads, user_api="blas"):
        yield


class Reader:
    """Reads an array once on some threads, as fast as the machine allows.

    It takes the maximum, which numpy does in vectors without a chain of additions to wait for: a sum reaches two
    thirds of this rate in float32.
    """

    def __init__(self, array: np.ndarray, n_threads: int) -> None:
        self._parts = np.array_split(array.reshape(-1), n_threads)
        self._pool = ThreadPoolExecutor(n_threads)

    def read(self) -> None:
        list(self._pool.map(np.max, self._parts))


class Multiplier:
    """A large product of double-precision matrices."""

    flops = 2.0 * DGEMM_SIZE**3

    def __init__(self) -> None:
        self._a, self._b = np.random.default_rng(0).standard_normal((2, DGEMM_SIZE, DGEMM_SIZE))
        self._out = np.empty_like(self._a)

    def multiply(self) -> None:
        np.matmul(self._a, self._b, out=self._out)
