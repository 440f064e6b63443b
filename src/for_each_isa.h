/* Includes MF_BODY once for each instruction set that the compiler can aim at. MF_ISA is its name, MF_VBYTES the
 * width of a vector, MF_MR x MF_NR the register tile of inner_tile: MR * NR sums and NR loads must fit the registers
 * (32 of them with AVX-512, 16 elsewhere on x86-64), or the tile spills. */

#define MF_ISA baseline
#define MF_VBYTES 16
#define MF_MR 3
#define MF_NR 3
#include "vec.h"
#include MF_BODY
#undef MF_ISA
#undef MF_VBYTES
#undef MF_MR
#undef MF_NR

#if MOE_FAST_X86

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define MF_ISA avx2
#define MF_VBYTES 32
#define MF_MR 4
#define MF_NR 3
#include "vec.h"
#include MF_BODY
#undef MF_ISA
#undef MF_VBYTES
#undef MF_MR
#undef MF_NR
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,fma")
#endif
#define MF_ISA avx512
#define MF_VBYTES 64
#define MF_MR 4
#define MF_NR 6
#include "vec.h"
#include MF_BODY
#undef MF_ISA
#undef MF_VBYTES
#undef MF_MR
#undef MF_NR
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
