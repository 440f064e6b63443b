"""Speed: every step against the machine's limit and against plain numpy, whole fits against what others offer.

    python bench/run.py                       # all, in less than 10 minutes
    python bench/run.py --quick               # small sizes, in less than a minute: does it run?
    python bench/run.py --data DIR            # diamonds and CPS1988 too
    python bench/table.py                     # the README's table from the CSV

Contenders take turns in one run, each after a warm-up; the CSV keeps the fastest and the median time, what was
reached, and where it was measured.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import cases
import limits
import machine
import memory
import numpy as np
import rivals
from cases import Case, Data, draw
from timing import Key, Outcome, Timing, race

import moe_fast as mf
from moe_fast import _em, reference
from moe_fast.activations import get_activation, label_transform
from moe_fast.config import one_blas_thread
from moe_fast.design import Design
from moe_fast.inputs import StandardNormal
from moe_fast.moments import Polynomial, Score, second_moment, whitened_third_moment
from moe_fast.rows import Rows

RESULTS = Path(__file__).with_name("results") / "run.csv"
FIELDS = (
    "group", "case", "n_samples", "n_features", "n_experts", "noise_std", "step", "library", "version", "dtype",
    "threads", "runs", "seconds_min", "seconds_median", "objective", "passes", "iterations", "converged",
    "limit_seconds", "over_limit", "bytes_a_second", "flops_a_second", "peak_bytes", "peak_bytes_a_row_expert",
    "cpu", "cores", "instruction_set", "blas", "numpy", "date",
)   # fmt: skip
OWN, BLOCKS, FULL = "moe_fast", "numpy blocks", "numpy full"
LITERAL = "numpy literal"   # the formulas as they stand, with a tensor of d^3: for few rows
_LITERAL_ROWS = 10_000
_AGREE = 1e-9        # relative: steps of all libraries give the same number
_TOL_GAP = 1e-8      # log-likelihood per row: whole fits that are compared have come as far

Call = Callable[[], Outcome]
Calls = dict[str, Call]   # by library


@dataclass
class Session:
    """What all groups share: how to run, when to stop, where results go."""

    quick: bool
    threads: tuple[int, ...]
    repeats: int
    allowance: float
    deadline: float
    writer: csv.DictWriter
    where: dict[str, str]
    data: Path | None
    left_out: list[str] = field(default_factory=list)

    def case(self, case: Case) -> Case:
        """The case, or in a quick run one of its kind with few rows."""
        return case.sized(max(case.n_samples // 50, min(case.n_samples, 500))) if self.quick else case

    def race(self, title: str, contenders: dict[Key, Call], n_threads: int) -> dict[Key, Timing] | None:
        """Times, or None if there was no time left."""
        if time.perf_counter() > self.deadline:
            self.left_out.append(title)
            return None
        print(f"\n{title}, {n_threads} thread{'s' * (n_threads > 1)}")
        with machine.blas_threads(n_threads), warnings.catch_warnings():
            warnings.simplefilter("ignore")   # not converged, few rows: both show in the results
            return race(contenders, repeats=self.repeats, allowance=self.allowance, deadline=self.deadline)

    def write(
        self, group: str, case: Case, step: str, library: str, n_threads: int, timing: Timing, **more: Any
    ) -> None:
        reached = timing.outcome
        row = {
            **self.where,
            "group": group,
            **{name: getattr(case, name) for name in ("n_samples", "n_features", "n_experts", "noise_std", "dtype")},
            "case": case.name,
            "step": step,
            "library": library,
            "version": _version(library) or self.where["moe_fast"],
            "threads": n_threads,
            "runs": len(timing.seconds),
            "seconds_min": timing.fastest,
            "seconds_median": timing.median,
            "objective": reached.objective,
            "passes": reached.passes,
            "iterations": reached.iterations,
            "converged": reached.converged,
            "date": date.today().isoformat(),
        }
        self.writer.writerow(row | more)
        limit = f"{more['over_limit']:7.2f} times the limit" if "over_limit" in more else ""
        passes = f"{reached.passes:8.1f} passes" if reached.passes == reached.passes else ""
        print(
            f"  {step:24} {library:22} {1e3 * timing.median:10.3f} ms ({len(timing.seconds)})"
            f"  {reached.objective:.10g} {passes}{limit}",
            flush=True,
        )


def _version(library: str) -> str | None:
    """Of another package; None for this one, whose reference is the plain numpy."""
    package = {"scikit-learn joint GMM": "scikit-learn", "cgmm": "cgmm"}.get(library)
    if package is None:
        return rivals.flexmix_version() if library == "flexmix" else None
    return metadata.version(package)


# ---- steps: each against the machine's limit, and plain numpy ----

_MOMENTS = {"moments": limits.moments, "second moment": limits.second_moment, "third moment": limits.third_moment}
_GRADIENT = {"EM, gate gradient": limits.em_gate_gradient}
_EM = _GRADIENT | {"EM, gate curvature": limits.em_gate_curvature, "information": limits.information}
STEPS = (
    (cases.MILLION_20, _MOMENTS | _EM),
    (cases.MILLION_20.as_float32(), _MOMENTS | _EM),
    (cases.MILLION_10, _MOMENTS),
    (cases.WIDE_100, _MOMENTS | _EM),
    (cases.WIDE_200, _MOMENTS),
    (cases.THOUSAND, {"moments": limits.moments} | _EM),
)


def run_steps(session: Session) -> None:
    for case, steps in STEPS:
        if session.quick and case in (cases.WIDE_100, cases.WIDE_200):
            continue
        data = draw(session.case(case))
        for n_threads in session.threads:
            _race_steps(session, data, steps, n_threads)


def _race_steps(session: Session, data: Data, steps: dict[str, Callable[[Case], limits.Work]], n_threads: int) -> None:
    case = data.case
    reader, multiplier = machine.Reader(data.X, n_threads), machine.Multiplier()
    calls = {("read", ""): _plain(reader.read), ("dgemm", ""): _plain(multiplier.multiply)}
    # The slowest rival once a case, to end in time.
    left_out = () if case.dtype == "float64" and n_threads == max(session.threads) else (FULL,)
    for step in steps:
        for library, call in _step_calls(step, data, n_threads).items():
            if library not in left_out:
                calls[step, library] = call
    timings = session.race(f"{case.name} {case.dtype}", calls, n_threads)
    if timings is None:
        return
    read_rate, flop_rate = data.X.nbytes / timings["read", ""].median, multiplier.flops / timings["dgemm", ""].median
    print(f"  reads {read_rate / 1e9:.1f} GB/s, multiplies {flop_rate / 1e9:.1f} Gflop/s")
    for (step, library), timing in timings.items():
        if step not in steps:
            continue
        limit = steps[step](case).limit(read_rate, flop_rate)
        _check_agreement(f"{step} by {library}", timing.outcome.objective, timings[step, OWN].outcome.objective)
        session.write(
            "steps", case, step, library, n_threads, timing,
            limit_seconds=limit, over_limit=timing.median / limit,
            bytes_a_second=read_rate, flops_a_second=flop_rate,
        )  # fmt: skip


def _plain(call: Callable[[], object]) -> Call:
    def run() -> Outcome:
        call()
        return Outcome()

    return run


def _valued(call: Callable[[], float]) -> Call:
    return lambda: Outcome(float(call()))


def _check_agreement(name: str, value: float, own: float) -> None:
    if not abs(value - own) <= _AGREE * max(abs(own), 1.0):
        raise RuntimeError(f"{name} gives {value!r}, {OWN} gives {own!r}: a time without the result is none")


def _step_calls(step: str, data: Data, n_threads: int) -> Calls:
    """The contenders of a step; each returns a number that all must agree on."""
    if "moment" in step:
        return _moment_calls(step, data, n_threads)
    X, y = data.X, data.y
    want = {
        "EM, gate gradient": _em.EXPERT_GRAM,
        "EM, gate curvature": _em.EXPERT_GRAM | _em.GATE_GRAM,
        "information": _em.INFORMATION,
    }[step]
    if X.dtype == np.float32:   # as in a fit of such rows
        want |= _em.SINGLE
    design = Design(Rows(X, y, n_threads=n_threads), get_activation(data.case.activation))
    own_params, params = design.parameters(data.truth), rivals.reference_params(data.truth)
    calls = {OWN: _valued(lambda: design.run(own_params, want).log_likelihood)}
    if step == "information":   # Newton's method has no rival
        return calls
    D = reference._design(X)
    g = reference.value_and_slope(data.case.activation)
    if step == "EM, gate gradient":
        calls[BLOCKS] = _valued(lambda: rivals.em_gate_gradient_blocks(X, y, params))
        calls[FULL] = _valued(lambda: rivals.em_gate_gradient_full(D, y, params))
    else:
        calls[BLOCKS] = _valued(lambda: reference.em_statistics_blocks(X, y, params)["log_likelihood"])
        calls[FULL] = _valued(
            lambda: reference._full_statistics(D, D, y, None, params, g, hessian=True)["log_likelihood"]
        )
    return calls


def _moment_calls(step: str, data: Data, n_threads: int) -> Calls:
    X, y = data.X, data.y
    rows = Rows(X, y, n_threads=n_threads)
    transform = label_transform(get_activation(data.case.activation))
    alpha, beta, gamma = transform.alpha, transform.beta(data.case.noise_std), transform.gamma
    score = Score.of(StandardNormal(X.shape[1]), rows)
    W = np.linalg.qr(data.coef.T)[0]   # any fixed whitener will do

    # As every fit does: BLAS threads that spin after the small products would take the cores from the kernels.
    @one_blas_thread()
    def own_second() -> float:
        return np.linalg.norm(second_moment(rows, Polynomial.centred(rows, gamma, 1.0, 0.0), score))

    @one_blas_thread()
    def own_third() -> float:
        return np.linalg.norm(whitened_third_moment(rows, Polynomial.centred(rows, beta, alpha, 1.0), score, W))

    def by_numpy(second: Callable[..., np.ndarray], third: Callable[..., np.ndarray]) -> float:
        P2, P3 = reference.transform_labels(y, alpha, beta, gamma)
        T2, T3 = second(X, reference.centred(P2)), third(X, reference.centred(P3), W)
        return np.linalg.norm(T2) + np.linalg.norm(T3)

    if step == "second moment":
        return {OWN: _valued(own_second)}
    if step == "third moment":
        return {OWN: _valued(own_third)}
    calls = {
        OWN: _valued(one_blas_thread()(lambda: own_second() + own_third())),
        BLOCKS: _valued(lambda: by_numpy(reference.second_moment_blocks, reference.third_moment_blocks)),
        FULL: _valued(lambda: by_numpy(reference.second_moment, reference.third_moment)),
    }
    if data.case.n_samples <= _LITERAL_ROWS:
        calls[LITERAL] = _valued(lambda: by_numpy(rivals.literal_second_moment, rivals.literal_third_moment))
    return calls


# ---- whole fits ----


def _fit_outcome(fit: mf.FitResult) -> Outcome:
    return Outcome(fit.log_likelihood, fit.n_passes, fit.n_iter, fit.converged)


def run_fit_em(session: Session) -> None:
    """From the same spectral start to the same log-likelihood."""
    for case in (cases.MILLION_20, cases.MILLION_20.as_float32()):
        data = draw(session.case(case))
        n_threads = max(session.threads)
        start = mf.fit_spectral(data.X, data.y, data.n_experts, n_threads=n_threads, random_state=0).model

        def own(newton: bool, data=data, start=start, n_threads=n_threads) -> Outcome:
            return _fit_outcome(
                mf.fit_em(data.X, data.y, data.n_experts, init=start, newton=newton, n_threads=n_threads)
            )

        calls: Calls = {OWN: lambda own=own: own(True), f"{OWN}, EM alone": lambda own=own: own(False)}
        if data.case.dtype == "float64":
            params = rivals.reference_params(start)
            with machine.blas_threads(n_threads):
                n_iter = _iterations_to(data, params, own(True).objective)
            for library, form in ((BLOCKS, "blocks"), (FULL, "full")):
                calls[library] = lambda form=form, data=data, params=params, n_iter=n_iter: rivals.numpy_em(
                    data, params, form, max_iter=n_iter, tol=0.0
                )
        _race_fits(session, "fit_em", data.case, "fit_em, spectral start", calls, n_threads)


def _iterations_to(data: Data, params: reference.Params, objective: float) -> int:
    """Iterations after which plain EM is within 1e-8 per row of an objective."""
    _, history = reference.em_fit(data.X, data.y, params, max_iter=300, tol=1e-10)
    reached = np.flatnonzero(history >= objective - _TOL_GAP * len(data.y))
    return int(reached[0]) if reached.size else len(history) - 1


def run_defaults(session: Session) -> None:
    """`fit` as it comes, against EM from one random start, our own and plain numpy's, and what is installed."""
    n_threads = max(session.threads)
    for case in (cases.S1, cases.S4) if session.quick else (cases.S1, cases.S2, cases.S3, cases.S4):
        data = draw(session.case(case))
        X, y, k = data.X, data.y, data.n_experts
        start = reference.random_start(X, y, k, rng=0)
        calls: Calls = {
            OWN: lambda X=X, y=y, k=k: _fit_outcome(mf.fit(X, y, k, random_state=0, n_threads=n_threads)),
            f"{OWN}, one start": lambda X=X, y=y, k=k, start=start: _fit_outcome(
                mf.fit_em(X, y, k, init=rivals.own_model(start), n_threads=n_threads)
            ),
            BLOCKS: lambda data=data, start=start: rivals.numpy_em(data, start, "blocks"),
            FULL: lambda data=data, start=start: rivals.numpy_em(data, start, "full"),
        }
        if rivals.installed("sklearn"):
            calls["scikit-learn joint GMM"] = lambda data=data: rivals.sklearn_gaussian_mixture(data)
        if rivals.installed("cgmm") and case in (cases.S1, cases.S2):   # S2 takes it 20 s, S4 over 100
            calls["cgmm"] = lambda data=data: rivals.cgmm_mixture(data)
        if rivals.flexmix_version() and case is not cases.S3:
            calls["flexmix"] = lambda X=X, y=y, k=k: rivals.flexmix(X, y, k)
        _race_fits(session, "defaults", data.case, "fit, defaults", calls, n_threads)


