"""One pass of EM over the rows.

At given parameters a pass computes the log-likelihood and everything an M-step needs: shares, residual squares,
gradients and curvatures of the experts' and the gate's part of the EM objective, eq. (E.1)-(M.4) of docs/math.md;
or the second derivative of the log-likelihood, eq. (I.1). em_problem.h lists the sums and their layout.

The number of row blocks depends on the shapes alone; one thread sums a block in row order; block sums are added in
block order: same bits for every n_threads.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY, copysign, exp, fabs, isfinite, log, sqrt
from libc.string cimport memcpy, memset

ctypedef fused floating:
    float
    double

cdef extern from "isa.h" nogil:
    int isa_selected()
    double *aligned(double *) noexcept
    const Py_ssize_t ALIGNMENT

cdef extern from "em_problem.h" nogil:   # and blocks.h, for its tiles
    const Py_ssize_t TILE_STRIDE
    Py_ssize_t blocks_of "n_blocks"(Py_ssize_t n_samples, Py_ssize_t size) noexcept
    Py_ssize_t block_start(Py_ssize_t n_samples, Py_ssize_t n_block, Py_ssize_t b) noexcept
    void add_blocks(const double *block_sums, Py_ssize_t n_block, Py_ssize_t size, double *sums) noexcept

cdef extern from "em_problem.h" nogil:
    ctypedef struct em_problem:
        Py_ssize_t n_samples, n_features, n_gate_features, n_experts
        int is_float32
        const void *X
        const void *Z
        const double *y
        const double *weight
        const double *shift
        const double *scale
        const double *gate_shift
        const double *gate_scale
        int expert_intercept, gate_intercept
        const double *expert
        const double *gate
        const double *noise_std
        int activation
        double leak
        const double *mean
        const double *slope
        const double *bend
        int want
        double *resp

    ctypedef struct em_layout:
        Py_ssize_t p, q
        Py_ssize_t log_likelihood, entropy, total, weight, gate_weight, sum_squares
        Py_ssize_t expert_gradient, gate_gradient, expert_gram, gate_gram
        Py_ssize_t info_expert, info_gate, info_cross, info_expert_noise, info_gate_noise, info_noise
        Py_ssize_t size

    ctypedef void (*vector_function)(const double *x, Py_ssize_t n, double *out) noexcept nogil
    ctypedef struct em_kernels:
        void (*em_rows)(const em_problem *, Py_ssize_t first, Py_ssize_t last,
                        double *sums, double *scratch) noexcept nogil
        vector_function exp
        vector_function log

    em_layout em_layout_of(const em_problem *) noexcept
    Py_ssize_t em_scratch_rows(const em_problem *) noexcept
    const em_kernels *em_kernels_for(int isa) noexcept
    const int ACTIVATION_LINEAR, ACTIVATION_LEAKY_RELU
    const int WANT_EXPERT_GRAM, WANT_GATE_GRAM, WANT_INFORMATION, WANT_ENTROPY, WANT_MAJORISED, WANT_SINGLE

cdef extern from "solve.h" nogil:
    int solve_symmetric(const double *matrix, const double *right, double *x, double *upper, double *size,
                        Py_ssize_t p, double dependent) noexcept
    double dot(const double *one, const double *other, Py_ssize_t n) noexcept

cdef extern from "quasi_newton.h" nogil:
    const Py_ssize_t QUASI_PAIRS
    const double QUASI_RIDGE, QUASI_CURVED, QUASI_WIDEST
    ctypedef struct quasi_newton:
        Py_ssize_t size, n_pairs
        bint has_metric
        double *place
        double *slope
        double *last_slope
        double *move
        double *scale
    Py_ssize_t quasi_memory_size(Py_ssize_t k, Py_ssize_t p, Py_ssize_t m, Py_ssize_t n_own) noexcept
    quasi_newton quasi_over(double *memory, Py_ssize_t k, Py_ssize_t p, Py_ssize_t m, Py_ssize_t n_own) noexcept
    void quasi_forget_steps(quasi_newton *quasi) noexcept
    void quasi_forget(quasi_newton *quasi) noexcept
    void quasi_take_metric(quasi_newton *quasi, const double *blocks, const double *units, const double *last) noexcept
    void quasi_take(quasi_newton *quasi) noexcept
    void quasi_direction(quasi_newton *quasi) noexcept

EXPERT_GRAM, GATE_GRAM, INFORMATION = WANT_EXPERT_GRAM, WANT_GATE_GRAM, WANT_INFORMATION
ENTROPY, MAJORISED, SINGLE = WANT_ENTROPY, WANT_MAJORISED, WANT_SINGLE

cdef int ISA = max(isa_selected(), 0)


def n_blocks(Py_ssize_t n_samples, Py_ssize_t size):
    """Number of row blocks a pass cuts n_samples rows into when its sums fill `size` doubles."""
    return blocks_of(n_samples, size)


cdef void _mirror(double *matrices, Py_ssize_t n_matrices, Py_ssize_t n) noexcept nogil:
    """Copy the lower triangle of every (n, n) matrix to its upper."""
    cdef Py_ssize_t m, a, b
    for m in range(n_matrices):
        for a in range(n):
            for b in range(a):
                matrices[(m * n + b) * n + a] = matrices[(m * n + a) * n + b]


def layout(Py_ssize_t n_features, Py_ssize_t n_gate_features, Py_ssize_t n_experts,
           bint expert_intercept, bint gate_intercept, int want):
    """Where each sum lies in the flat result of `em_pass`: a dict of name to (offset, shape), and the size."""
    cdef em_problem s
    memset(&s, 0, sizeof(s))
    s.n_features, s.n_gate_features, s.n_experts = n_features, n_gate_features, n_experts
    s.expert_intercept, s.gate_intercept, s.want = expert_intercept, gate_intercept, want
    cdef em_layout o = em_layout_of(&s)
    k, p, q = n_experts, o.p, o.q
    pairs = k * (k - 1) // 2
    parts = {
        "weight": (o.weight, (k,)),
        "gate_weight": (o.gate_weight, (k,)),
        "sum_squares": (o.sum_squares, (k,)),
        "expert_gradient": (o.expert_gradient, (k, p)),
        "gate_gradient": (o.gate_gradient, (k - 1, q)),
    }
    if want & WANT_EXPERT_GRAM:
        parts["expert_gram"] = (o.expert_gram, (k, p, p))
    if want & WANT_GATE_GRAM:
        parts["gate_gram"] = (o.gate_gram, (pairs, q, q))
    if want & WANT_INFORMATION:
        parts["info_expert"] = (o.info_expert, (k * (k + 1) // 2, p, p))
        parts["info_gate"] = (o.info_gate, (pairs, q, q))
        parts["info_cross"] = (o.info_cross, (k, k - 1, p, q))
        parts["info_expert_noise"] = (o.info_expert_noise, (k, k, p))
        parts["info_gate_noise"] = (o.info_gate_noise, (k, k - 1, q))
        parts["info_noise"] = (o.info_noise, (k, k))
    return parts, o.size


def em_pass(
    const floating[:, ::1] X,              # IN   (n_samples, n_features)
    const floating[:, ::1] Z,              # IN   (n_samples, n_gate_features), or None: the gate uses X's design
    const double[::1] y,                   # IN   (n_samples,)
    const double[::1] weight,              # IN   (n_samples,), or None: all one
    const double[:, ::1] standard,         # IN   (2, n_features): shift and scale of X's columns
    const double[:, ::1] gate_standard,    # IN   (2, n_gate_features): the same for Z
    bint expert_intercept,
    bint gate_intercept,
    const double[:, ::1] expert,           # IN   (n_experts, p)
    const double[:, ::1] gate,             # IN   (n_experts - 1, q)
    const double[::1] noise_std,           # IN   (n_experts,), positive
    int activation,
    double leak,
    const double[:, ::1] mean,             # IN   (n_samples, n_experts) g of a custom activation, else None
    const double[:, ::1] slope,            # IN   its derivative, else None
    const double[:, ::1] bend,             # IN   its second derivative (for INFORMATION), else None
    int want,
    double[::1] sums,                      # OUT  (size,) as `layout` says
    double[:, ::1] resp,                   # OUT  (n_samples, n_experts), or None
    double[::1] work,                      # WORK (work_size(...),)
    int n_threads,
):
    """Add nothing, overwrite `sums`; see the module's text and em_problem.h for what they mean."""
    cdef em_problem s = _problem(
        X, Z, y, weight, standard, gate_standard, expert_intercept, gate_intercept, expert.shape[0], activation, leak,
        want,
    )
    cdef em_layout o = em_layout_of(&s)
    sums[:] = 0.0
    if s.n_samples == 0:
        return
    s.expert = &expert[0, 0]
    s.gate = &gate[0, 0] if gate.shape[0] and gate.shape[1] else NULL
    s.noise_std = &noise_std[0]
    if mean is not None:
        s.mean, s.slope = &mean[0, 0], &slope[0, 0]
    if bend is not None:
        s.bend = &bend[0, 0]
    if resp is not None:
        s.resp = &resp[0, 0]
    with nogil:
        _pass(&s, &o, &sums[0], &work[0], n_threads)


