/* E-step and sums for the M-step on one span of rows, a tile at a time: equations (E.1)-(E.3), (M.1)-(M.4) and
 * (I.1) of docs/math.md. The tile's design stays in cache from first use to last, so X is read once.
 * No include guard: compiled for each instruction set (isa.h). */

#include "tile.h"

#define em_design MF_NAME(em_design)
typedef struct {
    ptrdiff_t n_columns;
    double *wide;
    float *narrow;
} em_design;

/* Scratch of one tile. Row j of a (k, TILE_STRIDE) array belongs to expert j. */
#define em_tile MF_NAME(em_tile)
typedef struct {
    ptrdiff_t n_rows, padded; /* padded to whole vectors, with weight zero */
    ptrdiff_t narrow_padded;  /* padded to whole vectors in single precision */
    int single;               /* Grams are in single precision */
    em_design experts, gates; /* one and the same unless the gate has features of its own */
    double *design, *gate_design, *panel; /* the designs in double precision; scratch of a weighted Gram */
    float *narrow_product;
    double *mean, *slope, *bend;         /* g, g', g'' at the linear predictors */
    double *residual, *resp, *gate_proba;
    double *expert_score, *gate_score;   /* w r g' e; w (r - pi) */
    double *pull, *spread;               /* alpha = g' e / s^2; beta = e^2 / s^2 - 1 */
    double *joint;                       /* log pi_j + log N_j */
    double *y, *weight, *product;
} em_tile;

#define lay_out_scratch MF_NAME(lay_out_scratch)
static em_tile lay_out_scratch(const em_problem *s, const em_layout *o, double *scratch) {
    em_tile t;
    ptrdiff_t k = s->n_experts;
    double **blocks[] = {&t.mean, &t.slope, &t.bend, &t.residual, &t.resp, &t.gate_proba,
                         &t.expert_score, &t.gate_score, &t.pull, &t.spread, &t.joint};
    t.design = scratch, scratch += o->p * TILE_STRIDE;
    t.gate_design = t.design;
    if (s->Z) t.gate_design = scratch, scratch += o->q * TILE_STRIDE;
    t.panel = scratch, scratch += MOST_RIGHT * TILE_STRIDE;
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) *blocks[b] = scratch, scratch += k * TILE_STRIDE;
    float *narrow = (float *)scratch;
    ptrdiff_t n_narrow = o->p + (s->Z ? o->q : 0) + 1;
    t.single = (s->want & WANT_SINGLE) != 0;
    t.experts = (em_design){o->p, t.design, narrow};
    t.gates = s->Z ? (em_design){o->q, t.gate_design, narrow + o->p * NARROW_STRIDE} : t.experts;
    t.narrow_product = narrow + (n_narrow - 1) * NARROW_STRIDE;
    scratch += (n_narrow * NARROW_STRIDE / 2 + TILE_STRIDE - 1) / TILE_STRIDE * TILE_STRIDE;
    t.y = scratch, t.weight = t.y + TILE_STRIDE, t.product = t.weight + TILE_STRIDE;
    return t;
}

#define load_design MF_NAME(load_design)
static void load_design(const em_problem *s, const void *rows, ptrdiff_t n_features, int intercept, const double *shift,
                        const double *scale, ptrdiff_t first, ptrdiff_t last, const em_tile *t, double *design) {
    if (intercept) {
        fill(design, 1.0, t->padded);
        design += TILE_STRIDE;
    }
    ptrdiff_t size = s->is_float32 ? sizeof(float) : sizeof(double);
    upcoming next = tile_after(rows, n_features * size, first, last, TILE_ROWS / VLEN);
    if (s->is_float32)
        pack_f32((const float *)rows + first * n_features, t->n_rows, t->padded, n_features, shift, scale, design, &next);
    else
        pack_f64((const double *)rows + first * n_features, t->n_rows, t->padded, n_features, shift, scale, design, &next);
}

