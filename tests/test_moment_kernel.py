"""Are the moments right? Against extended precision, and the literal d^3 form under every law of the inputs."""

import literal
import numpy as np
import pytest
from rowwise import assert_within

from moe_fast import _moments, reference
from moe_fast import rows as rows_room
from moe_fast.inputs import Gaussian, GaussianMixture, StandardNormal
from moe_fast.moments import Polynomial, Score, second_moment, whitened_third_moment
from moe_fast.rows import Rows
from moe_fast.tensor import unpack_symmetric

COLUMNS, SECOND, THIRD = _moments.COLUMNS, _moments.SECOND, _moments.THIRD
POLYNOMIAL = np.array([0.3, -1.0, 0.5, 2.0])


def moment(order, X, y=None, weight=None, standard=None, directions=None, n_threads=1):
    """One pass, its outputs behind guards: the flat sums."""
    n_samples, d = X.shape
    k = 0 if directions is None else len(directions)
    standard = np.stack([np.zeros(d), np.ones(d)]) if standard is None else standard
    n_work = _moments.work_size(order, n_samples, d, k, n_threads)
    size = _moments.sums_size(order, d, k)
    sums, work = np.full(size + 8, np.pi), np.full(n_work + 4096, np.pi)
    _moments.moment_pass(
        order, X, y, weight, POLYNOMIAL, standard, directions, sums[:size], work[:n_work], n_threads
    )
    assert (sums[size:] == np.pi).all()
    assert (work[n_work:] == np.pi).all()
    return sums[:size]


def exact(order, X, y, weight, standard, directions=None):
    """The same in extended precision, and the sums of absolute terms: two flat arrays."""
    long = np.longdouble
    x = (X.astype(long) - standard[0]) * standard[1]
    y = np.zeros(len(X), long) if y is None else y.astype(long)
    c = sum(POLYNOMIAL[m].astype(long) * y**m for m in range(4)) * (1 if weight is None else weight.astype(long))
    c_size = sum(abs(POLYNOMIAL[m]) * np.abs(y) ** m for m in range(4)) * (1 if weight is None else weight)
    x_size = (np.abs(X.astype(long)) + np.abs(standard[0])) * standard[1]   # x - shift is a difference too
    if order == COLUMNS:
        return tuple(np.concatenate([c @ x, c @ x**2, [c.sum()]]) for c, x in ((c, x), (c_size, x_size)))
    if order == SECOND:
        both = (c, x), (c_size, x_size)
        return tuple(np.concatenate([np.tril((x.T * c) @ x).ravel(), c @ x, [c.sum()]]) for c, x in both)
    both = (c, x @ directions.T.astype(long)), (c_size, x_size @ np.abs(directions.T))
    packed = [(a, b, e) for a in range(len(directions)) for b in range(a + 1) for e in range(b + 1)]
    return tuple(
        np.concatenate([[np.sum(c * v[:, a] * v[:, b] * v[:, e]) for a, b, e in packed], c @ v, [c.sum()]])
        for c, v in both
    )


def lower_only(order, sums, d):
    """Above the diagonal a pass leaves what it likes."""
    if order != SECOND:
        return sums
    return np.concatenate([np.tril(sums[: d * d].reshape(d, d)).ravel(), sums[d * d :]])


