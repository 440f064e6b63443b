"""Are the sums of one EM pass right? Against the numpy reference, whatever the shape, the gate and the activation."""

import sys

import numpy as np
import pytest
import rowwise
from rowwise import ACTIVATIONS, assert_within, problem, reference_sums, row_values, run_python, sums_of_sizes

import moe_fast as mf
from moe_fast import _em
from moe_fast import design as design_room
from moe_fast.activations import Activation, Code, get_activation
from moe_fast.design import Design, Parameters
from moe_fast.rows import Rows

GRAMS = _em.EXPERT_GRAM | _em.GATE_GRAM
EVERYTHING = GRAMS | _em.ENTROPY | _em.INFORMATION


def check_sums(design, parameters, want=GRAMS):
    sums = design.run(parameters, want)
    expected, sizes = reference_sums(design, parameters), sums_of_sizes(design, parameters)
    for name, value in expected.items():
        assert_within(getattr(sums, name), value, sizes[name], name)
    return sums


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_experts", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("n_samples", [1, 255, 256, 257, 5000])
def test_rows_at_the_edges_of_tiles(n_samples, n_experts, dtype):
    """Kills: a last tile cut short or read past, padding rows that count, a block summed twice or left out."""
    check_sums(*problem(n_samples, n_experts=n_experts, dtype=dtype, weighted=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_features", range(1, 20))
def test_any_number_of_features(n_features, dtype):
    """Kills: columns of the last block lost in the transposition, a remainder of the register tile left out."""
    check_sums(*problem(300, n_features, 2, dtype=dtype, activation="linear"))
    check_sums(*problem(300, 2, 3, n_gate_features=n_features, dtype=dtype, activation="linear"))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation, weighted):
    """Kills: g' missing or not squared in the Gram, a leaky slope on the wrong side, weights forgotten."""
    design, parameters = problem(700, activation=activation, weighted=weighted)
    assert design.activation.code == {"custom": Code.CUSTOM}.get(activation, design.activation.code)
    check_sums(design, parameters)


@pytest.mark.parametrize("gate_intercept", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(
    "gate", [{}, {"n_gate_features": 2}, {"n_gate_features": 11}, {"gate": "constant"}], ids=str
)
@pytest.mark.parametrize("n_experts", [1, 4])
def test_gates_and_intercepts(n_experts, gate, fit_intercept, gate_intercept):
    """Kills: the gate's design standardised like the experts', an intercept column for one when only the other has it.

    A constant gate without intercept has nothing to move: all experts are equally likely.
    """
    check_sums(
        *problem(
            400, 5, n_experts, weighted=True, fit_intercept=fit_intercept, gate_intercept=gate_intercept, **gate
        )
    )


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_bound_across_the_kink(activation):
    """MAJORISED changes the experts' Gram alone. Kills: the bound on the rows of positive y, a curvature below one."""
    design, parameters = problem(700, activation=activation, weighted=True)
    v, leak = row_values(design, parameters), design.activation.slope
    pull = np.maximum((leak - 1.0) * design.rows.y, 0.0)[:, None]
    curvature = max(1.0, leak**2) + 0.5 * pull / np.abs(v.eta)
    sums, plain = design.run(parameters, GRAMS | _em.MAJORISED), design.run(parameters, GRAMS)
    for expert, c in enumerate((v.weight[:, None] * v.resp * curvature).T):
        # The curvature's rounding is that of the linear predictor, which near the kink is relatively large.
        assert_within(sums.expert_gram[expert], (v.D.T * c) @ v.D, (np.abs(v.D.T) * c) @ np.abs(v.D), u=1e-11)
    for name, value in vars(plain).items():
        if name != "expert_gram":
            assert np.array_equal(getattr(sums, name), value)


@pytest.mark.parametrize("n_gate_features", [None, 3])
@pytest.mark.parametrize(("n_samples", "n_features"), [(3, 4), (17, 1), (255, 5), (257, 8), (1300, 21)])
def test_grams_in_single_precision(n_samples, n_features, n_gate_features):
    """Weighted Grams to seven digits of their absolute terms, everything else to the bit.

    Kills: a column or a row lost in the narrow tile, the unit of the weights left out, the gate's design for the
    experts', gradients in single precision.
    """
    own = {} if n_gate_features is None else {"n_gate_features": n_gate_features}
    design, parameters = problem(n_samples, n_features, 3, activation="tanh", weighted=True, dtype=np.float32, **own)
    want = EVERYTHING
    exact, single = vars(design.run(parameters, want)), vars(design.run(parameters, want | _em.SINGLE))
    v, sizes = row_values(design, parameters), sums_of_sizes(design, parameters)
    for name in ("expert_gram", "gate_gram"):
        assert_within(single[name], exact[name], sizes[name], name, u=2e-7)
    assert not np.array_equal(single["expert_gram"], exact["expert_gram"])
    largest = np.abs(v.D).max() * max(np.abs(v.Z).max(), np.abs(v.D).max())
    for name in ("info_expert", "info_gate", "info_cross"):
        bound = 1e-6 * n_samples * largest * max(np.abs(exact[name]).max(initial=0.0), 1.0)
        np.testing.assert_allclose(single[name], exact[name], rtol=0, atol=bound, err_msg=name)
    for name in vars(design.run(parameters, 0)).keys() | {"info_noise", "info_expert_noise", "info_gate_noise"}:
        assert np.array_equal(single[name], exact[name]), name


@pytest.mark.parametrize("size", [1e-200, 1e-40, 1e30, 1e200])
def test_weights_of_any_size_in_single_precision(size):
    """Kills: weights that under- or overflow as float32; the unit of one tile used for the next."""
    design, parameters = problem(700, 5, 2, activation="linear", weighted=True, dtype=np.float32)
    rows = design.rows
    sizes = np.where(np.arange(700) < 256, 1.0, 1e-3)   # tiles of different units
    scaled = Rows(rows.X, rows.y, size * sizes * rows.weight, n_threads=1)
    plain = Rows(rows.X, rows.y, sizes * rows.weight, n_threads=1)
    want = GRAMS | _em.SINGLE
    got = Design(scaled, design.activation, like=design).run(parameters, want)
    expected = Design(plain, design.activation, like=design).run(parameters, want)
    np.testing.assert_allclose(got.expert_gram / size, expected.expert_gram, rtol=1e-5, atol=1e-6)


def test_custom_activation_equals_the_built_in():
    """Kills: columns of g, g', g'' handed over transposed or shifted by a tile."""
    design, parameters = problem(1000, activation="sigmoid", weighted=True)
    sigmoid = design.activation
    own = Activation("own", sigmoid.g, sigmoid.derivative)
    custom = Design(design.rows, own, like=design)
    got, want = custom.run(parameters, EVERYTHING), design.run(parameters, EVERYTHING)
    for name, value in vars(want).items():
        # g'' of the custom one is a difference of g', right to 1e-10.
        rtol = 1e-9 if name == "info_expert" else 1e-12
        np.testing.assert_allclose(
            getattr(got, name), value, rtol=0, atol=rtol * max(np.abs(value).max(), 1.0), err_msg=name
        )


def test_custom_activation_that_overflows_is_no_place_to_be():
    """Kills: infinite values taken for numbers. A fit takes no step there, and refuses where every start is there."""
    rows = Rows(np.array([[0.0], [1e3]]), np.zeros(2))
    design = Design(rows, Activation("wall", lambda t: np.where(t > 5.0, np.inf, t), np.ones_like))
    assert not design.run(Parameters(np.array([[0.0, 10.0]]), np.empty((0, 2)), np.ones(1)), 0).finite
    walled = Activation("walled", lambda t: np.where(np.abs(t) > 2.0, np.inf, t), np.ones_like)
    x = np.random.default_rng(0).standard_normal((2000, 1))
    with pytest.raises(ValueError, match="activation walled gives values that are not finite from every start"):
        mf.fit(x, x[:, 0], 1, activation=walled, fit_intercept=False, init="random", n_starts=3, random_state=0)


def test_linear_pass_of_another_activation():
    """`linear=True` is what a start of least squares needs. Kills: the activation left on."""
    design, parameters = problem(300, activation="relu")
    got = design.run(parameters, GRAMS, linear=True)
    linear = Design(design.rows, ACTIVATIONS["linear"], like=design)
    expected, sizes = reference_sums(linear, parameters), sums_of_sizes(linear, parameters)
    for name, value in expected.items():
        assert_within(getattr(got, name), value, sizes[name], name)


@pytest.mark.parametrize("n_experts", [1, 2, 5])
def test_responsibilities_and_what_is_summed_of_them(n_experts):
    """Kills: rows that do not add up to one, entropy without weights or of one expert too few."""
    design, parameters = problem(1300, n_experts=n_experts, weighted=True)
    v = row_values(design, parameters)
    resp = np.full((1300, n_experts), np.nan)
    sums = design.run(parameters, _em.ENTROPY, resp=resp)
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=0, atol=1e-15 * n_experts)
    np.testing.assert_allclose(resp, v.resp, rtol=1e-13)
    assert_within(sums.gate_weight, v.weight @ v.proba, v.weight @ v.proba, "gate_weight")
    of_row = -np.sum(v.resp * (v.log_joint - v.log_density[:, None]), axis=1)
    size = np.sum(v.resp * (np.abs(v.log_joint) + np.abs(v.log_density)[:, None]), axis=1)
    assert_within(sums.entropy, v.weight @ of_row, v.weight @ size, "entropy")
    assert design.run(parameters, 0).entropy == 0.0


@pytest.mark.parametrize("activation", ["linear", "tanh", "custom"])
def test_rows_of_weight_zero_are_absent(activation):
    """Whatever they hold. Kills: a sum that leaves the weight out, also of the second derivative."""
    design, parameters = problem(900, activation=activation, weighted=True)
    rows = design.rows
    gone = np.random.default_rng(1).random(900) < 0.4
    rows.weight[gone] = 0.0
    rows.y[gone] = 1e60
    kept = design.on(rows.take(np.flatnonzero(~gone)))
    got, want = design.run(parameters, EVERYTHING), kept.run(parameters, EVERYTHING)
    for name, value in vars(want).items():
        scale = np.abs(value).max()   # of terms of both signs: the sums are far from cancelling
        np.testing.assert_allclose(getattr(got, name), value, rtol=0, atol=1e-11 * scale, err_msg=name)


@pytest.mark.parametrize("distance", [30.0, 1e3, 1e6])
def test_far_tails(distance):
    """No density underflows, however many sigmas away. Kills: exp before the maximum is taken off."""
    design, parameters = problem(200, activation="linear")
    design.rows.y += distance
    sums = check_sums(design, parameters)
    assert np.isfinite(sums.log_likelihood)
    assert sums.log_likelihood < -80.0 * distance
    resp = np.empty((200, 3))
    design.run(parameters, 0, resp=resp)
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=0, atol=1e-14)


