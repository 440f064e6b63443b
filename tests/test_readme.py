"""Are the README's first commands the promised ones? Its Python is run by test_docs.py."""

from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_first_commands_are_the_promised_ones():
    """CI runs them as they stand here."""
    commands = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("pip install")]
    assert commands[:2] == [
        'pip install ".[cli]" && moe-fast fit examples/tone.csv --target tuned --experts 2 --plot tone.png',
        'pip install ".[test]" && pytest',
    ]
