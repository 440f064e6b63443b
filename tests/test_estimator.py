"""`MoERegressor`: scikit-learn's own checks, and the ways scikit-learn uses a regressor."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import moe_fast as mf
from moe_fast import estimator as estimator_module
from moe_fast.estimator import MoERegressor

SIM = mf.make_moe(n_samples=400, n_features=3, n_experts=2, random_state=0)
X, Y = SIM.X, SIM.y
NAMES = ["age", "dose", "weight"]
PLAIN = MoERegressor(n_starts=4, random_state=0)
FITTED = clone(PLAIN).fit(X, Y)
FRAMES = {
    "pandas": lambda values: pd.DataFrame(values, columns=NAMES),
    "polars": lambda values: pl.DataFrame(values, schema=NAMES),
}
POLARS = pytest.param("polars", marks=pytest.mark.skipif(
    sklearn.__version__ < "1.9", reason="scikit-learn before 1.9 does not read the names of a polars frame"
))

EXPECTED_FAILED_CHECKS = {
    "check_regressors_no_decision_function": "predict_proba is the gate, which other regressors do not have",
}


@pytest.mark.filterwarnings("ignore::moe_fast.CollinearityWarning")
@pytest.mark.filterwarnings("ignore::moe_fast.ConvergenceWarning")   # the checks' data are too few for two experts
@parametrize_with_checks([MoERegressor(n_starts=4)], expected_failed_checks=lambda _: EXPECTED_FAILED_CHECKS)
def test_scikit_learns_checks(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")   # without it one check is skipped
    check(estimator)


# ---- what it gives is what the functions give ----

def test_fit_is_that_of_the_function():
    result = mf.fit(X, Y, 2, n_starts=4, random_state=0)
    assert FITTED.model_ == result.model
    assert FITTED.result_.model is FITTED.model_
    for name in ("coef", "intercept", "gate_coef", "gate_intercept", "noise_std"):
        assert np.array_equal(getattr(FITTED, f"{name}_"), getattr(result.model, name)), name
    assert FITTED.n_iter_ == result.n_iter
    assert FITTED.converged_ is True
    assert FITTED.log_likelihood_ == result.log_likelihood
    assert FITTED.n_features_in_ == 3
    assert not hasattr(FITTED, "feature_names_in_")


def test_every_argument_reaches_the_fit(monkeypatch):
    """Kills: an argument left out of the call, or under another's name."""
    seen = {}

    def spy(*args, **options):
        seen.update(options)
        return mf.fit(X, Y, 2, n_starts=1)

    monkeypatch.setattr(estimator_module, "fit", spy)
    own = {
        "activation": "tanh", "noise": 0.1, "fit_intercept": False, "gate": "constant", "gate_intercept": False,
        "init": "kmeans", "n_starts": 3, "time_limit": 9.0, "max_iter": 7, "tol": 1e-3, "n_threads": 1,
        "random_state": 5,
    }
    weight = np.ones(400)
    MoERegressor(**own).fit(X, Y, sample_weight=weight)
    assert seen == {**own, "gate_features": None, "sample_weight": weight}


def test_methods_are_those_of_the_model():
    model = FITTED.model_
    mean, std = FITTED.predict(X, return_std=True)
    assert np.array_equal(mean, model.predict(X))
    assert np.array_equal(FITTED.predict(X), mean)
    assert np.array_equal(std, model.predict_std(X))
    assert np.array_equal(FITTED.predict_proba(X), model.gate_proba(X))
    assert np.array_equal(FITTED.predict_interval(X, 0.8), model.predict_interval(X, 0.8))
    assert np.array_equal(FITTED.score_samples(X, Y), model.log_density(X, Y))
    assert np.array_equal(FITTED.score_samples(X), model.log_density(X, mean))
    for drawn, expected in zip(FITTED.sample(X, 3), model.sample(X, 3), strict=True):
        assert np.array_equal(drawn, expected)
    assert FITTED.score(X, Y) == pytest.approx(1 - np.mean((Y - mean) ** 2) / np.var(Y))


def test_criteria_are_those_of_the_fit_and_of_other_rows():
    assert FITTED.bic(X, Y) == pytest.approx(FITTED.result_.bic)
    assert FITTED.aic(X, Y) == pytest.approx(FITTED.result_.aic)
    weight = np.tile([0.0, 3.0], 200)
    rows = np.repeat(np.arange(400), weight.astype(int))
    assert FITTED.bic(X, Y, sample_weight=weight) == pytest.approx(FITTED.bic(X[rows], Y[rows]))
    assert FITTED.aic(X[:50], Y[:50]) == pytest.approx(
        2 * FITTED.result_.n_parameters - 2 * FITTED.score_samples(X[:50], Y[:50]).sum()
    )