def test_sharp_gate():
    """Logits of some thousands. Kills: a softmax without its maximum."""
    design, parameters = problem(500, activation="linear")
    check_sums(design, Parameters(parameters.expert, 1e3 * parameters.gate, parameters.noise_std))


@pytest.mark.parametrize("expert", [0, 1, 2])
def test_nan_is_not_lost(expert):
    """A fit tells a step into overflow by its log-likelihood, which must not be a number.

    Kills: a maximum or a logarithm of the kernels that makes a number of NaN.
    """
    design, parameters = problem(300, activation="linear")
    parameters.expert[expert, 0] = np.nan
    assert np.isnan(design.run(parameters, 0).log_likelihood)
    design, parameters = problem(300, activation="linear")
    parameters.gate[min(expert, 1), 0] = np.nan
    assert np.isnan(design.run(parameters, 0).log_likelihood)


def test_squares_that_overflow():
    """One expert at 1e300 has density zero, and that is all. Kills: 0 log 0 in the entropy."""
    design, parameters = problem(300, activation="linear")
    alone = design.run(parameters, _em.ENTROPY)
    parameters.expert[0, 0] = 1e300
    sums = design.run(parameters, _em.ENTROPY)
    assert np.isfinite(sums.log_likelihood)
    assert 0.0 < sums.entropy < alone.entropy
    parameters.expert[:, 0] = 1e300
    assert design.run(parameters, 0).log_likelihood == -np.inf


