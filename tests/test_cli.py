"""Does the command do what its options say, and does it say clearly what it refuses?"""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import moe_fast as mf
from moe_fast import cli, tables

TONE = Path(__file__).parents[1] / "examples" / "tone.csv"


@pytest.fixture
def run(capsys):
    """Run a command line; gives (exit code, standard output, standard error)."""

    def run(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def frame():
    """Two lines, told apart by z."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.standard_normal((80, 3)), columns=["x1", "x2", "z"])
    upper = table["z"] > 0.3 * rng.standard_normal(80)
    table["y"] = np.where(upper, 2 + table["x1"], -2 - table["x2"]) + 0.1 * rng.standard_normal(80)
    return table


@pytest.fixture
def data(frame, tmp_path):
    """The frame in a CSV file."""
    frame.to_csv(tmp_path / "data.csv", index=False)
    return tmp_path / "data.csv"


def fit_model(run, data, *options):
    """The model that `moe-fast fit` saves."""
    path = data.with_name("model.json")
    code, _, errors = run("fit", data, "--target", "y", "--experts", 2, "--save", path, *options)
    assert code == 0, errors
    return mf.load(path)


# ---- fit ----


def test_readme_command_reaches_the_good_optimum(run, tmp_path):
    """Kills: a race of starts that ends at tonedata's usual optimum, 142.848; a picture that is not written."""
    picture = tmp_path / "tone.png"
    code, out, _ = run("fit", TONE, "--target", "tuned", "--experts", 2, "--plot", picture, "--json")
    result = json.loads(out)
    assert code == 0
    assert result["log_likelihood"] == pytest.approx(145.6503, abs=2e-4)
    assert result["bic"] == pytest.approx(8 * np.log(150) - 2 * result["log_likelihood"])
    assert result["model"]["feature_names"] == ["stretchratio"]
    assert sum(start["status"] == "winner" for start in result["starts"]) == 1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_text_names_what_was_asked_for(run, data):
    code, out, _ = run("fit", data, "--target", "y", "--experts", 2)
    assert code == 0
    for word in ("x1", "x2", "z", "80 rows", "log-likelihood", "AIC", "BIC", "ICL", "won", " s"):
        assert word in out


def test_options_reach_the_fit(run, data, frame):
    """Kills: an option of `fit` that is parsed and forgotten."""
    model = fit_model(
        run,
        data,
        *("--features", "x2,x1", "--gate-features", "z", "--activation", "leaky_relu:0.3", "--noise", "shared"),
        *("--no-intercept", "--seed", 3, "--threads", 1),
    )
    expected = mf.fit(
        frame[["x2", "x1"]],
        frame["y"],
        2,
        gate_features=frame[["z"]],
        activation=mf.LeakyReLU(0.3),
        noise="shared",
        fit_intercept=False,
        random_state=3,
    ).model
    assert model == expected
    assert model.target_name == "y"
    assert not model.intercept.any()


def test_constant_gate_and_held_noise(run, data):
    model = fit_model(run, data, "--gate", "constant", "--noise", "0.25")
    assert model.gate == "constant"
    assert model.noise_std.tolist() == [0.25, 0.25]


def test_weight_two_is_the_row_twice(run, data, frame):
    """Kills: weights that are read as a feature, or not at all."""
    weighted = data.with_name("weighted.csv")
    frame.assign(w=np.where(frame.index < 30, 2, 1)).to_csv(weighted, index=False)
    twice = data.with_name("twice.csv")
    pd.concat([frame, frame[:30]]).to_csv(twice, index=False)
    a = json.loads(run("fit", weighted, "--target", "y", "--experts", 2, "--weights", "w", "--json")[1])
    b = json.loads(run("fit", twice, "--target", "y", "--experts", 2, "--json")[1])
    assert a["model"]["feature_names"] == ["x1", "x2", "z"]
    assert a["n_samples"] == 110
    assert a["log_likelihood"] == pytest.approx(b["log_likelihood"], rel=1e-8)


def test_drop_missing_fits_the_other_rows(run, data, frame):
    frame.loc[[3, 70], "x1"] = np.nan
    frame.loc[5, "y"] = np.nan
    frame.to_csv(data, index=False)
    code, _, errors = run("fit", data, "--target", "y", "--experts", 2)
    assert code == 1
    assert "missing from columns 'x1', 'y' in rows 4, 6 and 71; give --drop-missing" in errors
    model = fit_model(run, data, "--drop-missing")
    whole = frame.dropna()
    assert model == mf.fit(whole[["x1", "x2", "z"]], whole["y"], 2, random_state=0).model


def test_columns_without_numbers_are_no_features(run, data, frame):
    """Kills: text columns that stop a fit, and R's row numbers taken for a feature."""
    frame.assign(name="abc", when="2024-01-01").to_csv(data, index=True, index_label="")
    code, out, errors = run("fit", data, "--target", "y", "--experts", 2)
    assert code == 0
    assert "no features, since they hold no numbers and no few levels, or have no name: Unnamed: 0, name, when\n" in errors
    assert "y on x1, x2, z\n" in out


def test_same_table_in_every_format(run, data, frame, tmp_path):
    frame.to_csv(tmp_path / "data.tsv", sep="\t", index=False)
    frame.to_csv(tmp_path / "data.csv.gz", index=False)
    frame.to_parquet(tmp_path / "data.parquet")
    frame.to_feather(tmp_path / "data.feather")
    names = ["data.tsv", "data.csv.gz", "data.parquet", "data.feather"]
    for name in names:
        pd.testing.assert_frame_equal(tables.read_table(str(tmp_path / name)), tables.read_table(str(data)))


def test_csv_keeps_every_bit(frame, data):
    """Kills: pandas' fast parser, which is one unit off in the last place now and then."""
    assert (tables.read_table(str(data)).to_numpy() == frame.to_numpy()).all()


def test_csv_is_exact_in_older_pandas_too():
    assert tables._exact_floats("3.1.0") == {}
    for version in ("2.2.3", "3.0.1"):
        assert tables._exact_floats(version) == {"float_precision": "round_trip"}


def test_type_of_a_long_column_comes_from_all_of_it(tmp_path):
    """Kills: pandas' reading by chunks, which warns of mixed types and makes numbers of some."""
    (tmp_path / "long.csv").write_text("x\n" + "1\n" * 600_000 + "one\n")
    table = tables.read_table(str(tmp_path / "long.csv"))
    with pytest.raises(ValueError, match="has 'one' in row 600001"):
        tables.numbers(table, ["x"])


# ---- what is refused ----


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere.csv", "--target", "y"], 2, "no such file: nowhere.csv"),
        ([".", "--target", "y"], 2, "not a file: ."),
        (["data.csv", "--target", "Y"], 2, "--target: no column 'Y'; did you mean 'y'? (columns: x1, x2, z, y)"),
        (["data.csv", "--target", "y", "--features", "x1,xx2"], 2, "--features: no column 'xx2'; did you mean 'x2'?"),
        (["data.csv", "--target", "y", "--features", "x1,x1"], 2, "column 'x1' is named twice"),
        (["data.csv", "--target", "y", "--features", "x1,y"], 2, "column 'y' holds the target"),
        (["data.csv", "--target", "y", "--weights", "z", "--gate-features", "z"], 2, "column 'z' holds the weights"),
        (["data.csv", "--target", "x1,x2"], 2, "--target takes one column, got 2"),
        (["data.csv", "--target", "y", "--gate-features", "x1,x2,z"], 2, "no column is left for the experts"),
        (["data.csv", "--target", "y", "--plot", "fit.xyz"], 2, "cannot draw fit.xyz"),
        (["data.csv", "--target", "y", "--save", "no/where.json"], 2, "no folder no to write no/where.json in"),
        (["data.csv", "--target", "y", "--noise", "per-expert"], 1, "did you mean 'per_expert'"),
        (["data.csv", "--target", "y", "--weights", "x1"], 1, "sample_weight"),
        (["text.csv", "--target", "y"], 1, "column 'x1' must hold numbers, but has 'two' in row 2"),
        (["text.csv", "--target", "x1"], 1, "column 'x1' must hold numbers, but has 'two' in row 2"),
        (["infinite.csv", "--target", "y"], 1, "column 'x1' is infinite in row 3"),
        (["empty.csv", "--target", "y"], 1, "empty.csv cannot be read as a table"),
        (["header.csv", "--target", "y"], 1, "header.csv has no rows under its header"),
        (["ragged.csv", "--target", "y"], 1, "ragged.csv cannot be read as a table"),
    ],
)
def test_refusal_says_what_and_where(run, data, monkeypatch, arguments, code, message):
    monkeypatch.chdir(data.parent)
    rows = "y,x1\n1,1\n2,{}\n3,{}\n4,4\n"
    Path("text.csv").write_text(rows.format("two", "3"))
    Path("infinite.csv").write_text(rows.format("2", "inf"))
    Path("empty.csv").touch()
    Path("header.csv").write_text("x1,y\n")
    Path("ragged.csv").write_text("x1,y\n1,2\n1,2,3,4\n")
    got, out, errors = run("fit", *arguments, "--experts", 2)
    assert (got, out) == (code, "")
    assert errors.startswith("moe-fast: error: ")
    assert message in errors


