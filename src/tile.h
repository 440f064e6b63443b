/* Work on one tile of rows: its transposed, standardised design, linear predictors, weighted Grams.
 *
 * A tile is TILE_ROWS rows, kept transposed: row a of the design holds feature a of all the tile's samples, so that
 * every loop below runs along samples, whole vectors at a time. 256 rows keep a panel of gram_tile
 * ((MR + NR) * 256 * 8 = 20 KB) in the first-level cache. No include guard: compiled for each instruction set. */

#ifndef TILE_ROWS
#define TILE_ROWS 256
#define MF_MIN(a, b) ((a) < (b) ? (a) : (b))
#endif

/* rows -> design: design[first + a][i] = (rows[i][a] - shift[a]) * scale[a], for i < n_rows; zeros in [n_rows, padded). */
#define PACK_BODY                                                                                    \
    for (ptrdiff_t i = 0; i < n_rows; i++) {                                                         \
        const real *row = rows + i * n_features;                                                     \
        for (ptrdiff_t a = 0; a < n_features; a++)                                                   \
            design[a * TILE_ROWS + i] = ((double)row[a] - shift[a]) * scale[a];                      \
    }                                                                                                \
    for (ptrdiff_t a = 0; a < n_features; a++)                                                       \
        for (ptrdiff_t i = n_rows; i < padded; i++) design[a * TILE_ROWS + i] = 0.0;

#define pack_f64 MF_NAME(pack_f64)
static void pack_f64(const void *source, ptrdiff_t n_rows, ptrdiff_t padded, ptrdiff_t n_features,
                     const double *shift, const double *scale, double *restrict design) {
    typedef double real;
    const real *rows = source;
    PACK_BODY
}

#define pack_f32 MF_NAME(pack_f32)
static void pack_f32(const void *source, ptrdiff_t n_rows, ptrdiff_t padded, ptrdiff_t n_features,
                     const double *shift, const double *scale, double *restrict design) {
    typedef float real;
    const real *rows = source;
    PACK_BODY
}

#define fill MF_NAME(fill)
static inline void fill(double *restrict x, double value, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) x[i] = value;
}

/* out[j] = coef[j] . design, for j < n_out: PR predictors at a time, each design row loaded once for all of them. */
#define predictors_tile MF_NAME(predictors_tile)
static inline __attribute__((always_inline)) void predictors_tile(const double *restrict design, ptrdiff_t n_columns,
                                                                  const double *coef, ptrdiff_t n_out, ptrdiff_t padded,
                                                                  double *restrict out) {
    for (ptrdiff_t i = 0; i < padded; i += VLEN) {
        vd sum[4];
#pragma GCC unroll 4
        for (int j = 0; j < n_out; j++) sum[j] = vset(0.0);
        for (ptrdiff_t a = 0; a < n_columns; a++) {
            vd x = vload(design + a * TILE_ROWS + i);
#pragma GCC unroll 4
            for (int j = 0; j < n_out; j++) sum[j] += coef[j * n_columns + a] * x;
        }
#pragma GCC unroll 4
        for (int j = 0; j < n_out; j++) vstore(out + j * TILE_ROWS + i, sum[j]);
    }
}

#define predictors MF_NAME(predictors)
static void predictors(const double *design, ptrdiff_t n_columns, const double *coef, ptrdiff_t n_out, ptrdiff_t padded,
                       double *out) {
    ptrdiff_t j = 0;
    for (; j + 4 <= n_out; j += 4)
        predictors_tile(design, n_columns, coef + j * n_columns, 4, padded, out + j * TILE_ROWS);
    switch (n_out - j) {
        case 1: predictors_tile(design, n_columns, coef + j * n_columns, 1, padded, out + j * TILE_ROWS); break;
        case 2: predictors_tile(design, n_columns, coef + j * n_columns, 2, padded, out + j * TILE_ROWS); break;
        case 3: predictors_tile(design, n_columns, coef + j * n_columns, 3, padded, out + j * TILE_ROWS); break;
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
        for (int b = 0; b < nr; b++) r[b] = vload(right + b * TILE_ROWS + i);
#pragma GCC unroll 8
        for (int a = 0; a < mr; a++) {
            vd l = vload(left + a * TILE_ROWS + i);
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
                                                              const int nr) {
    ptrdiff_t a = 0;
    for (; a + MF_MR <= n_left; a += MF_MR)
        inner_tile(left + a * TILE_ROWS, right, padded, out + a * out_stride, out_stride, MF_MR, nr);
    left += a * TILE_ROWS;
    out += a * out_stride;
    switch (n_left - a) {
        case 1: inner_tile(left, right, padded, out, out_stride, 1, nr); break;
        case 2: inner_tile(left, right, padded, out, out_stride, 2, nr); break;
        case 3: inner_tile(left, right, padded, out, out_stride, 3, nr); break;
        default: break;
    }
}

/* out (n_left, n_right) += left right'. With lower != 0 (left and right are then one design, one of them weighted)
 * only entries with a >= b are wanted; a few above the diagonal are written too, and mean nothing. */
#define gram_tile MF_NAME(gram_tile)
static void gram_tile(const double *left, ptrdiff_t n_left, const double *right, ptrdiff_t n_right, int lower,
                      ptrdiff_t padded, double *out) {
    for (ptrdiff_t b = 0; b < n_right; b += MF_NR) {
        ptrdiff_t first = lower ? b : 0;
        const double *l = left + first * TILE_ROWS, *r = right + b * TILE_ROWS;
        double *o = out + first * n_right + b;
        switch (MF_MIN(n_right - b, MF_NR)) {
            case 1: inner_panel(l, n_left - first, r, padded, o, n_right, 1); break;
            case 2: inner_panel(l, n_left - first, r, padded, o, n_right, 2); break;
            case 3: inner_panel(l, n_left - first, r, padded, o, n_right, 3); break;
#if MF_NR > 3
            case 4: inner_panel(l, n_left - first, r, padded, o, n_right, 4); break;
            case 5: inner_panel(l, n_left - first, r, padded, o, n_right, 5); break;
            default: inner_panel(l, n_left - first, r, padded, o, n_right, MF_NR); break;
#endif
        }
    }
}

/* weighted[a][i] = weight[i] * design[a][i] */
#define weigh_rows MF_NAME(weigh_rows)
static void weigh_rows(const double *restrict design, ptrdiff_t n_columns, const double *restrict weight,
                       ptrdiff_t padded, double *restrict weighted) {
    for (ptrdiff_t a = 0; a < n_columns; a++)
        for (ptrdiff_t i = 0; i < padded; i += VLEN)
            vstore(weighted + a * TILE_ROWS + i, vload(weight + i) * vload(design + a * TILE_ROWS + i));
}

/* sum_i x[i], over whole vectors */
#define sum_tile MF_NAME(sum_tile)
static inline double sum_tile(const double *x, ptrdiff_t padded) {
    vd sum = vset(0.0);
    for (ptrdiff_t i = 0; i < padded; i += VLEN) sum += vload(x + i);
    return vsum(sum);
}
