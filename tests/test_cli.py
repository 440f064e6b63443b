"""Does the command do what its options say, and does it say clearly what it refuses?"""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import moe_fast as mf
from moe_fast import cli, tables

ROOT = Path(__file__).parents[1]
TONE = ROOT / "examples" / "tone.csv"


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


def test_columns_that_can_be_no_features(run, data, frame):
    """Kills: a text column of one value or of many that stops a fit, and R's row numbers taken for a feature."""
    table = frame.assign(name="abc", note=[f"note {row}" for row in frame.index], when="2024-01-01")
    table.to_csv(data, index=True, index_label="")
    code, out, errors = run("fit", data, "--target", "y", "--experts", 2)
    assert code == 0
    assert errors == (
        "moe-fast: no features, since they hold no numbers and no few levels, or have no name: "
        "Unnamed: 0, name, note, when\n"
    )
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


# ---- factors, formulas, conditions ----


@pytest.fixture
def cities(frame, tmp_path):
    """The frame with a text column of three levels, in a CSV file."""
    frame["home city"] = np.resize(["Oslo", "Rome", "Bonn"], len(frame))
    frame["y"] += frame["home city"] == "Rome"
    frame.to_csv(tmp_path / "cities.csv", index=False)
    return tmp_path / "cities.csv"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_text_columns_become_dummies_also_in_new_files(run, cities, frame, suffix):
    """Against a fit on dummies by hand. Kills: levels taken from the new file, dummies that go unsaid."""
    code, out, errors = run("fit", cities, "--target", "y", "--experts", 2, "--save", cities.with_name("model.json"))
    assert code == 0
    assert errors == "moe-fast: home city is a factor: dummies for Oslo, Rome, against Bonn\n"
    assert "y on x1, x2, z, home city[T.Oslo], home city[T.Rome]\n" in out
    by_hand = frame[["x1", "x2", "z"]].assign(
        oslo=frame["home city"] == "Oslo", rome=frame["home city"] == "Rome"
    ).astype(float)
    expected = mf.fit(by_hand, frame["y"], 2, random_state=0).model
    np.testing.assert_allclose(mf.load(cities.with_name("model.json")).coef, expected.coef, rtol=1e-9)

    new, output = cities.with_name(f"new.{suffix}"), cities.with_name(f"out.{suffix}")
    rome = frame[frame["home city"] == "Rome"].drop(columns="y")
    getattr(rome, f"to_{suffix}")(new, index=False)
    assert run("predict", cities.with_name("model.json"), new, "--output", output) == (0, "", "")
    got = tables.read_table(str(output))["prediction"]
    np.testing.assert_allclose(got, expected.predict(by_hand.loc[rome.index]), rtol=1e-9)


def test_factor_in_the_gate_and_without_intercept(run, cities, frame):
    model = fit_model(run, cities, "--features", "x1", "--gate-features", "z,home city", "--no-intercept")
    assert model.feature_names == ("x1",)
    assert model.gate_feature_names == ("z", "home city[T.Oslo]", "home city[T.Rome]")
    assert not model.intercept.any()
    assert model.gate_intercept.any()


def test_new_level_is_named(run, cities, frame):
    fit_model(run, cities)
    frame.loc[[6, 8], "home city"] = "Paris"
    frame.to_csv(cities, index=False)
    code, out, errors = run("predict", cities.with_name("model.json"), cities)
    assert (code, out) == (1, "")
    assert "column 'home city' has 'Paris' in rows 7 and 9, which is none of the fit's levels: Bonn, Oslo, R" in errors


