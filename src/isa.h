/* Instruction sets: which ones this build holds, which one this process uses.
 *
 * The arithmetic on one tile of rows is written once, in headers without include guards, and compiled once for
 * each instruction set by for_each_isa.h. Everything else of the package is plain baseline code.
 */
#ifndef MOE_FAST_ISA_H
#define MOE_FAST_ISA_H

#include <stddef.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define MOE_FAST_X86 1
#include <immintrin.h>
#else
#define MOE_FAST_X86 0
#endif

enum { ISA_BASELINE = 0, ISA_AVX2 = 1, ISA_AVX512 = 2, N_ISA = 3 };

static const char *const ISA_NAMES[N_ISA] = {"baseline", "avx2", "avx512"};

static inline int isa_available(int isa) {
    if (isa == ISA_BASELINE) return 1;
#if MOE_FAST_X86
    __builtin_cpu_init();
    if (isa == ISA_AVX2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == ISA_AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
#endif
    return 0;
}

/* The widest set available, or the one that MOE_FAST_ISA names; -1 if it names one that is not there. */
static inline int isa_selected(void) {
    const char *wanted = getenv("MOE_FAST_ISA");
    for (int isa = N_ISA - 1; isa >= 0; isa--) {
        if (wanted && *wanted ? !strcmp(wanted, ISA_NAMES[isa]) && isa_available(isa) : isa_available(isa))
            return isa;
    }
    return -1;
}

/* Scratch begins at a line of the cache, and is a whole number of lines long: no vector straddles two. */
enum { ALIGNMENT = 8 }; /* doubles */
static inline double *aligned(double *p) { return (double *)(((uintptr_t)p + 63) & ~(uintptr_t)63); }

/* Of a function that one of the sources which include its header has no use for. */
#define MF_OPTIONAL __attribute__((unused))

/* name -> name_avx2 and so on: one set of names for each instruction set. */
#define MF_GLUE_(name, isa) name##_##isa
#define MF_GLUE(name, isa) MF_GLUE_(name, isa)
#define MF_NAME(name) MF_GLUE(name, MF_ISA)
#define MF_GLUE3_(name, kind, isa) name##_##kind##_##isa
#define MF_GLUE3(name, kind, isa) MF_GLUE3_(name, kind, isa)

#endif
