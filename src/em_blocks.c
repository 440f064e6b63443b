/* The EM pass on a span of rows, for every instruction set. */
#include "isa.h"
#include "em_problem.h"

#define MF_BODY "em_blocks.h"
#include "for_each_isa.h"

const em_kernels *em_kernels_for(int isa) {
    static const em_kernels tables[N_ISA] = {
        [ISA_BASELINE] = {em_rows_baseline, exp_array_baseline, log_array_baseline},
#if MOE_FAST_X86
        [ISA_AVX2] = {em_rows_avx2, exp_array_avx2, log_array_avx2},
        [ISA_AVX512] = {em_rows_avx512, exp_array_avx512, log_array_avx512},
#endif
    };
    return &tables[isa];
}
