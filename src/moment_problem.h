/* Moment passes: what a kernel is given. Shared by _moments.pyx and moment_blocks.h. */
#ifndef MOE_FAST_MOMENT_PROBLEM_H
#define MOE_FAST_MOMENT_PROBLEM_H

/* There is one Gram of a tile, or none, so that soon it is done with: up to some thirty features all of it stays in the
 * first-level cache. */
#define TILE_ROWS 128
#include "blocks.h"

typedef struct {
    ptrdiff_t n_features, n_directions;
    int is_float32;          /* type of X */
    const void *X;           /* (n_samples, n_features), rows contiguous */
    const double *y;         /* (n_samples,), or NULL: c is the weight alone */
    const double *weight;    /* (n_samples,), or NULL: all one */
    double polynomial[4];    /* c = weight * (polynomial[0] + polynomial[1] y + polynomial[2] y^2 + polynomial[3] y^3) */
    const double *shift;     /* (n_features,) subtracted from X */
    const double *scale;     /* (n_features,) multiplied on X - shift */
    const double *directions; /* (n_directions, n_features): v = directions (X - shift) scale */
} moment_problem;

/* Adds the sums over rows [first, last) to `sums`. */
typedef void (*moment_function)(const moment_problem *, ptrdiff_t first, ptrdiff_t last, double *sums, double *scratch);

typedef struct {
    moment_function powers;  /* (4,): sum w, sum w y, sum w y^2, sum w y^3; X is not read */
    moment_function columns; /* (2, d): sum c x, sum c x^2; then sum c */
    moment_function second;  /* (d, d): sum c x x', lower triangle; then (d,) sum c x; then sum c */
    moment_function third;   /* a >= b >= e packed: sum c v_a v_b v_e; then (k,) sum c v; then sum c */
} moment_kernels;

const moment_kernels *moment_kernels_for(int isa);

#endif
