"""Saving and loading models, and what a FitResult carries away."""

import json
import os
import pickle
import stat

import numpy as np
import pytest

from moe_fast.activations import Activation, LeakyReLU
from moe_fast.model import MixtureOfExperts, load
from moe_fast.result import FitResult, StartReport


def make_model(**options):
    rng = np.random.default_rng(0)
    parameters = {
        "coef": rng.normal(size=(3, 2)) * [1e-300, 1e300],   # decimal text must carry every bit
        "intercept": [0.1, np.nextafter(1.0, 2.0), -5e-324],
        "gate_coef": rng.normal(size=(3, 2)),
        "gate_intercept": rng.normal(size=3),
        "noise_std": rng.uniform(1, 2, 3) / 3,
    }
    return MixtureOfExperts(**(parameters | options))


def softsign(t):
    return t / (1 + np.abs(t))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "sigmoid"},
        {"activation": "relu"},
        {"activation": LeakyReLU(0.3)},
        {"gate": "constant", "gate_coef": None},
        {"gate_coef": np.ones((3, 1)), "uses_gate_features": True, "gate_feature_names": ["größe"]},
        {"feature_names": ['a "quoted" name', ""], "target_name": "y\n"},
    ],
    ids=str,
)
def test_round_trip_is_exact(tmp_path, options):
    model = make_model(**options)
    model.save(tmp_path / "model.json")
    back = load(tmp_path / "model.json")
    assert back == model
    for name in ("coef", "intercept", "gate_coef", "gate_intercept", "noise_std"):
        assert getattr(back, name).tobytes() == getattr(model, name).tobytes()
        assert getattr(back, name).shape == getattr(model, name).shape
    assert MixtureOfExperts.from_dict(model.to_dict()) == model
    assert pickle.loads(pickle.dumps(model)) == model


def test_file_is_the_documented_json(tmp_path):
    make_model(feature_names=["a", "b"]).save(str(tmp_path / "model.json"))
    document = json.loads((tmp_path / "model.json").read_text())
    assert document["format"] == "moe_fast.model"
    assert document["version"] == 1
    assert document["activation"] == {"name": "linear", "slope": 0.0, "custom": False}
    assert document["feature_names"] == ["a", "b"]
    assert np.shape(document["coef"]) == (3, 2)


def test_activation_of_the_users_own_is_supplied_again(tmp_path):
    own = Activation("softsign", softsign)
    model = make_model(activation=own)
    model.save(tmp_path / "model.json")
    assert load(tmp_path / "model.json", activation=own) == model
    with pytest.raises(ValueError, match=r"'softsign' is the user's own: pass it as activation="):
        load(tmp_path / "model.json")
    with pytest.raises(ValueError, match=r"the model has activation 'softsign' .*got .*softplus"):
        load(tmp_path / "model.json", activation=Activation("softplus", lambda t: np.logaddexp(0, t)))
    with pytest.raises(ValueError, match="the model has activation 'softsign'"):
        load(tmp_path / "model.json", activation="tanh")


def without(key):
    return lambda document: document.pop(key)


def with_(**entries):
    return lambda document: document.update(entries)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (with_(format="sklearn"), "not a moe_fast model"),
        (without("format"), "not a moe_fast model"),
        (with_(version=2), "version is 2, this moe_fast reads up to 1; upgrade"),
        (with_(version="1"), "version must be a whole number"),
        (with_(version=True), "version must be a whole number"),
        (with_(version=0), "version must be a whole number"),
        (without("version"), "version must be a whole number"),
        (without("noise_std"), r"missing \['noise_std'\]"),
        (without("uses_gate_features"), r"missing \['uses_gate_features'\]"),
        (with_(sigma=1), r"unknown \['sigma'\]"),
        (with_(coef=None), "coef must be a list of numbers, got None"),
        (with_(intercept=None), "intercept must be a list of numbers, got None"),
        (with_(noise_std=1.0), "noise_std must be a list of numbers"),
        (with_(coef=[[1.0, 2.0], [3.0]]), "coef is not a rectangular array"),
        (with_(coef=[["1", "2"]] * 3), "coef must hold real numbers"),
        (with_(coef=[[1.0, None]] * 3), "coef must hold real numbers"),
        (with_(intercept=[0.0, 0.0]), r"intercept has shape \(2,\)"),
        (with_(gate_coef=[[0.0]] * 3), "gate_coef has shape"),
        (with_(noise_std=[1.0, 0.0, 1.0]), "noise_std must be positive"),
        (with_(intercept=[0.0, float("nan"), 0.0]), "intercept has 1 values that are NaN or infinite"),
        (with_(intercept=[0.0, float("inf"), 0.0]), "intercept has 1 values that are NaN or infinite"),
        (with_(intercept=[0.0, 10**400, 0.0]), "intercept must hold real numbers"),
        (with_(gate="hard"), "gate"),
        (with_(gate=None), "gate"),
        (with_(feature_names=["a"]), "feature_names must be 2"),
        (with_(uses_gate_features=1), "uses_gate_features must be True or False"),
        (with_(activation="tanh"), "activation must be an object"),
        (with_(activation={"name": "tanh"}), r"activation .*missing \['custom', 'slope'\]"),
        (with_(activation={"name": "tahn", "slope": 0.0, "custom": False}), "tanh"),
        (with_(activation={"name": "tanh", "slope": 0.5, "custom": False}), "activation 'tanh' of slope 0.5"),
        (with_(activation={"name": "leaky_relu", "slope": "a", "custom": False}), "slope must be a number"),
    ],
)
def test_bad_document_is_refused_with_path_and_reason(tmp_path, spoil, reason):
    document = make_model().to_dict()
    spoil(document)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"cannot load .*bad\.json.*{reason}"):
        load(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00garbage", b"a,b\n1,2\n", b"[" * 100_000, b'{"format": "moe_fast.model"'],
)
def test_what_is_no_json_is_refused(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot load .*bad\.json.*not valid JSON"):
        load(path)


@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b'"text"', b"{}"])
def test_other_json_is_refused(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.json.*not a moe_fast model"):
        load(path)


def test_truncated_file_is_refused_at_every_length(tmp_path):
    path = tmp_path / "model.json"
    make_model().save(path)
    content = path.read_bytes().rstrip()
    for length in range(0, len(content), 13):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="not valid JSON"):
            load(path)


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere.json")


