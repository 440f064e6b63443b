"""Does the power method take an orthogonal tensor apart, and does the whitener whiten?"""

import numpy as np
import pytest

from moe_fast import _tensor, reference
from moe_fast.tensor import decompose, unpack_symmetric, whiten


def orthogonal_tensor(k, eigvals, seed=0):
    """sum_i eigvals[i] v_i (x) v_i (x) v_i and the orthonormal rows v."""
    v = np.linalg.qr(np.random.default_rng(seed).standard_normal((k, k)))[0]
    return np.einsum("i,ia,ib,ic->abc", eigvals, v, v, v), v


@pytest.mark.parametrize("k", [1, 2, 3, 5, 10])
def test_orthogonal_tensor_is_taken_apart(k):
    """To 1e-10, signs included. Kills: no deflation, too few steps on the best restart, the worst restart taken."""
    eigvals = np.linspace(1.0, 2.5, k)
    T, v = orthogonal_tensor(k, eigvals)
    parts = decompose(T, rng=np.random.default_rng(1))
    order = np.argsort(parts.eigvals)
    np.testing.assert_allclose(parts.eigvals[order], eigvals, rtol=0, atol=1e-10)
    np.testing.assert_allclose(parts.eigvecs[order], v, rtol=0, atol=1e-10)
    assert parts.residual < 1e-10


@pytest.mark.parametrize("k", [2, 4])
def test_equal_eigenvalues(k):
    """Equal mixing weights are the common case, and no obstacle to tensors as they are to matrices."""
    T, v = orthogonal_tensor(k, np.ones(k))
    parts = decompose(T, rng=np.random.default_rng(1))
    nearest = np.argmax(parts.eigvecs @ v.T, axis=1)
    assert sorted(nearest) == list(range(k))
    np.testing.assert_allclose(parts.eigvecs, v[nearest], rtol=0, atol=1e-10)


