"""Does a formula make the features it says, of the fit's rows and of new ones, and refuse what it cannot keep?"""

import json
import pickle
import sys

import numpy as np
import pandas as pd
import pytest

import moe_fast as mf

pytest.importorskip("formulaic")


@pytest.fixture(scope="module")
def data():
    """Two kinds of line, told apart by x; a factor of text, one of numbers, a truth value, a name with a space."""
    rng = np.random.default_rng(0)
    n = 120
    table = pd.DataFrame(
        {
            "x": rng.uniform(1, 5, n),
            "group": rng.choice(["b", "a", "c"], n),
            "cyl": rng.choice([4, 6, 8], n),
            "sold": rng.random(n) < 0.5,
            "unit price": rng.uniform(1, 2, n),
        },
        index=np.arange(100, 100 + n),   # labels that are not positions
    )
    table["y"] = np.where(table.x < 3, 2 + table.x, 9 - table.x) + (table.group == "a") + 0.1 * rng.standard_normal(n)
    table["y"] = table["y"] + 0.1 * table["cyl"] * table["sold"]
    return table


def fit(formula, data, n_experts=2, **options):
    return mf.fit_formula(formula, data, n_experts, **{"random_state": 0, "n_starts": 2, "init": "kmeans", **options})


# ---- the features ----


def test_features_are_what_the_formula_says(data):
    """Against columns made by hand. Kills: a term dropped, terms in another order, an intercept among the features."""
    result = fit("log(y) ~ log(x) + I(x**2) + group + C(cyl) + sold + `unit price` + sold:x", data, gate="~ sqrt(x)")
    expected = pd.DataFrame(
        {
            "log(x)": np.log(data["x"]),
            "I(x ** 2)": data["x"] ** 2,
            "group[T.b]": data["group"] == "b",
            "group[T.c]": data["group"] == "c",
            "C(cyl)[T.6]": data["cyl"] == 6,
            "C(cyl)[T.8]": data["cyl"] == 8,
            "sold": data["sold"],
            "unit price": data["unit price"],
            "sold:x": data["sold"] * data["x"],
        }
    ).astype(float)
    X, y, gate = result.model.formula.matrices(data)
    pd.testing.assert_frame_equal(X, expected)
    pd.testing.assert_series_equal(y, np.log(data["y"]), check_names=False)
    pd.testing.assert_frame_equal(gate, pd.DataFrame({"sqrt(x)": np.sqrt(data["x"])}))
    assert result.model.feature_names == tuple(expected.columns)
    assert result.model.gate_feature_names == ("sqrt(x)",)
    assert result.model.target_name == "log(y)"


def test_fit_is_the_fit_of_those_features(data):
    """Kills: an option that is not passed on, weights in another order, a gate on other features."""
    weights = np.linspace(0.5, 2, len(data))
    options = {"noise": "shared", "activation": "leaky_relu", "random_state": 3, "n_starts": 3}
    got = mf.fit_formula("y ~ x + sold", data, 2, gate="~ x", sample_weight=weights, **options)
    plain = mf.fit(
        data[["x", "sold"]].astype(float), data["y"], 2, gate_features=data[["x"]], sample_weight=weights, **options
    )
    assert got.log_likelihood == plain.log_likelihood
    assert got.model == plain.model.with_formula(got.model.formula)


@pytest.mark.parametrize(
    ("formula", "gate", "expected"),
    [   # intercepts of experts and gate; whether the gate is constant, has features of its own
        ("y ~ x", "softmax", (True, True, False, False)),
        ("y ~ x", "constant", (True, True, True, False)),
        ("y ~ x", "~ 1", (True, True, True, False)),
        ("y ~ x - 1", "softmax", (False, True, False, False)),
        ("y ~ 0 + x", "~ sold", (False, True, False, True)),
        ("y ~ x", "~ sold - 1", (True, False, False, True)),
        ("y ~ x", "~0+sold", (True, False, False, True)),
    ],
)
def test_intercepts_and_gates(data, formula, gate, expected):
    model = fit(formula, data, gate=gate).model
    has_experts = bool(model.intercept.any())
    has_gate = bool(model.gate_intercept.any())
    assert (has_experts, has_gate, model.gate == "constant", model.uses_gate_features) == expected


