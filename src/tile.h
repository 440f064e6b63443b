/* Work on one tile of rows: its transposed, standardised design, linear predictors, weighted Grams.
 *
 * A tile is TILE_ROWS rows, kept transposed: row a of the design holds feature a of all the tile's samples, so that
 * every loop below runs along samples, whole vectors at a time. No include guard: compiled for each instruction set. */

#ifndef MF_MIN
#define MF_MIN(a, b) ((a) < (b) ? (a) : (b))
#endif

/* Memory that will be read next, from `next` to `end`, asked for a part at a time between pieces of other work: all at
 * once would be more than a processor can wait for, and would leave the memory idle for the rest of the work. */
#define upcoming MF_NAME(upcoming)
typedef struct {
    const char *next, *end;
    ptrdiff_t part;
} upcoming;

/* The tile after that which begins at row `first`, in n_parts. */
#define tile_after MF_NAME(tile_after)
static upcoming tile_after(const void *rows, ptrdiff_t row_size, ptrdiff_t first, ptrdiff_t last, ptrdiff_t n_parts) {
    const char *start = rows;
    upcoming u = {start + MF_MIN(first + TILE_ROWS, last) * row_size, start + MF_MIN(first + 2 * TILE_ROWS, last) * row_size,
                  (TILE_ROWS * row_size + n_parts - 1) / n_parts};
    return u;
}

#define ask_for MF_NAME(ask_for)
static inline void ask_for(upcoming *u) {
    const char *end = u->next + MF_MIN(u->part, u->end - u->next);
    for (; u->next < end; u->next += 64) __builtin_prefetch(u->next);
}

/* Rows of a VLEN x VLEN block become its columns: Eklundh's exchange, at distance 1, 2, 4. */
#define transpose MF_NAME(transpose)
#define EXCHANGE(distance, low, high)                               \
    for (int a = 0; a < VLEN; a++) {                                \
        if (a & distance) continue;                                 \
        vd lower = __builtin_shufflevector(r[a], r[a + distance], LANES low);  \
        r[a + distance] = __builtin_shufflevector(r[a], r[a + distance], LANES high); \
        r[a] = lower;                                               \
    }
