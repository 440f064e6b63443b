/* Weighted second and whitened third moments of one span of rows, a tile at a time: eq. (S.4), (S.6) of docs/math.md.
 * No include guard: compiled for each instruction set (isa.h). */

#include "tile.h"

/* From so many features on, the next tile is asked for during the work on this one; of fewer there is too little work, and
 * it is asked for while this one is packed. */
#ifndef SPREAD
#define SPREAD 16
#endif

#define next_tile MF_NAME(next_tile)
static upcoming next_tile(const moment_problem *s, ptrdiff_t first, ptrdiff_t last, ptrdiff_t n_parts) {
    ptrdiff_t size = s->is_float32 ? sizeof(float) : sizeof(double);
    return tile_after(s->X, s->n_features * size, first, last, n_parts);
}

#define moment_tile MF_NAME(moment_tile)
typedef struct {
    ptrdiff_t n_rows, padded;
    double *design, *c, *other; /* other: scratch of weighted_gram, or the projections and one product */
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
    upcoming next = next_tile(s, first, last, TILE_ROWS / VLEN), *asked_for = d < SPREAD ? &next : NULL;
    if (s->is_float32)
        pack_f32((const float *)s->X + first * d, t.n_rows, t.padded, d, s->shift, s->scale, t.design, asked_for);
    else
        pack_f64((const double *)s->X + first * d, t.n_rows, t.padded, d, s->shift, s->scale, t.design, asked_for);
    const double *a = s->polynomial;
    ptrdiff_t i = 0;
    for (; i + VLEN <= t.n_rows; i += VLEN) {
        vd y = s->y ? vload(s->y + first + i) : vset(0.0), w = s->weight ? vload(s->weight + first + i) : vset(1.0);
        vstore(t.c + i, w * (((a[3] * y + a[2]) * y + a[1]) * y + a[0]));
    }
    for (; i < t.n_rows; i++) {
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
        upcoming next = next_tile(s, first, last, d * d / (2 * MF_MR * MF_NR) + 1); /* its register tiles, about */
        weighted_gram_f64(t.design, d, t.c, t.design, d, 1, t.padded, t.other, sums, 1.0, d < SPREAD ? NULL : &next);
        inner_products_f64(t.c, 1, t.design, d, t.padded, sums + d * d);
        sums[d * d + d] += sum_tile(t.c, t.padded);
    }
}

/* out[i] = x[i] y[i] */
#define multiply MF_NAME(multiply)
static inline void multiply(const double *x, const double *y, ptrdiff_t padded, double *restrict out) {
    for (ptrdiff_t i = 0; i < padded; i += VLEN) vstore(out + i, vload(x + i) * vload(y + i));
}

/* out[e] += product . v_e for e < n, in two sums each, or every addition would wait for the one before. */
#define dot_products MF_NAME(dot_products)
static inline void dot_products(const double *product, const double *v, ptrdiff_t n, ptrdiff_t padded, double *out) {
    for (ptrdiff_t e = 0; e < n; e++) {
        vd even = vset(0.0), odd = vset(0.0);
        for (ptrdiff_t i = 0; i < padded; i += VLEN) {
            vd term = vload(product + i) * vload(v + e * TILE_STRIDE + i);
            if (i / VLEN & 1) odd += term;
            else even += term;
        }
        out[e] += vsum(even + odd);
    }
}

#define third_rows MF_NAME(third_rows)
static void third_rows(const moment_problem *s, ptrdiff_t first, ptrdiff_t last, double *sums, double *scratch) {
    ptrdiff_t d = s->n_features, k = s->n_directions;
    for (; first < last; first += TILE_ROWS) {
        moment_tile t = load_moment_tile(s, first, last, scratch);
        upcoming next = next_tile(s, first, last, 1);
        double *v = t.other, *cv = v + k * TILE_STRIDE, *product = cv + k * TILE_STRIDE, *out = sums;
        predictors(t.design, d, s->directions, k, t.padded, v, d < SPREAD ? NULL : next.next);
        for (ptrdiff_t a = 0; a < k; a++) {
            multiply(t.c, v + a * TILE_STRIDE, t.padded, cv + a * TILE_STRIDE);
            for (ptrdiff_t b = 0; b <= a; b++) {
                multiply(cv + a * TILE_STRIDE, v + b * TILE_STRIDE, t.padded, product);
                dot_products(product, v, b + 1, t.padded, out);
                out += b + 1;
            }
        }
        for (ptrdiff_t a = 0; a < k; a++) *out++ += sum_tile(cv + a * TILE_STRIDE, t.padded);
        *out += sum_tile(t.c, t.padded);
    }
}
