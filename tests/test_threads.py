"""Do threads change nothing but the time? Bits, fits from many Python threads, and children forked after a fit."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rowwise import problem, run_python

import moe_fast as mf
from moe_fast import _em, _moments, _threads
from moe_fast import design as design_room
from moe_fast import rows as rows_room
from moe_fast.design import Design
from moe_fast.rows import Rows, worthwhile_threads

needs_openmp = pytest.mark.skipif(not _threads.has_openmp(), reason="built without OpenMP: there is one thread")
N_ROWS = 64 * 256 + 77   # 64 blocks: two threads alone prove nothing, as a + b = b + a
EVERYTHING = _em.EXPERT_GRAM | _em.GATE_GRAM | _em.ENTROPY | _em.INFORMATION
THREADS = (1, 2, 3, 4, 8)


@pytest.fixture(autouse=True)
def every_thread_asked_for(monkeypatch):
    """Few rows would not wake many threads, and then nothing here would be a test of them."""
    for room in (rows_room, design_room):
        monkeypatch.setattr(room, "worthwhile_threads", lambda n_threads, n_rows, work_per_row: n_threads)


def with_threads(design, n_threads):
    rows = design.rows
    return Design(
        Rows(rows.X, rows.y, rows.weight, rows.gate_features, n_threads), design.activation, like=design
    )


@needs_openmp
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads as Linux lists them")
@pytest.mark.parametrize("one_pass", ["design.run(parameters, 0)", "design.rows.moment(_moments.SECOND)"])
def test_threads_are_started(one_pass):
    """All the tests below would pass on one thread. Kills: a build that lost its flag, num_threads not handed on."""
    script = f"""
import os
from moe_fast import _moments
from rowwise import problem
design, parameters = problem(200_000, n_threads=1)
before = len(os.listdir("/proc/self/task"))
design.rows.n_threads = 5
design = type(design)(design.rows, design.activation, like=design)
{one_pass}
print(len(os.listdir("/proc/self/task")) - before)
"""
    code, output, error = run_python(script, OPENBLAS_NUM_THREADS="1")
    assert code == 0, error
    assert int(output) >= 4


@needs_openmp
@pytest.mark.parametrize(
    ("activation", "dtype", "want"),
    [
        ("linear", np.float64, EVERYTHING),
        ("tanh", np.float64, EVERYTHING),
        ("tanh", np.float32, EVERYTHING | _em.SINGLE),
    ],
)
def test_same_bits_of_a_pass(activation, dtype, want):
    """Kills: block sums added in the order in which threads finish; a scratch that two threads share."""
    assert _threads.has_openmp()
    design, parameters = problem(N_ROWS, 4, 3, activation=activation, weighted=True, n_gate_features=2, dtype=dtype)
    _, size = _em.layout(4, 2, 3, True, True, want)
    assert _em.n_blocks(N_ROWS, size) == 64
    seen = set()
    for _ in range(10):
        for n_threads in THREADS:
            resp = np.empty((N_ROWS, 3))
            sums = with_threads(design, n_threads).run(parameters, want, resp=resp)
            seen.add(b"".join(np.asarray(value).tobytes() for value in [*vars(sums).values(), resp]))
    assert len(seen) == 1


@needs_openmp
@pytest.mark.parametrize("order", [_moments.COLUMNS, _moments.SECOND, _moments.THIRD])
def test_same_bits_of_the_moments(order):
    assert _threads.has_openmp()
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((N_ROWS, 5)).astype(np.float32), rng.standard_normal(N_ROWS)
    directions = rng.standard_normal((3, 5)) if order == _moments.THIRD else None
    polynomial = (0.1, -3.0, 0.2, 1.0)
    seen = {
        Rows(X, y, n_threads=n_threads).moment(order, polynomial=polynomial, directions=directions).tobytes()
        for _ in range(10)
        for n_threads in THREADS
    }
    assert len(seen) == 1


def test_few_rows_wake_few_threads():
    """Kills: a thread woken for less than it costs, none at all, more than were asked for."""
    assert [worthwhile_threads(8, n_rows, 100) for n_rows in (1, 10_000, 100_000_000)] == [1, 3, 8]


def bits(fit):
    model = fit.model
    arrays = [model.coef, model.intercept, model.gate_coef, model.gate_intercept, model.noise_std]
    return fit.log_likelihood, fit.n_iter, *(array.tobytes() for array in arrays)


@needs_openmp
def test_same_bits_of_a_fit():
    """From arguments to model: starts, races and Newton steps too."""
    sim = mf.make_moe(N_ROWS, 4, 2, random_state=0)
    fits = {bits(mf.fit(sim.X, sim.y, 2, random_state=0, n_threads=n_threads)) for n_threads in (1, 3, 8)}
    assert len(fits) == 1


def test_fits_in_a_hundred_tasks():
    """Kills: a workspace shared between fits, a random state that is global, the GIL held or let go of too early."""
    sim = mf.make_moe(600, 3, 2, activation="tanh", noise_std=0.2, random_state=0)

    def fit(_):
        return bits(mf.fit_em(sim.X, sim.y, 2, activation="tanh", random_state=1, n_threads=2))

    alone = fit(None)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(fit, range(100))) == {alone}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_child_forked_after_a_fit():
    """GNU's OpenMP waits for ever in such a child if it is asked for threads; the package asks for none there.

    Kills: threads in a forked child. The hang is ended after 20 s.
    """
    script = """
import multiprocessing
import moe_fast as mf
from test_threads import bits
sim = mf.make_moe(20_000, 3, 2, random_state=0)

def fit(queue=None):
    found = bits(mf.fit_em(sim.X, sim.y, 2, random_state=1, n_threads=4))
    return found if queue is None else queue.put(found)

here = fit()
context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
child = context.Process(target=fit, args=(queue,))
child.start()
child.join(20)
if child.is_alive():
    child.kill()
    raise SystemExit("the child hangs")
assert child.exitcode == 0
assert queue.get() == here
assert fit() == here   # and the parent goes on
"""
    code, _, error = run_python(script)
    assert code == 0, error


@pytest.mark.skipif(sys.platform == "darwin", reason="Apple's Accelerate has no threads to hold")
def test_blas_is_found():
    """Kills: a threadpoolctl too old to know numpy's BLAS, which would then spin beside the kernels."""
    assert mf.show_config()["blas"]
