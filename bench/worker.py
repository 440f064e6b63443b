"""One build of the package at work for compare.py: reads tasks as lines of JSON, answers with time and objective.

Uses the public interface alone, so that old builds understand it.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache

import cases
import numpy as np

import moe_fast as mf


@cache
def _data(case: str, n_samples: int) -> cases.Data:
    return cases.draw(cases.NAMED[case].sized(n_samples))


def _spectral(data: cases.Data) -> float:
    return float(np.sum(mf.fit_spectral(data.X, data.y, data.n_experts, random_state=0).eigenvalues))


def _em_iterations(data: cases.Data) -> float:
    fit = mf.fit_em(data.X, data.y, data.n_experts, init=data.truth, max_iter=3, tol=1e-300)
    return fit.log_likelihood


def _fit_em(data: cases.Data) -> float:
    return mf.fit_em(data.X, data.y, data.n_experts, init=data.truth).log_likelihood


def _fit(data: cases.Data) -> float:
    return mf.fit(data.X, data.y, data.n_experts, random_state=0).log_likelihood


def _predict(data: cases.Data) -> float:
    return float(data.truth.predict(data.X).mean())


def _log_density(data: cases.Data) -> float:
    return float(data.truth.log_likelihood(data.X, data.y))


TASKS: dict[str, Callable[[cases.Data], float]] = {
    "spectral": _spectral,
    "3 iterations": _em_iterations,
    "fit_em": _fit_em,
    "fit": _fit,
    "predict": _predict,
    "log-likelihood": _log_density,
}


def main() -> None:
    warnings.simplefilter("ignore")   # iterations that end early are meant
    print(json.dumps({"file": mf.__file__}), flush=True)
    for line in sys.stdin:
        task, case, n_samples = json.loads(line)
        data = _data(case, n_samples)
        start = time.perf_counter()
        objective = TASKS[task](data)
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "objective": objective}), flush=True)


if __name__ == "__main__":
    main()