def test_weight_two_is_the_row_twice():
    weight = np.tile([1, 0, 2, 3], 100)
    rows = np.repeat(np.arange(400), weight)
    weighted, repeated = clone(PLAIN).fit(X, Y, sample_weight=weight), clone(PLAIN).fit(X[rows], Y[rows])
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-5)
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-5)


# ---- types ----

def test_float32_is_used_as_it_is_and_comes_back(monkeypatch):
    """Kills: X widened before the fit, predictions left in float64."""
    narrow = X.astype(np.float32)
    narrow.flags.writeable = False
    seen = []

    def spy(experts_X, *args, **options):
        seen.append(experts_X)
        return mf.fit(experts_X, *args, **options)

    monkeypatch.setattr(estimator_module, "fit", spy)
    regressor = clone(PLAIN).fit(narrow, Y.astype(np.float32))
    assert np.shares_memory(seen[0], narrow)
    for values in (
        *regressor.predict(narrow, return_std=True),
        regressor.predict_proba(narrow),
        *regressor.predict_interval(narrow),
        regressor.sample(narrow, 0)[0],
    ):
        assert values.dtype == np.float32
    assert regressor.predict(X).dtype == np.float64
    assert regressor.coef_.dtype == regressor.score_samples(narrow, Y).dtype == np.float64
    np.testing.assert_allclose(regressor.predict(narrow), FITTED.predict(X), atol=1e-3)


@pytest.mark.parametrize("kind", ["pandas", POLARS])
def test_names_of_frames_are_kept_and_asked_for(kind):
    frame = FRAMES[kind]
    regressor = clone(PLAIN).fit(frame(X), pd.Series(Y, name="cost"))
    assert regressor.feature_names_in_.tolist() == NAMES
    assert regressor.model_.feature_names == tuple(NAMES)
    assert regressor.model_.target_name == "cost"
    assert regressor.model_.gate_feature_names is None
    assert np.array_equal(regressor.predict(frame(X)), FITTED.predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        regressor.predict(frame(X)[NAMES[::-1]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        regressor.predict(X)


@pytest.mark.parametrize("kind", ["pandas", POLARS])
def test_frames_of_a_transformer_before_it(kind):
    pipeline = make_pipeline(StandardScaler(), clone(PLAIN)).set_output(transform=kind)
    pipeline.fit(FRAMES[kind](X), Y)
    assert pipeline[-1].feature_names_in_.tolist() == NAMES
    np.testing.assert_allclose(pipeline.predict(FRAMES[kind](X)), FITTED.predict(X), atol=1e-6)
    assert pipeline.score_samples(FRAMES[kind](X)).shape == (400,)


# ---- scikit-learn's tools ----

def test_search_over_a_pipeline_in_two_processes():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), clone(PLAIN)), {"moeregressor__n_experts": [1, 2]}, cv=3, n_jobs=2
    )
    search.fit(X, Y)
    assert search.best_params_ == {"moeregressor__n_experts": 2}
    alone = cross_val_score(make_pipeline(StandardScaler(), clone(PLAIN)), X, Y, cv=3)
    assert search.best_score_ == alone.mean()


def test_clone_copies_a_start_and_an_activation():
    """Kills: a constructor that changes what it is given."""
    cube_root = mf.Activation("cube_root", np.cbrt)
    regressor = MoERegressor(activation=cube_root, init=FITTED.model_, noise=[0.1, 0.2])
    copy = clone(regressor)
    assert copy.init == FITTED.model_
    assert copy.activation.name == "cube_root"
    assert regressor.get_params()["noise"] == [0.1, 0.2]
    started = MoERegressor(init=FITTED.model_).fit(X, Y)
    assert [start.kind for start in started.result_.starts] == ["model"]


def test_pickle_predicts_the_same():
    again = pickle.loads(pickle.dumps(FITTED))
    assert np.array_equal(again.predict(X), FITTED.predict(X))
    assert again.model_ == FITTED.model_


def test_sample_weight_is_routed_to_fit_and_score():
    wrong = np.arange(400) % 4 == 0
    y, weight = np.where(wrong, 50.0, Y), np.where(wrong, 0.0, 1.0)
    with config_context(enable_metadata_routing=True):
        routed = clone(PLAIN).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scores = cross_validate(routed, X, y, cv=3, params={"sample_weight": weight}, return_estimator=True)
    clean = cross_val_score(PLAIN, X[~wrong], Y[~wrong], cv=3)
    np.testing.assert_allclose(scores["test_score"].mean(), clean.mean(), atol=0.05)
    assert max(regressor.noise_std_.max() for regressor in scores["estimator"]) < 0.2


