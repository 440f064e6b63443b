/* Work on one tile of rows: its transposed, standardised design, linear predictors, weighted Grams.
 *
 * A tile is TILE_ROWS rows, kept transposed: row a of the design holds feature a of all the tile's samples, so that
 * every loop below runs along samples, whole vectors at a time. 256 samples keep a panel of inner products
 * ((MR + NR) * 256 * 8 = 20 KB) in the first-level cache. No include guard: compiled for each instruction set. */

#ifndef MF_MIN
#define MF_MIN(a, b) ((a) < (b) ? (a) : (b))
#endif

/* Memory that will be read next, from `next` to `end`, asked for a part at a time between pieces of other work. Where a
 * tile is large, asking for the next one while this one is packed would leave the memory idle for the rest of the work. */
#define upcoming MF_NAME(upcoming)
typedef struct {
    const char *next, *end;
    ptrdiff_t part;
} upcoming;

#define ask_for MF_NAME(ask_for)
static inline void ask_for(upcoming *u) {
    const char *end = u->next + MF_MIN(u->part, u->end - u->next);
    for (; u->next < end; u->next += 64) __builtin_prefetch(u->next, 0, 2);
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
#define LANES(...) __VA_ARGS__
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
 * does some columns twice. ask != 0: the same rows of the next tile are asked for meanwhile. */
#define PACK_BODY                                                                                         \
    ptrdiff_t whole = n_features < VLEN ? 0 : n_rows / VLEN * VLEN, ahead = ask ? VLEN * n_features : 0;  \
    for (ptrdiff_t i = 0; i < whole; i += VLEN) {                                                         \
        for (ptrdiff_t line = 0; line < ahead * (ptrdiff_t)sizeof *rows; line += 64)                          \
            __builtin_prefetch((const char *)(rows + (i + TILE_ROWS) * n_features) + line, 0, 2);             \
        for (ptrdiff_t next = 0; next < n_features; next += VLEN) {                                       \
            ptrdiff_t a = MF_MIN(next, n_features - VLEN);                                                \
            vd r[VLEN], by = vload(scale + a), from = vload(shift + a);                                   \
            _Pragma("GCC unroll 8") for (int b = 0; b < VLEN; b++)                                        \
                r[b] = (LOAD(rows + (i + b) * n_features + a) - from) * by;                               \
            transpose(r);                                                                                 \
            _Pragma("GCC unroll 8") for (int b = 0; b < VLEN; b++) vstore(design + (a + b) * TILE_STRIDE + i, r[b]); \
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
                     const double *restrict shift, const double *restrict scale, double *restrict design, int ask) {
#define LOAD vload
    PACK_BODY
#undef LOAD
}

#define pack_f32 MF_NAME(pack_f32)
static void pack_f32(const float *restrict rows, ptrdiff_t n_rows, ptrdiff_t padded, ptrdiff_t n_features,
                     const double *restrict shift, const double *restrict scale, double *restrict design, int ask) {
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
            if (next) __builtin_prefetch(next + (i * n_columns + a * VLEN) * sizeof(double), 0, 2);
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

/* out[a][b] += sum_i left[a][i] right[b][i] for a < mr, b < nr: the register tile. Sizes are literals at each call. */
#define inner_tile MF_NAME(inner_tile)
static inline __attribute__((always_inline)) void inner_tile(const double *left, const double *right, ptrdiff_t padded,
                                                             double *out, ptrdiff_t out_stride, const int mr,
                                                             const int nr) {
    vd sum[MF_MR][MF_NR];
#pragma GCC unroll 8
    for (int a = 0; a < mr; a++)
#pragma GCC unroll 8
        for (int b = 0; b < nr; b++) sum[a][b] = vset(0.0);
    for (ptrdiff_t i = 0; i < padded; i += VLEN) {
        vd r[MF_NR];
#pragma GCC unroll 8
        for (int b = 0; b < nr; b++) r[b] = vload(right + b * TILE_STRIDE + i);
#pragma GCC unroll 8
        for (int a = 0; a < mr; a++) {
            vd l = vload(left + a * TILE_STRIDE + i);
#pragma GCC unroll 8
            for (int b = 0; b < nr; b++) sum[a][b] += l * r[b];
        }
    }
#pragma GCC unroll 8
    for (int a = 0; a < mr; a++)
#pragma GCC unroll 8
        for (int b = 0; b < nr; b++) out[a * out_stride + b] += vsum(sum[a][b]);
}

/* One panel of nr right rows against n_left left rows. */
#define inner_panel MF_NAME(inner_panel)
static inline __attribute__((always_inline)) void inner_panel(const double *left, ptrdiff_t n_left, const double *right,
                                                              ptrdiff_t padded, double *out, ptrdiff_t out_stride,
                                                              upcoming *next, const int nr) {
    ptrdiff_t a = 0;
    for (; a + MF_MR <= n_left; a += MF_MR) {
        inner_tile(left + a * TILE_STRIDE, right, padded, out + a * out_stride, out_stride, MF_MR, nr);
        if (next) ask_for(next);
    }
    left += a * TILE_STRIDE;
    out += a * out_stride;
    switch (n_left - a) {
        case 1: inner_tile(left, right, padded, out, out_stride, 1, nr); break;
        case 2: inner_tile(left, right, padded, out, out_stride, 2, nr); break;
        case 3: inner_tile(left, right, padded, out, out_stride, 3, nr); break;
        default: break;
    }
}

#define inner_panels MF_NAME(inner_panels)
static void inner_panels(const double *left, ptrdiff_t n_left, const double *right, ptrdiff_t n_right, ptrdiff_t padded,
                         double *out, ptrdiff_t out_stride, upcoming *next) {
    switch (MF_MIN(n_right, MF_NR)) {
        case 1: inner_panel(left, n_left, right, padded, out, out_stride, next, 1); break;
        case 2: inner_panel(left, n_left, right, padded, out, out_stride, next, 2); break;
        case 3: inner_panel(left, n_left, right, padded, out, out_stride, next, 3); break;
#if MF_NR > 3
        case 4: inner_panel(left, n_left, right, padded, out, out_stride, next, 4); break;
        case 5: inner_panel(left, n_left, right, padded, out, out_stride, next, 5); break;
        default: inner_panel(left, n_left, right, padded, out, out_stride, next, MF_NR); break;
#endif
    }
}

/* out (n_left, n_right) += left right' */
#define inner_products MF_NAME(inner_products)
static void inner_products(const double *left, ptrdiff_t n_left, const double *right, ptrdiff_t n_right,
                           ptrdiff_t padded, double *out) {
    for (ptrdiff_t b = 0; b < n_right; b += MF_NR)
        inner_panels(left, n_left, right + b * TILE_STRIDE, n_right - b, padded, out + b, n_right, NULL);
}

/* out (n_left, n_right) += left diag(weight) right'. With lower != 0 (left and right are then one design) only entries
 * with a >= b are wanted; a few above the diagonal are written too, and mean nothing. panel, scratch of MF_NR arrays,
 * holds weighted rows of right. next, if not NULL, is asked for between register tiles. */
#define weighted_gram MF_NAME(weighted_gram)
static void weighted_gram(const double *left, ptrdiff_t n_left, const double *weight, const double *right,
                          ptrdiff_t n_right, int lower, ptrdiff_t padded, double *restrict panel, double *out,
                          upcoming *next) {
    for (ptrdiff_t b = 0; b < n_right; b += MF_NR) {
        ptrdiff_t first = lower ? b : 0;
        for (ptrdiff_t c = 0; c < MF_MIN(MF_NR, n_right - b); c++)
            for (ptrdiff_t i = 0; i < padded; i += VLEN)
                vstore(panel + c * TILE_STRIDE + i, vload(weight + i) * vload(right + (b + c) * TILE_STRIDE + i));
        inner_panels(left + first * TILE_STRIDE, n_left - first, panel, n_right - b, padded, out + first * n_right + b,
                     n_right, next);
    }
}

/* sum_i x[i], over whole vectors */
#define sum_tile MF_NAME(sum_tile)
static inline double sum_tile(const double *x, ptrdiff_t padded) {
    vd sum = vset(0.0);
    for (ptrdiff_t i = 0; i < padded; i += VLEN) sum += vload(x + i);
    return vsum(sum);
}
