"""Do the documentation's words hold? Its code is run; docs/math.md is held against the code."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import moe_fast as mf
from moe_fast.activations import LeakyReLU, get_activation, label_transform

ROOT = Path(__file__).parents[1]
MATH = ROOT / "docs" / "math.md"

if not MATH.exists():
    pytest.skip("docs/math.md is not beside the tests", allow_module_level=True)

TEXT = MATH.read_text(encoding="utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
}
PACKAGE = Path(mf.__file__).parent
# The modules whose docstrings have examples. `python -m moe_fast.x` is no module to import for its docstring.
MODULES = [f"moe_fast.{module.name}" for module in pkgutil.iter_modules([str(PACKAGE)]) if module.name[0] != "_"]
DOCTEST_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: str, languages: str) -> list[str]:
    """A page's fenced blocks in these languages."""
    return re.findall(rf"^```(?:{languages})\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)


@pytest.fixture
def away(tmp_path, monkeypatch):
    """A folder with the examples' data, to read from and to write into."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in PAGES[page]])
def test_python_gives_the_output_shown(page, away):
    """Kills: a page that the code has outgrown, by names, numbers or messages."""
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=DOCTEST_OPTIONS)
    result = runner.run(parser.get_doctest(PAGES[page], {}, page, page, 0))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES)
def test_all_python_is_run(page):
    """Kills: a block of Python without prompts, which nothing above would run."""
    assert [block for block in blocks(page, "python|pycon|py") if not block.startswith(">>> ")] == []


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh|shell|bash|console")])
@pytest.mark.skipif(os.name == "nt", reason="the pages are written for a POSIX shell")
def test_shell_lines_run(page, away):
    """Each page's blocks are one session beside the examples; lines that begin with $ have their output below.

    Kills: an option or a file that no longer exists, an output that is not what is shown.
    """
    command = away / "bin" / "moe-fast"
    command.parent.mkdir()
    program = "import sys; from moe_fast.cli import main; sys.exit(main())"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{program}" "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(PACKAGE.parent)}
    for block in blocks(page, "sh|shell|bash|console"):
        steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE) or [(block, "")]
        for line, shown in steps:
            done = subprocess.run(
                ["sh", "-e", "-c", line], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}"
            # Between lines with $, nothing shown is nothing printed; a block without them shows no output.
            if line != block:
                same = doctest.OutputChecker().check_output(shown, done.stdout, DOCTEST_OPTIONS)
                assert same, f"{line}\nprinted\n{done.stdout}\nnot\n{shown}"


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module, away):
    failed, _ = doctest.testmod(importlib.import_module(module), optionflags=DOCTEST_OPTIONS)
    assert failed == 0


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    """On the repository page a link is a path; the build of the docs checks anchors too."""
    linked = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", PAGES[page])
    folder = (ROOT / page).parent
    assert [link for link in linked if not (folder / link).exists()] == []


def test_api_page_lists_all_public_names():
    """Kills: a new function that no page shows."""
    text = PAGES["docs/api.md"]
    listed = re.findall(r"^(?:   |\.\. autoclass:: )(\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted([*mf.__all__, "MoERegressor"])   # not in __all__: `import *` would need its extra


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
    modules = "activations|design|distribution|em|inference|information|moments|objective|spectral|tensor"
    places = re.findall(rf"`({modules})\.(\w+)`", TEXT)
    assert len(places) > 10
    for module, name in places:
        assert hasattr(importlib.import_module(f"moe_fast.{module}"), name), f"{module}.{name}"