def test_bad_slope_is_a_usage_error(run, data, capsys):
    with pytest.raises(SystemExit) as exit_:
        run("fit", data, "--target", "y", "--experts", 2, "--activation", "tanh:2")
    assert exit_.value.code == 2
    assert "only leaky_relu takes a slope" in capsys.readouterr().err


def test_rows_are_named_and_counted():
    rows = pd.Series(False, index=pd.RangeIndex(1, 101))   # as read_table counts
    rows[[1, 8]] = True
    assert tables.rows_of(rows) == "in rows 1 and 8"
    rows.loc[11:90] = True
    assert tables.rows_of(rows) == "in 82 rows, first 1, 8, 11, 12, 13"


def test_missing_extra_is_named(run, data, monkeypatch):
    """Kills: a bare ModuleNotFoundError where an extra is not installed."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    code, _, errors = run("fit", data, "--target", "y", "--experts", 2)
    assert code == 1
    assert "this needs pandas: pip install 'moe_fast[cli]'" in errors


@pytest.mark.filterwarnings("default")
def test_warning_is_one_line(run, data, monkeypatch):
    """Kills: Python's own form of a warning, with a line of our source in it."""

    def fit(*args, **options):
        warnings.warn("not converged; raise max_iter", mf.ConvergenceWarning, stacklevel=2)
        raise ValueError("and then this")

    monkeypatch.setattr(mf, "fit", fit)
    code, _, errors = run("fit", data, "--target", "y", "--experts", 2)
    assert code == 1
    assert errors == "moe-fast: warning: not converged; raise max_iter\nmoe-fast: error: and then this\n"


