"""Check what the sdist and the wheel hold: ``python .ci/check_dist.py moe_fast-*.tar.gz moe_fast-*.whl``."""

import sys
import tarfile
import zipfile
from pathlib import Path

# One compiled module a Cython source; src/*.c without a .pyx of the same name is written by hand.
MODULES = {path.stem for path in (Path(__file__).resolve().parents[1] / "src").glob("*.pyx")}
COMPILED = (".so", ".pyd")
SOURCES = (".pyx", ".pxd", ".pxi", ".c", ".h")


def sdist_problems(path: str) -> list[str]:
    """The sdist must hold what builds and tests the package, and nothing generated."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}  # after the folder moe_fast-VERSION/
    wanted = {"LICENSE", "README.md", "setup.py", "examples/tone.csv", "tests/test_installed.py"}
    wanted |= {f"src/{module}.pyx" for module in MODULES}
    generated = {f"src/{module}.c" for module in MODULES}
    return [f"lacks {name}" for name in sorted(wanted - names)] + [
        f"holds {name}" for name in sorted(names) if name in generated or name.endswith(COMPILED)
    ]


def wheel_problems(path: str) -> list[str]:
    """The wheel must hold moe_fast alone: compiled, typed, without sources."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    modules = {f"moe_fast/{module}" for module in MODULES}
    compiled = {name.partition(".")[0] for name in names if name.endswith(COMPILED)}
    wanted = {"moe_fast/__init__.py", "moe_fast/py.typed"}
    strangers = {name for name in names if not name.startswith(("moe_fast/", "moe_fast-"))}
    return [f"lacks {name}" for name in sorted((wanted - names) | (modules - compiled))] + [
        f"holds {name}" for name in sorted(names) if name in strangers or name.endswith(SOURCES)
    ]


if __name__ == "__main__":
    problems = []
    for path in sys.argv[1:]:
        check = wheel_problems if path.endswith(".whl") else sdist_problems
        problems += [f"{Path(path).name} {problem}" for problem in check(path)]
        print("checked", Path(path).name)
    sys.exit("\n".join(problems) if problems else 0)