cdef em_problem _problem(
    const floating[:, ::1] X, const floating[:, ::1] Z, const double[::1] y, const double[::1] weight,
    const double[:, ::1] standard, const double[:, ::1] gate_standard, bint expert_intercept, bint gate_intercept,
    Py_ssize_t n_experts, int activation, double leak, int want,
):
    """The problem of some rows; parameters are still to be pointed to."""
    cdef em_problem s
    memset(&s, 0, sizeof(s))
    s.n_samples, s.n_features, s.n_experts = X.shape[0], X.shape[1], n_experts
    s.is_float32 = sizeof(floating) == 4
    s.n_gate_features = X.shape[1] if Z is None else Z.shape[1]
    s.expert_intercept, s.gate_intercept = expert_intercept, gate_intercept
    s.activation, s.leak, s.want = activation, leak, want
    if s.n_samples == 0:
        return s
    s.X = &X[0, 0]
    s.y = &y[0]
    if Z is not None:
        # An empty Z still means "a design of its own": the gate is constant.
        s.Z = &Z[0, 0] if Z.shape[1] else <const void *>&y[0]
        if Z.shape[1]:
            s.gate_shift, s.gate_scale = &gate_standard[0, 0], &gate_standard[1, 0]
    if weight is not None:
        s.weight = &weight[0]
    s.shift, s.scale = &standard[0, 0], &standard[1, 0]
    return s


