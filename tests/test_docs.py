"""Does docs/math.md say what the code does: its table, its equation numbers, its places in the code?"""

import importlib
import re
from pathlib import Path

import pytest

from moe_fast.activations import LeakyReLU, get_activation, label_transform

ROOT = Path(__file__).parents[1]
MATH = ROOT / "docs" / "math.md"

if not MATH.exists():
    pytest.skip("docs/math.md is not beside the tests", allow_module_level=True)

TEXT = MATH.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "leaky_relu(0.01)", "leaky_relu(0.1)"])
def test_label_transform_table(name):
    [row] = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", TEXT, re.MULTILINE)
    alpha, beta0, gamma, c3, c2 = map(float, row.split("|"))
    slope = re.search(r"\((.*)\)", name)
    transform = label_transform(LeakyReLU(float(slope[1])) if slope else get_activation(name))
    assert transform.alpha == pytest.approx(alpha, abs=1e-9)
    assert transform.beta0 == pytest.approx(beta0, abs=1e-9)
    assert transform.gamma == pytest.approx(gamma, abs=1e-9)
    assert transform.c3 == pytest.approx(c3, abs=1e-9)
    assert transform.c2 == pytest.approx(c2, abs=1e-9)


def test_equations_that_the_code_names_exist():
    numbered = re.findall(r"  \(([A-Z]\.\d+)\)$", TEXT, re.MULTILINE)
    assert len(numbered) == len(set(numbered)) > 20
    sources = [*ROOT.glob("moe_fast/*.py"), *ROOT.glob("src/*.pyx"), *ROOT.glob("src/*.h")]
    for path in sources:
        named = re.findall(r"\(([A-Z]\.\d+)\)", path.read_text(encoding="utf-8"))
        assert set(named) <= set(numbered), f"{path.name} names equations that docs/math.md has not"


def test_places_in_the_code_exist():
    modules = "activations|design|em|information|moments|objective|spectral|tensor"
    places = re.findall(rf"`({modules})\.(\w+)`", TEXT)
    assert len(places) > 10
    for module, name in places:
        assert hasattr(importlib.import_module(f"moe_fast.{module}"), name), f"{module}.{name}"