def test_factor_without_intercept_has_a_dummy_for_every_level(data):
    """And not in the gate, which keeps its intercept. Kills: a gate whose dummies sum to its intercept."""
    model = fit("y ~ 0 + group", data).model
    assert model.feature_names == ("group[a]", "group[b]", "group[c]")
    assert model.gate_feature_names == ("group[T.b]", "group[T.c]")
    assert model.gate_intercept.any()


def test_codings(data):
    """The reference level chosen; against the same fit with the levels in another order."""
    chosen = fit("y ~ C(group, contr.treatment('b'))", data).model
    assert chosen.feature_names == tuple(f"C(group, contr.treatment('b'))[T.{level}]" for level in "ac")
    ordered = data.assign(group=pd.Categorical(data["group"], categories=["b", "a", "unused", "c"]))
    same = fit("y ~ group", ordered).model
    assert same.feature_names == ("group[T.a]", "group[T.c]")   # the order of the column; no level that no row has
    np.testing.assert_allclose(same.coef, chosen.coef, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::moe_fast.ConvergenceWarning")   # few rows for two experts
def test_levels_that_a_missing_value_made_floats(data):
    """Kills: levels called 4.0 and 6.0 where the file says 4 and 6."""
    model = fit("y ~ C(cyl)", data.assign(cyl=data["cyl"].where(data["x"] > 1.1)), missing="drop").model
    assert model.feature_names == ("C(cyl)[T.6]", "C(cyl)[T.8]")


def test_dot_is_every_other_column(data):
    table = data[["x", "unit price", "group", "y"]]
    model = fit("y ~ . - group", table, gate="~ .").model
    assert model.feature_names == ("x", "unit price")
    assert model.gate_feature_names == ("x", "unit price", "group[T.b]", "group[T.c]")
    assert not fit("y ~ . - group - 1", table).model.intercept.any()
    assert model.predict(data).shape == (120,)   # more columns than then: the formula knows which


# ---- new rows ----


@pytest.fixture(scope="module")
def model(data):
    return fit("y ~ log(x) + group + C(cyl)", data, gate="~ x + sold").model


def test_saved_model_predicts_new_rows(data, model, tmp_path):
    """Rows with one level only, a factor of numbers read as floats. Kills: levels taken from the new rows."""
    model.save(tmp_path / "model.json")
    loaded = mf.load(tmp_path / "model.json")
    assert loaded == model
    assert loaded != model.with_formula(mf.Formula("y ~ x"))
    assert loaded.formula == model.formula
    assert loaded.formula.levels == {"group": ("a", "b", "c"), "C(cyl)": (4, 6, 8)}
    expected = model.predict(model.formula.features(data), gate_features=model.formula.gate_features(data))
    for rows in (data["group"] == "b", data["cyl"] == 8):
        new = data[rows].drop(columns="y").astype({"cyl": float, "group": "category"})
        np.testing.assert_allclose(loaded.predict(new), expected[rows], rtol=1e-12)
    assert loaded.gate_proba(data[:3]).shape == loaded.expert_means(data[:3]).shape == (3, 2)
    assert loaded.log_density(data, data["y"]).shape == (120,)


def test_pickle_and_permute_keep_the_formula(data, model):
    assert pickle.loads(pickle.dumps(model)).formula == model.formula
    swapped = model.permute([1, 0])
    np.testing.assert_allclose(swapped.predict(data), model.predict(data), rtol=1e-12)


def test_matrices_are_taken_as_they_are(data, model):
    """What mf.infer and pictures pass: no formula is applied twice."""
    X, y, gate = model.formula.matrices(data)
    expected = model.log_likelihood(data, y)
    assert model.log_likelihood(X, y, gate_features=gate) == pytest.approx(expected, rel=1e-14)
    assert model.log_likelihood(X.to_numpy(), y, gate_features=gate.to_numpy()) == pytest.approx(expected, rel=1e-14)


def test_tables_are_taken_wherever_a_model_goes_with_rows(data):
    """Kills: standard errors at x of a model of log(x), which has as many columns."""
    result = fit("y ~ log(x)", data, gate="~ sold")
    table = data[["x", "sold"]]
    X, y, gate = result.model.formula.matrices(data)
    with pytest.warns(UserWarning, match="undetermined by these rows, standard error NaN: gate 1: sold"):
        expected = mf.infer(result, X, y, gate_features=gate)
    with pytest.warns(UserWarning, match="undetermined"):
        got = mf.infer(result, table, y)
    np.testing.assert_allclose(got.estimates, expected.estimates, rtol=1e-12)
    np.testing.assert_allclose(got.standard_errors.coef, expected.standard_errors.coef, rtol=1e-9)
    refits = [
        mf.bootstrap(result, rows, y, gate_features=own_gate, n_resamples=2, random_state=0).replicates
        for rows, own_gate in ((table, None), (X, gate))
    ]
    np.testing.assert_array_equal(*refits)


def test_pictures_take_tables(data):
    """Kills: a curve of log(x) drawn over x."""
    pytest.importorskip("matplotlib").use("agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    result = fit("y ~ log(x)", data, gate="~ sold")
    table, (X, y, gate) = data[["x", "sold"]], result.model.formula.matrices(data)
    for draw in (mf.plot_fit, mf.plot_residuals, mf.plot_responsibilities):
        by_table, by_matrix = draw(result, table, y), draw(result, X, y, gate_features=gate)
        assert np.ravel(by_table)[0].dataLim.bounds == np.ravel(by_matrix)[0].dataLim.bounds
        for axes in (by_table, by_matrix):
            plt.close(np.ravel(axes)[0].figure)


def test_plain_formula_s_frame_is_its_own_matrix(data):
    """The table's columns are the features' names, yet the gate's must be made of it, too."""
    model = fit("y ~ x + sold", data, gate="~ log(x)").model
    table = data[["x", "sold"]]
    expected = model.predict(table.to_numpy(float), gate_features=np.log(data[["x"]].to_numpy()))
    np.testing.assert_allclose(model.predict(table), expected, rtol=1e-12)


def test_text_that_only_a_comparison_knows_is_no_level(data):
    model = fit("y ~ I(group == 'a') + x", data).model
    assert model.formula.levels == {}
    new = data[:2].assign(group=["a", "new"])
    assert model.formula.features(new)["I(group == 'a')"].tolist() == [1.0, 0.0]


def test_levels_written_as_numbers_in_the_new_file(data):
    """A column of "1", "2" and "x" is text in one file, and numbers in the next."""
    model = fit("y ~ x + C(code)", data.assign(code=np.resize(["1", "2", "x"], 120))).model
    assert model.formula.features(pd.DataFrame({"x": [1.0, 1.0], "code": [2, 1]}))["C(code)[T.2]"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": "d"}, "column 'group' has 'd' in rows 100 and 101, which is none of the fit's levels: a, b, c"),
        ({"cyl": [4, 5]}, "column 'cyl' has 5 in row 101, which is none of the fit's levels: 4, 6, 8"),
        ({"x": [1.0, -1.0]}, r"log\(x\) is not finite in row 101"),
        ({"x": [0.0, 1.0]}, r"log\(x\) is not finite in row 100"),
        ({"x": ["1", "two"]}, "column 'x' must hold numbers, but has 'two' in row 101"),
        ({"group": ["a", None]}, "values are missing from column 'group' in row 101"),
        ({"sold": [np.nan, 1.0]}, "values are missing from column 'sold' in row 100"),
    ],
)
def test_new_rows_refused(data, model, changes, message):
    with pytest.raises(ValueError, match=message):
        model.predict(data[:2].assign(**changes))


def test_column_gone(data, model):
    with pytest.raises(ValueError, match="formula: no column 'group'; did you mean 'Group'"):
        model.predict(data.rename(columns={"group": "Group"}))


# ---- missing values, other tables, weights ----


def test_missing_values_are_refused_or_dropped(data):
    """Kills: rows counted by position, a level that only dropped rows have, weights that slip a row."""
    holes = data.copy()
    holes.loc[[101, 105], "x"] = np.nan
    holes.loc[107, "y"] = np.nan
    holes.loc[107, "group"] = "only here"
    holes.loc[110, "unit price"] = np.nan   # not in the formula
    with pytest.raises(ValueError, match=r"columns 'y', 'x' in rows 101, 105 and 107; missing=\"drop\" leaves"):
        fit("y ~ x + group", holes)
    weights = np.linspace(1, 2, 120)
    got = fit("y ~ x + group", holes, missing="drop", sample_weight=weights)
    whole = holes.index.isin([101, 105, 107])
    expected = fit("y ~ x + group", data[~whole], sample_weight=weights[~whole])
    assert got.model == expected.model
    by_name = fit("y ~ x + group", holes.assign(w=weights), missing="drop", sample_weight="w")
    assert by_name.model == expected.model
    with pytest.raises(ValueError, match="no row is without missing values"):
        fit("y ~ x", data.assign(x=np.nan), missing="drop")


def test_tables_of_other_makes(data):
    expected = fit("y ~ log(x) + group", data)
    mapping = {name: data[name].to_numpy() for name in ("y", "x", "group")}
    got = fit("y ~ log(x) + group", mapping)
    assert got.model == expected.model
    for takes in (got.model.predict, lambda X: got.model.responsibilities(X, data["y"])):   # as it was fitted
        np.testing.assert_array_equal(takes(mapping), takes(data))
    nullable = data.convert_dtypes().astype({"group": "string"})
    assert fit("y ~ log(x) + group", nullable).model == expected.model
    with pytest.raises(TypeError, match="data must be a data frame"):
        fit("y ~ x", data.to_numpy())


def test_polars(data):
    polars = pytest.importorskip("polars")
    table = polars.DataFrame({name: data[name].to_numpy() for name in ("y", "x", "group")})
    result = fit("y ~ log(x) + group", table)
    np.testing.assert_allclose(result.model.predict(table), result.model.predict(data), rtol=1e-12)


def test_input_is_not_written_to(data):
    before = data.copy()
    fit("log(y) ~ x + group + C(cyl)", data)
    pd.testing.assert_frame_equal(data, before)


# ---- what is refused ----


def test_a_gate_formula_with_a_target_is_refused(data):
    """Kills: a left side that is not looked at."""
    with pytest.raises(ValueError, match="gate formula 'y ~ x' has a target; wanted '~ features'"):
        fit("y ~ x", data, gate="y ~ x")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y", "has no target"),
        ("~ x", "has no target"),
        ("y ~ 1", "has no features for the experts"),
        ("y ~ xx", "formula: no column 'xx'; did you mean 'x'?"),
        ("Y ~ x", "formula: no column 'Y'; did you mean 'y'?"),
        ("y ~ x +", r"formula 'x \+' cannot be read"),
        ("y ~ log(x", r"formula 'log\(x' cannot be read"),
        ("y ~ x | sold", "has several parts"),
        ("y ~ x ~ sold", "has several parts"),
        ("y + x ~ sold", "is not one target; arithmetic goes into I"),
        ("y - 1 ~ x", "is not one target; arithmetic goes into I"),
        ("group ~ x", "column 'group' must hold numbers, but has 'a' in "),
        ("y ~ x^2", r"x\^ means x alone; a square is I\(x\*\*2\)"),
        ("y ~ I(x^2)", r"a power is written \*\*"),
        ("y ~ log(group)", "column 'group' must hold numbers"),
        ("y ~ I(group == 'A')", "no row has group == 'A'; it has a, b, c"),
        ("y ~ I(x == 'A')", "no row has x == 'A'"),
        ("y ~ poly(x, 2)", "depends on all other rows"),
        ("y ~ scale(x)", "depends on all other rows"),
        ("y ~ round(x)", "only these functions"),
        ("y ~ log(x, 2)", r"log\(\) takes one argument"),
        ("y ~ C(log(x))", r"C\(\) takes one column"),
        ("y ~ C(group, levels=['a'])", r"C\(\) takes one column"),
        ("y ~ C(group, contr.poly)", "a coding is one of contr.treatment"),
        ("y ~ C(group, contr.treatment('q'))", "'q'.* is not among the provided levels"),
        ("y ~ one", "column 'one' has one value only, 'k'"),
        ("y ~ mixed", r"column 'mixed' must hold numbers, but has 'two' in 60 rows.*; C\(mixed\) takes"),
        ("y ~ when", "column 'when' holds Timestamp values"),
        ("I(y - y.min()) ~ x", "only these functions"),
        ("y ~ I(x**)", "cannot be read: invalid syntax"),
        ("y ~ (x).mean()", "cannot be read: invalid syntax"),
        ("y ~ I(`class`**2)", "cannot be read: .*'class' is a word of Python's own, rename the column"),
        ("y ~ ~ x", "formula 'y ~ ~ x' has a ~ too many"),
        ("y ~ log(x + ) + `class`", "cannot be read: invalid syntax$"),
        ("y ~ y + x", "column 'y' holds the target, so it cannot be a feature"),
        ("log(y) ~ x + y", "column 'y' holds the target"),
        ("y ~ twice", "formula: the table has 2 columns 'twice'"),
    ],
)
def test_formula_refused(data, formula, message):
    table = data.assign(one="k", mixed=np.resize(["1", "two"], 120), when=pd.Timestamp("2024-01-01"))
    table[["twice", "again", "class"]] = 1.0
    table = table.rename(columns={"again": "twice"})
    with pytest.raises(ValueError, match=message):
        fit(formula, table)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gate": "~ 0"}, ValueError, "leaves the gate nothing"),
        ({"gate": "~ Sold"}, ValueError, "no column 'Sold'; did you mean 'sold'"),
        ({"gate": "softmx"}, ValueError, "did you mean 'softmax'"),
        ({"missing": "dropp"}, ValueError, "did you mean 'drop'"),
        ({"fit_intercept": False}, TypeError, "takes no fit_intercept"),
        ({"gate": "~ sold", "gate_intercept": False}, TypeError, "takes no gate_intercept"),
        ({"sample_weight": "w"}, ValueError, "sample_weight: no column 'w'"),
    ],
)
def test_options_refused(data, options, error, message):
    with pytest.raises(error, match=message):
        fit("y ~ x", data, **options)


