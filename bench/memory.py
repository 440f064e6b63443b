"""Peak memory above X and y, each task in a process of its own.

tracemalloc does not see what compiled code takes, so this asks the kernel: the resident set's high-water mark, reset
once the rows are there. Linux only.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path


def peak_above_data(case: str, n_samples: int, dtype: str, task: str, n_threads: int) -> float:
    """Bytes that a task of `TASKS` takes at most, above the rows; NaN where there is no /proc."""
    if not Path("/proc/self/clear_refs").exists():
        return float("nan")
    arguments = json.dumps([case, n_samples, dtype, task, n_threads])
    # glibc keeps freed blocks of up to 32 MB for later, where they would hide what a task takes: give all back at once.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, __file__, arguments], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return float(json.loads(done.stdout))


def _fit(data, n_threads):
    import moe_fast as mf

    mf.fit(data.X, data.y, data.n_experts, max_iter=3, n_threads=n_threads, random_state=0)


def _fit_em(data, n_threads):
    import moe_fast as mf

    mf.fit_em(data.X, data.y, data.n_experts, init=data.truth, max_iter=3, n_threads=n_threads)


def _fit_spectral(data, n_threads):
    import moe_fast as mf

    mf.fit_spectral(data.X, data.y, data.n_experts, n_threads=n_threads, random_state=0)


def _numpy_em(data, form):
    from rivals import numpy_em, reference_params

    numpy_em(data, reference_params(data.truth), form, max_iter=1)


TASKS = {
    "fit": _fit,
    "fit_em": _fit_em,
    "fit_spectral": _fit_spectral,
    "numpy blocks": lambda data, n_threads: _numpy_em(data, "blocks"),
    "numpy full": lambda data, n_threads: _numpy_em(data, "full"),
}


def _status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(name + ":")]
    return int(line.split()[1]) * 1024


def main() -> None:
    import cases
    import machine

    case, n_samples, dtype, task, n_threads = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")   # to stop before convergence is meant
    plan = cases.NAMED[case].sized(n_samples)
    if dtype == "float32":
        plan = plan.as_float32()
    with machine.blas_threads(n_threads):
        TASKS[task](cases.draw(plan.sized(2000)), n_threads)   # imports, threads, buffers of BLAS
        data = cases.draw(plan)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")   # the high-water mark begins anew
        before = _status("VmRSS")
        TASKS[task](data, n_threads)
        print(json.dumps(_status("VmHWM") - before))


if __name__ == "__main__":
    main()
