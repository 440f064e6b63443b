"""Says which moe_fast is under test, and stops at once when that one was never compiled."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the tests' own oracle, literal.py

try:
    import moe_fast
except ImportError as error:
    pytest.exit(
        f"moe_fast does not import: {error}\n"
        'Install it (pip install ".[test]") and run `pytest`; or build in place '
        "(python setup.py build_ext --inplace) and run `python -m pytest`.",
        returncode=pytest.ExitCode.USAGE_ERROR,
    )


def pytest_report_header():
    return f"moe_fast under test: {next(iter(moe_fast.__path__))}"