@pytest.mark.parametrize(
    "code",
    [
        "I(__import__('os').system('touch ran'))",
        "np.fromfile('ran')",
        "I([x for x in ().__class__.__bases__])",
        "I((lambda: 1)())",
        "C(x, print('ran'))",
        "C(x, contr.treatment(base=open('ran', 'w')))",
        "log(x if x else x)",
        "x.values",
    ],
)
def test_a_formula_in_a_file_runs_no_code(data, model, tmp_path, monkeypatch, code):
    """Kills: an expression evaluated before it is checked, a node let through."""
    monkeypatch.chdir(tmp_path)
    document = model.to_dict()
    for formula in ({"text": f"y ~ {code}"}, {"gate": f"~ {code}"}):
        (tmp_path / "model.json").write_text(json.dumps({**document, "formula": {**document["formula"], **formula}}))
        loaded = mf.load("model.json")
        with pytest.raises(ValueError, match=r"formula: (in|no column)"):
            loaded.predict(data)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json"]


@pytest.mark.parametrize(
    "formula",
    [[], {"text": "y ~ x"}, {"text": 1, "gate": None, "levels": {}}, {"text": "", "gate": None, "levels": []}],
)
def test_file_with_a_broken_formula(model, tmp_path, formula):
    (tmp_path / "model.json").write_text(json.dumps({**model.to_dict(), "formula": formula}))
    with pytest.raises(ValueError, match=r"cannot load .*formula"):
        mf.load(tmp_path / "model.json")


