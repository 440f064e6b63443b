/* One small symmetric system by Cholesky, where a call into LAPACK would cost more than the work.
 *
 * Columns are brought to one scale, so that a pivot is the squared sine of the angle between a column and the span of
 * those before it: what tells dependent columns.
 */
#ifndef MOE_FAST_SOLVE_H
#define MOE_FAST_SOLVE_H

#include <math.h>
#include <stddef.h>

#define SOLVE_VANISHING 1e-30 /* of the largest diagonal entry: a column without curvature, as of a gate that separates */

/* Solves matrix (p, p) x = right. WORK: lower (p, p), size (p,). Returns 0 where it is not clearly positive definite. */
static inline int solve_symmetric(const double *matrix, const double *right, double *x, double *lower, double *size,
                                  ptrdiff_t p, double dependent) {
    double largest = 0.0;
    for (ptrdiff_t a = 0; a < p; a++) {
        if (matrix[a * p + a] > largest) largest = matrix[a * p + a];
    }
    for (ptrdiff_t a = 0; a < p; a++) {
        if (!(matrix[a * p + a] > SOLVE_VANISHING * largest)) return 0;
        size[a] = 1.0 / sqrt(matrix[a * p + a]);
    }
    for (ptrdiff_t a = 0; a < p; a++) {
        for (ptrdiff_t b = 0; b <= a; b++) {
            double total = matrix[a * p + b] * size[a] * size[b];
            for (ptrdiff_t c = 0; c < b; c++) total = total - lower[a * p + c] * lower[b * p + c];
            if (a == b) {
                if (!(total > dependent)) return 0;
                lower[a * p + a] = sqrt(total);
            } else {
                lower[a * p + b] = total / lower[b * p + b];
            }
        }
    }
    for (ptrdiff_t a = 0; a < p; a++) {
        double total = right[a] * size[a];
        for (ptrdiff_t c = 0; c < a; c++) total = total - lower[a * p + c] * x[c];
        x[a] = total / lower[a * p + a];
    }
    for (ptrdiff_t a = p - 1; a >= 0; a--) {
        double total = x[a];
        for (ptrdiff_t c = a + 1; c < p; c++) total = total - lower[c * p + a] * x[c];
        x[a] = total / lower[a * p + a];
    }
    for (ptrdiff_t a = 0; a < p; a++) x[a] = x[a] * size[a];
    return 1;
}

#endif
