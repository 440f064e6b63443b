"""Is bad input refused, before any work, by a message that names the argument, what was wanted and what came?"""

import numpy as np
import pytest
from scipy import sparse

import moe_fast as mf
from moe_fast.design import Design

GOOD = mf.make_moe(40, 3, 2, random_state=0)
X, Y = GOOD.X, GOOD.y
MODEL = GOOD.model


def replaced(array, place, value):
    changed = np.array(array)
    changed[place] = value
    return changed


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """A pass of EM is work: none may have begun when an argument is refused. (Means of columns may have been taken.)"""

    def begun(self, *args, **options):
        pytest.fail("a pass over the rows began before the arguments were checked")

    monkeypatch.setattr(Design, "run", begun)


def assert_refused(error, words, X=X, y=Y, n_experts=2, functions=(mf.fit, mf.fit_em), **options):
    """Both fits refuse, with all of the words; `error` is the very type, not one that happens to be a ValueError."""
    for function in functions:
        with pytest.raises(error) as caught:
            function(X, y, n_experts, **options)
        assert type(caught.value) is error
        for word in words:
            assert word in str(caught.value), str(caught.value)


NOT_FINITE = [
    (replaced(X, (5, 1), np.nan), ["X has 1 value that is NaN or infinite", "row 5", "column 1"]),
    (replaced(X, ([5, 9, 12], [0, 2, 0]), np.inf), ["X has 3 values that are NaN or infinite", "rows 5, 9, 12"]),
    (replaced(X, slice(10, 30), -np.inf), ["X has 60 values", "first in rows 10, 11, 12"]),
    (replaced(X, (5, 1), np.nan).astype(np.float32), ["X has 1 value", "row 5"]),
]


@pytest.mark.parametrize(("bad", "words"), NOT_FINITE)
def test_values_of_X_that_are_not_finite(bad, words):
    assert_refused(ValueError, words, X=bad)


@pytest.mark.parametrize(
    ("error", "bad", "words"),
    [
        (ValueError, X[:, 0], ["X is one-dimensional, shape (40,)", "X.reshape(-1, 1)"]),
        (ValueError, X[None], ["X has 3 dimensions, shape (1, 40, 3)", "(n_samples, n_features)"]),
        (ValueError, np.empty((0, 3)), ["X is empty, shape (0, 3)"]),
        (ValueError, np.empty((40, 0)), ["X is empty, shape (40, 0)"]),
        (ValueError, [[1.0, 2.0], [3.0]], ["X cannot be made an array"]),
        (ValueError, np.ma.masked_greater(X, 1.0), ["X has masked values"]),
        (TypeError, X + 1j, ["X holds complex numbers", "wanted real numbers"]),
        (TypeError, X.astype(str), ["X holds text"]),
        (TypeError, sparse.csr_array(X), ["X is sparse (csr_array)", "X.toarray()"]),
        (TypeError, sparse.csc_matrix(X), ["X is sparse (csc_matrix)"]),
        (TypeError, replaced(X.astype(object), (7, 2), "seven"), ["X must hold numbers", "row 7, column 2", "'seven'"]),
        (TypeError, replaced(X.astype(object), (0, 0), [1]), ["X must hold numbers only", "row 0, column 0", "list"]),
        (ValueError, replaced(X.astype(object), (7, 2), None), ["X has 1 value that is NaN", "row 7"]),
        (TypeError, None, ["X is None"]),
        (TypeError, np.full((40, 3), np.datetime64("2020-01-01")), ["X holds dates"]),
    ],
)
def test_kinds_and_shapes_of_X(error, bad, words):
    assert_refused(error, words, X=bad)


@pytest.mark.parametrize(
    ("error", "bad", "words"),
    [
        (ValueError, replaced(Y, 3, np.nan), ["y has 1 value that is NaN or infinite", "row 3"]),
        (ValueError, replaced(Y, [3, 4], np.inf), ["y has 2 values that are NaN or infinite", "rows 3, 4"]),
        (ValueError, Y[:, None], ["y has shape (40, 1)", "(n_samples,)", "y.ravel()"]),
        (ValueError, Y[:39], ["y has 39 values", "n_samples = 40"]),
        (ValueError, np.empty(0), ["y is empty"]),
        (ValueError, 3.0, ["y has shape ()"]),
        (TypeError, Y + 1j, ["y holds complex numbers"]),
        (TypeError, Y.astype(str), ["y holds text"]),
        (TypeError, sparse.csr_array(Y[None]), ["y is sparse"]),
        (TypeError, None, ["y is None"]),
        (ValueError, np.full(40, 2.5), ["y is constant", "every row is 2.5", "nothing to fit", "check that"]),
    ],
)
def test_y(error, bad, words):
    assert_refused(error, words, y=bad)