@pytest.mark.parametrize("scale", [1.0, 0.0101, 0.0099, 1e-3, 1e-6, 1e-12, 1e-100])
def test_tanh_has_its_digits_near_zero(scale):
    """Kills: 1 - 2 / (1 + exp(2 t)), which has those of one; a series that is cut too early, or used too far out."""
    x = np.linspace(-1.0, 1.0, 1001)[:, np.newaxis]
    y = np.tanh(scale * x[:, 0])
    design = Design(Rows(x, y, None), get_activation("tanh"), fit_intercept=False)
    parameters = Parameters(design.expert_rows(np.array([[scale]]), np.zeros(1)), np.zeros((0, 2)), np.ones(1))
    squares = design.run(parameters, 0).sum_squares[0]
    assert squares <= (1e-13 * scale) ** 2 * np.sum((y / scale) ** 2)


def test_rows_in_several_spans(monkeypatch):
    """Kills: a span's sums overwritten by the next one's, responsibilities written at the span's start."""
    design, parameters = problem(3000, n_gate_features=2, weighted=True)
    whole, pieces = np.empty((3000, 3)), np.empty((3000, 3))
    want = design.run(parameters, GRAMS, resp=whole)
    monkeypatch.setattr(design_room, "span_rows", lambda work_per_row: 512)
    design = Design(design.rows, design.activation, like=design)
    before = design.rows.reads.n_rows
    got = design.run(parameters, GRAMS, resp=pieces)
    assert design.rows.reads.n_rows == before + 3000
    assert whole.tobytes() == pieces.tobytes()
    sizes = sums_of_sizes(design, parameters)
    for name, size in sizes.items():
        assert_within(getattr(got, name), getattr(want, name), size, name)