def run_small(session: Session) -> None:
    """A fit so small that overhead is all."""
    data = draw(cases.SMALL_FIT)
    start, params = data.truth, rivals.reference_params(data.truth)
    for n_threads in session.threads:
        calls: Calls = {
            OWN: lambda n_threads=n_threads: _fit_outcome(
                mf.fit_em(data.X, data.y, data.n_experts, init=start, n_threads=n_threads)
            ),
            BLOCKS: lambda: rivals.numpy_em(data, params, "blocks"),
            FULL: lambda: rivals.numpy_em(data, params, "full"),
        }
        _race_fits(session, "small", data.case, "fit_em, true start", calls, n_threads)


def run_data(session: Session) -> None:
    """Large real data, where EM alone is slow: passes with Newton's method and without."""
    if session.data is None:
        print("\nreal data: left out; name the folder by --data")
        return
    import datasets

    n_threads = max(session.threads)
    for name in ("CPS1988 k=3", "diamonds k=3"):
        problem = datasets.BY_NAME[name]
        X, y = problem.load(session.data)
        case = Case(name, *X.shape, problem.n_experts, noise_std=math.nan)

        def from_kmeans(newton: bool, X=X, y=y, k=problem.n_experts) -> Outcome:
            return _fit_outcome(mf.fit_em(
                X, y, k, init="kmeans", newton=newton, max_iter=200 if session.quick else 10_000,
                n_threads=n_threads, random_state=0,
            ))   # fmt: skip

        calls: Calls = {
            OWN: lambda run=from_kmeans: run(True),
            f"{OWN}, EM alone": lambda run=from_kmeans: run(False),
            f"{OWN}, fit": lambda X=X, y=y, k=problem.n_experts: _fit_outcome(
                mf.fit(X, y, k, n_threads=n_threads, random_state=0)
            ),
        }
        _race_fits(session, "data", case, "fit_em, k-means start", calls, n_threads)