def test_formula_is_the_formula_s_fit(run, cities, frame):
    """Kills: an option that does not reach a fit by formula."""
    arguments = ("--formula", "I(y + 9) ~ x1 + I(x2**2) + C(`home city`)", "--gate-formula", "z", "--noise", "shared")
    code, _, errors = run("fit", cities, *arguments, "--experts", 2, "--save", cities.with_name("m.json"), "--seed", 2)
    assert code == 0, errors
    expected = mf.fit_formula(arguments[1], frame, 2, gate="~ z", noise="shared", random_state=2).model
    assert mf.load(cities.with_name("m.json")) == expected
    code, out, errors = run("predict", cities.with_name("m.json"), cities, "--details")
    assert code == 0
    assert [float(cell) for cell in out.split()[1].split(",")] == pytest.approx(
        [
            *expected.predict(frame)[:1], *expected.gate_proba(frame)[0], *expected.expert_means(frame)[0]
        ],
        rel=1e-12,
    )
    rmse = np.sqrt(np.mean((frame["y"] + 9 - expected.predict(frame)) ** 2))
    assert f"I(y + 9) is in the file: root mean squared error {rmse:.6g} over 80 rows" in errors


FORMULAS = ROOT / "docs" / "formula.md"
KNOWN = [
    re.sub(r"`", "", row).strip("| ").split("|")
    for row in (FORMULAS.read_text(encoding="utf-8") if FORMULAS.exists() else "").splitlines()
    if row.startswith("| examples/")
]


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: " ".join(cell.strip() for cell in row[:4]))
def test_known_optima_are_one_command_each(run, row):
    """The table of docs/formula.md, as it stands there."""
    file, formula, options, n_experts, best = (cell.strip() for cell in row)
    code, out, _ = run(
        "fit", ROOT / file, "--formula", formula, *shlex.split(options), "--experts", n_experts, "--json"
    )
    assert code == 0
    last_digit = 10.0 ** -len(best.partition(".")[2])
    assert json.loads(out)["log_likelihood"] == pytest.approx(float(best), abs=max(1e-3, last_digit))


def test_missing_values_and_weights_by_formula(run, cities, frame):
    """Kills: rows counted from 0, weights of other rows, a column outside the formula that drops rows."""
    frame["w"] = np.linspace(1, 2, 80)
    frame.loc[[3, 70], "x1"] = np.nan
    frame.loc[5, "home city"] = None
    frame.loc[7, "w"] = np.nan
    frame.loc[9, "x2"] = np.nan
    frame.to_csv(cities, index=False)
    options = ("fit", cities, "--formula", "y ~ x1 + z + `home city`", "--weights", "w", "--experts", 2)
    code, _, errors = run(*options)
    assert code == 1
    assert "from columns 'x1', 'home city', 'w' in rows 4, 6, 8 and 71; give --drop-missing to leave" in errors
    code, out, errors = run(*options, "--drop-missing", "--json")
    assert code == 0
    assert "4 of 80 rows have missing values and were left out" in errors
    whole = frame.drop(index=[3, 5, 7, 70])
    expected = mf.fit_formula("y ~ x1 + z + `home city`", whole, 2, sample_weight="w", random_state=0)
    assert json.loads(out)["log_likelihood"] == pytest.approx(expected.log_likelihood, rel=1e-12)


