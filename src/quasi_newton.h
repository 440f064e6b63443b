/* Quasi-Newton steps by limited-memory BFGS, begun from a metric of blocks: quasi_newton.py says how and why, in numpy.
 *
 * A place, its slope and a move are `size` numbers: k blocks of p, one of m, and numbers on their own. */
#ifndef MOE_FAST_QUASI_NEWTON_H
#define MOE_FAST_QUASI_NEWTON_H

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "solve.h"

enum { QUASI_PAIRS = 8 };      /* steps that are remembered */
static const double QUASI_RIDGE = 1e-9;  /* of each curvature, so that columns that depend on others do no harm */
static const double QUASI_CURVED = 1e-8; /* of a step's promise: less curvature than that along it is none, or a saddle's */
static const double QUASI_WIDEST = 20.0; /* most that a step is lengthened over the metric's */

/* Over memory of the caller's, quasi_memory_size(...) doubles. */
typedef struct {
    ptrdiff_t k, p, m, size, n_pairs;
    int has_last, has_metric;
    double length;               /* over the metric's step, as the last pair had it */
    double *steps;               /* (QUASI_PAIRS + 1, size), oldest first; the last is for one that is weighed */
    double *changes;             /* of the slope, the other way round: positive along a step where there is curvature */
    double *curved;              /* (QUASI_PAIRS + 1,): step . change */
    double *place, *slope;       /* (size,): for the caller to fill in */
    double *last_place, *last_slope;
    double *move;                /* (size,) */
    double *factors;             /* of the metric: (k, p, p), (m, m), lower triangles */
    double *scale;               /* (size,): roots of its diagonal; of numbers on their own the curvature itself */
} quasi_newton;

static inline ptrdiff_t quasi_memory_size(ptrdiff_t k, ptrdiff_t p, ptrdiff_t m, ptrdiff_t n_own) {
    return (2 * (QUASI_PAIRS + 1) + 6) * (k * p + m + n_own) + QUASI_PAIRS + 1 + k * p * p + m * m;
}

static inline void quasi_forget_steps(quasi_newton *quasi) { quasi->n_pairs = quasi->has_last = 0; }

static inline void quasi_forget(quasi_newton *quasi) {
    quasi_forget_steps(quasi);
    quasi->has_metric = 0;
    quasi->length = 1.0;
}

static inline quasi_newton quasi_over(double *memory, ptrdiff_t k, ptrdiff_t p, ptrdiff_t m, ptrdiff_t n_own) {
    quasi_newton quasi = {.k = k, .p = p, .m = m, .size = k * p + m + n_own};
    double **vectors[] = {&quasi.place, &quasi.slope, &quasi.last_place, &quasi.last_slope, &quasi.move, &quasi.scale};
    quasi.steps = memory;
    quasi.changes = quasi.steps + (QUASI_PAIRS + 1) * quasi.size;
    quasi.curved = quasi.changes + (QUASI_PAIRS + 1) * quasi.size;
    memory = quasi.curved + QUASI_PAIRS + 1;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++, memory += quasi.size) *vectors[i] = memory;
    quasi.factors = memory;
    quasi_forget(&quasi);
    return quasi;
}

/* Cholesky factor of a block times `unit`, in units of its diagonal; one, if it is singular for all the ridge. */
static inline void quasi_factor(const double *block, double unit, double *lower, double *scale, ptrdiff_t n) {
    for (ptrdiff_t a = 0; a < n; a++) {
        double entry = unit * block[a * n + a];
        scale[a] = entry > 0.0 ? sqrt(entry) : 1.0;
    }
    for (ptrdiff_t a = 0; a < n; a++) {
        for (ptrdiff_t b = 0; b <= a; b++) {
            double entry = a == b ? 1.0 + QUASI_RIDGE : unit * block[a * n + b] / (scale[a] * scale[b]);
            for (ptrdiff_t c = 0; c < b; c++) entry -= lower[a * n + c] * lower[b * n + c];
            if (a > b) {
                lower[a * n + b] = entry / lower[b * n + b];
            } else if (entry > 0.0) {
                lower[a * n + a] = sqrt(entry);
            } else {
                for (ptrdiff_t c = 0; c < n * n; c++) lower[c] = c % (n + 1) == 0 ? 1.0 : 0.0;
                return;
            }
        }
    }
}