def _race_fits(session: Session, group: str, case: Case, step: str, calls: Calls, n_threads: int) -> None:
    timings = session.race(f"{step}: {case.name} {case.dtype}", calls, n_threads)
    for library, timing in (timings or {}).items():
        session.write(group, case, step, library, n_threads, timing)


# ---- memory ----


def run_memory(session: Session) -> None:
    """At most 16 bytes a row and expert above X and y."""
    n_threads = max(session.threads)
    print("\npeak memory above X and y")
    for case, tasks in (
        (cases.MILLION_20, memory.TASKS),
        (cases.MILLION_20.as_float32(), ("fit", "fit_em", "fit_spectral")),
    ):
        case = session.case(case)
        for task in tasks:
            if time.perf_counter() > session.deadline:
                session.left_out.append(f"memory of {task}")
                continue
            peak = memory.peak_above_data(case.name, case.n_samples, case.dtype, task, n_threads)
            each = peak / (case.n_samples * case.n_experts)
            session.writer.writerow(session.where | {
                "group": "memory", "case": case.name, "n_samples": case.n_samples, "n_features": case.n_features,
                "n_experts": case.n_experts, "dtype": case.dtype, "step": f"memory of {task}", "threads": n_threads,
                "library": task if task.startswith("numpy") else OWN, "version": session.where["moe_fast"],
                "peak_bytes": peak, "peak_bytes_a_row_expert": each, "date": date.today().isoformat(),
            })   # fmt: skip
            print(f"  {case.name} {case.dtype:8} {task:14} {peak / 1e6:8.1f} MB, {each:6.1f} bytes a row and expert")