@pytest.mark.filterwarnings("ignore::moe_fast.ConvergenceWarning")   # few rows for two experts
def test_where_keeps_rows_and_their_numbers(run, cities, frame):
    """Kills: a condition that is not applied, rows counted anew after it."""
    model = fit_model(run, cities, "--features", "x1,z", "--where", "z > 0 and `home city` != 'Rome'")
    kept = frame[(frame["z"] > 0) & (frame["home city"] != "Rome")]
    assert model == mf.fit(kept[["x1", "z"]], kept["y"], 2, random_state=0).model
    frame.loc[8, "x1"] = np.nan
    frame.to_csv(cities, index=False)
    code, _, errors = run("fit", cities, "--target", "y", "--where", f"z == {frame.loc[8, 'z']}", "--experts", 1)
    assert code == 1
    assert "in row 9; give --drop-missing" in errors


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "name the target with --target, or give --formula"),
        (["--formula", "y ~ x1", "--target", "y"], 2, "--formula says it: leave out --target"),
        (["--formula", "y ~ x1", "--no-intercept"], 2, "--formula says it: leave out --no-intercept"),
        (["--formula", "y ~ x1", "--gate-features", "z"], 2, "--formula says it: leave out --gate-features"),
        (["--target", "y", "--gate-formula", "z", "--gate", "constant"], 2, "--gate-formula says it: leave out --gate"),
        (["--formula", "y ~ X1"], 2, "formula: no column 'X1'; did you mean 'x1'?"),
        (["--formula", "y ~ x1 +"], 1, "formula 'x1 +' cannot be read"),
        (["--formula", "y ~ log(x1)"], 1, "log(x1) is not finite in 4"),
        (["--formula", "y ~ x1", "--where", "x9 > 0"], 1, "condition 'x9 > 0' cannot be evaluated: name 'x9'"),
        (["--formula", "y ~ x1", "--where", "x1 > 99"], 1, "condition 'x1 > 99' holds for no row"),
        (["--formula", "y ~ x1", "--where", "x1"], 1, "condition 'x1' must be true or false in each row"),
    ],
)
def test_formula_and_condition_refused(run, data, arguments, code, message):
    got, out, errors = run("fit", data, *arguments, "--experts", 2)
    assert (got, out) == (code, "")
    assert message in errors


def test_model_with_a_formula_names_its_own_columns(run, cities):
    fit_model(run, cities)
    code, _, errors = run("predict", cities.with_name("model.json"), cities, "--features", "x1,x2")
    assert code == 2
    assert "has a formula, which names its columns: y ~ x1 + x2 + z + `home city`" in errors


# ---- standard errors and the number of experts ----


@pytest.mark.parametrize(("option", "covariance"), [("--infer", "observed"), ("--robust", "sandwich")])
def test_inference_is_mf_infer(run, data, frame, option, covariance):
    fit = mf.fit(frame[["x1", "x2"]], frame["y"], 2, gate_features=frame[["z"]], random_state=0)
    summary = mf.infer(
        fit, frame[["x1", "x2"]], frame["y"], gate_features=frame[["z"]], covariance=covariance
    ).summary()
    arguments = ("fit", data, "--target", "y", "--features", "x1,x2", "--gate-features", "z", "--experts", 2, option)
    code, out, _ = run(*arguments)
    assert code == 0
    assert out.endswith(f"\n\n{summary}\n")
    rows = json.loads(run(*arguments, "--json")[1])["coefficients"]
    frame = summary.to_frame()
    assert [(row["block"], row["parameter"]) for row in rows] == frame.index.tolist()
    np.testing.assert_allclose([row["std_err"] for row in rows], frame["std err"], rtol=1e-9)
    np.testing.assert_allclose([row["upper"] for row in rows], frame["0.975]"], rtol=1e-9)
    assert rows[3] == {**rows[3], "parameter": "noise std", "z": None, "p": None}


def test_select_is_select_n_experts(run, cities, frame):
    """Kills: an option that does not reach it, a model saved that is not the chosen one or lost its formula."""
    path = cities.with_name("model.json")
    formula = "y ~ x1 + x2 + `home city`"
    arguments = ("select", cities, "--formula", formula, "--gate-formula", "~ z", "--experts", "1-3", "--starts", 4)
    picture = cities.with_name("criteria.png")
    code, out, errors = run(*arguments, "--save", path, "--seed", 1, "--plot", picture)
    assert code == 0, errors
    assert picture.read_bytes().startswith(b"\x89PNG")
    fitted = mf.fit_formula(formula, frame, 2, gate="~ z", n_starts=1).model
    X, y, gate = fitted.formula.matrices(frame)
    expected = mf.select_n_experts(X, y, range(1, 4), gate_features=gate, n_starts=4, random_state=1)
    assert expected.n_experts == 2
    assert mf.load(path) == expected.best.model.with_formula(fitted.formula)
    assert out.splitlines()[0].endswith("cities.csv: 80 rows, y on x1, x2, home city[T.Oslo], home city[T.Rome]")
    assert out.splitlines()[1] == expected.summary().splitlines()[0]

    result = json.loads(run(*arguments, "--criterion", "held_out", "--folds", 2, "--json")[1])
    assert (result["n_experts"], result["criterion"]) == (2, "held_out")
    assert [row["n_experts"] for row in result["table"]] == [1, 2, 3]
    held_out = mf.select_n_experts(
        X, y, range(1, 4), gate_features=gate, criterion="held_out", n_folds=2, n_starts=4, random_state=0
    )
    assert [row["held_out"] for row in result["table"]] == [row.held_out for row in held_out.table]
    assert result["fit"]["model"]["formula"]["text"] == formula


