/* Vectors of doubles of MF_VBYTES bytes, in the vector extension that gcc and clang share, and the two functions an
 * E-step needs, exp and log. No include guard: compiled once for each instruction set (isa.h). */

#define vd MF_NAME(vd)
#define vl MF_NAME(vl)
#define vd_unaligned MF_NAME(vd_unaligned)
#define VLEN (MF_VBYTES / 8)

typedef double vd __attribute__((vector_size(MF_VBYTES)));
typedef int64_t vl __attribute__((vector_size(MF_VBYTES)));
typedef double vd_unaligned __attribute__((vector_size(MF_VBYTES), aligned(8), may_alias));

#define vload MF_NAME(vload)
static inline vd vload(const double *p) { return *(const vd_unaligned *)p; }

#define vstore MF_NAME(vstore)
static inline void vstore(double *p, vd v) { *(vd_unaligned *)p = v; }

#define vf_unaligned MF_NAME(vf_unaligned)
typedef float vf_unaligned __attribute__((vector_size(MF_VBYTES / 2), aligned(4), may_alias));

#define vload_f32 MF_NAME(vload_f32)
static inline vd vload_f32(const float *p) { return __builtin_convertvector(*(const vf_unaligned *)p, vd); }

#define vs MF_NAME(vs)
#define vs_unaligned MF_NAME(vs_unaligned)
#define vs_half MF_NAME(vs_half)
typedef float vs __attribute__((vector_size(MF_VBYTES)));
typedef float vs_unaligned __attribute__((vector_size(MF_VBYTES), aligned(4), may_alias));
typedef float vs_half __attribute__((vector_size(MF_VBYTES / 2)));

#define vstore_f32 MF_NAME(vstore_f32)
static inline void vstore_f32(float *p, vd v) { *(vf_unaligned *)p = __builtin_convertvector(v, vs_half); }

#define vset MF_NAME(vset)
static inline vd vset(double s) { return s - (vd){0}; }

/* mask is all ones or all zeros in each lane, as a comparison gives it. */
#define vselect MF_NAME(vselect)
static inline vd vselect(vl mask, vd yes, vd no) { return (vd)((mask & (vl)yes) | (~mask & (vl)no)); }

#define vmax MF_NAME(vmax)
static inline vd vmax(vd a, vd b) {
#if MF_VBYTES == 64
    return (vd)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif MF_VBYTES == 32
    return (vd)_mm256_max_pd((__m256d)a, (__m256d)b);
#else
    return vselect(a > b, a, b);
#endif
}

#define vmin MF_NAME(vmin)
static inline vd vmin(vd a, vd b) { return -vmax(-a, -b); }

/* Sum of the lanes, always in the same order. */
#define vsum MF_NAME(vsum)
static inline double vsum(vd v) {
#if MF_VBYTES == 64
    return _mm512_reduce_add_pd((__m512d)v);
#elif MF_VBYTES == 32
    __m128d low = _mm256_castpd256_pd128((__m256d)v), high = _mm256_extractf128_pd((__m256d)v, 1);
    low = _mm_add_pd(low, high);
    return _mm_cvtsd_f64(_mm_add_sd(low, _mm_unpackhi_pd(low, low)));
#else
    return v[0] + v[1];
#endif
}

/* The same operations by the kind of number, for gram.h. */
#define load_f64 MF_NAME(load_f64)
#define load_f32 MF_NAME(load_f32)
#define store_f64 MF_NAME(store_f64)
#define store_f32 MF_NAME(store_f32)
static inline vd load_f64(const double *p) { return vload(p); }
static inline vs load_f32(const float *p) { return *(const vs_unaligned *)p; }
static inline void store_f64(double *p, vd v) { vstore(p, v); }
static inline void store_f32(float *p, vs v) { *(vs_unaligned *)p = v; }

/* Lane j of the result is the sum of the lanes of r[j], for j < VLEN: neighbours are exchanged at distance 1, 2, 4 as in
 * a transposition, and added. In single precision that is done in both halves of the vectors, which are then added as
 * double. */
#define FOLD(distance, low, high)                                               \
    for (int a = 0; a < VLEN; a += 2 * distance)                                \
        r[a] = __builtin_shufflevector(r[a], r[a + distance], LANES low) + \
               __builtin_shufflevector(r[a], r[a + distance], LANES high);