#define load_tile MF_NAME(load_tile)
static void load_tile(const em_problem *s, ptrdiff_t first, ptrdiff_t last, em_tile *t) {
    load_design(s, s->X, s->n_features, s->expert_intercept, s->shift, s->scale, first, last, t, t->design);
    if (s->Z)
        load_design(s, s->Z, s->n_gate_features, s->gate_intercept, s->gate_shift, s->gate_scale, first, last, t,
                    t->gate_design);
    if (t->single) {
        narrow_design(t->design, t->experts.n_columns, t->padded, t->narrow_padded, t->experts.narrow);
        if (s->Z) narrow_design(t->gate_design, t->gates.n_columns, t->padded, t->narrow_padded, t->gates.narrow);
    }
    for (ptrdiff_t i = 0; i < t->n_rows; i++) {
        t->y[i] = s->y[first + i];
        t->weight[i] = s->weight ? s->weight[first + i] : 1.0;
    }
    fill(t->y + t->n_rows, 0.0, t->padded - t->n_rows);
    fill(t->weight + t->n_rows, 0.0, t->padded - t->n_rows);
}

/* out += left diag(product) right', the lower triangle where both are one design. */
#define add_gram MF_NAME(add_gram)
static void add_gram(const em_tile *t, const em_design *left, const em_design *right, double *out) {
    int lower = left->wide == right->wide;
    if (!t->single) {
        weighted_gram_f64(left->wide, left->n_columns, t->product, right->wide, right->n_columns, lower, t->padded,
                          t->panel, out, 1.0, NULL);
        return;
    }
    double unit = narrow_weights(t->product, t->padded, t->narrow_padded, t->narrow_product);
    weighted_gram_f32(left->narrow, left->n_columns, t->narrow_product, right->narrow, right->n_columns, lower,
                      t->narrow_padded, (float *)t->panel, out, unit, NULL);
}

/* columns (n_rows, k) of the caller -> rows (k, TILE_STRIDE) of the tile */
#define take_columns MF_NAME(take_columns)
static void take_columns(const double *source, ptrdiff_t k, const em_tile *t, double *rows) {
    for (ptrdiff_t j = 0; j < k; j++) {
        for (ptrdiff_t i = 0; i < t->n_rows; i++) rows[j * TILE_STRIDE + i] = source[i * k + j];
        fill(rows + j * TILE_STRIDE + t->n_rows, 0.0, t->padded - t->n_rows);
    }
}

/* Curvature in t of a bound on (y - g(t))^2 / 2 from above, for the leaky ReLU: eq. (M.6) of docs/math.md. */
#define majorised_curvature MF_NAME(majorised_curvature)
static inline vd majorised_curvature(vd t, vd y, double leak) {
    vd size = vmax(vmax(t, -t), 1e-12 * vmax(y, -y));
    vd pull = vmax((leak - 1.0) * y, vset(0.0));
    return vmax(vset(1.0), vset(leak * leak)) + vselect(pull > vset(0.0), 0.5 * pull / size, vset(0.0));
}

/* mean holds the linear predictor and becomes g of it; slope g', bend g'' (majorised: the curvature that replaces
 * g'^2). Linear experts leave slope and bend unused. */
#define activate MF_NAME(activate)
static void activate(const em_problem *s, const em_tile *t) {
    for (ptrdiff_t j = 0; j < s->n_experts; j++) {
        double *mean = t->mean + j * TILE_STRIDE, *slope = t->slope + j * TILE_STRIDE, *bend = t->bend + j * TILE_STRIDE;
        for (ptrdiff_t i = 0; i < t->padded; i += VLEN) {
            vd eta = vload(mean + i);
            if (s->activation == ACTIVATION_LEAKY_RELU) {
                vl positive = eta > vset(0.0);
                vstore(mean + i, vselect(positive, eta, s->leak * eta));
                vstore(slope + i, vselect(positive, vset(1.0), vset(s->leak)));
                vstore(bend + i, s->want & WANT_MAJORISED ? majorised_curvature(eta, vload(t->y + i), s->leak)
                                                          : vset(0.0));
                continue;
            }
            /* tanh(t) = 2 sigmoid(2t) - 1 */
            int is_tanh = s->activation == ACTIVATION_TANH;
            vd p = 1.0 / (1.0 + vexp(is_tanh ? -2.0 * eta : -eta));
            vd variance = p * (1.0 - p);
            if (is_tanh) {   /* near zero by its series, as the difference has no digits there */
                vd square = eta * eta;
                vd series = eta * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))));
                vd g = vselect(square < vset(1e-4), series, 2.0 * p - 1.0);
                vstore(mean + i, g);
                vstore(slope + i, 4.0 * variance);
                vstore(bend + i, -8.0 * g * variance);
            } else {
                vstore(mean + i, p);
                vstore(slope + i, variance);
                vstore(bend + i, variance * (1.0 - 2.0 * p));
            }
        }
    }
}

