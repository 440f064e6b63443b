"""Is bad input refused with the reason, and good input used as it is?"""

import tracemalloc
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from moe_fast.checks import (
    check_choice,
    check_integer,
    check_matrix,
    check_positive,
    check_random_state,
    check_target_size,
    check_target_varies,
    check_vector,
    check_weights,
    feature_names,
)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(20, 3))


# ---- What is accepted, and with or without a copy. Mutant: any copy made, or dtype changed, without need.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_in_c_order_are_not_copied(X, dtype):
    X = X.astype(dtype)
    X.flags.writeable = False
    checked = check_matrix(X, "X")
    assert np.shares_memory(checked, X)
    assert checked.dtype == dtype


def test_memory_map_is_not_read_into_memory(X, tmp_path):
    mapped = np.memmap(tmp_path / "X", np.float32, "w+", shape=X.shape)
    checked = check_matrix(mapped, "X")
    assert type(checked) is np.ndarray
    assert np.shares_memory(checked, mapped)


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: X.astype(">f8"),
        lambda X: X.tolist(),
        lambda X: X.astype(object),
        lambda X: pd.DataFrame(X),
        lambda X: np.ma.masked_array(X),
        lambda X: np.frombuffer(b"\0" + X.tobytes(), np.float64, offset=1).reshape(X.shape),   # not aligned
    ],
    ids=["f_order", "strided", "big_endian", "list", "object", "frame", "unmasked", "unaligned"],
)
def test_values_survive_any_layout(X, change):
    checked = check_matrix(change(X), "X")
    np.testing.assert_array_equal(checked, X)
    assert type(checked) is np.ndarray
    assert checked.flags.c_contiguous
    assert checked.flags.aligned
    assert checked.dtype == np.float64
    assert checked.dtype.isnative


def test_f_order_is_kept_only_where_allowed(X):
    X = np.asfortranarray(X, np.float32)
    assert np.shares_memory(check_matrix(X, "X", allow_f_order=True), X)
    assert check_matrix(X, "X").flags.c_contiguous


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float16, np.longdouble])
def test_other_numbers_become_float64(dtype):
    X = np.array([[0, 1], [1, 0]], dtype)
    checked = check_matrix(X, "X")
    assert checked.dtype == np.float64
    np.testing.assert_array_equal(checked, [[0.0, 1.0], [1.0, 0.0]])


def test_objects_that_are_numbers_become_float64():
    checked = check_matrix([[Fraction(1, 2), Decimal("0.25")], [True, np.float32(3)]], "X")
    np.testing.assert_array_equal(checked, [[0.5, 0.25], [1.0, 3.0]])


def test_frame_of_mixed_columns():
    frame = pd.DataFrame({"a": [1, 2], "b": [True, False], "c": pd.array([3, 4], "Int64")})
    np.testing.assert_array_equal(check_matrix(frame, "X"), [[1.0, 1.0, 3.0], [2.0, 0.0, 4.0]])


def test_input_is_never_written_to(X):
    before = X.copy()
    for given_X in (X, np.asfortranarray(X), X[::2]):
        kept = given_X.copy()
        check_matrix(given_X, "X")
        np.testing.assert_array_equal(given_X, kept)
    np.testing.assert_array_equal(X, before)


# ---- What is refused. Mutant: any of these let through, or a message that does not name what came.


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros(4), ValueError, r"X is one-dimensional, shape \(4,\).*X\.reshape\(-1, 1\)"),
        (np.zeros((2, 3, 4)), ValueError, r"X has 3 dimensions, shape \(2, 3, 4\)"),
        (3.0, ValueError, r"X has 0 dimensions"),
        (np.zeros((0, 3)), ValueError, r"X is empty, shape \(0, 3\)"),
        (np.zeros((3, 0)), ValueError, r"X is empty, shape \(3, 0\)"),
        ([[1, 2], [3]], ValueError, r"X cannot be made an array"),
        (np.ma.masked_array([[1.0, 2.0]], [[True, False]]), ValueError, r"X has masked values"),
        (np.zeros((2, 2), complex), TypeError, r"X holds complex numbers"),
        ([["1", "2"]], TypeError, r"X holds text"),
        (np.zeros((2, 2), "M8[s]"), TypeError, r"X holds dates"),
        (np.zeros((2, 2), "f8,f8"), TypeError, r"X holds \[\('f0'"),
        (sparse.csr_matrix(np.eye(2)), TypeError, r"X is sparse \(csr_matrix\).*X\.toarray\(\)"),
        (sparse.coo_array(np.eye(2)), TypeError, r"X is sparse"),
        ([[1.0, object()]], TypeError, r"X must hold numbers only; row 0, column 1 holds <object.*"),
        (np.array([[1, 2j]], object), TypeError, r"row 0, column 1 holds 2j \(complex\)"),
        ({"a": 1}, TypeError, r"X must be an array of numbers, got .*\(dict\)"),
        ((x for x in [1]), TypeError, r"X must be an array of numbers, got .*\(generator\)"),
        (None, TypeError, r"X is None"),
        (pd.DataFrame({"a": [1], "city": ["Oslo"]}), TypeError, r"row 0, column 'city' holds 'Oslo' \(str\)"),
    ],
)
def test_bad_matrix_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        check_matrix(value, "X")