def test_formulaic_is_imported_only_for_a_formula(data, model, tmp_path, monkeypatch):
    """A model with a formula loads without it, and says what is missing when it is needed."""
    model.save(tmp_path / "model.json")
    for name in [name for name in sys.modules if name.partition(".")[0] == "formulaic"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "formulaic", None)
    loaded = mf.load(tmp_path / "model.json")
    with pytest.raises(ImportError, match=r"this needs formulaic: pip install 'moe_fast\[formula\]'"):
        loaded.predict(data)


def test_summary_says_the_formula(data):
    result = fit("log(y) ~ x + group", data, gate="~ sold")
    assert "log(y) ~ x + group, gate ~ sold\n" in result.summary()
    assert str(mf.Formula("y ~ x")) == "y ~ x"


def test_an_offset_is_no_target_among_the_features(data):
    """Kills: every column of the target refused as a feature."""
    assert fit("I(y - x) ~ x", data).model.feature_names == ("x",)


def test_weights_with_the_tables_labels_in_another_order_are_refused(data):
    weights = pd.Series(np.linspace(1.0, 2.0, len(data)), index=data.index)
    with pytest.raises(ValueError, match="sample_weight has the row labels of X in another order"):
        fit("y ~ x", data, sample_weight=weights.iloc[::-1])


def test_gate_formulas_are_refused_by_their_own_text(data):
    """Kills: the experts' formula named for the gate's fault; a ~ too many taken."""
    with pytest.raises(ValueError, match="gate formula '~ y': column 'y' holds the target"):
        fit("y ~ x", data, gate="~ y")
    with pytest.raises(ValueError, match="formula '~~ x' has a ~ too many"):
        fit("y ~ x", data, gate="~~ x")