@pytest.mark.parametrize(
    ("text", "numbers"), [("1-3", [1, 2, 3]), ("4-4", [4]), ("2,4,8", [2, 4, 8]), ("3", [3]), ("x", None), ("1-", None)]
)
def test_numbers_of_experts(text, numbers, capsys):
    if numbers is not None:
        assert cli._numbers_of_experts(text) == numbers
        return
    with pytest.raises(SystemExit) as exit_:
        cli.main(["select", "data.csv", "--experts", text])
    assert exit_.value.code == 2
    assert "wanted A-B or A,B,..., such as 1-5" in capsys.readouterr().err


# ---- help and progress ----


@pytest.mark.parametrize("name", ["fit", "select", "predict", "simulate", "compare", "info"])
def test_examples_of_the_help_are_command_lines(name, capsys):
    """Kills: an example with an option that is not there, a command without examples."""
    with pytest.raises(SystemExit) as exit_:
        cli.main([name, "--help"])
    assert exit_.value.code == 0
    examples = re.findall(r"^  moe-fast (.*)$", capsys.readouterr().out.partition("examples:\n")[2], re.MULTILINE)
    assert examples
    for example in examples:
        words = list(itertools.takewhile(lambda word: word not in "<>", shlex.split(example)))
        assert words[0] == name
        cli._parser().parse_args(words)


