/* Weighted second and whitened third moments of one span of rows, a tile at a time: eq. (S.4), (S.6) of docs/math.md.
 * No include guard: compiled for each instruction set (isa.h). */

#include "tile.h"

#define moment_tile MF_NAME(moment_tile)
typedef struct {
    ptrdiff_t n_rows, padded;
    double *design, *c, *other; /* other: the weighted design, or the projections and one product */
} moment_tile;

#define load_moment_tile MF_NAME(load_moment_tile)
static moment_tile load_moment_tile(const moment_problem *s, ptrdiff_t first, ptrdiff_t last, double *scratch) {
    moment_tile t;
    ptrdiff_t d = s->n_features;
    t.n_rows = MF_MIN(TILE_ROWS, last - first);
    t.padded = (t.n_rows + VLEN - 1) / VLEN * VLEN;
    t.design = scratch;
    t.c = scratch + d * TILE_STRIDE;
    t.other = t.c + TILE_STRIDE;
    if (s->is_float32)
        pack_f32((const float *)s->X + first * d, t.n_rows, t.padded, d, s->shift, s->scale, t.design);
    else
        pack_f64((const double *)s->X + first * d, t.n_rows, t.padded, d, s->shift, s->scale, t.design);
    const double *a = s->polynomial;
    for (ptrdiff_t i = 0; i < t.n_rows; i++) {
        double y = s->y ? s->y[first + i] : 0.0, w = s->weight ? s->weight[first + i] : 1.0;
        t.c[i] = w * (((a[3] * y + a[2]) * y + a[1]) * y + a[0]);
    }
    fill(t.c + t.n_rows, 0.0, t.padded - t.n_rows);
    return t;
}

#define power_rows MF_NAME(power_rows)
static void power_rows(const moment_problem *s, ptrdiff_t first, ptrdiff_t last, double *sums, double *scratch) {
    (void)scratch;
    vd total[4] = {vset(0.0), vset(0.0), vset(0.0), vset(0.0)};
    ptrdiff_t i = first;
    for (; i + VLEN <= last; i += VLEN) {
        vd y = vload(s->y + i), term = s->weight ? vload(s->weight + i) : vset(1.0);
#pragma GCC unroll 4
        for (int m = 0; m < 4; m++, term *= y) total[m] += term;
    }
    for (int m = 0; m < 4; m++) sums[m] += vsum(total[m]);
    for (; i < last; i++) {
        double term = s->weight ? s->weight[i] : 1.0;
        for (int m = 0; m < 4; m++, term *= s->y[i]) sums[m] += term;
    }
}

#define column_rows MF_NAME(column_rows)
static void column_rows(const moment_problem *s, ptrdiff_t first, ptrdiff_t last, double *sums, double *scratch) {
    ptrdiff_t d = s->n_features;
    for (; first < last; first += TILE_ROWS) {
        moment_tile t = load_moment_tile(s, first, last, scratch);
        for (ptrdiff_t a = 0; a < d; a++) {
            vd one = vset(0.0), two = vset(0.0);
            for (ptrdiff_t i = 0; i < t.padded; i += VLEN) {
                vd x = vload(t.design + a * TILE_STRIDE + i), cx = vload(t.c + i) * x;
                one += cx;
                two += cx * x;
            }
            sums[a] += vsum(one);
            sums[d + a] += vsum(two);
        }
        sums[2 * d] += sum_tile(t.c, t.padded);
    }
}

#define second_rows MF_NAME(second_rows)
static void second_rows(const moment_problem *s, ptrdiff_t first, ptrdiff_t last, double *sums, double *scratch) {
    ptrdiff_t d = s->n_features;
    for (; first < last; first += TILE_ROWS) {
        moment_tile t = load_moment_tile(s, first, last, scratch);
        weigh_rows(t.design, d, t.c, t.padded, t.other);
        gram_tile(t.other, d, t.design, d, 1, t.padded, sums);
        for (ptrdiff_t a = 0; a < d; a++) sums[d * d + a] += sum_tile(t.other + a * TILE_STRIDE, t.padded);
        sums[d * d + d] += sum_tile(t.c, t.padded);
    }
}

#define third_rows MF_NAME(third_rows)
static void third_rows(const moment_problem *s, ptrdiff_t first, ptrdiff_t last, double *sums, double *scratch) {
    ptrdiff_t d = s->n_features, k = s->n_directions;
    for (; first < last; first += TILE_ROWS) {
        moment_tile t = load_moment_tile(s, first, last, scratch);
        double *v = t.other, *cv = v + k * TILE_STRIDE, *product = cv + k * TILE_STRIDE, *out = sums;
        predictors(t.design, d, s->directions, k, t.padded, v);
        weigh_rows(v, k, t.c, t.padded, cv);
        for (ptrdiff_t a = 0; a < k; a++)
            for (ptrdiff_t b = 0; b <= a; b++) {
                weigh_rows(cv + a * TILE_STRIDE, 1, v + b * TILE_STRIDE, t.padded, product);
                gram_tile(product, 1, v, b + 1, 0, t.padded, out);
                out += b + 1;
            }
        for (ptrdiff_t a = 0; a < k; a++) *out++ += sum_tile(cv + a * TILE_STRIDE, t.padded);
        *out += sum_tile(t.c, t.padded);
    }
}