GROUPS: dict[str, Callable[[Session], None]] = {
    "steps": run_steps,
    "fit_em": run_fit_em,
    "defaults": run_defaults,
    "small": run_small,
    "data": run_data,
    "memory": run_memory,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(GROUPS), help="groups, comma-separated (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="small sizes, two rounds: a check, not a measurement")
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default: %(default)s)")
    parser.add_argument("--allowance", type=float, default=10.0, help="seconds a contender and case (default: 10)")
    parser.add_argument("--budget", type=float, default=570.0, help="seconds in all (default: %(default)s)")
    parser.add_argument("--threads", default=None, help="comma-separated (default: 1 and all cores)")
    parser.add_argument("--data", type=Path, help="folder of diamonds.csv and CPS1988.csv")
    parser.add_argument("--out", type=Path, default=RESULTS, help="CSV to write (default: %(default)s)")
    arguments = parser.parse_args()
    unknown = set(arguments.only.split(",")) - set(GROUPS)
    if unknown:
        parser.error(f"unknown groups {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    if arguments.quick:   # never over a measurement
        arguments.out = arguments.out.with_stem(arguments.out.stem + "_quick")
    return arguments


def _threads(said: str | None) -> tuple[int, ...]:
    return tuple(sorted({1, machine.n_cores()} if said is None else {int(part) for part in said.split(",")}))


def main() -> None:
    machine.restart_without_openblas_settings()
    started = time.perf_counter()
    arguments = _arguments()
    where = machine.describe()
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="", buffering=1) as lines:
        writer = csv.DictWriter(lines, FIELDS, restval="", extrasaction="ignore")
        writer.writeheader()
        session = Session(
            quick=arguments.quick,
            threads=_threads(arguments.threads)[-1:] if arguments.quick else _threads(arguments.threads),
            repeats=2 if arguments.quick else arguments.repeats,
            allowance=1.0 if arguments.quick else arguments.allowance,
            deadline=started + (55.0 if arguments.quick else arguments.budget),
            writer=writer,
            where=where,
            data=arguments.data,
        )
        for group in arguments.only.split(","):
            GROUPS[group](session)
    if session.left_out:
        print(f"\nleft out for lack of time (raise --budget): {'; '.join(session.left_out)}")
    print(f"\n{time.perf_counter() - started:.0f} s; {arguments.out}")


if __name__ == "__main__":
    main()