/* The E-step: responsibilities, gate probabilities, log-likelihood. gate_proba holds the gate's linear predictors. */
#define responsibilities MF_NAME(responsibilities)
static void responsibilities(const em_problem *s, const em_layout *o, const em_tile *t, const double *precision_root,
                             const double *log_norm, double *sums) {
    ptrdiff_t k = s->n_experts;
    vd log_likelihood = vset(0.0), entropy = vset(0.0);
    fill(t->gate_proba + (k - 1) * TILE_STRIDE, 0.0, t->padded);
    for (ptrdiff_t i = 0; i < t->padded; i += VLEN) {
        vd y = vload(t->y + i), w = vload(t->weight + i);
        vd gate_max = vset(0.0), joint_max = vset(-1.7976931348623157e308);
        for (ptrdiff_t j = 0; j < k; j++) {
            ptrdiff_t at = j * TILE_STRIDE + i;
            vd logit = vload(t->gate_proba + at), e = y - vload(t->mean + at), z = e * precision_root[j];
            vd joint = logit + (log_norm[j] - 0.5 * z * z);
            vstore(t->residual + at, e);
            vstore(t->joint + at, joint);
            gate_max = vmax(gate_max, logit);
            joint_max = vmax(joint_max, joint);
        }
        vd gate_sum = vset(0.0), joint_sum = vset(0.0);
        for (ptrdiff_t j = 0; j < k; j++) {
            ptrdiff_t at = j * TILE_STRIDE + i;
            vd gate = vexp_down(vload(t->gate_proba + at) - gate_max), joint = vexp_down(vload(t->joint + at) - joint_max);
            gate_sum += gate;
            joint_sum += joint;
            vstore(t->gate_proba + at, gate);
            vstore(t->resp + at, joint);
        }
        vd per_gate = 1.0 / gate_sum, per_joint = 1.0 / joint_sum;
        for (ptrdiff_t j = 0; j < k; j++) {
            ptrdiff_t at = j * TILE_STRIDE + i;
            vstore(t->gate_proba + at, vload(t->gate_proba + at) * per_gate);
            vstore(t->resp + at, vload(t->resp + at) * per_joint);
        }
        log_likelihood += w * ((joint_max - gate_max) + vlog(joint_sum * per_gate));
        if (s->want & WANT_ENTROPY) {
            vd row = vlog(joint_sum);
            for (ptrdiff_t j = 0; j < k; j++) {
                ptrdiff_t at = j * TILE_STRIDE + i;
                vd r = vload(t->resp + at);
                vd log_r = vmax(vset(-708.0), vload(t->joint + at) - joint_max); /* as vexp_down has it: never 0 log 0 */
                row -= r * log_r;
            }
            entropy += w * row;
        }
    }
    sums[o->log_likelihood] += vsum(log_likelihood);
    sums[o->entropy] += vsum(entropy);
    sums[o->total] += sum_tile(t->weight, t->padded);
}

/* Shares, residual squares and both gradients; then the curvatures of the EM objective that are wanted. */
#define em_sums MF_NAME(em_sums)
static void em_sums(const em_problem *s, const em_layout *o, const em_tile *t, double *sums) {
    ptrdiff_t k = s->n_experts, p = o->p, q = o->q;
    int linear = s->activation == ACTIVATION_LINEAR;
    for (ptrdiff_t j = 0; j < k; j++) {
        vd weight = vset(0.0), gate_weight = vset(0.0), squares = vset(0.0);
        for (ptrdiff_t i = 0; i < t->padded; i += VLEN) {
            ptrdiff_t at = j * TILE_STRIDE + i;
            vd w = vload(t->weight + i), r = vload(t->resp + at), pi = vload(t->gate_proba + at);
            vd e = vload(t->residual + at), wr = w * r;
            weight += wr;
            gate_weight += w * pi;
            squares += wr * e * e;
            vstore(t->expert_score + at, linear ? wr * e : wr * e * vload(t->slope + at));
            vstore(t->gate_score + at, w * (r - pi));
        }
        sums[o->weight + j] += vsum(weight);
        sums[o->gate_weight + j] += vsum(gate_weight);
        sums[o->sum_squares + j] += vsum(squares);
    }
    inner_products_f64(t->expert_score, k, t->design, p, t->padded, sums + o->expert_gradient);
    inner_products_f64(t->gate_score, k - 1, t->gate_design, q, t->padded, sums + o->gate_gradient);

    int majorised = s->activation == ACTIVATION_LEAKY_RELU && s->want & WANT_MAJORISED;
    if (s->want & WANT_EXPERT_GRAM)
        for (ptrdiff_t j = 0; j < k; j++) {
            for (ptrdiff_t i = 0; i < t->padded; i += VLEN) {
                ptrdiff_t at = j * TILE_STRIDE + i;
                vd wr = vload(t->weight + i) * vload(t->resp + at), slope = linear ? vset(1.0) : vload(t->slope + at);
                vstore(t->product + i, wr * (majorised ? vload(t->bend + at) : slope * slope));
            }
            add_gram(t, &t->experts, &t->experts, sums + o->expert_gram + j * p * p);
        }

    if (s->want & WANT_GATE_GRAM)
        for (ptrdiff_t j = 0, pair = 0; j < k - 1; j++)
            for (ptrdiff_t l = 0; l <= j; l++, pair++) {
                for (ptrdiff_t i = 0; i < t->padded; i += VLEN) {
                    vd pi_j = vload(t->gate_proba + j * TILE_STRIDE + i), pi_l = vload(t->gate_proba + l * TILE_STRIDE + i);
                    vstore(t->product + i, vload(t->weight + i) * pi_j * ((j == l ? 1.0 : 0.0) - pi_l));
                }
                add_gram(t, &t->gates, &t->gates, sums + o->gate_gram + pair * q * q);
            }
}