def test_a_call_takes_no_longer_than_ctrl_c_may_wait(monkeypatch):
    """Kills: the gate's matrices, or the information's, left out of what a row costs; longer calls."""
    design, parameters = problem(40_000, 2, 8, n_gate_features=79)
    spans, kept = [], Rows.spans
    monkeypatch.setattr(Rows, "spans", lambda rows, longest: spans.append(longest) or kept(rows, longest))
    design.run(parameters, 0)
    design.run(parameters, GRAMS)
    design.run(parameters, _em.INFORMATION)
    n_pairs, n_columns = 28, 80
    assert spans[1] * n_pairs * n_columns**2 <= 1 << 31
    assert spans[2] < spans[1]
    assert spans[0] >= 40_000


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (7, 2, 3), (2, 9, 4), (3, 0, 2), (3, None, 5), (1, None, 200)], ids=str
)
def test_a_pass_stays_in_its_workspace(shape, n_threads):
    """Inputs are read-only, every output has a guard behind it. Kills: a workspace counted too small."""
    n_features, n_gate_features, n_experts = shape
    options = {"gate": "constant"} if n_gate_features == 0 else {"n_gate_features": n_gate_features}
    design, parameters = problem(1000, n_features, n_experts, **options)
    rows = design.rows
    sizes = n_features, design.gate_standard.shape[1], n_experts, True, True
    _, size = _em.layout(*sizes, EVERYTHING)
    own = design.Z is not None
    n_work = _em.work_size(1000, *sizes, own, EVERYTHING, n_threads)
    guard = np.pi
    sums, work, resp = np.full(size + 8, guard), np.full(n_work + 4096, guard), np.full((1001, n_experts), guard)
    given = [rows.X, rows.y, design.standard, parameters.expert, parameters.gate, parameters.noise_std]
    for array in given:
        array.flags.writeable = False
    _em.em_pass(
        rows.X, design.Z, rows.y, None, design.standard, design.gate_standard, True, True, parameters.expert,
        parameters.gate, parameters.noise_std, Code.TANH, 0.0, None, None, None, EVERYTHING, sums[:size],
        resp[:1000], work[:n_work], n_threads,
    )
    assert (sums[size:] == guard).all()
    assert (work[n_work:] == guard).all()
    assert (resp[1000] == guard).all()
    assert np.isfinite(sums).all()
    assert sums[2] == 1000.0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="protects memory as Linux does")