static inline __attribute__((always_inline)) void transpose(vd r[VLEN]) {
#if VLEN == 8
#pragma GCC unroll 8
    EXCHANGE(1, (0, 8, 2, 10, 4, 12, 6, 14), (1, 9, 3, 11, 5, 13, 7, 15))
#pragma GCC unroll 8
    EXCHANGE(2, (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
#pragma GCC unroll 8
    EXCHANGE(4, (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))
#elif VLEN == 4
#pragma GCC unroll 4
    EXCHANGE(1, (0, 4, 2, 6), (1, 5, 3, 7))
#pragma GCC unroll 4
    EXCHANGE(2, (0, 1, 4, 5), (2, 3, 6, 7))
#else
    EXCHANGE(1, (0, 2), (1, 3))
#endif
}

/* rows -> design: design[a][i] = (rows[i][a] - shift[a]) * scale[a] for i < n_rows; zeros in [n_rows, padded).
 * Blocks of VLEN x VLEN are transposed in registers; the last block of columns begins early enough to be whole, and
 * does some columns twice. next, if not NULL, is asked for meanwhile, a part for each VLEN rows. */
#define PACK_BODY                                                                                         \
    ptrdiff_t whole = n_features < VLEN ? 0 : n_rows / VLEN * VLEN;                                       \
    for (ptrdiff_t i = 0; i < whole; i += VLEN) {                                                         \
        if (next) ask_for(next);                                                                          \
        for (ptrdiff_t b = 0; b < n_features; b += VLEN) {                                                \
            ptrdiff_t a = MF_MIN(b, n_features - VLEN);                                                   \
            vd r[VLEN], by = vload(scale + a), from = vload(shift + a);                                   \
            _Pragma("GCC unroll 8") for (int c = 0; c < VLEN; c++)                                        \
                r[c] = (LOAD(rows + (i + c) * n_features + a) - from) * by;                               \
            transpose(r);                                                                                 \
            _Pragma("GCC unroll 8") for (int c = 0; c < VLEN; c++) vstore(design + (a + c) * TILE_STRIDE + i, r[c]); \
        }                                                                                                 \
    }                                                                                                     \
    for (ptrdiff_t a = 0; a < n_features; a++) {                                                          \
        double *column = design + a * TILE_STRIDE;                                                        \
        for (ptrdiff_t i = whole; i < n_rows; i++)                                                        \
            column[i] = ((double)rows[i * n_features + a] - shift[a]) * scale[a];                         \
        for (ptrdiff_t i = n_rows; i < padded; i++) column[i] = 0.0;                                      \
    }

#define pack_f64 MF_NAME(pack_f64)
static void pack_f64(const double *restrict rows, ptrdiff_t n_rows, ptrdiff_t padded, ptrdiff_t n_features,
                     const double *restrict shift, const double *restrict scale, double *restrict design, upcoming *next) {
#define LOAD vload
    PACK_BODY
#undef LOAD
}

#define pack_f32 MF_NAME(pack_f32)
static void pack_f32(const float *restrict rows, ptrdiff_t n_rows, ptrdiff_t padded, ptrdiff_t n_features,
                     const double *restrict shift, const double *restrict scale, double *restrict design, upcoming *next) {
#define LOAD vload_f32
    PACK_BODY
#undef LOAD
}

#define fill MF_NAME(fill)
static inline void fill(double *restrict x, double value, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) x[i] = value;
}

/* out[j] = coef[j] . design, for j < n_out: four predictors at a time, each design row loaded once for all of them.
 * next, if not NULL: so many doubles as the design holds, to be read next, are asked for. */
#define predictors_tile MF_NAME(predictors_tile)
static inline __attribute__((always_inline)) void predictors_tile(const double *restrict design, ptrdiff_t n_columns,
                                                                  const double *coef, ptrdiff_t n_out, ptrdiff_t padded,
                                                                  double *restrict out, const char *next) {
    for (ptrdiff_t i = 0; i < padded; i += VLEN) {
        vd sum[4];
#pragma GCC unroll 4
        for (int j = 0; j < n_out; j++) sum[j] = vset(0.0);
        for (ptrdiff_t a = 0; a < n_columns; a++) {
            vd x = vload(design + a * TILE_STRIDE + i);
            if (next) __builtin_prefetch(next + (i * n_columns + a * VLEN) * sizeof(double));
#pragma GCC unroll 4
            for (int j = 0; j < n_out; j++) sum[j] += coef[j * n_columns + a] * x;
        }
#pragma GCC unroll 4
        for (int j = 0; j < n_out; j++) vstore(out + j * TILE_STRIDE + i, sum[j]);
    }
}

#define predictors MF_NAME(predictors)
static void predictors(const double *design, ptrdiff_t n_columns, const double *coef, ptrdiff_t n_out, ptrdiff_t padded,
                       double *out, const char *next) {
    ptrdiff_t j = 0;
    for (; j + 4 <= n_out; j += 4)
        predictors_tile(design, n_columns, coef + j * n_columns, 4, padded, out + j * TILE_STRIDE, next);
    switch (n_out - j) {
        case 1: predictors_tile(design, n_columns, coef + j * n_columns, 1, padded, out + j * TILE_STRIDE, next); break;
        case 2: predictors_tile(design, n_columns, coef + j * n_columns, 2, padded, out + j * TILE_STRIDE, next); break;
        case 3: predictors_tile(design, n_columns, coef + j * n_columns, 3, padded, out + j * TILE_STRIDE, next); break;
        default: break;
    }
}

#ifndef TILE_SUMS
#define TILE_SUMS ((MF_MR * MF_NR + VLEN - 1) / VLEN * VLEN)
#endif

#define MF_KIND f64
#define MF_REAL double
#define MF_VECTOR vd
#define MF_STRIDE TILE_STRIDE
#include "gram.h"
#undef MF_KIND
#undef MF_REAL
#undef MF_VECTOR
#undef MF_STRIDE

#define MF_KIND f32
#define MF_REAL float
#define MF_VECTOR vs
#define MF_STRIDE NARROW_STRIDE
#include "gram.h"
#undef MF_KIND
#undef MF_REAL
#undef MF_VECTOR
#undef MF_STRIDE

#define weighted_gram_f64 MF_NAME(weighted_gram_f64)
#define weighted_gram_f32 MF_NAME(weighted_gram_f32)
#define inner_products_f64 MF_NAME(inner_products_f64)

/* A design in single precision; zeros in [padded, narrow_padded). */
#define narrow_design MF_NAME(narrow_design)
MF_OPTIONAL static void narrow_design(const double *restrict design, ptrdiff_t n_columns, ptrdiff_t padded,
                                      ptrdiff_t narrow_padded, float *restrict narrow) {
    for (ptrdiff_t a = 0; a < n_columns; a++, design += TILE_STRIDE, narrow += NARROW_STRIDE) {
        for (ptrdiff_t i = 0; i < padded; i += VLEN) vstore_f32(narrow + i, vload(design + i));
        for (ptrdiff_t i = padded; i < narrow_padded; i++) narrow[i] = 0.0f;
    }
}

/* Weights in single precision, in units of their largest, which is returned: weights of any size stay numbers. What is
 * below 1e-30 of it is as nothing, and would be slow as a subnormal number. */
#define narrow_weights MF_NAME(narrow_weights)
MF_OPTIONAL static double narrow_weights(const double *restrict weight, ptrdiff_t padded, ptrdiff_t narrow_padded,
                                         float *restrict narrow) {
    vd largest = vset(0.0);
    for (ptrdiff_t i = 0; i < padded; i += VLEN) largest = vmax(largest, vmax(vload(weight + i), -vload(weight + i)));
    double unit = 0.0;
    for (int l = 0; l < VLEN; l++) unit = largest[l] > unit ? largest[l] : unit;
    double inverse = unit > 0.0 ? 1.0 / unit : 0.0;
    for (ptrdiff_t i = 0; i < padded; i += VLEN) {
        vd w = vload(weight + i) * inverse;
        vstore_f32(narrow + i, vselect(vmax(w, -w) < vset(1e-30), vset(0.0), w));
    }
    for (ptrdiff_t i = padded; i < narrow_padded; i++) narrow[i] = 0.0f;
    return unit;
}

/* sum_i x[i], over whole vectors */
#define sum_tile MF_NAME(sum_tile)
static inline double sum_tile(const double *x, ptrdiff_t padded) {
    vd sum = vset(0.0);
    for (ptrdiff_t i = 0; i < padded; i += VLEN) sum += vload(x + i);
    return vsum(sum);
}
