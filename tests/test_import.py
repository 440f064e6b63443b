"""Does `import moe_fast` load no more than a fit needs at once? Modules are counted, as times drift."""

from __future__ import annotations

import subprocess
import sys

DEPENDENCIES = "import numpy, scipy.linalg, threadpoolctl"   # what it may load beside its own modules


def modules_after(statement: str) -> set[str]:
    program = f"{statement}; import sys; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return set(printed.split())


def test_import_loads_only_its_dependencies():
    """Kills: an import of scipy.optimize, matplotlib, pandas or scikit-learn at the head of a module."""
    more = modules_after("import moe_fast") - modules_after(DEPENDENCIES)
    own = {name for name in more if name.partition(".")[0] == "moe_fast"}
    foreign = {
        name for name in more - own
        if (name.partition(".")[0] not in sys.stdlib_module_names
            and not name.startswith("_cython_"))   # shared by all modules that Cython made
    }
    assert "moe_fast.fit" in own
    assert foreign == set()


def test_command_and_pictures_are_not_loaded():
    """Kills: the package's front door importing what only the command or a picture needs."""
    loaded = modules_after("import moe_fast")
    assert not loaded & {"moe_fast.cli", "moe_fast.compare", "moe_fast.plot", "moe_fast.reference"}


def test_a_first_fit_loads_no_optimiser_and_no_quadrature():
    """A fifth of a second, for experts that are linear. Kills: label transforms of theirs by quadrature."""
    fit = "import moe_fast as mf; sim = mf.make_moe(500, 5, 2, random_state=0); mf.fit(sim.X, sim.y, 2, random_state=0)"
    assert not modules_after(fit) & {"scipy.optimize", "scipy.integrate", "scipy.stats"}
