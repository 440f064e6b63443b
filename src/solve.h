/* An inner product, and one small symmetric system by Cholesky, where a call into LAPACK would cost more than the work.
 *
 * Columns are brought to one scale, so that a pivot is the squared sine of the angle between a column and the span of
 * those before it: what tells dependent columns. Such a column is left out, its unknown zero: the others span what it
 * does, so that the solution of a consistent system is exact all the same, and the direction that it gives is one of
 * ascent wherever the right side is a gradient.
 */
#ifndef MOE_FAST_SOLVE_H
#define MOE_FAST_SOLVE_H

#include <math.h>
#include <stddef.h>

static inline double dot(const double *one, const double *other, ptrdiff_t n) {
    double total = 0.0;
    for (ptrdiff_t i = 0; i < n; i++) total += one[i] * other[i];
    return total;
}

#define SOLVE_VANISHING 1e-30 /* of the largest diagonal entry: a column without curvature, as of a gate that separates */

/* Solves matrix (p, p) x = right. WORK: upper (p, p), size (p,). Returns the number of columns that are left out: 0
 * where the matrix is clearly positive definite. */
static inline int solve_symmetric(const double *matrix, const double *right, double *x, double *upper, double *size,
                                  ptrdiff_t p, double dependent) {
    double largest = 0.0;
    int left_out = 0;
    for (ptrdiff_t a = 0; a < p; a++) {
        if (matrix[a * p + a] > largest) largest = matrix[a * p + a];
    }
    for (ptrdiff_t a = 0; a < p; a++) {
        size[a] = matrix[a * p + a] > SOLVE_VANISHING * largest ? 1.0 / sqrt(matrix[a * p + a]) : 0.0;
    }
    for (ptrdiff_t a = 0; a < p; a++) {
        x[a] = right[a] * size[a];
        for (ptrdiff_t b = a; b < p; b++) upper[a * p + b] = matrix[a * p + b] * size[a] * size[b];
    }
    /* Row by row, each taken off those below at once: loops over neighbours in memory, without a sum to wait for. */
    for (ptrdiff_t a = 0; a < p; a++) {
        double *row = upper + a * p;
        double inverse = 0.0;   /* of the pivot's root; a row of zeros leaves its column out of all that follows */
        if (row[a] > dependent) {
            inverse = 1.0 / sqrt(row[a]);
        } else {
            left_out++;
        }
        for (ptrdiff_t b = a + 1; b < p; b++) row[b] = row[b] * inverse;
        row[a] = inverse;
        x[a] = x[a] * inverse;
        for (ptrdiff_t below = a + 1; below < p; below++) {
            double factor = row[below];
            double *other = upper + below * p;
            x[below] = x[below] - factor * x[a];
            for (ptrdiff_t b = below; b < p; b++) other[b] = other[b] - factor * row[b];
        }
    }
    for (ptrdiff_t a = p - 1; a >= 0; a--) {
        double total = x[a];
        for (ptrdiff_t c = a + 1; c < p; c++) total = total - upper[a * p + c] * x[c];
        x[a] = total * upper[a * p + a];
    }
    for (ptrdiff_t a = 0; a < p; a++) x[a] = x[a] * size[a];
    return left_out;
}

#endif