/* The metric: blocks (k, p, p), each times the unit of its own, and (m, m). What stands on its own is for the caller. */
static inline void quasi_take_metric(quasi_newton *quasi, const double *blocks, const double *units, const double *last) {
    ptrdiff_t k = quasi->k, p = quasi->p;
    for (ptrdiff_t j = 0; j < k; j++)
        quasi_factor(blocks + j * p * p, units[j], quasi->factors + j * p * p, quasi->scale + j * p, p);
    quasi_factor(last, 1.0, quasi->factors + k * p * p, quasi->scale + k * p, quasi->m);
    quasi->has_metric = 1;
}

/* x becomes the solution for the right side x. */
static inline void quasi_substitute(const double *lower, const double *scale, double *x, ptrdiff_t n) {
    for (ptrdiff_t a = 0; a < n; a++) {
        x[a] /= scale[a];
        for (ptrdiff_t b = 0; b < a; b++) x[a] -= lower[a * n + b] * x[b];
        x[a] /= lower[a * n + a];
    }
    for (ptrdiff_t a = n - 1; a >= 0; a--) {
        x[a] /= lower[a * n + a];
        for (ptrdiff_t b = 0; b < a; b++) x[b] -= lower[a * n + b] * x[a];
        x[a] /= scale[a];
    }
}

static inline void quasi_metric_solve(const quasi_newton *quasi, double *x) {
    ptrdiff_t k = quasi->k, p = quasi->p;
    for (ptrdiff_t j = 0; j < k; j++)
        quasi_substitute(quasi->factors + j * p * p, quasi->scale + j * p, x + j * p, p);
    quasi_substitute(quasi->factors + k * p * p, quasi->scale + k * p, x + k * p, quasi->m);
    for (ptrdiff_t i = k * p + quasi->m; i < quasi->size; i++) x[i] /= quasi->scale[i];
}

/* `place` was reached, and `slope` is the gradient there. */
static inline void quasi_take(quasi_newton *quasi) {
    ptrdiff_t size = quasi->size;
    if (quasi->has_last) {
        double *step = quasi->steps + quasi->n_pairs * size, *change = quasi->changes + quasi->n_pairs * size;
        for (ptrdiff_t i = 0; i < size; i++) {
            step[i] = quasi->place[i] - quasi->last_place[i];
            change[i] = quasi->last_slope[i] - quasi->slope[i];
        }
        double curved = dot(step, change, size);
        if (curved > QUASI_CURVED * fabs(dot(step, quasi->slope, size))) {
            quasi->curved[quasi->n_pairs] = curved;
            if (quasi->n_pairs < QUASI_PAIRS) {
                quasi->n_pairs++;
            } else { /* the oldest goes */
                memmove(quasi->steps, quasi->steps + size, QUASI_PAIRS * size * sizeof(double));
                memmove(quasi->changes, quasi->changes + size, QUASI_PAIRS * size * sizeof(double));
                memmove(quasi->curved, quasi->curved + 1, QUASI_PAIRS * sizeof(double));
            }
            if (quasi->has_metric) {
                memcpy(quasi->move, change, size * sizeof(double));
                quasi_metric_solve(quasi, quasi->move);
                double length = curved / dot(change, quasi->move, size);
                if (!(length > 1.0)) length = 1.0;
                quasi->length = length < QUASI_WIDEST ? length : QUASI_WIDEST;
            }
        }
    }
    memcpy(quasi->last_place, quasi->place, size * sizeof(double));
    memcpy(quasi->last_slope, quasi->slope, size * sizeof(double));
    quasi->has_last = 1;
}

/* The two-loop recursion: the move from where `slope` is the gradient. */
static inline void quasi_direction(quasi_newton *quasi) {
    ptrdiff_t size = quasi->size;
    double *move = quasi->move, shares[QUASI_PAIRS];
    memcpy(move, quasi->slope, size * sizeof(double));
    for (ptrdiff_t pair = quasi->n_pairs - 1; pair >= 0; pair--) {
        shares[pair] = dot(quasi->steps + pair * size, move, size) / quasi->curved[pair];
        for (ptrdiff_t i = 0; i < size; i++) move[i] -= shares[pair] * quasi->changes[pair * size + i];
    }
    quasi_metric_solve(quasi, move);
    for (ptrdiff_t i = 0; i < size; i++) move[i] *= quasi->length;
    for (ptrdiff_t pair = 0; pair < quasi->n_pairs; pair++) {
        double share = shares[pair] - dot(quasi->changes + pair * size, move, size) / quasi->curved[pair];
        for (ptrdiff_t i = 0; i < size; i++) move[i] += share * quasi->steps[pair * size + i];
    }
}

#endif