def test_exit_codes_are_documented(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    for code in (cli.DONE, cli.REFUSED, cli.WRONG_USAGE, cli.INTERRUPTED):
        assert re.search(rf"^  {code} +\w", out, re.MULTILINE)


def test_progress_only_on_a_terminal(run, data, monkeypatch):
    """Kills: bars in a pipe, a callback that is never passed on, a bar with a wrong count."""
    bars = []

    class Bar:
        def __init__(self, total=None, **options):
            self.total, self.n, self.text = total, 0, ""
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def __len__(self):
            return 0   # a bar without a total is false, as tqdm's

        def update(self, n=1):
            self.n += n

        def set_postfix_str(self, text, refresh):
            self.text = text

    monkeypatch.setattr("tqdm.tqdm", Bar)
    select = ("select", data, "--target", "y", "--experts", "1-2", "--starts", 1)
    run("fit", data, "--target", "y", "--experts", 2)
    run(*select)
    assert bars == []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    run("fit", data, "--target", "y", "--experts", 2)
    run(*select)
    assert bars[0].n > 0
    assert bars[0].text.startswith("objective ")
    assert (bars[1].n, bars[1].total) == (2, 2)


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
        (["data.csv", "--target", "y", "--gate", "constant", "--gate-features", "z"], 2, "leave out --gate-features"),
        (["data.csv", "--target", "y", "--save", "no/where.json"], 2, "no folder no to write no/where.json in"),
        (["data.csv", "--target", "y", "--noise", "per-expert"], 1, "did you mean 'per_expert'"),
        (["data.csv", "--target", "y", "--weights", "x1"], 1, "sample_weight"),
        (["text.csv", "--target", "y"], 1, "column 'x1' must hold numbers, but has 'two' in row 2"),
        (["text.csv", "--target", "x1"], 1, "column 'x1' must hold numbers, but has 'two' in row 2"),
        (["infinite.csv", "--target", "y"], 1, "column 'x1' is infinite in row 3"),
        (["empty.csv", "--target", "y"], 1, "empty.csv cannot be read as a table"),
        (["header.csv", "--target", "y"], 1, "header.csv has no rows under its header"),
        (["ragged.csv", "--target", "y"], 1, "ragged.csv cannot be read as a table"),
        (["latin.csv", "--target", "y"], 1, "latin.csv is not text in UTF-8"),
        (["semicolons.csv", "--target", "y"], 1, "has one column, 'x1;y': wanted commas between columns, or tabs in a"),
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
    Path("latin.csv").write_bytes("høyde,y\n1,2\n".encode("latin-1"))
    Path("semicolons.csv").write_text("x1;y\n1;2\n")
    got, out, errors = run("fit", *arguments, "--experts", 2)
    assert (got, out) == (code, "")
    assert errors.startswith("moe-fast: error: ")
    assert message in errors


@pytest.mark.filterwarnings("default")
def test_json_names_what_the_rows_do_not_tell(run, tmp_path):
    """By column, and experts from 1. Kills: numbers from 0; the gate's columns under the experts' names."""
    rng = np.random.default_rng(0)
    x, flag = rng.standard_normal(300), np.arange(300) % 2
    y = np.where(flag, 2.0 * x, 5.0 - x) + 0.1 * rng.standard_normal(300)
    path = tmp_path / "data.csv"
    np.savetxt(path, np.c_[x, flag, 1 - flag, y], delimiter=",", header="x,yes,no,y", comments="")
    options = ["--features", "x", "--gate-features", "yes,no"]
    _, out, errors = run("fit", path, "--target", "y", "--experts", 2, *options, "--json")
    fit = json.loads(out)
    assert (fit["separated"], fit["unsupported"]) == ([1, 2], [])
    assert (fit["redundant_features"], fit["redundant_gate_features"]) == ([], ["no"])
    assert "column 'no' of gate_features is constant or a combination" in errors


def test_numbers_of_experts_that_fall_are_a_usage_error(run, data, capsys):
    """Kills: Python's words for an empty range."""
    with pytest.raises(SystemExit):
        run("select", data, "--target", "y", "--experts", "3-1")
    assert "'3-1': wanted A-B or A,B,..., such as 1-5" in capsys.readouterr().err


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
    assert mf.load(truth) == replace(expected.model, feature_names=["x1", "x2", "x3", "x4"], target_name="y")


def test_the_model_of_a_simulation_predicts_its_table(run, tmp_path):
    """Kills: a model without the names that the table has; a table under a name that says it is another kind."""
    truth, path = tmp_path / "truth.json", tmp_path / "data.csv"
    assert run("simulate", "--rows", 20, "--save", truth, "--output", path)[0] == 0
    assert run("predict", truth, path)[0] == 0
    code, _, errors = run("predict", truth, path, "--output", tmp_path / "out.xlsx")
    assert code == 2
    assert "out.xlsx: a table is written as CSV (.csv) or Parquet (.parquet)" in errors
    assert run("predict", truth, path, "--output", tmp_path / "out.csv.gz")[0] == 0
    assert len(tables.read_table(str(tmp_path / "out.csv.gz"))) == 20


def test_simulate_without_room_for_an_orthogonal_gate(run):
    code, out, _ = run("simulate", "--rows", 5, "--features", 2, "--experts", 3)
    assert code == 0
    assert len(out.splitlines()) == 6


def test_info_says_whether_openmp_is_there(run):
    code, out, _ = run("info")
    assert code == 0
    assert f"openmp: {'yes' if mf.show_config()['openmp'] else 'no'}" in out.splitlines()
    code, out, _ = run("info", "--json")
    assert (code, json.loads(out)["openmp"]) == (0, mf.show_config()["openmp"])


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
