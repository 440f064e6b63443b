"""What this build and this processor offer: OpenMP and instruction sets."""

cdef extern from *:
    """
    #ifdef _OPENMP
    #define MOE_FAST_HAS_OPENMP 1
    #else
    #define MOE_FAST_HAS_OPENMP 0
    #endif
    """
    const int MOE_FAST_HAS_OPENMP

cdef extern from "isa.h":
    const int N_ISA
    const char *ISA_NAMES[]
    int isa_available(int isa)
    int isa_selected()


def has_openmp():
    """True if the kernels were built with OpenMP."""
    return bool(MOE_FAST_HAS_OPENMP)


def instruction_sets():
    """Names of the instruction sets that this build holds and this processor has, narrowest first."""
    return [ISA_NAMES[isa].decode() for isa in range(N_ISA) if isa_available(isa)]


def instruction_set():
    """Name of the one in use, or None if MOE_FAST_ISA names one that is not available."""
    isa = isa_selected()
    return ISA_NAMES[isa].decode() if isa >= 0 else None
