"""The machine as the kernels see it: threads, instruction set, and what `show_config` says of them."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import threadpoolctl

from . import _threads
from .checks import check_integer

__all__ = ["one_blas_thread", "resolve_threads", "show_config"]

_forked = False


def _after_fork() -> None:
    """GNU's OpenMP loses its threads in a child that is forked after they started, and waits for them for ever."""
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

if _threads.instruction_set() is None:
    raise ImportError(
        f"MOE_FAST_ISA is {os.environ['MOE_FAST_ISA']!r}; this processor and build have: "
        f"{', '.join(_threads.instruction_sets())}"
    )


def resolve_threads(n_threads: int | None) -> int:
    """The number of threads a fit uses.

    Parameters
    ----------
    n_threads : int or None
        None: what OMP_NUM_THREADS says, else the cores this process may use. One in a build without OpenMP, and
        in a process forked from another that had already imported the package.

    Returns
    -------
    n_threads : int
        Results do not depend on it, to the bit.
    """
    wanted = _default_threads() if n_threads is None else check_integer(n_threads, "n_threads", 1)
    return wanted if _threads.has_openmp() and not _forked else 1


def _default_threads() -> int:
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if said.isdigit() and int(said) > 0:
        return int(said)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _cgroup_cores()))


def _cgroup_cores() -> int:
    """Cores that the container's quota allows (cgroup version 2), rounded up."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):   # no such file, or no limit ("max")
        return sys.maxsize


_blas_lock = threading.Lock()
_blas_users = 0
_blas_controller: threadpoolctl.ThreadpoolController | None = None
_blas_limits: Any = None


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread while any fit runs.

    The solves of a fit are small, and BLAS threads that spin between them take the cores from the kernels. Finding
    the libraries takes most of a millisecond, so it is done once; fits in several threads share one hold.
    """
    global _blas_users, _blas_controller, _blas_limits
    with _blas_lock:
        if _blas_users == 0:
            if _blas_controller is None:
                _blas_controller = threadpoolctl.ThreadpoolController()
            _blas_limits = _blas_controller.limit(limits=1, user_api="blas")
        _blas_users += 1
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0:
                _blas_limits.restore_original_limits()


def show_config() -> dict[str, Any]:
    """What this build and this machine are, for bug reports and benchmark tables.

    Returns
    -------
    config : dict
        Versions of the package, Python, numpy and scipy; whether the kernels have OpenMP, and how many threads a
        fit uses by default; the instruction set in use and those available (MOE_FAST_ISA forces one); the BLAS
        libraries loaded.
    """
    try:
        own = version("moe_fast")
    except PackageNotFoundError:   # run from a source tree
        own = "unknown"
    return {
        "moe_fast": own,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "platform": platform.platform(),
        "openmp": _threads.has_openmp(),
        "n_threads": resolve_threads(None),
        "instruction_set": _threads.instruction_set(),
        "instruction_sets": _threads.instruction_sets(),
        "blas": [
            f"{pool['internal_api']} {pool.get('version')} ({pool.get('architecture', 'unknown')})"
            for pool in threadpoolctl.threadpool_info()
            if pool["user_api"] == "blas"
        ],
    }