def test_interrupt_and_bugs(run, data, monkeypatch):
    """Kills: an except clause so wide that it turns a bug of ours into a message."""

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    def broken(*args, **options):
        raise AttributeError("a bug")

    monkeypatch.setattr(mf, "fit", interrupted)
    assert run("fit", data, "--target", "y", "--experts", 2) == (130, "", "moe-fast: error: interrupted\n")
    monkeypatch.setattr(mf, "fit", broken)
    with pytest.raises(AttributeError, match="a bug"):
        run("fit", data, "--target", "y", "--experts", 2)


# ---- predict ----


def test_predict_is_the_model_s_prediction(run, data, frame):
    model = fit_model(run, data, "--features", "x1,x2", "--gate-features", "z")
    shuffled = data.with_name("shuffled.csv")
    frame[["z", "x2", "x1"]].to_csv(shuffled, index=False)   # columns are found by name
    output = data.with_name("out.csv")
    model_path = data.with_name("model.json")
    code, out, _ = run("predict", model_path, shuffled, "--details", "--top-k", 1, "--output", output)
    got = tables.read_table(str(output))
    X, z = frame[["x1", "x2"]], frame[["z"]]
    assert (code, out) == (0, "")
    assert list(got) == ["prediction", "gate_1", "gate_2", "mean_1", "mean_2"]
    # Not to the bit: BLAS rounds by the layout of its matrices.
    np.testing.assert_allclose(got["prediction"], model.predict(X, top_k=1, gate_features=z), rtol=1e-12)
    np.testing.assert_allclose(got[["gate_1", "gate_2"]], model.gate_proba(X, gate_features=z), rtol=1e-12)
    np.testing.assert_allclose(got[["mean_1", "mean_2"]], model.expert_means(X), rtol=1e-12)


def test_predict_keeps_rows_in_place(run, data, frame):
    """Kills: predictions that slip up a row where a value is missing."""
    model = fit_model(run, data)
    frame.loc[2, "z"] = np.nan
    frame.to_csv(data, index=False)
    code, out, errors = run("predict", data.with_name("model.json"), data)
    assert (code, out) == (1, "")
    assert "missing from column 'z' in row 3; give --skip-missing" in errors
    code, out, errors = run("predict", data.with_name("model.json"), data, "--skip-missing")
    cells = out.splitlines()
    assert code == 0
    assert len(cells) == 81
    assert cells[3] in {"", '""'}
    assert float(cells[4]) == pytest.approx(model.predict(frame[["x1", "x2", "z"]][3:4])[0], rel=1e-12)
    rest = frame.drop(index=2)
    rmse = np.sqrt(np.mean((rest["y"] - model.predict(rest[["x1", "x2", "z"]])) ** 2))
    assert f"root mean squared error {rmse:.6g} over 79 rows" in errors