#define LANES(...) __VA_ARGS__
#define sums_f64 MF_NAME(sums_f64)
static inline __attribute__((always_inline)) vd sums_f64(vd r[VLEN]) {
#if VLEN == 8
#pragma GCC unroll 8
    FOLD(1, (0, 8, 2, 10, 4, 12, 6, 14), (1, 9, 3, 11, 5, 13, 7, 15))
#pragma GCC unroll 8
    FOLD(2, (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
    FOLD(4, (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))
#elif VLEN == 4
#pragma GCC unroll 4
    FOLD(1, (0, 4, 2, 6), (1, 5, 3, 7))
    FOLD(2, (0, 1, 4, 5), (2, 3, 6, 7))
#else
    FOLD(1, (0, 2), (1, 3))
#endif
    return r[0];
}

#define sums_f32 MF_NAME(sums_f32)
static inline __attribute__((always_inline)) vd sums_f32(vs r[VLEN]) {
#if VLEN == 8
#pragma GCC unroll 8
    FOLD(1, (0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
         (1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
#pragma GCC unroll 8
    FOLD(2, (0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
         (2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
    FOLD(4, (0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
         (4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
#elif VLEN == 4
#pragma GCC unroll 4
    FOLD(1, (0, 8, 2, 10, 4, 12, 6, 14), (1, 9, 3, 11, 5, 13, 7, 15))
    FOLD(2, (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
#else
    FOLD(1, (0, 4, 2, 6), (1, 5, 3, 7))
#endif
    vs_half half[2];
    memcpy(half, r, sizeof half);
    return __builtin_convertvector(half[0], vd) + __builtin_convertvector(half[1], vd);
}

#define ROUND_SHIFT 6755399441055744.0 /* 1.5 * 2^52: adding it rounds to an integer, left in the low bits */

/* exp(x) for x <= 709, within 1.25 ulp (1 with fused multiply-add); below -708 it stays at exp(-708), so that no
 * subnormal slows what follows.
 * x = n ln2 + r with |r| <= ln2 / 2; (exp(r) - 1 - r) / r^2 by the polynomial that meets it at the 10 Chebyshev points of
 * that interval, which leaves 2^-56 of exp(r). Its terms are added in pairs, and pairs of pairs (Estrin's scheme): a sum
 * from the last term to the first waits for each product, and a processor has little else to do meanwhile. */
#define vexp_down MF_NAME(vexp_down)
static inline vd vexp_down(vd x) {
    x = vmax(vset(-708.0), x);
    vd shifted = x * 1.4426950408889634 + ROUND_SHIFT;
    vd n = shifted - ROUND_SHIFT;
    vd r = x - n * 6.93147180369123816490e-01; /* ln2 in two parts; n times the first is exact */
    r = r - n * 1.90821492927058770002e-10;
    vd r2 = r * r, r4 = r2 * r2;
    vd c01 = r * 0.16666666666666669 + 0.5000000000000001;
    vd c23 = r * 0.008333333333330065 + 0.041666666666624164;
    vd c45 = r * 0.0001984126986304067 + 0.0013888888917196881;
    vd c67 = r * 2.7557268480116333e-06 + 2.4801521322116825e-05;
    vd c89 = r * 2.5100375924709717e-08 + 2.762007599981065e-07;
    vd p = (c23 * r2 + c01) + r4 * ((c67 * r2 + c45) + r4 * c89);
    p = (p * r2 + r) + 1.0;
    return (vd)((vl)p + ((vl)shifted << 52)); /* times 2^n, by its exponent bits */
}

/* exp(x) for any x: 0 below -708, clamped to exp(709) above; NaN stays NaN. */
#define vexp MF_NAME(vexp)
static inline vd vexp(vd x) {
    vd p = vexp_down(vmin(vset(709.0), x)); /* vmax(a, NaN) is NaN when NaN stands second */
    return vselect(x < vset(-708.0), vset(0.0), p);
}

/* log(x), within 2 ulp, for normal x > 0; NaN stays NaN. x = 2^e m with m in [1/sqrt2, sqrt2);
 * log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172; (atanh(s) - s) / s^3 by the polynomial in s^2 that meets it at
 * the 7 Chebyshev points of [0, 0.172^2], which leaves 2^-57 of the logarithm. */
#define vlog MF_NAME(vlog)
static inline vd vlog(vd x) {
    vl bits = (vl)x;
    vl e = (bits - 0x3fe6a09e667f3bcdLL) >> 52;
    vd m = (vd)(bits - (e << 52));
    vd exponent = (vd)(e + (vl)vset(ROUND_SHIFT)) - ROUND_SHIFT;
    vd f = m - 1.0;
    vd s = f / (m + 1.0);
    vd z = s * s;
    vd z2 = z * z;
    vd c01 = z * 0.19999999999949752 + 0.3333333333333335;
    vd c23 = z * 0.11111105567354296 + 0.14285714312988007;
    vd c45 = z * 0.07665860695547885 + 0.09091444565781602;
    vd p = (c23 * z2 + c01) + (z2 * z2) * (z2 * 0.07308226137031093 + c45);
    /* 2 atanh(s) = f - s (f - 2 z p): f is exact, so only the small correction is rounded. */
    vd log_m = f - s * (f - 2.0 * z * p);
    vd log_x = exponent * 6.93147180369123816490e-01 + (log_m + exponent * 1.90821492927058770002e-10);
    return vselect(x == x, log_x, x); /* the bits of NaN, taken apart, look like a number */
}