/* Second derivative of the log-likelihood in (experts, gate, log sigma), eq. (I.1): for every pair of linear
 * predictors one number a row, then one weighted Gram. */
#define information_sums MF_NAME(information_sums)
static void information_sums(const em_problem *s, const em_layout *o, const em_tile *t, const double *precision_root,
                             double *sums) {
    ptrdiff_t k = s->n_experts, p = o->p, q = o->q;
    int linear = s->activation == ACTIVATION_LINEAR;
    const double *design = t->design, *gate_design = t->gate_design;

    for (ptrdiff_t j = 0; j < k; j++) {
        double precision = precision_root[j] * precision_root[j];
        for (ptrdiff_t i = 0; i < t->padded; i += VLEN) {
            ptrdiff_t at = j * TILE_STRIDE + i;
            vd e = vload(t->residual + at), slope = linear ? vset(1.0) : vload(t->slope + at);
            vstore(t->pull + at, slope * e * precision);
            vstore(t->spread + at, e * e * precision - 1.0);
        }
    }
    for (ptrdiff_t j = 0, pair = 0; j < k; j++) {
        double precision = precision_root[j] * precision_root[j];
        const double *r_j = t->resp + j * TILE_STRIDE, *pull_j = t->pull + j * TILE_STRIDE;
        const double *spread_j = t->spread + j * TILE_STRIDE;
        for (ptrdiff_t l = 0; l <= j; l++, pair++) { /* expert j, expert l */
            for (ptrdiff_t i = 0; i < t->padded; i += VLEN) {
                ptrdiff_t at = l * TILE_STRIDE + i;
                vd pull = vload(pull_j + i), r = vload(r_j + i);
                vd value = -(vload(t->resp + at) * vload(t->pull + at) * pull);
                if (j == l) {
                    vd own = linear ? vset(-precision)
                                    : vload(t->bend + at) * vload(t->residual + at) * precision -
                                          vload(t->slope + at) * vload(t->slope + at) * precision;
                    value += own + pull * pull;
                }
                vstore(t->product + i, vload(t->weight + i) * r * value);
            }
            add_gram(t, &t->experts, &t->experts, sums + o->info_expert + pair * p * p);
        }
        for (ptrdiff_t l = 0; l < k - 1; l++) { /* expert j and sigma j, gate row l */
            for (ptrdiff_t i = 0; i < t->padded; i += VLEN) {
                vd other = (j == l ? 1.0 : 0.0) - vload(t->resp + l * TILE_STRIDE + i);
                vd wr = vload(t->weight + i) * vload(r_j + i) * other;
                vstore(t->product + i, wr * vload(pull_j + i));
                vstore(t->joint + i, wr * vload(spread_j + i));
            }
            add_gram(t, &t->experts, &t->gates, sums + o->info_cross + (j * (k - 1) + l) * p * q);
            inner_products_f64(t->joint, 1, gate_design, q, t->padded, sums + o->info_gate_noise + (j * (k - 1) + l) * q);
        }
        for (ptrdiff_t l = 0; l < k; l++) { /* expert j, sigma l; sigma j, sigma l */
            vd noise = vset(0.0);
            for (ptrdiff_t i = 0; i < t->padded; i += VLEN) {
                vd wr = vload(t->weight + i) * vload(r_j + i), pull = vload(pull_j + i), spread = vload(spread_j + i);
                vd other = vload(t->resp + l * TILE_STRIDE + i) * vload(t->spread + l * TILE_STRIDE + i);
                vd mixed = -pull * other, pure = -spread * other;
                if (j == l) {
                    mixed += pull * (spread - 2.0);
                    pure += spread * spread - 2.0 * (spread + 1.0);
                }
                vstore(t->product + i, wr * mixed);
                noise += wr * pure;
            }
            inner_products_f64(t->product, 1, design, p, t->padded, sums + o->info_expert_noise + (j * k + l) * p);
            sums[o->info_noise + j * k + l] += vsum(noise);
        }
    }
    for (ptrdiff_t j = 0, pair = 0; j < k - 1; j++)
        for (ptrdiff_t l = 0; l <= j; l++, pair++) { /* gate row j, gate row l */
            for (ptrdiff_t i = 0; i < t->padded; i += VLEN) {
                vd r_j = vload(t->resp + j * TILE_STRIDE + i), pi_j = vload(t->gate_proba + j * TILE_STRIDE + i);
                vd value = pi_j * vload(t->gate_proba + l * TILE_STRIDE + i) - r_j * vload(t->resp + l * TILE_STRIDE + i);
                if (j == l) value += r_j - pi_j;
                vstore(t->product + i, vload(t->weight + i) * value);
            }
            add_gram(t, &t->gates, &t->gates, sums + o->info_gate + pair * q * q);
        }
}

