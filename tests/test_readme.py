"""Does the README's code do what the README says?"""

import doctest
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_code_gives_the_output_shown():
    failed, tried = doctest.testfile(str(README), module_relative=False)
    assert tried >= 5
    assert failed == 0


def test_first_commands_are_the_promised_ones():
    """CI runs them as they stand here."""
    commands = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("pip install")]
    assert commands[:2] == [
        'pip install ".[cli]" && moe-fast fit examples/tone.csv --target tuned --experts 2 --plot tone.png',
        'pip install ".[test]" && pytest',
    ]