# Kills: writing in place, forgetting the temporary file, swallowing the error.
@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step, error):
    path = tmp_path / "model.json"
    old = make_model()
    old.save(path)

    def fail(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(error)):
            make_model(activation="tanh").save(path)
    assert load(path) == old
    assert os.listdir(tmp_path) == ["model.json"]


def test_saving_replaces_the_file(tmp_path):
    path = tmp_path / "model.json"
    make_model().save(path)
    make_model(activation="tanh").save(path)
    assert load(path).activation.name == "tanh"
    assert os.listdir(tmp_path) == ["model.json"]


def test_saving_follows_a_link_and_the_umask(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "there" / "model.json")
    before = os.umask(0o027)
    try:
        make_model().save(tmp_path / "link.json")
    finally:
        os.umask(before)
    target = tmp_path / "there" / "model.json"
    assert (tmp_path / "link.json").is_symlink()
    assert load(target) == make_model()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_saving_into_a_missing_folder_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*missing"):
        make_model().save(tmp_path / "missing" / "model.json")


def make_result(**options):
    model = MixtureOfExperts(
        [[1.5, -2.0], [0.25, 3.0]],
        [0.5, -0.5],
        gate_coef=[[0.75, 0.0], [0.0, 0.0]],
        noise_std=[0.1, 0.2],
        feature_names=["height", "weight"],
        target_name="age",
    )
    fields = {
        "model": model,
        "log_likelihood": -100.0,
        "n_parameters": 11,
        "n_samples": 50.0,
        "n_iter": 12,
        "n_passes": 30.5,
        "converged": True,
        "history": np.linspace(-200, -100, 13),
        "entropy": 4.0,
        "mixing_weights": np.array([0.6, 0.4]),
        "effective_sizes": np.array([30.0, 20.0]),
        "starts": (
            StartReport("random", 0, -150.0, 10, "eliminated"),
            StartReport("spectral", 1, -100.0, 30, "winner"),
            StartReport("ransac", 2, -100.04, 30, "finished"),
            StartReport("ransac", 3, 900.0, 30, "degenerate"),
        ),
        "seconds": 0.25,
    }
    return FitResult(**(fields | options))


def test_criteria():
    fit = make_result()
    assert fit.aic == 222.0
    np.testing.assert_allclose(fit.bic, 200 + 11 * np.log(50), rtol=1e-15)
    np.testing.assert_allclose(fit.icl, 208 + 11 * np.log(50), rtol=1e-15)


def test_summary_says_what_the_fit_found():
    text = make_result().summary()
    lines = {line.split("  ")[1]: line.split() for line in text.splitlines() if line.startswith("  ")}
    assert lines["height"][-2:] == ["0.75", "0"]   # the gate's table comes last
    for wanted in (
        "Mixture of experts of age: 2 experts, 2 features, 50 rows; activation linear, softmax gate",
        "expert 1  expert 2", "-2", "0.25", "noise std", "30.0", "60.0 %", "0.6000",
        "log-likelihood -100.0000", "11 parameters", "AIC 222.00", "BIC 243.03", "ICL 251.03",
        "start 1 (spectral) won; 2 of 4 starts reached its optimum, 1 collapsed",
        "converged after 12 iterations, 30.5 passes over the rows, 0.25 s",
    ):
        assert wanted in text
    assert "barrier" not in text
    assert "separates" not in text


def test_summary_says_what_went_wrong():
    text = make_result(converged=False, penalised=True, separated=(0, 1), starts=()).summary()
    assert "NOT CONVERGED after 12 iterations" in text
    assert "an expert collapsed" in text
    assert "the gate separates experts 1, 2" in text
    assert "won" not in text


@pytest.mark.parametrize(
    ("options", "present", "absent"),
    [
        ({"gate": "constant"}, "mean probability", "z0"),
        ({"gate_coef": [[1.0], [0.0]], "uses_gate_features": True}, "z0", "z1"),
        (
            {"gate_coef": [[1.0], [0.0]], "uses_gate_features": True, "gate_feature_names": ["dose"]},
            "dose",
            "z0",
        ),
        ({}, "x1", "x2"),
    ],
)
def test_summary_names_features(options, present, absent):
    text = make_result(model=MixtureOfExperts([[1.0, 2.0], [3.0, 4.0]], **options)).summary()
    assert present in text
    assert absent not in text


def test_summary_of_one_expert_has_no_gate():
    one = {"mixing_weights": np.ones(1), "effective_sizes": np.array([50.0])}
    text = make_result(model=MixtureOfExperts([[1.0]]), **one).summary()
    assert "1 expert, 1 feature" in text
    assert "Gate" not in text


def test_result_pickles_small():
    fit = make_result()
    content = pickle.dumps(fit)
    assert len(content) < 5000
    back = pickle.loads(content)
    assert back.model == fit.model
    assert back.starts == fit.starts
    assert repr(back) == repr(fit)