#define em_rows MF_NAME(em_rows)
static void em_rows(const em_problem *s, ptrdiff_t first, ptrdiff_t last, double *sums, double *scratch) {
    em_layout o = em_layout_of(s);
    em_tile t = lay_out_scratch(s, &o, scratch);
    ptrdiff_t k = s->n_experts;
    double *precision_root = t.product + TILE_STRIDE, *log_norm = precision_root + k;
    for (ptrdiff_t j = 0; j < k; j++) {
        precision_root[j] = 1.0 / s->noise_std[j];
        log_norm[j] = -0.91893853320467274178 - log(s->noise_std[j]); /* -log(2 pi) / 2 - log sigma */
    }
    for (; first < last; first += TILE_ROWS) {
        t.n_rows = MF_MIN(TILE_ROWS, last - first);
        t.padded = (t.n_rows + VLEN - 1) / VLEN * VLEN;
        t.narrow_padded = (t.n_rows + 2 * VLEN - 1) / (2 * VLEN) * (2 * VLEN);
        load_tile(s, first, last, &t);
        if (s->activation == ACTIVATION_CUSTOM) {
            take_columns(s->mean + first * k, k, &t, t.mean);
            take_columns(s->slope + first * k, k, &t, t.slope);
            if (s->want & WANT_INFORMATION) take_columns(s->bend + first * k, k, &t, t.bend);
        } else {
            predictors(t.design, o.p, s->expert, k, t.padded, t.mean, NULL);
            if (s->activation != ACTIVATION_LINEAR) activate(s, &t);
        }
        predictors(t.gate_design, o.q, s->gate, k - 1, t.padded, t.gate_proba, NULL);
        responsibilities(s, &o, &t, precision_root, log_norm, sums);
        em_sums(s, &o, &t, sums);
        if (s->want & WANT_INFORMATION) information_sums(s, &o, &t, precision_root, sums);
        if (s->resp)
            for (ptrdiff_t i = 0; i < t.n_rows; i++)
                for (ptrdiff_t j = 0; j < k; j++) s->resp[(first + i) * k + j] = t.resp[j * TILE_STRIDE + i];
    }
}

#define exp_array MF_NAME(exp_array)
static void exp_array(const double *x, ptrdiff_t n, double *out) {
    for (ptrdiff_t i = 0; i < n; i += VLEN) vstore(out + i, vexp(vload(x + i)));
}

#define log_array MF_NAME(log_array)
static void log_array(const double *x, ptrdiff_t n, double *out) {
    for (ptrdiff_t i = 0; i < n; i += VLEN) vstore(out + i, vlog(vload(x + i)));
}
