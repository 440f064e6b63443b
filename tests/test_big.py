"""Do sizes and offsets past 2^31 reach the right memory? On rows of the zero page, which fill no memory."""

from pathlib import Path

import numpy as np
import pytest

from moe_fast import _em, _moments
from moe_fast.activations import Code

N_FEATURES = 8
N_SAMPLES = 2**31 // N_FEATURES + 1000
WRITTEN = N_SAMPLES - 500   # its first element's offset does not fit 32 bits
N_THREADS = 2

pytestmark = pytest.mark.slow


def resident_bytes():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


@pytest.fixture(scope="module")
def rows():
    """X of 8.6 GB and y of 2.1 GB, all zero but for one row; and that row with its weight of one and a zero row's."""
    try:
        X, y = np.zeros((N_SAMPLES, N_FEATURES), np.float32), np.zeros(N_SAMPLES)
    except MemoryError:
        pytest.skip("this system does not give out addresses for 11 GB")
    X[WRITTEN] = np.arange(1.0, 1.0 + N_FEATURES)
    y[WRITTEN] = 2.0
    return X, y, np.ascontiguousarray(X[[WRITTEN, 0]]), y[[WRITTEN, 0]], np.array([1.0, N_SAMPLES - 1.0])


@pytest.fixture(autouse=True)
def no_memory_is_filled():
    if not Path("/proc/self/status").exists():
        yield
        return
    before = resident_bytes()
    yield
    assert resident_bytes() - before < 300e6


def test_em_pass(rows):
    """The same as two rows with weights. Kills: an index or a product of sizes in 32 bits."""
    X, y, two, two_y, two_weight = rows
    rng = np.random.default_rng(0)
    standard = np.stack([np.zeros(N_FEATURES), np.ones(N_FEATURES)])
    expert, gate = 0.1 * rng.standard_normal((2, N_FEATURES + 1)), 0.1 * rng.standard_normal((1, N_FEATURES + 1))
    sizes = N_FEATURES, N_FEATURES, 2, True, True
    parts, size = _em.layout(*sizes, 0)

    def sums_of(X, y, weight, resp):
        sums = np.empty(size)
        work = np.empty(_em.work_size(len(X), *sizes, False, 0, N_THREADS))
        _em.em_pass(
            X, None, y, weight, standard, standard, True, True, expert, gate, np.array([0.5, 1.0]), Code.LINEAR, 0.0,
            None, None, None, 0, sums, resp, work, N_THREADS,
        )
        return sums

    got, want = sums_of(X, y, None, None), sums_of(two, two_y, two_weight, None)
    # A block adds up to 4000 tiles in row order, all their roundings in one direction: 1e-12 in all.
    np.testing.assert_allclose(got, want, rtol=1e-11)
    at, shape = parts["expert_gradient"]
    of_features = np.s_[at : at + np.prod(shape)]
    # Only the written row has features: no rounding but its own.
    np.testing.assert_allclose(
        got[of_features].reshape(shape)[:, 1:], want[of_features].reshape(shape)[:, 1:], rtol=1e-15
    )


@pytest.mark.parametrize("order", [_moments.COLUMNS, _moments.SECOND])
def test_moments(rows, order):
    """Small whole numbers, so that every sum is exact."""
    X, y, two, two_y, two_weight = rows
    standard = np.stack([np.zeros(N_FEATURES), np.ones(N_FEATURES)])

    def sums_of(X, y, weight):
        sums = np.empty(_moments.sums_size(order, N_FEATURES, 0))
        work = np.empty(_moments.work_size(order, len(X), N_FEATURES, 0, N_THREADS))
        _moments.moment_pass(
            order, X, y, weight, np.array([1.0, 1.0, 0.0, 0.0]), standard, None, sums, work, N_THREADS
        )
        return sums

    got, want = sums_of(X, y, None), sums_of(two, two_y, two_weight)
    assert got[-1] == N_SAMPLES + 2.0
    if order == _moments.SECOND:
        d = N_FEATURES
        got, want = (np.concatenate([np.tril(s[: d * d].reshape(d, d)).ravel(), s[d * d :]]) for s in (got, want))
    assert (got == want).all()
    assert np.count_nonzero(got) > 2 * N_FEATURES