def check_moment(order, n_samples, d, *, k=3, dtype=np.float64, weighted=False, with_y=True, n_threads=1):
    rng = np.random.default_rng(4)
    X = (1.0 + 2.0 * rng.standard_normal((n_samples, d))).astype(dtype)
    y = rng.standard_normal(n_samples) if with_y else None
    weight = rng.uniform(0.0, 2.0, n_samples) if weighted else None
    standard = np.stack([rng.standard_normal(d), rng.uniform(0.5, 2.0, d)])
    directions = rng.standard_normal((k, d)) if order == THIRD else None
    for array in (X, y, weight, standard, directions):
        if array is not None:
            array.flags.writeable = False
    got = moment(order, X, y, weight, standard, directions, n_threads)
    want, size = exact(order, X, y, weight, standard, directions)
    assert_within(lower_only(order, got, d), want, size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_samples", [1, 255, 256, 257, 5000])
@pytest.mark.parametrize("order", [COLUMNS, SECOND, THIRD])
def test_rows_at_the_edges_of_tiles(order, n_samples, dtype):
    """Kills: padding rows that count, a tile or a block left out, a workspace counted too small."""
    check_moment(order, n_samples, 5, dtype=dtype, weighted=True, n_threads=2)


@pytest.mark.parametrize("d", range(1, 20))
@pytest.mark.parametrize("order", [COLUMNS, SECOND, THIRD])
def test_any_number_of_features(order, d):
    """Kills: a remainder of the transposition or of the register tile left out; directions counted as features."""
    check_moment(order, 300, d, dtype=np.float32 if d % 2 else np.float64)


@pytest.mark.parametrize("k", range(1, 10))
def test_any_number_of_directions(k):
    check_moment(THIRD, 300, 4, k=k)


@pytest.mark.parametrize("order", [COLUMNS, SECOND, THIRD])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("with_y", [False, True])
def test_weights_and_targets(order, weighted, with_y):
    check_moment(order, 400, 3, weighted=weighted, with_y=with_y)


def test_no_rows():
    assert (moment(SECOND, np.empty((0, 3))) == 0.0).all()


def test_rows_in_several_spans(monkeypatch):
    """Kills: a span's sums overwritten by the next one's, a weight of the first span used again."""
    rng = np.random.default_rng(0)
    rows = Rows(rng.standard_normal((3000, 4)), rng.standard_normal(3000), rng.uniform(0.0, 2.0, 3000))
    options = {"polynomial": tuple(POLYNOMIAL), "shift": np.ones(4), "directions": rng.standard_normal((2, 4))}
    whole = rows.moment(THIRD, **options)
    monkeypatch.setattr(rows_room, "span_rows", lambda work_per_row: 512)
    pieces = rows.moment(THIRD, **options)
    assert rows.reads.n_rows == 6000
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-13 * np.abs(whole).max())


def test_column_moments():
    """Far from zero the digits of the variance are kept. Kills: squares of raw values."""
    rng = np.random.default_rng(0)
    X, weight = 1e7 + rng.standard_normal((900, 3)), rng.integers(0, 3, 900).astype(float)
    mean, std = Rows(X, np.zeros(900), weight).column_moments()
    repeated = np.repeat(X, weight.astype(int), axis=0)
    np.testing.assert_allclose(mean, repeated.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(std, repeated.std(axis=0), rtol=1e-9)   # 1e7 leaves 1e-9 of each x
    rows = Rows(X, np.zeros(900), weight, gate_features=X[:, :1] - 3.0)
    np.testing.assert_allclose(rows.gate_column_moments(), [mean[:1] - 3.0, std[:1]], rtol=1e-9)


# ---- score functions ----


def laws(rng, d):
    """One law of each kind, none of them near the standard normal."""

    def covariance():
        root = np.eye(d) + 0.4 * rng.standard_normal((d, d))
        return root @ root.T

    mixture = GaussianMixture([0.3, 0.7], rng.standard_normal((2, d)), [covariance(), covariance()])
    return {
        "standard_normal": StandardNormal(d),
        "gaussian": Gaussian(rng.standard_normal(d), covariance()),
        "mixture": mixture,
    }


def symmetric_root(matrix, power):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**power) @ vectors.T