def test_tensor_is_left_as_it_was():
    T, _ = orthogonal_tensor(3, np.array([1.0, 2.0, 3.0]))
    before = T.copy()
    T.flags.writeable = False
    decompose(T, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(T, before)


def test_residual_says_what_is_left():
    """A tensor that is no sum of k orthogonal terms leaves something. Kills: a residual not relative to the tensor."""
    rng = np.random.default_rng(3)
    packed = rng.standard_normal(10)
    for scale in (1.0, 1e6):
        T = scale * unpack_symmetric(packed, 3)
        parts = decompose(T, rng=np.random.default_rng(0))
        rest = T - np.einsum("i,ia,ib,ic->abc", parts.eigvals, *[parts.eigvecs] * 3)
        np.testing.assert_allclose(parts.residual, np.linalg.norm(rest) / np.linalg.norm(T), rtol=1e-12)
        assert parts.residual > 0.1


def test_zero_tensor():
    """Too few rows may leave one. Kills: a division by the norm of nothing."""
    parts = decompose(np.zeros((3, 3, 3)), rng=np.random.default_rng(0))
    assert (parts.eigvals == 0.0).all()
    np.testing.assert_allclose(np.linalg.norm(parts.eigvecs, axis=1), 1.0, rtol=1e-12)
    assert parts.residual == 0.0


def test_power_iteration_is_the_formula():
    """v <- T(I, v, v) / norm on a tensor that is not orthogonal. Kills: an axis contracted twice, a step too few."""
    rng = np.random.default_rng(5)
    T = unpack_symmetric(rng.standard_normal(20), 4)
    v = rng.standard_normal((6, 4))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    want = v.copy()
    for _ in range(3):
        want = np.einsum("abc,rb,rc->ra", T, want, want)
        want /= np.linalg.norm(want, axis=1, keepdims=True)
    values = np.empty(6)
    _tensor.power_iteration(T, v, values, np.empty(4), 3)
    np.testing.assert_allclose(v, want, rtol=0, atol=1e-12)
    np.testing.assert_allclose(values, np.einsum("abc,ra,rb,rc->r", T, want, want, want), rtol=0, atol=1e-12)


def test_same_components_as_the_reference():
    rng = np.random.default_rng(8)
    T, _ = orthogonal_tensor(4, np.array([1.0, 1.5, 2.0, 2.5]))
    T += 0.01 * unpack_symmetric(rng.standard_normal(20), 4)
    parts = decompose(T, n_restarts=20, rng=np.random.default_rng(0))
    eigvals, eigvecs = reference.power_method(T, n_restarts=20, rng=1)
    np.testing.assert_allclose(parts.eigvals, eigvals, rtol=0, atol=1e-8)
    np.testing.assert_allclose(parts.eigvecs, eigvecs, rtol=0, atol=1e-8)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_unpack_symmetric(k):
    """Entry (a, b, c) is the packed one of its indices sorted down. Kills: a permutation of the axes left out."""
    packed = np.arange(1.0, 1 + k * (k + 1) * (k + 2) // 6)
    T = unpack_symmetric(packed, k)
    order = {}
    for a in range(k):
        for b in range(a + 1):
            for c in range(b + 1):
                order[a, b, c] = len(order)
    for index in np.ndindex(T.shape):
        assert T[index] == packed[order[tuple(sorted(index, reverse=True))]]


@pytest.mark.parametrize(("d", "k"), [(3, 3), (8, 3), (20, 5)])
def test_whitener(d, k):
    """W' T2 W = I and W B' is the projection on the leading eigenspace. Kills: the smallest eigenvectors taken."""
    rng = np.random.default_rng(d)
    experts = rng.standard_normal((k, d))
    noise = rng.standard_normal((d, d))
    T2 = experts.T @ experts + 1e-3 * (noise + noise.T)
    whitener, unwhitener, eigenvalues = whiten(T2, k)
    np.testing.assert_allclose(whitener.T @ T2 @ whitener, np.eye(k), rtol=0, atol=1e-11)
    np.testing.assert_allclose(whitener.T @ unwhitener, np.eye(k), rtol=0, atol=1e-11)
    np.testing.assert_allclose(eigenvalues, np.linalg.eigvalsh(T2)[::-1], rtol=0, atol=1e-12 * eigenvalues[0])
    exact = whiten(experts.T @ experts, k)   # of rank k: what is whitened and mapped back is what it was
    np.testing.assert_allclose(exact[1] @ exact[0].T @ experts.T, experts.T, rtol=0, atol=1e-11)


def test_whitening_recovers_experts():
    """Experts neither orthogonal nor of one weight come out of T2 and T3. Kills: B and W mixed up."""
    rng = np.random.default_rng(0)
    experts, p = rng.standard_normal((3, 6)), np.array([0.5, 0.3, 0.2])
    whitener, unwhitener, _ = whiten(np.einsum("i,ia,ib->ab", p, experts, experts), 3)
    seen = experts @ whitener
    parts = decompose(np.einsum("i,ia,ib,ic->abc", p, seen, seen, seen), rng=rng)
    order = np.argsort(parts.eigvals)   # lambda_i = p_i^-1/2
    np.testing.assert_allclose(parts.eigvals[order] ** -2.0, p, rtol=0, atol=1e-10)
    found = (parts.eigvals[:, None] * (parts.eigvecs @ unwhitener.T))[order]
    np.testing.assert_allclose(found, experts, rtol=0, atol=1e-9)


@pytest.mark.parametrize("T2", [np.diag([2.0, 1e-20, -1.0]), np.zeros((3, 3))], ids=["indefinite", "zero"])
def test_whitener_of_too_few_rows(T2):
    """Eigenvalues that noise pushed to zero or below are lifted: a start, not a failure."""
    whitener, unwhitener, _ = whiten(T2, 2)
    assert np.isfinite(whitener).all()
    assert np.isfinite(unwhitener).all()
    np.testing.assert_allclose(whitener.T @ unwhitener, np.eye(2), rtol=0, atol=1e-12)