def test_shape_other_than_wanted_is_refused(X):
    with pytest.raises(ValueError, match=r"Z has 20 rows, shape \(20, 3\); wanted n_samples = 21"):
        check_matrix(X, "Z", n_samples=21)
    with pytest.raises(ValueError, match=r"X has 3 columns, shape \(20, 3\); wanted 4"):
        check_matrix(X, "X", n_features=4)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_non_finite_values_are_counted_and_placed(order, dtype):
    X = np.zeros((100_000, 3), dtype, order)   # several blocks
    X[5, 2] = np.nan
    with pytest.raises(ValueError, match=r"X has 1 value that is NaN or infinite, in row 5 \(column 2\)"):
        check_matrix(X, "X", allow_f_order=True)
    X[5, 1], X[90_000, 1], X[99_999, 1], X[80_000, 2] = np.inf, -np.inf, np.nan, np.inf
    message = r"5 values that are .*, first in rows 5, 80000, 90000 \(columns 1, 2\); rows count from 0"
    with pytest.raises(ValueError, match=message):
        check_matrix(X, "X", allow_f_order=True)


def test_non_finite_values_of_a_frame_are_placed_by_name():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": pd.array([1, None], "Int64")})
    with pytest.raises(ValueError, match=r"1 value that is .* in row 1 \(column 'b'\)"):
        check_matrix(frame, "X")


def test_large_values_are_finite_though_their_sum_is_not():
    # Mutant: the sum of a block taken for the answer.
    X = np.full((100, 2), np.finfo(np.float32).max)
    with np.errstate(over="ignore"):
        assert X.sum() == np.inf
    assert check_matrix(X, "X") is X


def test_value_beyond_float64_is_infinite():
    with pytest.raises(ValueError, match="NaN or infinite"):
        check_matrix(np.full((2, 2), np.finfo(np.longdouble).max), "X")


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.sampled_from([0.0, 1.0, -1e38, 1e38, np.nan, np.inf, -np.inf]),
    )
)
def test_finite_check_equals_isfinite(X):
    if np.isfinite(X).all():
        assert check_matrix(X, "X") is X
    else:
        with pytest.raises(ValueError, match=f"X has {np.sum(~np.isfinite(X))} value"):
            check_matrix(X, "X")


@pytest.mark.parametrize("bad", [False, True])
def test_finite_check_needs_no_memory_of_the_size_of_x(bad):
    X = np.zeros((1_000_000, 8), np.float32)
    if bad:
        X[:] = np.nan
    tracemalloc.start()
    try:
        if bad:
            with pytest.raises(ValueError, match="8000000 values"):
                check_matrix(X, "X")
        else:
            check_matrix(X, "X")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Mutants: np.isfinite(X), a quarter of X; np.argwhere of the bad values, four times X.
    assert peak < X.nbytes / 3.0 if bad else peak < 1e5


# ---- Vectors and weights


def test_vector_becomes_contiguous_float64():
    y = np.arange(6.0)
    assert check_vector(y, "y") is y
    twice = np.repeat(y, 2)
    for value in (y.astype(np.float32), y.tolist(), pd.Series(y), twice[::2], pd.DataFrame({"y": y})):
        checked = check_vector(value, "y", n_samples=6)
        np.testing.assert_array_equal(checked, y)
        assert checked.dtype == np.float64
        assert checked.flags.c_contiguous


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros((3, 1)), ValueError, r"y has shape \(3, 1\); wanted one dimension.*y\.ravel\(\)"),
        (np.zeros((3, 2)), ValueError, r"y has shape \(3, 2\); wanted one dimension, \(n_samples,\)$"),
        (pd.DataFrame(np.zeros((3, 2))), ValueError, r"y has shape \(3, 2\)"),
        (1.0, ValueError, r"y has shape \(\)"),
        ([], ValueError, r"y is empty"),
        ([1.0, 2.0], ValueError, r"y has 2 values; wanted n_samples = 3, as in X"),
        ([1.0, np.nan, 3.0], ValueError, r"y has 1 value that is NaN or infinite, in row 1;"),
        ([1.0, 2.0, 3j], TypeError, r"y holds complex"),
        (["a", "b", "c"], TypeError, r"y holds text"),
        (pd.Series(["a", "b", "c"]), TypeError, r"row 0 holds 'a' \(str\)"),
    ],
)
def test_bad_vector_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        check_vector(value, "y", n_samples=3)


