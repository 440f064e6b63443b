"""Is the package under test whole, and is it the installed one?"""

import importlib
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

import moe_fast as mf

PACKAGE = Path(mf.__file__).parent
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["_threads", "_moments", "_tensor", "_solve", "_em"])
def test_compiled_module_comes_from_this_package(name):
    module = importlib.import_module(f"moe_fast.{name}")
    assert Path(module.__file__).parent == PACKAGE
    assert Path(module.__file__).suffix in {".so", ".pyd"}


def test_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").exists()


def test_plain_pytest_tests_the_installed_package():
    """Kills: a pytest option that puts the checkout, with its moe_fast/, before the installation."""
    if Path(sys.argv[0]).name == "__main__.py":
        pytest.skip("`python -m pytest` tests the folder it is run in, as meant")
    installed = importlib.metadata.distribution("moe_fast")
    assert Path(installed.locate_file("moe_fast")).resolve() == PACKAGE.resolve()
    assert installed.version == mf.__version__


@pytest.mark.skipif(not (ROOT / "CITATION.cff").exists(), reason="the checkout's files are not beside the tests")
def test_version_is_the_same_everywhere():
    stated = [
        re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)[1]
        for file, pattern in [("pyproject.toml", r'^version = "(.*)"$'), ("CITATION.cff", "^version: (.*)$")]
    ]
    assert stated == [mf.__version__] * 2


def test_contract_is_exported():
    names = {"fit", "fit_em", "fit_gate", "fit_spectral", "make_moe", "match_experts", "load", "show_config"}
    names |= {"MixtureOfExperts", "FitResult", "Activation", "LeakyReLU"}
    assert {name for name in names if not hasattr(mf, name)} == set()
    assert names <= set(mf.__all__)
