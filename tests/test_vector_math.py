"""How right are exp and log of the kernels? In units in the last place, on every instruction set, over all doubles."""

import functools

import numpy as np
import pytest
from rowwise import run_python

from moe_fast import _em, _threads

INSTRUCTION_SETS = _threads.instruction_sets()
LONG = np.longdouble

SCRIPT = """
import sys
import numpy as np
from moe_fast import _em, _threads
isa, given, returned = sys.argv[1:]
assert _threads.instruction_set() == isa
arrays = np.load(given)
out = {name: np.empty_like(x) for name, x in arrays.items()}
for name, x in arrays.items():
    getattr(_em, "vector_" + name)(x, out[name])
np.savez(returned, **out)
"""

# Not all numbers, but every exponent, both ends, the places where the argument's reduction changes, and near zero.
SMALL = 10.0 ** -np.linspace(0.0, 320.0, 4000)
HALF_STEPS = (np.arange(-1021, 1023) + 0.5) * np.log(2.0)   # where exp's n changes
_random = np.random.default_rng(0)


def whole_vectors(*parts):
    x = np.concatenate(parts)
    return np.concatenate([x, np.ones(-len(x) % 8)])


EXP_AT = whole_vectors(
    np.linspace(-708.0, 709.0, 100_000), _random.uniform(-1.0, 1.0, 50_000), SMALL, -SMALL, [0.0, -0.0],
    HALF_STEPS, np.nextafter(HALF_STEPS, 0.0), np.nextafter(HALF_STEPS, np.inf),
)
_MANTISSAS = np.concatenate([[1.0, np.sqrt(2.0), np.nextafter(np.sqrt(2.0), 0.0), np.nextafter(2.0, 0.0)],
                             _random.uniform(1.0, 2.0, 60)])
LOG_AT = whole_vectors(
    np.ldexp(_MANTISSAS, np.arange(-1022, 1024)[:, None]).ravel(), 1.0 + SMALL, 1.0 - SMALL[1:],
    np.sqrt([0.5, 2.0]), np.nextafter(np.sqrt([0.5, 2.0]), 0.0), [np.finfo(float).tiny, np.finfo(float).max],
)


@functools.cache
def results(isa, folder):
    """exp and log of the kernels at the points above: the instruction set is chosen when the package is imported."""
    np.savez(folder / "given.npz", exp=EXP_AT, log=LOG_AT)
    code, _, error = run_python(
        SCRIPT, isa, folder / "given.npz", folder / f"{isa}.npz", MOE_FAST_ISA=isa
    )
    assert code == 0, error
    return np.load(folder / f"{isa}.npz")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("vector_math")


def ulps(got, exact):
    return np.abs(got.astype(LONG) - exact) / np.spacing(np.abs(exact.astype(np.float64)))


needs_long_double = pytest.mark.skipif(
    np.finfo(LONG).eps > 1e-18, reason="long double is no wider than double here: no oracle for the last place"
)


@needs_long_double
@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_exp(isa, folder):
    """Within 1.25 ulp, as where products are not fused. Kills: a term of the series dropped, ln 2 in one part."""
    worst = ulps(results(isa, folder)["exp"], np.exp(EXP_AT.astype(LONG))).max()
    assert worst <= 1.25, f"{float(worst):.3f} ulp"


@needs_long_double
@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_log(isa, folder):
    """Within 2 ulp of the result, near one too where it is tiny. Kills: a term dropped, the split at sqrt 2 moved."""
    exact = np.log(LOG_AT.astype(LONG))
    got = results(isa, folder)["log"]
    assert (got[exact == 0.0] == 0.0).all()
    worst = ulps(got, exact)[exact != 0.0].max()
    assert worst <= 2.0, f"{float(worst):.3f} ulp"


def vector(function, values):
    out = np.empty(8)
    function(np.array([*values, *[1.0] * (8 - len(values))]), out)
    return out[: len(values)]


def test_exp_beyond_the_range():
    """Kills: an exponent that wraps round, NaN clamped to a number, subnormals."""
    assert vector(_em.vector_exp, [-np.inf, -1e300, -745.0, -708.1]).tolist() == [0.0] * 4
    np.testing.assert_allclose(vector(_em.vector_exp, [-708.0]), np.exp(-708.0), rtol=1e-15)
    np.testing.assert_allclose(vector(_em.vector_exp, [709.5, 1e300, np.inf]), np.exp(709.0), rtol=1e-15)
    assert np.isnan(vector(_em.vector_exp, [np.nan, -np.nan])).all()


def test_log_of_nan():
    assert np.isnan(vector(_em.vector_log, [np.nan, -np.nan])).all()