def test_weights():
    assert check_weights(None, 3) is None
    np.testing.assert_array_equal(check_weights([0, 1, 2], 3), [0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, -1, 2], r"sample_weight has 1 negative value, in row 1"),
        ([-1, -1, -1, -1], r"4 negative values, first in rows 0, 1, 2"),
        ([0, 0, 0], r"sample_weight is zero in every row"),
        ([1, 2], r"sample_weight has 2 values; wanted n_samples = 3"),
        ([1, 2, np.inf], r"sample_weight has 1 value that is NaN or infinite"),
        ([1e308, 1e308, 1e308], r"sum of sample_weight overflows"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        check_weights(weights, 4 if len(weights) == 4 else 3)


def test_constant_target_is_refused():
    check_target_varies(np.array([1.0, 1.0, 2.0]))
    with pytest.raises(ValueError, match=r"y is constant: every row is 3.*check that"):
        check_target_varies(np.full(4, 3.0))
    # Rows of weight 0 are as absent.
    with pytest.raises(ValueError, match="y is constant"):
        check_target_varies(np.array([1.0, 1.0, 2.0]), np.array([1.0, 1.0, 0.0]))


def test_a_target_out_of_range_is_refused():
    """Its powers would overflow, or vanish, in the moments. Kills: one sign alone; the size taken for the spread."""
    check_target_size(np.array([0.0, 1e50]))
    check_target_size(np.array([1e-100, 2.1e-100]))
    for y in ([0.0, 2e50], [-2e50, 0.0]):
        with pytest.raises(ValueError, match=r"y has values up to 2e\+50; wanted at most 1e\+50: scale y down"):
            check_target_size(np.array(y))
    with pytest.raises(ValueError, match="y varies by 1e-101; wanted at least 1e-100: scale y up"):
        check_target_size(np.array([0.0, 1e-101]))
    check_target_size(np.array([0.0, 1e150]), wild_rows=True)
    with pytest.raises(ValueError, match=r"wanted at most 1e\+150: scale y down"):
        check_target_size(np.array([0.0, 2e150]), wild_rows=True)


# ---- Scalars and options


def test_choice():
    assert check_choice("shared", "noise", ["per_expert", "shared"]) == "shared"
    message = r"unknown noise 'per-expert'; did you mean 'per_expert'\? \(choices: per_expert, shared\)"
    with pytest.raises(ValueError, match=message):
        check_choice("per-expert", "noise", ["per_expert", "shared"])
    with pytest.raises(ValueError, match=r"unknown noise 'xyz' \(choices"):
        check_choice("xyz", "noise", ["per_expert", "shared"])
    with pytest.raises(TypeError, match=r"noise must be one of per_expert, shared; got 3 \(int\)"):
        check_choice(3, "noise", ["per_expert", "shared"])


def test_integer():
    assert check_integer(np.int16(3), "k", 1) == 3
    assert type(check_integer(np.int16(3), "k", 1, 3)) is int
    with pytest.raises(ValueError, match=r"k must be at least 1, got 0"):
        check_integer(0, "k", 1)
    with pytest.raises(ValueError, match=r"k must be at least 1 and at most 3, got 4"):
        check_integer(4, "k", 1, 3)
    for value in (2.0, "2", True, np.True_, None):
        with pytest.raises(TypeError, match=r"k must be an integer, got"):
            check_integer(value, "k", 1)


def test_positive():
    assert check_positive(np.float32(0.5), "tol") == 0.5
    for value in (0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match=r"tol must be positive and finite, got"):
            check_positive(value, "tol")
    for value in ("1", True, 1j, None):
        with pytest.raises(TypeError, match=r"tol must be a positive number, got"):
            check_positive(value, "tol")


def test_random_state():
    expected = np.random.default_rng(7).random()
    for state in (7, np.int64(7), np.random.SeedSequence(7), np.random.PCG64(7), np.random.default_rng(7)):
        assert check_random_state(state).random() == expected
    generator = np.random.default_rng(0)
    assert check_random_state(generator) is generator
    assert check_random_state(None).random() != check_random_state(None).random()


def test_legacy_random_state_seeds_a_generator_and_moves_on():
    draws = [check_random_state(np.random.RandomState(0)).random() for _ in range(2)]
    assert draws[0] == draws[1]
    state = np.random.RandomState(0)
    assert check_random_state(state).random() != check_random_state(state).random()


@pytest.mark.parametrize(
    ("state", "error"), [(-1, ValueError), (1.5, TypeError), ("0", TypeError), (True, TypeError)]
)
def test_bad_random_state_is_refused(state, error):
    with pytest.raises(error, match=r"random_state must be (at least 0|None, an integer or a numpy Generator, got)"):
        check_random_state(state)


def test_feature_names():
    assert feature_names(pd.DataFrame({"a": [1], "b": [2]})) == ["a", "b"]
    assert feature_names(pd.DataFrame([[1, 2]])) is None
    assert feature_names(np.zeros((2, 2))) is None