def test_y_constant_where_it_counts():
    """Kills: a check that looks at rows of weight zero."""
    weight = np.repeat([1.0, 0.0], 20)
    assert_refused(ValueError, ["y is constant"], y=np.where(weight > 0, 1.0, Y), sample_weight=weight)


@pytest.mark.parametrize(
    ("error", "bad", "words"),
    [
        (ValueError, 0, ["n_experts must be at least 1, got 0"]),
        (ValueError, -3, ["n_experts must be at least 1, got -3"]),
        (ValueError, 41, ["n_experts = 41 is more than the 40 rows"]),
        (TypeError, 2.0, ["n_experts must be an integer", "2.0", "float"]),
        (TypeError, "2", ["n_experts must be an integer", "'2'"]),
        (TypeError, True, ["n_experts must be an integer", "True"]),
        (TypeError, None, ["n_experts must be an integer", "None"]),
        (TypeError, [2], ["n_experts must be an integer"]),
    ],
)
def test_n_experts(error, bad, words):
    assert_refused(error, words, n_experts=bad)


def test_n_experts_above_the_rows_that_count():
    weight = replaced(np.zeros(40), slice(3), 1.0)
    assert_refused(
        ValueError, ["n_experts = 4 is more than the 3 rows of positive weight"], n_experts=4, sample_weight=weight
    )


@pytest.mark.parametrize(
    ("error", "bad", "words"),
    [
        (ValueError, replaced(np.ones(40), [2, 8], -1.0), ["sample_weight has 2 negative values", "rows 2, 8"]),
        (ValueError, np.zeros(40), ["sample_weight is zero in every row"]),
        (ValueError, np.ones(39), ["sample_weight has 39 values", "n_samples = 40"]),
        (ValueError, np.ones((40, 1)), ["sample_weight has shape (40, 1)"]),
        (ValueError, replaced(np.ones(40), 6, np.nan), ["sample_weight has 1 value that is NaN", "row 6"]),
        (ValueError, np.full(40, 1e308), ["sum of sample_weight overflows"]),
        (TypeError, ["a"] * 40, ["sample_weight holds text"]),
        (TypeError, np.ones(40) * 1j, ["sample_weight holds complex numbers"]),
    ],
)
def test_sample_weight(error, bad, words):
    assert_refused(error, words, sample_weight=bad)


@pytest.mark.parametrize(
    ("error", "bad", "words"),
    [
        (ValueError, X[:39], ["gate_features has 39 rows", "n_samples = 40"]),
        (ValueError, X[:, 0], ["gate_features is one-dimensional"]),
        (ValueError, replaced(X, (1, 1), np.nan), ["gate_features has 1 value that is NaN", "row 1", "column 1"]),
        (ValueError, np.empty((40, 0)), ["gate_features is empty"]),
        (TypeError, sparse.csr_array(X), ["gate_features is sparse"]),
        (TypeError, X.astype(str), ["gate_features holds text"]),
    ],
)
def test_gate_features(error, bad, words):
    assert_refused(error, words, gate_features=bad)


def test_gate_features_beside_a_constant_gate():
    assert_refused(
        ValueError, ["gate_features were given", 'gate="constant" has no features'], gate="constant", gate_features=X
    )


@pytest.mark.parametrize(
    ("option", "miss", "near"),
    [
        ("activation", "sigmod", "sigmoid"),
        ("activation", "Linear", "linear"),
        ("activation", "leaky-relu", "leaky_relu"),
        ("noise", "per-expert", "per_expert"),
        ("noise", "sharde", "shared"),
        ("gate", "soft_max", "softmax"),
        ("gate", "const", "constant"),
        ("init", "k-means", "kmeans"),
        ("init", "spektral", "spectral"),
        ("init", "Random", "random"),
    ],
)
def test_an_unknown_option_is_told_its_near_miss(option, miss, near):
    assert_refused(ValueError, [option, repr(miss), f"did you mean {near!r}?", "choices: "], **{option: miss})


@pytest.mark.parametrize("option", ["activation", "noise", "gate", "init"])
def test_an_option_that_is_like_none_lists_the_choices(option):
    assert_refused(ValueError, [option, "'xyzzy'", "choices: "], **{option: "xyzzy"})


def test_auto_is_of_fit_alone():
    """fit_em runs one kind of start; kills: a choice accepted and then not found."""
    assert_refused(ValueError, ["unknown init 'auto'", "choices: spectral"], functions=[mf.fit_em], init="auto")


