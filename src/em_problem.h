/* One EM pass: what a kernel is given, and where it puts its sums. Shared by _em.pyx and em_blocks.h. */
#ifndef MOE_FAST_EM_PROBLEM_H
#define MOE_FAST_EM_PROBLEM_H

/* There are many Grams of a tile: so many rows that register tiles have long sums, and that a panel of inner products,
 * (MR + NR) rows of the tile, stays in the first-level cache. */
#define TILE_ROWS 256
#include "blocks.h"

enum { ACTIVATION_CUSTOM = -1, ACTIVATION_LINEAR = 0, ACTIVATION_SIGMOID = 1, ACTIVATION_TANH = 2, ACTIVATION_LEAKY_RELU = 3 };

/* What a pass sums beside the log-likelihood, the shares, the residual squares and the gradients. */
enum {
    WANT_EXPERT_GRAM = 1, /* curvature of the experts' part of the EM objective */
    WANT_GATE_GRAM = 2,   /* curvature of its gate part */
    WANT_INFORMATION = 4, /* second derivative of the log-likelihood itself */
    WANT_ENTROPY = 8,     /* of the responsibilities */
    WANT_MAJORISED = 16,  /* expert_gram of (leaky) ReLU experts as an upper bound that holds across their kinks */
    WANT_SINGLE = 32      /* weighted Grams in single precision: a curvature to step by, of X in single precision */
};

typedef struct {
    ptrdiff_t n_samples, n_features, n_gate_features, n_experts;
    int is_float32;           /* type of X and Z */
    const void *X;            /* (n_samples, n_features), rows contiguous */
    const void *Z;            /* (n_samples, n_gate_features), or NULL: the gate uses the experts' design */
    const double *y;          /* (n_samples,) */
    const double *weight;     /* (n_samples,), or NULL: all one */
    const double *shift, *scale;           /* (n_features,): the design is (X - shift) * scale */
    const double *gate_shift, *gate_scale; /* (n_gate_features,) */
    int expert_intercept, gate_intercept;  /* 1: the design's first column is one */
    const double *expert;     /* (n_experts, p), p = n_features + expert_intercept */
    const double *gate;       /* (n_experts - 1, q), q = n_gate_features + gate_intercept; the last expert's logit is 0 */
    const double *noise_std;  /* (n_experts,) */
    int activation;
    double leak;              /* slope of the leaky ReLU below zero */
    const double *mean, *slope, *bend; /* (n_samples, n_experts): g, g', g'' of a custom activation, else NULL */
    int want;
    double *resp;             /* OUT (n_samples, n_experts), or NULL */
} em_problem;

/* Offsets of the sums in one flat array of `size` doubles. Absent parts have the offset of what follows them. */
typedef struct {
    ptrdiff_t p, q;
    ptrdiff_t log_likelihood, entropy, total;           /* scalars */
    ptrdiff_t weight;          /* (k,)   sum_i w r_ij */
    ptrdiff_t gate_weight;     /* (k,)   sum_i w pi_ij */
    ptrdiff_t sum_squares;     /* (k,)   sum_i w r_ij (y - mean_ij)^2 */
    ptrdiff_t expert_gradient; /* (k, p) sum_i w r_ij g'_ij (y - mean_ij) x_i */
    ptrdiff_t gate_gradient;   /* (k-1, q) sum_i w (r_ij - pi_ij) z_i */
    ptrdiff_t expert_gram;     /* (k, p, p) sum_i w r_ij g'_ij^2 x_i x_i' */
    ptrdiff_t gate_gram;       /* (k(k-1)/2, q, q), pairs j >= l: sum_i w pi_ij (delta_jl - pi_il) z_i z_i' */
    ptrdiff_t info_expert;     /* (k(k+1)/2, p, p), pairs j >= l */
    ptrdiff_t info_gate;       /* (k(k-1)/2, q, q), pairs j >= l */
    ptrdiff_t info_cross;      /* (k, k-1, p, q): expert j with gate row l */
    ptrdiff_t info_expert_noise; /* (k, k, p): expert j with log sigma_l */
    ptrdiff_t info_gate_noise; /* (k, k-1, q): log sigma_j with gate row l */
    ptrdiff_t info_noise;      /* (k, k) */
    ptrdiff_t size;
} em_layout;

static inline em_layout em_layout_of(const em_problem *s) {
    em_layout o;
    ptrdiff_t k = s->n_experts, n = 0;
    ptrdiff_t p = o.p = s->n_features + s->expert_intercept;
    ptrdiff_t q = o.q = s->n_gate_features + s->gate_intercept;
    ptrdiff_t em_expert = s->want & WANT_EXPERT_GRAM ? 1 : 0, em_gate = s->want & WANT_GATE_GRAM ? 1 : 0;
    ptrdiff_t info = s->want & WANT_INFORMATION ? 1 : 0;
    o.log_likelihood = n++;
    o.entropy = n++;
    o.total = n++;
    o.weight = n, n += k;
    o.gate_weight = n, n += k;
    o.sum_squares = n, n += k;
    o.expert_gradient = n, n += k * p;
    o.gate_gradient = n, n += (k - 1) * q;
    o.expert_gram = n, n += em_expert * k * p * p;
    o.gate_gram = n, n += em_gate * (k * (k - 1) / 2) * q * q;
    o.info_expert = n, n += info * (k * (k + 1) / 2) * p * p;
    o.info_gate = n, n += info * (k * (k - 1) / 2) * q * q;
    o.info_cross = n, n += info * k * (k - 1) * p * q;
    o.info_expert_noise = n, n += info * k * k * p;
    o.info_gate_noise = n, n += info * k * (k - 1) * q;
    o.info_noise = n, n += info * k * k;
    o.size = n;
    return o;
}

/* Scratch one thread needs, in rows of TILE_STRIDE doubles. */
static inline ptrdiff_t em_scratch_rows(const em_problem *s) {
    ptrdiff_t p = s->n_features + s->expert_intercept, q = s->n_gate_features + s->gate_intercept;
    ptrdiff_t per_expert = (2 * s->n_experts + TILE_STRIDE - 1) / TILE_STRIDE; /* 1 / sigma, log of the norm */
    ptrdiff_t narrow = p + (s->Z ? q : 0) + 1; /* of NARROW_STRIDE numbers in single precision */
    narrow = (narrow * NARROW_STRIDE / 2 + TILE_STRIDE - 1) / TILE_STRIDE;
    return narrow + p + (s->Z ? q : 0) + MOST_RIGHT + 11 * s->n_experts + 3 + per_expert;
}

/* Adds the sums over rows [first, last) to `sums`. */
typedef void (*em_rows_function)(const em_problem *, ptrdiff_t first, ptrdiff_t last, double *sums, double *scratch);
typedef void (*vector_function)(const double *x, ptrdiff_t n, double *out);

typedef struct {
    em_rows_function em_rows;
    vector_function exp, log; /* n a multiple of 8; for tests */
} em_kernels;

const em_kernels *em_kernels_for(int isa);
#endif
