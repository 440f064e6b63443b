"""The small dense solves: against numpy, on both sides of the size where our own Cholesky gives way, and singular."""

import numpy as np
import pytest

from moe_fast import _solve, linalg
from moe_fast.linalg import DEPENDENT, Curvature, NormalEquations, lower_pairs, solve_normal_equations


def definite(rng, n_systems, p, scale=1.0):
    A = rng.standard_normal((n_systems, 3 * p + 2, p)) * scale
    return np.einsum("mia,mib->mab", A, A)


@pytest.mark.parametrize("p", [1, 2, 7, linalg.SMALL_SYSTEM, linalg.SMALL_SYSTEM + 1])
def test_agrees_with_numpy(p):
    """Kills: a wrong index in either substitution, the scale left out of one side."""
    rng = np.random.default_rng(p)
    scale = np.exp(rng.uniform(-8, 8, p))   # columns of very different size
    matrices, right = definite(rng, 4, p, scale), rng.standard_normal((4, p))
    solution = solve_normal_equations(matrices, right)
    expected = np.linalg.solve(matrices / scale[:, None] / scale, (right / scale)[:, :, None])[:, :, 0] / scale
    np.testing.assert_allclose(solution * scale, expected * scale, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("p", [5, linalg.SMALL_SYSTEM + 5])
@pytest.mark.parametrize("apart", [0.0, 3e-7])
def test_dependent_columns_get_the_minimum_norm(p, apart):
    """Kills: a pivot of rounding size, or one beneath the border, taken for a true one."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((3 * p, p))
    A[:, -1] = A[:, 0]
    expected, y = A.copy(), rng.standard_normal(3 * p)
    A[:, -1] += apart * rng.standard_normal(3 * p)
    [solution] = solve_normal_equations((A.T @ A)[None], (A.T @ y)[None])
    np.testing.assert_allclose(solution, np.linalg.lstsq(expected, y, rcond=None)[0], atol=1e-8 + 10.0 * apart)


@pytest.mark.parametrize("p", [5, linalg.SMALL_SYSTEM, linalg.SMALL_SYSTEM + 1])
def test_dependent_columns_may_be_left_out(p):
    """Of small systems. Kills: the minimum norm all the same; a solution of other equations."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((3 * p, p))
    A[:, 3] = A[:, 0]
    y = rng.standard_normal(3 * p)
    [solution] = solve_normal_equations((A.T @ A)[None], (A.T @ y)[None], minimum_norm=False)
    assert (solution[3] == 0.0) == (p <= linalg.SMALL_SYSTEM)
    np.testing.assert_allclose(A.T @ A @ solution, A.T @ y, atol=1e-8)


def test_a_column_without_curvature_leaves_the_others_to_cholesky(monkeypatch):
    """Kills: an eigendecomposition for a coefficient that is held, a solution of another system."""
    monkeypatch.setattr(np.linalg, "eigh", None)
    rng = np.random.default_rng(2)
    [matrix], right = definite(rng, 1, 70), rng.standard_normal(70)
    matrix[[5, 69]] = matrix[:, [5, 69]] = right[[5, 69]] = 0.0
    free = np.delete(np.arange(70), [5, 69])
    solution = NormalEquations(matrix).solve(right)
    np.testing.assert_allclose(solution[free], np.linalg.solve(matrix[np.ix_(free, free)], right[free]))
    np.testing.assert_array_equal(solution[[5, 69]], 0.0)


@pytest.mark.parametrize("p", [4, linalg.SMALL_SYSTEM + 4])
def test_one_singular_system_does_not_spoil_the_others(p):
    rng = np.random.default_rng(1)
    matrices, right = definite(rng, 3, p), rng.standard_normal((3, p))
    alone = solve_normal_equations(matrices[[0, 2]], right[[0, 2]])
    matrices[1] = 0.0
    right[1] = 0.0
    solution = solve_normal_equations(matrices, right)
    np.testing.assert_array_equal(solution[[0, 2]], alone)
    np.testing.assert_array_equal(solution[1], 0.0)


@pytest.mark.parametrize("tiny", [0.0, 1e-300, 1e-60])
def test_a_column_without_curvature_does_not_move(tiny):
    """A gate that separates leaves such columns. Kills: a step of 1e150 along them."""
    matrix = np.diag([2.0, tiny, 4.0])[None]
    solution = solve_normal_equations(matrix, np.array([[2.0, 1e-40, 4.0]]))
    np.testing.assert_allclose(solution, [[1.0, 0.0, 1.0]])


def test_nothing_to_solve():
    assert solve_normal_equations(np.empty((2, 0, 0)), np.empty((2, 0))).shape == (2, 0)


def test_columns_that_nearly_depend_on_each_other_are_left_out():
    """Kills: a pivot that is rounding taken for one."""
    for gap, expected in ((1e-13, 1), (1e-9, 0)):
        matrix, right, solution = np.array([[[1.0, 1.0 - gap], [1.0 - gap, 1.0]]]), np.ones((1, 2)), np.empty((1, 2))
        left_out = np.empty(1, dtype=np.intc)
        _solve.solve_small(matrix, right, solution, left_out, np.empty((2, 2)), np.empty(2), DEPENDENT)
        assert left_out == expected
        np.testing.assert_allclose(solution, [[1.0, 0.0]] if expected else [[0.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(solve_normal_equations(np.ones((1, 2, 2)), np.ones((1, 2))), [[0.5, 0.5]])


def test_curvature_of_a_maximum_gives_newtons_step():
    rng = np.random.default_rng(2)
    hessian, gradient = -definite(rng, 1, 6)[0], rng.standard_normal(6)
    curvature = Curvature.factor(hessian, np.sqrt(-np.diagonal(hessian)))
    assert curvature.definite
    np.testing.assert_allclose(curvature.solve(gradient), -np.linalg.solve(hessian, gradient), rtol=1e-9)


def test_curvature_of_a_saddle_climbs_both_ways():
    """Kills: eigenvalues with their signs, which step down the curve that bends up."""
    curvature = Curvature.factor(np.diag([-4.0, 2.0]), np.ones(2))
    assert not curvature.definite
    np.testing.assert_allclose(curvature.solve(np.array([4.0, 2.0])), [1.0, 1.0])


def test_curvature_of_no_parameters():
    """As of the gate of one expert. Kills: LAPACK asked, which refuses it."""
    assert Curvature.factor(np.empty((0, 0)), np.empty(0)).solve(np.empty(0)).shape == (0,)


def test_pairs_are_in_the_order_kernels_pack():
    assert lower_pairs(3) == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]


def test_a_column_of_zeros_leaves_a_curvature_definite():
    """And its coefficient where it is. Kills: Newton's method lost for one constant column."""
    hessian = np.array([[-4.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, -2.0]])
    curvature = Curvature.factor(hessian, np.ones(3))
    assert curvature.definite
    np.testing.assert_allclose(curvature.solve(np.array([7.0, 0.0, 0.0])), [2.0, 0.0, 1.0])
    assert not Curvature.factor(np.array([[-4.0, 1.0], [1.0, 0.0]]), np.ones(2)).definite
