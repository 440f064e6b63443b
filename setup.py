"""The compiled modules of moe_fast: which sources, and which flags the compiler at hand takes.

Metadata lives in pyproject.toml. Environment variables read here:

MOE_FAST_OPENMP     "auto" (default: use it if a program builds with it), "on" (fail without it), "off"
MOE_FAST_DEBUG      "1": bounds checks in the Cython code, no optimisation
MOE_FAST_SANITIZE   e.g. "address,undefined": build with these sanitizers
"""

import os
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

SOURCE = Path("src")
HEADERS = sorted(str(p) for p in SOURCE.glob("*.h"))
DEBUG = os.environ.get("MOE_FAST_DEBUG") == "1"
SANITIZE = os.environ.get("MOE_FAST_SANITIZE", "")
OPENMP = os.environ.get("MOE_FAST_OPENMP", "auto")

# One extension per step of the method; a C file beside the .pyx holds its per-block arithmetic.
MODULES = {
    "_threads": [],
    "_moments": ["moment_blocks.c"],
    "_tensor": [],
    "_solve": [],
    "_em": ["em_blocks.c"],
}

OPENMP_PROBE = """
#include <omp.h>
int main(void) {
    int total = 0;
    #pragma omp parallel for reduction(+:total)
    for (int i = 0; i < omp_get_max_threads(); i++) total++;
    return total == 0;
}
"""


def openmp_flags():
    """(compile, link) flags to try, in order."""
    flags = [(["-fopenmp"], ["-fopenmp"])]
    if sys.platform == "darwin":  # Apple's clang takes the flag only through the preprocessor, with libomp beside it
        flags.append((["-Xpreprocessor", "-fopenmp"], ["-lomp"]))
    return flags


class BuildExt(build_ext):
    """build_ext that asks the compiler what it can do before it chooses flags."""

    def build_extensions(self):
        compile_args, link_args = self.optimisation(), []
        if SANITIZE:
            compile_args += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-g"]
            link_args += [f"-fsanitize={SANITIZE}"]
        compile_openmp, link_openmp = self.probe_openmp()
        for extension in self.extensions:
            extension.extra_compile_args = compile_args + compile_openmp
            extension.extra_link_args = link_args + link_openmp
        super().build_extensions()

    def optimisation(self):
        # Relaxations the loops need, singly, instead of -ffast-math: no trap or errno keeps select and fma
        # vectorisable, and changes no result.
        flags = ["-O0", "-g"] if DEBUG else ["-O3", "-g0"]
        return [*flags, "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]

    def probe_openmp(self):
        if OPENMP not in {"auto", "on", "off"}:
            raise SystemExit(f"MOE_FAST_OPENMP is {OPENMP!r}, expected 'auto', 'on' or 'off'")
        if OPENMP == "off":
            return [], []
        for compile_flags, link_flags in openmp_flags():
            if self.links(OPENMP_PROBE, compile_flags, link_flags):
                return compile_flags, link_flags
        if OPENMP == "on":
            raise SystemExit("MOE_FAST_OPENMP=on, but a program with OpenMP does not compile and link here")
        print("moe_fast: no OpenMP here; building for one thread", file=sys.stderr)
        return [], []

    def links(self, program, compile_flags, link_flags):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "probe.c"
            source.write_text(program)
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=compile_flags)
                self.compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=link_flags)
            except (CompileError, LinkError):
                return False
        return True


def extensions():
    return [
        Extension(
            f"moe_fast.{name}",
            [str(SOURCE / f"{name}.pyx"), *(str(SOURCE / c) for c in c_sources)],
            include_dirs=[str(SOURCE)],
            depends=HEADERS,
        )
        for name, c_sources in MODULES.items()
    ]


setup(
    ext_modules=cythonize(
        extensions(),
        include_path=[str(SOURCE)],
        build_dir="build/cython",
        show_all_warnings=False,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "freethreading_compatible": False,
            "embedsignature": True,
            "autotestdict": False,   # no __test__ in the modules, which their stubs would have to name
        },
    ),
    # The kernels use vectors of GCC and clang, which Microsoft's compiler does not know: mingw-w64 builds them there.
    options={"build_ext": {"compiler": "mingw32"}} if sys.platform == "win32" else {},
    cmdclass={"build_ext": BuildExt},
)