@pytest.mark.parametrize(
    ("error", "options", "words"),
    [
        (TypeError, {"activation": 3}, ["activation", "3"]),
        (TypeError, {"activation": np.tanh}, ["activation is a bare callable", "Activation("]),
        (TypeError, {"gate": 1}, ["gate must be one of softmax, constant", "1"]),
        (TypeError, {"init": 7}, ["init must be one of", "7"]),
        (TypeError, {"init": None}, ["init must be one of", "None"]),
        (ValueError, {"noise": 0.0}, ["noise must be positive", "0"]),
        (ValueError, {"noise": -1.0}, ["noise must be positive", "-1"]),
        (ValueError, {"noise": np.nan}, ["noise must be positive and finite", "nan"]),
        (ValueError, {"noise": [0.1, 0.2, 0.3]}, ["noise has shape (3,)", "(n_experts,) = (2,)"]),
        (ValueError, {"noise": [0.1, -0.2]}, ["noise must be positive", "-0.2"]),
        (TypeError, {"noise": None}, ["noise", "None"]),
        (TypeError, {"fit_intercept": 1}, ["fit_intercept must be True or False", "1"]),
        (TypeError, {"fit_intercept": "no"}, ["fit_intercept must be True or False", "'no'"]),
        (TypeError, {"gate_intercept": None}, ["gate_intercept must be True or False", "None"]),
        (ValueError, {"max_iter": -1}, ["max_iter must be at least 0", "-1"]),
        (TypeError, {"max_iter": 10.0}, ["max_iter must be an integer", "10.0"]),
        (ValueError, {"tol": 0.0}, ["tol must be positive", "0"]),
        (ValueError, {"tol": -1e-3}, ["tol must be positive", "-0.001"]),
        (TypeError, {"tol": "small"}, ["tol must be a positive number", "'small'"]),
        (ValueError, {"time_limit": 0}, ["time_limit must be positive", "0"]),
        (TypeError, {"time_limit": "1s"}, ["time_limit must be a positive number", "'1s'"]),
        (ValueError, {"n_threads": 0}, ["n_threads", "0"]),
        (TypeError, {"n_threads": 1.5}, ["n_threads must be an integer", "1.5"]),
        (ValueError, {"random_state": -1}, ["random_state must be at least 0", "-1"]),
        (TypeError, {"random_state": "seed"}, ["random_state must be None, an integer or a numpy Generator", "'seed'"]),
        (TypeError, {"callback": 3}, ["callback must be callable", "int"]),
    ],
)
def test_other_options(error, options, words):
    assert_refused(error, words, **options)


def test_options_of_one_function():
    assert_refused(ValueError, ["n_starts must be at least 1, got 0"], functions=[mf.fit], n_starts=0)
    assert_refused(TypeError, ["n_starts must be an integer"], functions=[mf.fit], n_starts=2.5)
    assert_refused(ValueError, ["n_init must be at least 1, got 0"], functions=[mf.fit_em], n_init=0)
    assert_refused(TypeError, ["newton must be True or False"], functions=[mf.fit_em], newton="yes")


def test_a_misspelt_keyword_is_pythons_own_error():
    """PEERS' mistake: a keyword swallowed. Kills: **options that nobody reads."""
    for function in (mf.fit, mf.fit_em, mf.fit_gate, mf.fit_spectral):
        with pytest.raises(TypeError, match="sample_weigth"):
            function(X, Y, 2, sample_weigth=np.ones(40))


# ---- an init model of another shape ----


@pytest.mark.parametrize(
    ("init", "options", "words"),
    [
        (mf.make_moe(1, 4, 3).model, {}, ["n_experts = 3", "this fit has n_experts = 2"]),
        (mf.make_moe(1, 5, 2).model, {}, ["n_features = 5", "this fit has n_features = 3"]),
        (MODEL, {"gate": "constant"}, ["n_gate_features = 3", "this fit has n_gate_features = 0"]),
        (MODEL, {"gate_features": X[:, :2]}, ["n_gate_features = 3", "this fit has n_gate_features = 2"]),
        (mf.make_moe(1, 3, 2, activation="tanh").model, {}, ["activation", "tanh", "linear"]),
        (MODEL, {"activation": "relu"}, ["activation", "linear", "relu"]),
        (mf.MixtureOfExperts(MODEL.coef, [1.0, 0.0]), {"fit_intercept": False}, ["fit_intercept is False"]),
        (
            mf.MixtureOfExperts(MODEL.coef, gate_intercept=[1.0, 0.0]), {"gate_intercept": False},
            ["intercepts", "gate_intercept is False"],
        ),
    ],
)
def test_an_init_model_of_another_shape(init, options, words):
    assert_refused(ValueError, ["init is a model with", *words], init=init, **options)


def test_spectral_start_with_fewer_features_than_experts():
    assert_refused(
        ValueError, ["init='spectral' needs at least as many features as experts", "3 features", "n_experts = 4"],
        n_experts=4, init="spectral",
    )