def test_warm_start_goes_on_from_the_last_fit():
    regressor = clone(PLAIN).set_params(warm_start=True)
    cold = regressor.fit(X, Y).result_
    assert len(cold.starts) > 1
    warm = regressor.fit(X, Y + 0.001).result_
    assert [start.kind for start in warm.starts] == ["model"]
    np.testing.assert_allclose(warm.model.coef, cold.model.coef, atol=1e-3)
    with pytest.raises(ValueError, match=r"warm_start=True.*n_experts = 2; now n_experts = 3"):
        regressor.set_params(n_experts=3).fit(X, Y)
    with pytest.raises(ValueError, match=r"warm_start=True.*n_features = 3; now n_features = 2"):
        regressor.set_params(n_experts=2).fit(X[:, :2], Y)
    regressor.set_params(n_experts=3)
    regressor.set_params(warm_start=False).fit(X, Y)
    assert regressor.n_experts == 3


# ---- columns ----

@pytest.mark.parametrize("gate_features", [["dose", "age"], [1, 0], np.array([1, 0]), ("dose", 0)])
def test_gate_sees_the_columns_it_is_given(gate_features):
    regressor = clone(PLAIN).set_params(gate_features=gate_features).fit(FRAMES["pandas"](X), Y)
    expected = mf.fit(X, Y, 2, gate_features=X[:, [1, 0]], n_starts=4, random_state=0).model
    assert np.array_equal(regressor.gate_coef_, expected.gate_coef)
    assert regressor.model_.gate_feature_names == ("dose", "age")
    assert regressor.coef_.shape == (2, 3)
    frame = FRAMES["pandas"](X)
    assert np.array_equal(regressor.predict(frame), expected.predict(X, gate_features=X[:, [1, 0]]))
    assert np.array_equal(
        regressor.score_samples(frame, Y), expected.log_density(X, Y, gate_features=X[:, [1, 0]])
    )


def test_experts_see_the_columns_they_are_given():
    narrow = X.astype(np.float32)
    regressor = clone(PLAIN).set_params(expert_features=[0, 2]).fit(narrow, Y)
    assert (regressor.coef_.shape, regressor.gate_coef_.shape) == ((2, 2), (2, 3))
    expected = mf.fit(narrow[:, [0, 2]], Y, 2, gate_features=narrow, n_starts=4, random_state=0).model
    assert np.array_equal(regressor.coef_, expected.coef)
    constant = clone(PLAIN).set_params(expert_features=1, gate="constant").fit(X, Y)
    assert (constant.coef_.shape, constant.gate_coef_.shape) == ((2, 1), (2, 0))
    both = clone(PLAIN).set_params(expert_features=[0, 1], gate_features="weight").fit(FRAMES["pandas"](X), Y)
    assert both.model_.feature_names == ("age", "dose")
    assert both.model_.gate_feature_names == ("weight",)


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        (["height"], ValueError, "gate_features names 'height'; X has columns ['age', 'dose', 'weight']"),
        ([3], ValueError, "gate_features[0] must be at least 0 and at most 2, got 3"),
        ([], ValueError, "gate_features must name at least one column"),
        (["age", 0], ValueError, "none twice"),
        (0.5, TypeError, "gate_features[0] must be an integer"),
        (X[:, :1], TypeError, "gate_features[0] must be an integer"),   # values, as mf.fit has them
    ],
)
def test_wrong_columns_are_refused(columns, error, message):
    with pytest.raises(error, match=re.escape(message)):
        MoERegressor(gate_features=columns).fit(FRAMES["pandas"](X), Y)


def test_names_need_a_frame():
    with pytest.raises(ValueError, match="X has no column names"):
        MoERegressor(gate_features=["age"]).fit(X, Y)


# ---- the package ----

def test_without_scikit_learn_the_error_names_the_extra():
    program = (
        "import sys; sys.modules['sklearn'] = None; import moe_fast as mf\n"
        "mf.fit\n"
        "try: mf.MoERegressor\n"
        "except ImportError as error: print(error)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "pip install 'moe_fast[sklearn]'" in printed


def test_package_has_it_and_nothing_by_other_names():
    assert mf.MoERegressor is MoERegressor
    assert "MoERegressor" in dir(mf)
    with pytest.raises(AttributeError, match="no attribute 'MoeRegressor'"):
        mf.MoeRegressor  # noqa: B018