def test_nothing_is_read_past_the_last_row():
    """X ends where memory ends: a page that may not be touched follows. Kills: blocks of columns or rows read whole."""
    script = """
import ctypes, mmap
import numpy as np
from moe_fast import _em, _moments
from moe_fast.rows import Rows
from rowwise import problem

libc = ctypes.CDLL(None, use_errno=True)
memory = mmap.mmap(-1, 65 * mmap.PAGESIZE)
whole = np.frombuffer(memory, np.uint8)
size = len(whole) - mmap.PAGESIZE
last = ctypes.c_void_p(whole.ctypes.data + size)
assert libc.mprotect(last, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0

for dtype in (np.float32, np.float64):
    for d in range(1, 20):
        for n in (1, 7, 8, 9, 255, 257):
            design, parameters = problem(n, d, 2, dtype=dtype)
            rows = design.rows
            X = whole[size - rows.X.nbytes : size].view(dtype).reshape(n, d)
            X[:] = rows.X
            rows.X = X
            design.run(parameters, _em.INFORMATION)
            rows.moment(_moments.SECOND)
print("done")
"""
    code, output, error = run_python(script)
    assert (code, output) == (0, "done\n"), error   # -11: a segmentation fault


def test_no_rows():
    sizes = 3, 3, 2, True, True
    _, size = _em.layout(*sizes, EVERYTHING)
    sums = np.full(size, np.nan)
    standard = np.ones((2, 3))
    _em.em_pass(
        np.empty((0, 3)), None, np.empty(0), None, standard, standard, True, True, np.ones((2, 4)), np.ones((1, 4)),
        np.ones(2), Code.LINEAR, 0.0, None, None, None, EVERYTHING, sums, None,
        np.empty(_em.work_size(0, *sizes, False, EVERYTHING, 1)), 1,
    )
    assert (sums == 0.0).all()


def test_number_of_blocks_knows_no_threads():
    """One block a tile up to 64; fewer where sums are large. Kills: blocks that hold no tile, or all the memory."""
    assert [_em.n_blocks(n, 100) for n in (1, 256, 257, 256 * 64, 10**9)] == [1, 1, 2, 64, 64]
    assert _em.n_blocks(10**9, 10**6) == 8


def test_the_oracle_itself():
    """Reference and row-by-row values are two oracles: they must agree before a kernel is held against them."""
    design, parameters = problem(50, activation="sigmoid", weighted=True)
    v, sums = row_values(design, parameters), reference_sums(design, parameters)
    np.testing.assert_allclose(sums["log_likelihood"], v.weight @ v.log_density, rtol=1e-13)
    np.testing.assert_allclose(sums["weight"], v.weight @ v.resp, rtol=1e-13)
    with pytest.raises(AssertionError):
        rowwise.assert_within(1.0 + 1e-10, 1.0, 1.0)
    with pytest.raises(AssertionError):
        rowwise.assert_within(np.nan, 1.0, 1.0)