def literal_scores(law, X):
    """S2 (n, d, d) and S3 (n, d, d, d) from the definition, in coordinates where x is standard; and their terms' sizes.

    x is standardised first, and the law with it: every component then has a mean and a covariance of its own.
    """
    d = X.shape[1]
    if isinstance(law, StandardNormal):
        weights, means, covariances = [1.0], np.zeros((1, d)), np.eye(d)[None]
    elif isinstance(law, Gaussian):
        weights, means, covariances = [1.0], law.mean[None], law.cov[None]
    else:
        weights, means, covariances = law.weights, law.means, law.covariances
    mean = np.average(means, axis=0, weights=weights)
    off = means - mean
    total = np.average(covariances + off[:, :, None] * off[:, None, :], axis=0, weights=weights)
    scale = np.sqrt(np.diagonal(total))
    W = symmetric_root(total / np.outer(scale, scale), -0.5) / scale
    T = (X - mean) @ W.T
    parts = []
    for weight, m, cov in zip(weights, off @ W.T, W @ covariances @ W.T, strict=True):
        precision = np.linalg.inv(cov)
        u = (T - m) @ precision
        density = weight * np.sqrt(np.linalg.det(precision)) * np.exp(-0.5 * np.sum((T - m) * u, axis=1))
        parts.append((density, u, precision))
    resp = np.array([density for density, _, _ in parts])
    resp /= resp.sum(axis=0)
    S2, S3, size2, size3 = 0.0, 0.0, 0.0, 0.0
    for r, (_, u, precision) in zip(resp, parts, strict=True):
        square, cube = np.einsum("na,nb->nab", u, u), np.einsum("na,nb,nc->nabc", u, u, u)
        mixed = [np.einsum(axes, u, precision) for axes in ("na,bc->nabc", "nb,ac->nabc", "nc,ab->nabc")]
        S2 = S2 + r[:, None, None] * (square - precision)
        size2 = size2 + r[:, None, None] * (np.abs(square) + np.abs(precision))
        S3 = S3 + r[:, None, None, None] * (cube - sum(mixed))
        size3 = size3 + r[:, None, None, None] * (np.abs(cube) + sum(np.abs(one) for one in mixed))
    return S2, S3, size2, size3


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["standard_normal", "gaussian", "mixture"])
def test_moments_equal_the_literal_form(kind, dtype, weighted):
    """Kills: a permutation of sym3 missing, a precision in the wrong coordinates, weights not divided out."""
    rng = np.random.default_rng(7)
    n, d, k = 600, 4, 3
    law = laws(rng, d)[kind]
    X, y = rng.standard_normal((n, d)).astype(dtype), rng.standard_normal(n)
    weight = rng.uniform(0.0, 2.0, n) if weighted else None
    rows, whitener = Rows(X, y, weight), rng.standard_normal((d, k))
    transform, score = Polynomial.centred(rows, -3.0, 0.5, 1.0), Score.of(law, rows)

    w = np.ones(n) if weight is None else weight
    value = -3.0 * y + 0.5 * y**2 + y**3
    c = (value - np.average(value, weights=w)) * w / w.sum()
    S2, S3, size2, size3 = literal_scores(law, X.astype(np.float64))
    T2, T2_size = np.einsum("n,nab->ab", c, S2), np.einsum("n,nab->ab", np.abs(c), size2)
    assert_within(second_moment(rows, transform, score), T2, T2_size, "T2")
    seen = np.einsum("n,nabc,ai,bj,ch->ijh", c, S3, whitener, whitener, whitener, optimize=True)
    W = np.abs(whitener)
    size = np.einsum("n,nabc,ai,bj,ch->ijh", np.abs(c), size3, W, W, W, optimize=True)
    assert_within(whitened_third_moment(rows, transform, score, whitener), seen, size, "T3")


def test_moments_equal_the_formulas_on_paper():
    """The loops of `literal`, and the numpy reference, for standard normal x."""
    rng = np.random.default_rng(1)
    X, y, whitener = rng.standard_normal((60, 3)), rng.standard_normal(60), rng.standard_normal((3, 2))
    rows = Rows(X, y)
    score = Score.of(StandardNormal(3), rows)
    P2, P3 = reference.transform_labels(y, 0.4, -1.2, 0.7)
    T2 = second_moment(rows, Polynomial.centred(rows, 0.7, 1.0, 0.0), score)
    T3 = whitened_third_moment(rows, Polynomial.centred(rows, -1.2, 0.4, 1.0), score, whitener)
    np.testing.assert_allclose(T2, literal.second_moment(X, P2), rtol=0, atol=1e-13)
    np.testing.assert_allclose(T3, literal.seen_through(literal.third_moment(X, P3), whitener), rtol=0, atol=1e-12)
    np.testing.assert_allclose(T2, reference.second_moment(X, reference.centred(P2)), rtol=0, atol=1e-13)
    np.testing.assert_allclose(T3, reference.third_moment(X, reference.centred(P3), whitener), rtol=0, atol=1e-12)


def test_packing_is_that_of_unpack_symmetric():
    rng = np.random.default_rng(2)
    X, directions = rng.standard_normal((50, 4)), rng.standard_normal((4, 4))
    sums = moment(THIRD, X, directions=directions)
    v = X @ directions.T
    want = POLYNOMIAL[0] * np.einsum("na,nb,nc->abc", v, v, v)
    np.testing.assert_allclose(unpack_symmetric(sums[:20], 4), want, rtol=0, atol=1e-12 * np.abs(want).max())


@pytest.mark.parametrize("n_samples", [1, 7, 8, 255, 257, 5000])
@pytest.mark.parametrize("weighted", [False, True])
def test_powers_of_the_target(n_samples, weighted):
    """Kills: the rows after the last whole vector left out, a power too many. Reads no X, and counts no row as read."""
    rng = np.random.default_rng(n_samples)
    y, w = rng.standard_normal(n_samples), rng.uniform(0.5, 2.0, n_samples)
    rows = Rows(np.full((n_samples, 2), np.nan), y, w if weighted else None)
    terms = np.stack([y**m * (w if weighted else 1.0) for m in range(4)])
    error = np.abs(rows.moment(_moments.POWERS) - terms.sum(axis=1))
    assert (error <= 1e-14 * np.abs(terms).sum(axis=1)).all()
    assert rows.reads.n_rows == 0