def test_predict_with_a_model_without_names(run, data, frame):
    model = mf.MixtureOfExperts([[1.0, 2.0], [3.0, 4.0]])
    model.save(data.with_name("bare.json"))
    code, _, errors = run("predict", data.with_name("bare.json"), data)
    assert code == 2
    assert "name the 2 it was fitted to with --features" in errors
    code, out, _ = run("predict", data.with_name("bare.json"), data, "--features", "z,x1")
    assert code == 0
    got = [float(cell) for cell in out.split()[1:]]
    np.testing.assert_allclose(got, model.predict(frame[["z", "x1"]].to_numpy()), rtol=1e-12)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("nowhere.json", [], "nowhere.json"),
        ("model.json", ["--features", "x1"], "--features names 1 columns, the model has 3"),
        ("model.json", ["--gate-features", "x1"], "has no features of its own"),
    ],
)
def test_predict_refusals(run, data, monkeypatch, model, arguments, message):
    monkeypatch.chdir(data.parent)
    fit_model(run, data)
    code, out, errors = run("predict", model, data, *arguments)
    assert (code, out) == (2, "")
    assert message in errors


def test_predict_names_the_column_that_is_gone(run, data, frame):
    fit_model(run, data)
    frame.rename(columns={"x2": "X2"}).to_csv(data, index=False)
    code, _, errors = run("predict", data.with_name("model.json"), data)
    assert code == 2
    assert "the model: no column 'x2'; did you mean 'X2'?" in errors


# ---- simulate and info ----


def test_simulated_table_is_the_simulation(run, tmp_path):
    path, truth = tmp_path / "sim.csv", tmp_path / "truth.json"
    options = ["--rows", 50, "--features", 4, "--experts", 2, "--activation", "tanh", "--noise", 0.3, "--gate-norm", 2]
    code, _, _ = run("simulate", *options, "--seed", 7, "--labels", "--save", truth, "--output", path)
    expected = mf.make_moe(50, 4, 2, activation="tanh", noise_std=0.3, gate_norm=2.0, random_state=7)
    got = tables.read_table(str(path))
    assert code == 0
    assert list(got) == ["x1", "x2", "x3", "x4", "y", "expert"]
    assert (got.to_numpy() == np.column_stack([expected.X, expected.y, expected.labels + 1])).all()
    assert mf.load(truth) == expected.model


def test_simulate_without_room_for_an_orthogonal_gate(run):
    code, out, _ = run("simulate", "--rows", 5, "--features", 2, "--experts", 3)
    assert code == 0
    assert len(out.splitlines()) == 6


def test_info_says_whether_openmp_is_there(run):
    code, out, _ = run("info")
    assert code == 0
    assert f"openmp: {'yes' if mf.show_config()['openmp'] else 'no'}" in out.splitlines()


# ---- as a process ----


def command(arguments, **options):
    """Run the command in a process of its own, with the package under test."""
    environment = {**os.environ, "PYTHONPATH": str(Path(mf.__file__).parents[1])}
    code = "import sys; from moe_fast.cli import main; sys.exit(main())"
    return subprocess.Popen([sys.executable, "-P", "-c", code, *map(str, arguments)], env=environment, **options)


def test_pipes(tmp_path):
    """Simulate into fit by standard input, as in a shell: the process's exit code, and nothing on the error stream."""
    simulate = command(["simulate", "--rows", 60, "--features", 3, "--experts", 1], stdout=subprocess.PIPE)
    fit = command(
        ["fit", "-", "--target", "y", "--experts", 1],
        stdin=simulate.stdout,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    simulate.stdout.close()
    out, errors = fit.communicate(timeout=120)
    assert simulate.wait(timeout=120) == fit.returncode == 0
    assert errors == ""
    assert "-: 60 rows, y on x1, x2, x3" in out


def test_reader_that_has_seen_enough():
    """Kills: a traceback when the output goes to `head`."""
    simulate = command(["simulate", "--rows", 20000], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    simulate.stdout.readline()
    simulate.stdout.close()
    errors = simulate.stderr.read()
    simulate.stderr.close()
    assert simulate.wait(timeout=120) == 0
    assert errors == b""
