/* Inner products of rows of tiles, in MF_REAL numbers, MF_VECTOR vectors: included by tile.h in double precision and in
 * single, which does twice as many at a time. Sums in single precision are of one tile; they are added up in double. */

#define MF_KIND_NAME(name) MF_GLUE3(name, MF_KIND, MF_ISA)
#define MF_LENGTH ((ptrdiff_t)(MF_VBYTES / sizeof(MF_REAL)))
#define MF_LOAD MF_KIND_NAME(load)
#define MF_STORE MF_KIND_NAME(store)
#define MF_SUMS MF_KIND_NAME(sums)

/* out[a][b] += unit * sum_i left[a][i] right[b][i] for a < mr, b < nr: the register tile, whose sums are in whole groups of
 * VLEN. Sizes are literals at each call. */
#define inner_tile MF_KIND_NAME(inner_tile)
static inline __attribute__((always_inline)) void inner_tile(const MF_REAL *left, const MF_REAL *right, ptrdiff_t padded,
                                                             double *out, ptrdiff_t out_stride, double unit, const int mr,
                                                             const int nr) {
    MF_VECTOR sum[TILE_SUMS];
#pragma GCC unroll 32
    for (int s = 0; s < TILE_SUMS; s++) sum[s] = (MF_VECTOR){0};
    for (ptrdiff_t i = 0; i < padded; i += MF_LENGTH) {
        MF_VECTOR r[MF_NR];
#pragma GCC unroll 8
        for (int b = 0; b < nr; b++) r[b] = MF_LOAD(right + b * MF_STRIDE + i);
#pragma GCC unroll 8
        for (int a = 0; a < mr; a++) {
            MF_VECTOR l = MF_LOAD(left + a * MF_STRIDE + i);
#pragma GCC unroll 8
            for (int b = 0; b < nr; b++) sum[a * nr + b] += l * r[b];
        }
    }
    double number[TILE_SUMS];
#pragma GCC unroll 8
    for (int s = 0; s < mr * nr; s += VLEN) vstore(number + s, unit * MF_SUMS(sum + s));
#pragma GCC unroll 8
    for (int a = 0; a < mr; a++)
#pragma GCC unroll 8
        for (int b = 0; b < nr; b++) out[a * out_stride + b] += number[a * nr + b];
}

/* One panel of nr right rows against n_left left rows. */
#define inner_panel MF_KIND_NAME(inner_panel)
static inline __attribute__((always_inline)) void inner_panel(const MF_REAL *left, ptrdiff_t n_left, const MF_REAL *right,
                                                              ptrdiff_t padded, double *out, ptrdiff_t out_stride,
                                                              double unit, upcoming *next, const int nr) {
    ptrdiff_t a = 0;
    for (; a + MF_MR <= n_left; a += MF_MR) {
        inner_tile(left + a * MF_STRIDE, right, padded, out + a * out_stride, out_stride, unit, MF_MR, nr);
        if (next) ask_for(next);
    }
    left += a * MF_STRIDE;
    out += a * out_stride;
    switch (n_left - a) {
        case 1: inner_tile(left, right, padded, out, out_stride, unit, 1, nr); break;
        case 2: inner_tile(left, right, padded, out, out_stride, unit, 2, nr); break;
        case 3: inner_tile(left, right, padded, out, out_stride, unit, 3, nr); break;
        default: break;
    }
}

#define inner_panels MF_KIND_NAME(inner_panels)
static void inner_panels(const MF_REAL *left, ptrdiff_t n_left, const MF_REAL *right, ptrdiff_t n_right, ptrdiff_t padded,
                         double *out, ptrdiff_t out_stride, double unit, upcoming *next) {
    switch (MF_MIN(n_right, MF_NR)) {
        case 1: inner_panel(left, n_left, right, padded, out, out_stride, unit, next, 1); break;
        case 2: inner_panel(left, n_left, right, padded, out, out_stride, unit, next, 2); break;
        case 3: inner_panel(left, n_left, right, padded, out, out_stride, unit, next, 3); break;
#if MF_NR > 3
        case 4: inner_panel(left, n_left, right, padded, out, out_stride, unit, next, 4); break;
        case 5: inner_panel(left, n_left, right, padded, out, out_stride, unit, next, 5); break;
        default: inner_panel(left, n_left, right, padded, out, out_stride, unit, next, MF_NR); break;
#endif
    }
}

/* out (n_left, n_right) += left right' */
#define inner_products MF_KIND_NAME(inner_products)
MF_OPTIONAL static void inner_products(const MF_REAL *left, ptrdiff_t n_left, const MF_REAL *right,
                                       ptrdiff_t n_right, ptrdiff_t padded, double *out) {
    for (ptrdiff_t b = 0; b < n_right; b += MF_NR)
        inner_panels(left, n_left, right + b * MF_STRIDE, n_right - b, padded, out + b, n_right, 1.0, NULL);
}

/* out (n_left, n_right) += unit * left diag(weight) right'. With lower != 0 (left and right are then one design) only entries
 * with a >= b are wanted; a few above the diagonal are written too, and mean nothing. panel, scratch of MF_NR arrays,
 * holds weighted rows of right. next, if not NULL, is asked for between register tiles. */
#define weighted_gram MF_KIND_NAME(weighted_gram)
MF_OPTIONAL static void weighted_gram(const MF_REAL *left, ptrdiff_t n_left, const MF_REAL *weight,
                                      const MF_REAL *right, ptrdiff_t n_right, int lower, ptrdiff_t padded,
                                      MF_REAL *restrict panel, double *out, double unit, upcoming *next) {
    for (ptrdiff_t b = 0; b < n_right; b += MF_NR) {
        ptrdiff_t first = lower ? b : 0;
        for (ptrdiff_t c = 0; c < MF_MIN(MF_NR, n_right - b); c++)
            for (ptrdiff_t i = 0; i < padded; i += MF_LENGTH)
                MF_STORE(panel + c * MF_STRIDE + i, MF_LOAD(weight + i) * MF_LOAD(right + (b + c) * MF_STRIDE + i));
        inner_panels(left + first * MF_STRIDE, n_left - first, panel, n_right - b, padded, out + first * n_right + b,
                     n_right, unit, next);
    }
}

#undef MF_KIND_NAME
#undef MF_LENGTH
#undef MF_LOAD
#undef MF_STORE
#undef MF_SUMS
#undef inner_tile
#undef inner_panel
#undef inner_panels
#undef inner_products
#undef weighted_gram
