/* Sums for the score-function moments on a span of rows, for every instruction set. */
#include "isa.h"
#include "moment_problem.h"

#define MF_BODY "moment_blocks.h"
#include "for_each_isa.h"

const moment_kernels *moment_kernels_for(int isa) {
    static const moment_kernels tables[N_ISA] = {
        [ISA_BASELINE] = {power_rows_baseline, column_rows_baseline, second_rows_baseline, third_rows_baseline},
#if MOE_FAST_X86
        [ISA_AVX2] = {power_rows_avx2, column_rows_avx2, second_rows_avx2, third_rows_avx2},
        [ISA_AVX512] = {power_rows_avx512, column_rows_avx512, second_rows_avx512, third_rows_avx512},
#endif
    };
    return &tables[isa];
}