@pytest.mark.parametrize(
    ("error", "model", "options", "words"),
    [
        (TypeError, "random", {}, ["model must be a MixtureOfExperts, got str"]),
        (TypeError, 2, {}, ["model must be a MixtureOfExperts, got int"]),
        (ValueError, mf.make_moe(1, 5, 2).model, {}, ["n_features = 5", "n_features = 3"]),
        (ValueError, MODEL, {"gate_features": X[:, :1]}, ["n_gate_features = 3", "n_gate_features = 1"]),
        (ValueError, mf.make_moe(1, 3, 2, gate_intercept=1.0, random_state=0).model, {"gate_intercept": False},
         ["gate_intercept is False"]),
        (ValueError, MODEL, {"sample_weight": np.zeros(40)}, ["sample_weight is zero in every row"]),
        (ValueError, MODEL, {"tol": -1.0}, ["tol must be positive"]),
    ],
)
def test_fit_gate(error, model, options, words):
    with pytest.raises(error) as caught:
        mf.fit_gate(X, Y, model, **options)
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)


# ---- frames ----


def test_frames_name_their_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["age", "size", "rate"])
    text = frame.assign(size=["small", "large"] * 20)
    assert_refused(TypeError, ["X must hold numbers only", "'size'", "'small'"], X=text)
    holes = frame.assign(rate=replaced(X[:, 2], 4, np.nan))
    assert_refused(ValueError, ["X has 1 value that is NaN", "row 4", "'rate'"], X=holes)
    assert_refused(ValueError, ["y has shape (40, 2)"], y=frame[["age", "size"]])


def test_good_input_does_begin_to_work():
    """That the fixture above can fail at all."""
    with pytest.raises(pytest.fail.Exception, match="a pass over the rows began"):
        mf.fit_em(X, Y, 2, random_state=0)


@pytest.mark.parametrize("name", ["X", "gate_features"])
@pytest.mark.parametrize("scale", [1e51, 1e160, 1e300])
def test_a_column_too_large_for_its_moments_is_named(name, scale):
    """Kills: an error of LAPACK's from deep inside."""
    sim = mf.make_moe(100, 3, 2, random_state=0)
    large = sim.X * [1.0, scale, 1.0]
    arguments = {"X": sim.X} | {name: large}
    with pytest.raises(ValueError, match=f"column 1 of {name} .they count from 0. has values beyond 1e.50: scale"):
        mf.fit(y=sim.y, n_experts=2, **arguments)


def test_y_out_of_range():
    """Kills: an error of LAPACK's from deep inside."""
    sim = mf.make_moe(100, 3, 2, random_state=0)
    with pytest.raises(ValueError, match=r"y has values up to .*e.60; wanted at most"):
        mf.fit(sim.X, 1e60 * sim.y, 2)


@pytest.mark.parametrize("noise", [1e200, 1e-200, [0.1, 1e-20]])
def test_held_noise_out_of_range(noise):
    """Kills: an error of LAPACK's, X blamed, a thousand iterations of rounding; one expert's noise not looked at."""
    sim = mf.make_moe(100, 3, 2, random_state=0)
    with pytest.raises(ValueError, match=r"noise must be at least .*e-16, .* and at most 1e\+50, got"):
        mf.fit(sim.X, sim.y, 2, noise=noise)
    with pytest.raises(ValueError, match=r"noise_std must be above 0 and below 1e\+50"):
        mf.fit_spectral(sim.X, sim.y, 2, noise_std=1e200)


@pytest.mark.parametrize("transforms", ["cubic", "least_variance", "robust"])
@pytest.mark.parametrize("scale", [1e160, 1e-200])
def test_y_out_of_range_of_moments(transforms, scale):
    """Kills: an error from deep inside."""
    sim = mf.make_moe(100, 3, 2, random_state=0)
    with pytest.raises(ValueError, match=r"y has values up to|y varies by"):
        mf.fit_spectral(sim.X, scale * sim.y, 2, transforms=transforms)


def test_robust_transforms_take_a_y_that_others_refuse():
    """Kills: one range for all."""
    sim = mf.make_moe(2000, 3, 2, random_state=0)
    robust = mf.fit_spectral(sim.X, 1e100 * sim.y, 2, transforms="robust", random_state=0)
    np.testing.assert_allclose(
        robust.coef, mf.fit_spectral(sim.X, sim.y, 2, transforms="robust", random_state=0).coef, rtol=1e-6
    )
    with pytest.raises(ValueError, match=r"y has values up to .*e\+100; wanted at most 1e\+50"):
        mf.fit_spectral(sim.X, 1e100 * sim.y, 2)
