"""Does every instruction set give the same sums, and is a wrong name refused?"""

import numpy as np
import pytest
from rowwise import run_python

import moe_fast as mf
from moe_fast import _threads

INSTRUCTION_SETS = _threads.instruction_sets()

SUMS = """
import sys
import numpy as np
from moe_fast import _em, _moments, _threads
from rowwise import problem
isa, path = sys.argv[1:]
assert _threads.instruction_set() == isa
everything = _em.EXPERT_GRAM | _em.GATE_GRAM | _em.INFORMATION | _em.ENTROPY
found = {}
for d, n_experts, dtype, activation in [
    (1, 2, "f4", "sigmoid"), (3, 3, "f8", "tanh"), (7, 1, "f4", "linear"),
    (9, 5, "f8", "leaky_relu"), (17, 2, "f4", "relu")
]:
    options = {"activation": activation, "dtype": dtype, "weighted": True, "n_gate_features": d % 4 + 1}
    design, parameters = problem(1001, d, n_experts, **options)
    case = f"{activation}, d={d}"
    for name, value in vars(design.run(parameters, everything)).items():
        found[f"{case}: {name}"] = value
    for name, value in vars(design.run(parameters, everything | _em.SINGLE)).items():
        found[f"{case}: single {name}"] = value
    rows = design.rows
    shift = rows.X.mean(axis=0, dtype=float)
    options = {"polynomial": (0.1, -1.0, 0.3, 1.0), "shift": shift}
    found[f"{case}: columns"] = rows.moment(_moments.COLUMNS, **options)
    second = rows.moment(_moments.SECOND, **options)
    found[f"{case}: second"] = np.tril(second[: d * d].reshape(d, d))
    directions = np.random.default_rng(0).standard_normal((4, d))
    found[f"{case}: third"] = rows.moment(_moments.THIRD, directions=directions, **options)
np.savez(path, **found)
"""


@pytest.fixture(scope="module")
def sums_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("instruction_sets")

    def sums(isa):
        path = folder / f"{isa}.npz"
        if not path.exists():
            code, _, error = run_python(SUMS, isa, path, MOE_FAST_ISA=isa)
            assert code == 0, error
        return np.load(path)

    return sums


@pytest.mark.parametrize("isa", [isa for isa in INSTRUCTION_SETS if isa != "baseline"])
def test_same_sums(isa, sums_of):
    """To 1e-12 of the largest entry, 1e-6 in single precision.

    Kills: a shuffle, a reduction or a register tile wrong for one width alone.
    """
    got, want = sums_of(isa), sums_of("baseline")
    assert got.files == want.files
    for name in want.files:
        value = want[name]
        scale = max(np.abs(value).max(initial=0.0), 1e-300)
        digits = 1e-6 if "single" in name else 1e-12
        np.testing.assert_allclose(got[name], value, rtol=0, atol=digits * scale, err_msg=name)


def test_baseline_is_always_there():
    assert INSTRUCTION_SETS[0] == "baseline"
    assert mf.show_config()["instruction_sets"] == INSTRUCTION_SETS


@pytest.mark.parametrize("said", ["", *INSTRUCTION_SETS])
def test_the_one_in_use(said):
    """An empty name is none: the widest."""
    code, output, error = run_python(
        "import moe_fast as mf; print(mf.show_config()['instruction_set'])", MOE_FAST_ISA=said
    )
    assert code == 0, error
    assert output.strip() == (said or INSTRUCTION_SETS[-1])


@pytest.mark.parametrize("said", ["avx9", "AVX2", "base"])
def test_wrong_name(said):
    """Kills: a name that is silently taken for the default, or that only a prefix must match."""
    code, _, error = run_python("import moe_fast", MOE_FAST_ISA=said)
    assert code != 0
    last = error.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: MOE_FAST_ISA is '{said}'")
    assert last.endswith(", ".join(INSTRUCTION_SETS))