cdef void _pass(const em_problem *s, const em_layout *o, double *sums, double *work, int n_threads) noexcept nogil:
    """All rows, at least one, in blocks."""
    cdef Py_ssize_t b, n_samples = s.n_samples, n_block = blocks_of(s.n_samples, o.size)
    cdef Py_ssize_t scratch_size = em_scratch_rows(s) * TILE_STRIDE
    cdef const em_kernels *kernels = em_kernels_for(ISA)
    cdef double *scratch = aligned(&work[n_block * o.size])
    cdef int threads = max(1, min(n_threads, <int>n_block))
    # Dynamic: a busy core takes fewer blocks. Which thread sums a block has no effect on its bits.
    for b in prange(n_block, schedule="dynamic", chunksize=1, num_threads=threads, use_threads_if=threads > 1):
        memset(work + b * o.size, 0, o.size * sizeof(double))   # by the thread that will add to it
        kernels.em_rows(s, block_start(n_samples, n_block, b), block_start(n_samples, n_block, b + 1),
                        work + b * o.size, scratch + threadid() * scratch_size)
    memset(sums, 0, o.size * sizeof(double))
    add_blocks(work, n_block, o.size, sums)
    if s.want & WANT_EXPERT_GRAM:
        _mirror(&sums[o.expert_gram], s.n_experts, o.p)
    if s.want & WANT_GATE_GRAM and s.n_experts > 1 and o.q:
        _mirror(&sums[o.gate_gram], s.n_experts * (s.n_experts - 1) // 2, o.q)
    if s.want & WANT_INFORMATION:
        _mirror(&sums[o.info_expert], s.n_experts * (s.n_experts + 1) // 2, o.p)
        if s.n_experts > 1 and o.q:
            _mirror(&sums[o.info_gate], s.n_experts * (s.n_experts - 1) // 2, o.q)
            if s.Z == NULL:
                _mirror(&sums[o.info_cross], s.n_experts * (s.n_experts - 1), o.p)


def work_size(Py_ssize_t n_samples, Py_ssize_t n_features, Py_ssize_t n_gate_features, Py_ssize_t n_experts,
              bint expert_intercept, bint gate_intercept, bint own_gate_design, int want, int n_threads):
    """Doubles of workspace that `em_pass` needs."""
    cdef em_problem s
    memset(&s, 0, sizeof(s))
    s.n_features, s.n_gate_features, s.n_experts = n_features, n_gate_features, n_experts
    s.expert_intercept, s.gate_intercept, s.want = expert_intercept, gate_intercept, want
    s.Z = <const void *>&s if own_gate_design else NULL
    cdef em_layout o = em_layout_of(&s)
    cdef Py_ssize_t blocks = blocks_of(n_samples, o.size)
    return blocks * o.size + max(1, min(n_threads, blocks)) * em_scratch_rows(&s) * TILE_STRIDE + ALIGNMENT


# ---- many iterations in one call ----

# How `em_climb` ended.
cdef enum:
    CLIMB_LAST, CLIMB_CONVERGED, CLIMB_HANDED_OVER
LAST_ITERATION, CONVERGED, HANDED_OVER = CLIMB_LAST, CLIMB_CONVERGED, CLIMB_HANDED_OVER

# Rules of an EM step that em.maximise shares; said there.
cdef double LEAST_FRACTION = 1e-6    # of a step
cdef double LEAST_NOISE = 1e-150
cdef double LEAST_SHARE = 1e-12
cdef double MUCH_SHORTENED = 0.1
SMALLEST_FRACTION, TINY_NOISE, NO_ROWS, SHORTENED = LEAST_FRACTION, LEAST_NOISE, LEAST_SHARE, MUCH_SHORTENED

# Rules of quasi-Newton steps that pace shares, said there; and those of quasi_newton.h, for quasi_newton.
cdef double NEAR_ENOUGH = 1e-2
cdef double SLOW_RATE = 0.7
cdef double LEAST_QUASI_FRACTION = 0.125
cdef int METRIC_STEPS = 10, EM_STEPS_AFTER = 4
NEAR, SLOW, METRIC_SERVES, PATIENCE = NEAR_ENOUGH, SLOW_RATE, METRIC_STEPS, EM_STEPS_AFTER
SMALLEST_QUASI_NEWTON = LEAST_QUASI_FRACTION
PAIRS, RIDGE, CURVED, WIDEST = QUASI_PAIRS, QUASI_RIDGE, QUASI_CURVED, QUASI_WIDEST

# em._gate_move's
cdef double WIDEST_GATE_STEP = 20.0, MOST_UNANSWERED = 0.01
GATE_STEP, UNANSWERED = WIDEST_GATE_STEP, MOST_UNANSWERED

ctypedef struct climb_rules:
    bint moves_noise, shares_noise
    double barrier, gate_limit, dependent


cpdef double shorter(double fraction, double gain, double promise, double smallest, bint has_kinks) noexcept nogil:
    """The fraction of a step to try after one that gained too little, or zero where no more are worth it.

    The top of the parabola that begins at the slope of which `promise` is half, and had this gain at `fraction`; but no
    less than a sixteenth of that and no more than a half: that half where kinks make it no parabola. The smallest is
    tried if it is no more than twice that.
    """
    cdef double rise = 2.0 * promise * fraction
    cdef double share = 0.5 * rise / (rise - gain) if gain < rise < INFINITY and not has_kinks else 0.5
    cdef double there = fraction * min(max(share, 0.0625), 0.5)
    if there >= smallest:
        return there
    return smallest if fraction > smallest and 2.0 * there >= smallest else 0.0


def em_climb(
    const floating[:, ::1] X,              # IN   as in em_pass, down to leak
    const floating[:, ::1] Z,              # IN
    const double[::1] y,                   # IN
    const double[::1] weight,              # IN
    const double[:, ::1] standard,         # IN
    const double[:, ::1] gate_standard,    # IN
    bint expert_intercept,
    bint gate_intercept,
    int activation,
    double leak,
    double[:, ::1] places,                 # INOUT, WORK, WORK (3, size): parameters flat: experts, gate, noise_std
    Py_ssize_t n_experts,
    bint moves_noise,
    bint shares_noise,
    double barrier,
    double gate_limit,
    Py_ssize_t gate_serves,                # iterations that one curvature of the gate serves
    bint quasi_steps,                      # whether quasi-Newton steps may be made
    double dependent,                      # of a solve, as in solve.h
    double goal,                           # gain, and promised gain, that end it
    double rounding,                       # a fall of the objective by this part of it plus the weight is none
    double[::1] history,                   # OUT  (max_iter + 1,): objective before the first iteration, after each
    double[:, ::1] sums,                   # OUT, WORK (2, size of the layout): of the last pass; Grams may be zeros
    double[::1] systems,                   # WORK 3 m m + 2 m, with m the largest system: p, or q (n_experts - 1);
                                           #      holds the gate's curvature from one iteration to the next
    double[::1] memory,                    # WORK (memory_size(...),) if quasi_steps
    double[::1] work,                      # WORK (work_size(...),)
    int n_threads,
):
    """Iterations, one after the other: what em.maximise does with newton=False, with no Python between passes.

    Returns how many there were, how they ended, which row of `sums` holds those of the last one, and the number of
    passes. HANDED_OVER: EM's step gained at no length, and em.maximise is to go on. Where a system is singular, the
    step is one of its solutions, not that of least norm.
    """
    cdef em_problem s = _problem(
        X, Z, y, weight, standard, gate_standard, expert_intercept, gate_intercept, n_experts, activation, leak,
        WANT_EXPERT_GRAM | WANT_GATE_GRAM,
    )
    cdef em_layout o = em_layout_of(&s)
    cdef em_problem light = s    # a pass without the gate's curvature, whose place among the sums stays zero
    cdef em_problem lightest = s    # for the gradient alone
    light.want, lightest.want = WANT_EXPERT_GRAM, 0
    cdef em_problem *asked
    cdef quasi_newton quasi
    cdef bint by_quasi = False
    cdef int metric_steps_left = 0
    cdef Py_ssize_t no_quasi_until = 0, quasi_patience = EM_STEPS_AFTER, n_gains = 0
    cdef double gain = 0.0, last_gain = 0.0
    cdef bint fresh = True, next_fresh, again
    cdef bint has_kinks = activation == ACTIVATION_LEAKY_RELU, majorise = False, majorised = False
    cdef Py_ssize_t served = 0
    cdef climb_rules rules
    rules.moves_noise, rules.shares_noise = moves_noise, shares_noise
    rules.barrier, rules.gate_limit, rules.dependent = barrier, gate_limit, dependent
    cdef Py_ssize_t max_iter = history.shape[0] - 1, size = places.shape[1], iteration = 0, n_passes = 1, i
    cdef double *at = &places[0, 0]
    cdef double *trial = &places[1, 0]
    cdef double *move = &places[2, 0]
    cdef double *here = &sums[0, 0]
    cdef double *there = &sums[1, 0]
    cdef double value, proposed = 0.0, promise, fraction, least, slack, smallest
    cdef int ended = CLIMB_LAST
    if quasi_steps:
        quasi = quasi_over(&memory[0], n_experts, o.p, (n_experts - 1) * o.q, _n_noises(&rules, n_experts))
    with nogil:
        value = _value(&s, &o, &rules, at, here, &work[0], n_threads)
        history[0] = value
        if value == -INFINITY:
            ended = CLIMB_HANDED_OVER
        while ended == CLIMB_LAST and iteration < max_iter:
            again = False
            if by_quasi:
                if fresh or not quasi.has_metric:
                    _take_metric(&quasi, &s, &o, &rules, at, here, fresh, &systems[0])
                    metric_steps_left = METRIC_STEPS
                next_fresh = metric_steps_left <= 1
                promise = 0.5 * _direction(&quasi, &s, &o, &rules, at)
                asked = &s if next_fresh else &lightest
            else:
                served = 1 if fresh else served + 1
                next_fresh = served >= gate_serves
                promise = _em_move(&s, &o, &rules, at, here, fresh, move, &systems[0])
                asked = &s if next_fresh else &light
            smallest = LEAST_QUASI_FRACTION if by_quasi else LEAST_FRACTION
            slack = rounding * (fabs(value) + here[o.total])
            least, fraction = value - slack, 1.0
            while fraction > 0.0:
                if by_quasi:
                    _place_along(&quasi, &s, &o, &rules, at, fraction, trial)
                else:
                    _place(&s, &o, &rules, at, move, fraction, trial)
                proposed = _value(asked, &o, &rules, trial, there, &work[0], n_threads)
                n_passes += 1
                if proposed >= least:
                    break
                least, fraction = value + slack, shorter(fraction, proposed - value, promise, smallest, has_kinks)
            else:
                if by_quasi:   # EM for a while, longer each time
                    by_quasi, again, n_gains = False, True, 0
                    quasi_forget(&quasi)
                    no_quasi_until, quasi_patience = iteration + quasi_patience, 2 * quasi_patience
                else:   # a gain at no length: next the gate's curvature of this place, then the bound
                    if fresh and (majorised or not has_kinks):
                        ended = CLIMB_HANDED_OVER
                        break
                    majorise, again = fresh, True
            if not again:
                iteration += 1
                gain, last_gain = proposed - value, gain
                again = gain <= goal and promise <= goal
                if again and (fresh or by_quasi):
                    ended = CLIMB_CONVERGED
                majorise = has_kinks and not majorised and fraction < MUCH_SHORTENED
                again = again or majorise
                for i in range(size):
                    at[i] = trial[i]
                here, there = there, here
                value, fresh = proposed, next_fresh
                history[iteration] = value
                n_gains += 1
                if by_quasi:
                    metric_steps_left -= 1
                    _take(&quasi, &s, &o, &rules, at, here)
                elif (quasi_steps and not majorise and iteration >= no_quasi_until and n_gains > 1
                      and last_gain < NEAR_ENOUGH * here[o.total] and gain > SLOW_RATE * last_gain):
                    _take(&quasi, &s, &o, &rules, at, here)
                    by_quasi = quasi.n_pairs > 0
                elif quasi_steps:
                    quasi_forget_steps(&quasi)
            if majorise:
                majorised = True
                s.want, light.want = s.want | WANT_MAJORISED, light.want | WANT_MAJORISED
            if again and (majorise or not fresh) and ended == CLIMB_LAST and iteration < max_iter:
                # The same place with all sums; an old curvature may promise too little, or lead nowhere.
                fresh = True
                _value(&s, &o, &rules, at, here, &work[0], n_threads)
                n_passes += 1
    return iteration, ended, 0 if here == &sums[0, 0] else 1, n_passes


cdef double _value(em_problem *s, const em_layout *o, const climb_rules *rules, const double *place,
                   double *sums, double *work, int n_threads) noexcept nogil:
    """A pass at a place; the objective there, minus infinity where anything overflows."""
    cdef Py_ssize_t k = s.n_experts, j, i
    cdef double penalty = 0.0
    s.expert, s.gate = place, place + k * o.p if k > 1 and o.q else NULL
    s.noise_std = place + k * o.p + (k - 1) * o.q
    _pass(s, o, sums, work, n_threads)
    for i in range(o.size):
        if not isfinite(sums[i]):
            return -INFINITY
    if rules.moves_noise:
        for j in range(1 if rules.shares_noise else k):
            penalty += 0.5 * rules.barrier / (s.noise_std[j] * s.noise_std[j])
    return sums[o.log_likelihood] - penalty if isfinite(penalty) else -INFINITY


cdef double _em_move(const em_problem *s, const em_layout *o, const climb_rules *rules, const double *at,
                     const double *sums, bint fresh, double *move, double *systems) noexcept nogil:
    """The M-step's move from `at`: of experts and gate as differences, of the noise the new one.

    Returns the gain that it promises. Unless `fresh`, the gate's curvature is the one that `systems` holds.
    """
    cdef Py_ssize_t k = s.n_experts, p = o.p, q = o.q, m = (k - 1) * q, j, a
    cdef Py_ssize_t largest = max(p, m)
    cdef double *matrix = systems
    cdef double *upper = systems + largest * largest
    cdef double *scale = upper + largest * largest
    cdef double *gate_move = move + k * p
    cdef double *new_noise = gate_move + m
    cdef const double *old_noise = at + k * p + m
    cdef double promise = 0.0, explained, squares, all_squares = 0.0, u
    cdef bint linear = s.activation == ACTIVATION_LINEAR
    if m:
        if fresh:
            _gate_matrix(s, o, sums, matrix)
        _gate_move(matrix, sums + o.gate_gradient, at + k * p, rules, gate_move, upper, scale, scale + largest, m)
        for a in range(m):
            promise += 0.5 * gate_move[a] * sums[o.gate_gradient + a]
    for j in range(k):
        solve_symmetric(sums + o.expert_gram + j * p * p, sums + o.expert_gradient + j * p, move + j * p,
                        upper, scale, p, rules.dependent)
        explained = 0.0
        for a in range(p):
            explained += move[j * p + a] * sums[o.expert_gradient + j * p + a]
        promise += 0.5 * explained / (old_noise[j] * old_noise[j])
        squares = max(sums[o.sum_squares + j] - explained, 0.0) if linear else sums[o.sum_squares + j]
        all_squares += squares
        new_noise[j] = old_noise[j]
        # An expert without rows keeps its noise: the barrier over no weight would send it to infinity.
        if rules.moves_noise and not rules.shares_noise and sums[o.weight + j] > LEAST_SHARE * sums[o.total]:
            new_noise[j] = max(sqrt((squares + rules.barrier) / sums[o.weight + j]), LEAST_NOISE)
    for j in range(k):
        if rules.shares_noise:
            new_noise[j] = max(sqrt((all_squares + rules.barrier) / sums[o.total]), LEAST_NOISE)
        if rules.moves_noise:
            u = (new_noise[j] / old_noise[j]) * (new_noise[j] / old_noise[j])
            promise += 0.5 * sums[o.weight + j] * (u - 1.0 - log(u))
    return promise


cdef void _gate_move(const double *matrix, const double *gradient, const double *gate, const climb_rules *rules,
                     double *move, double *upper, double *scale, double *own, Py_ssize_t m) noexcept nogil:
    """em._gate_move. WORK: upper (m, m), scale (m,), own (m m + m,), for a system and a right side of its own."""
    cdef double *slope = own + m * m
    cdef Py_ssize_t a
    cdef bint taken_along = True
    for a in range(m):
        slope[a] = 0.0 if _is_pressed(gate[a], gradient[a], rules) else gradient[a]
    while taken_along:
        _bounded_move(matrix, slope, gate, rules, move, upper, scale, own, m)
        taken_along = False
        for a in range(m):
            if slope[a] != 0.0 and _is_pressed(gate[a], move[a], rules):
                slope[a] = 0.0
                taken_along = True


cdef void _bounded_move(const double *matrix, const double *slope, const double *gate, const climb_rules *rules,
                        double *move, double *upper, double *scale, double *own, Py_ssize_t m) noexcept nogil:
    """em._bounded_move; what is at its limit and has no slope is left out."""
    cdef double allowed = WIDEST_GATE_STEP, widest = 0.0, squares = 0.0, gain, left
    cdef Py_ssize_t a, b
    cdef bint answered = True
    memcpy(own, matrix, m * m * sizeof(double))
    for a in range(m):
        if slope[a] == 0.0 and fabs(gate[a]) >= rules.gate_limit:
            for b in range(m):
                own[a * m + b] = own[b * m + a] = 0.0
        allowed = max(allowed, fabs(gate[a]))
        squares += slope[a] * slope[a]
    solve_symmetric(own, slope, move, upper, scale, m, rules.dependent)
    gain = dot(move, slope, m)
    for a in range(m):
        left = slope[a]
        for b in range(m):
            left -= own[a * m + b] * move[b]
        answered = answered and fabs(left) * allowed <= MOST_UNANSWERED * gain   # no number is no answer
        widest = max(widest, fabs(move[a]))
    if not answered:
        for a in range(m):
            own[a * m + a] += sqrt(squares) / allowed
        solve_symmetric(own, slope, move, upper, scale, m, rules.dependent)
    elif widest > allowed:
        for a in range(m):
            move[a] *= allowed / widest


cdef bint _is_pressed(double gate, double way, const climb_rules *rules) noexcept nogil:
    """em._pressed."""
    return fabs(gate) >= rules.gate_limit and gate * way > 0.0


cdef void _gate_matrix(const em_problem *s, const em_layout *o, const double *sums, double *matrix) noexcept nogil:
    """The gate's curvature, (k - 1) q square, from its blocks."""
    cdef Py_ssize_t q = o.q, m = (s.n_experts - 1) * q, j, other, a, b, pair
    cdef double u
    for j in range(s.n_experts - 1):
        for other in range(j + 1):
            pair = j * (j + 1) // 2 + other
            for a in range(q):
                for b in range(q):
                    u = sums[o.gate_gram + (pair * q + a) * q + b]
                    matrix[(j * q + a) * m + other * q + b] = u
                    matrix[(other * q + a) * m + j * q + b] = u


cdef void _place(const em_problem *s, const em_layout *o, const climb_rules *rules, const double *at,
                 const double *move, double fraction, double *there) noexcept nogil:
    """A fraction of the way. The step of linear experts is exact, so only the gate's is ever shortened."""
    cdef Py_ssize_t n_expert = s.n_experts * o.p, n_gate = (s.n_experts - 1) * o.q, i
    cdef double share = 1.0 if s.activation == ACTIVATION_LINEAR else fraction
    for i in range(n_expert):
        there[i] = at[i] + share * move[i]
    _place_gate(at + n_expert, move + n_expert, fraction, rules.gate_limit, n_gate, there + n_expert)
    for i in range(n_expert + n_gate, n_expert + n_gate + s.n_experts):
        there[i] = move[i]


cdef void _place_gate(const double *gate, const double *move, double fraction, double limit, Py_ssize_t n,
                      double *there) noexcept nogil:
    """em._moved_gate, of a fraction of the move."""
    cdef Py_ssize_t i, first = -1
    cdef double share, shortest = INFINITY
    for i in range(n):
        there[i] = gate[i] + fraction * move[i]
        if fabs(there[i]) > limit and fabs(gate[i]) < limit:
            share = (copysign(limit, move[i]) - gate[i]) / (fraction * move[i])
            if share < shortest:
                shortest, first = share, i
    for i in range(n):
        if first >= 0:
            there[i] = gate[i] + shortest * (fraction * move[i])
        there[i] = copysign(limit, move[i]) if i == first else min(max(there[i], -limit), limit)


# ---- quasi-Newton steps, by quasi_newton.h ----

def memory_size(Py_ssize_t n_experts, Py_ssize_t p, Py_ssize_t q):
    """Doubles of memory for the quasi-Newton steps of `em_climb`."""
    return quasi_memory_size(n_experts, p, (n_experts - 1) * q, n_experts)


cdef Py_ssize_t _n_noises(const climb_rules *rules, Py_ssize_t n_experts) noexcept nogil:
    """That are estimated."""
    return 0 if not rules.moves_noise else 1 if rules.shares_noise else n_experts


cdef void _slope(const em_problem *s, const em_layout *o, const climb_rules *rules, const double *at,
                 const double *sums, double *slope) noexcept nogil:
    """information.gradient."""
    cdef Py_ssize_t k = s.n_experts, p = o.p, m = (k - 1) * o.q, j, a
    cdef const double *noise_std = at + k * p + m
    cdef double *of_noise = slope + k * p + m
    cdef double precision, one
    for j in range(k):
        precision = 1.0 / (noise_std[j] * noise_std[j])
        for a in range(p):
            slope[j * p + a] = sums[o.expert_gradient + j * p + a] * precision
        if rules.moves_noise:
            one = sums[o.sum_squares + j] * precision - sums[o.weight + j]
            if rules.shares_noise and j:
                of_noise[0] += one
            else:
                of_noise[j] = one + rules.barrier * precision
    for a in range(m):
        slope[k * p + a] = sums[o.gate_gradient + a]


cdef void _take_metric(quasi_newton *quasi, const em_problem *s, const em_layout *o, const climb_rules *rules,
                       const double *at, const double *sums, bint fresh, double *systems) noexcept nogil:
    """quasi_newton.Metric: of the experts here, of the gate here if fresh, else the one that `systems` holds."""
    cdef Py_ssize_t k = s.n_experts, m = (k - 1) * o.q, j
    cdef const double *noise_std = at + k * o.p + m
    cdef double *of_noise = quasi.scale + k * o.p + m
    if fresh and m:
        _gate_matrix(s, o, sums, systems)
    for j in range(k):
        quasi.move[j] = 1.0 / (noise_std[j] * noise_std[j])
    quasi_take_metric(quasi, sums + o.expert_gram, quasi.move, systems)
    for j in range(_n_noises(rules, k)):
        of_noise[j] = 2.0 * (sums[o.total] if rules.shares_noise else max(sums[o.weight + j], 1e-9 * sums[o.total]))


cdef void _take(quasi_newton *quasi, const em_problem *s, const em_layout *o, const climb_rules *rules,
                const double *at, const double *sums) noexcept nogil:
    """The place that was reached, in the order of information.flat, and the gradient there."""
    cdef Py_ssize_t first_noise = s.n_experts * o.p + (s.n_experts - 1) * o.q, i
    _slope(s, o, rules, at, sums, quasi.slope)
    for i in range(quasi.size):
        quasi.place[i] = at[i] if i < first_noise else log(at[i])
    quasi_take(quasi)


cdef double _direction(quasi_newton *quasi, const em_problem *s, const em_layout *o, const climb_rules *rules,
                       const double *at) noexcept nogil:
    """The move from the last place taken; returns its gain to first order.

    Gate coefficients that are pressed, or taken along beyond their limit, are left out of `slope` and `move`, as in
    em._step_along; `last_slope` has all.
    """
    cdef Py_ssize_t n_expert = s.n_experts * o.p, first_noise = n_expert + (s.n_experts - 1) * o.q, i
    cdef bint taken_along = True
    for i in range(n_expert, first_noise):
        if _is_pressed(at[i], quasi.last_slope[i], rules):
            quasi.slope[i] = 0.0
    while taken_along:
        quasi_direction(quasi)
        taken_along = False
        for i in range(n_expert, first_noise):
            if fabs(at[i]) >= rules.gate_limit and quasi.slope[i] == 0.0:
                quasi.move[i] = 0.0
            elif _is_pressed(at[i], quasi.move[i], rules):
                quasi.slope[i] = 0.0
                taken_along = True
    return dot(quasi.move, quasi.slope, quasi.size)


cdef void _place_along(const quasi_newton *quasi, const em_problem *s, const em_layout *o, const climb_rules *rules,
                       const double *at, double fraction, double *there) noexcept nogil:
    """A fraction of the move, the gate within its limit, the noise e-fold at most: information.moved."""
    cdef Py_ssize_t n_expert = s.n_experts * o.p, first_noise = n_expert + (s.n_experts - 1) * o.q, i, of_move
    for i in range(n_expert):
        there[i] = at[i] + fraction * quasi.move[i]
    _place_gate(at + n_expert, quasi.move + n_expert, fraction, rules.gate_limit, first_noise - n_expert,
                there + n_expert)
    for i in range(first_noise, first_noise + s.n_experts):
        there[i] = at[i]
        if rules.moves_noise:
            of_move = first_noise if rules.shares_noise else i
            there[i] *= exp(min(max(fraction * quasi.move[of_move], -1.0), 1.0))


def vector_exp(const double[::1] x, double[::1] out):
    """exp of the kernels, for tests; sizes must be a multiple of 8."""
    em_kernels_for(ISA).exp(&x[0], x.shape[0], &out[0])


def vector_log(const double[::1] x, double[::1] out):
    """log of the kernels, for tests; sizes must be a multiple of 8."""
    em_kernels_for(ISA).log(&x[0], x.shape[0], &out[0])
