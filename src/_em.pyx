"""One pass of EM over the rows.

At given parameters a pass computes the log-likelihood and everything an M-step needs: shares, residual squares,
gradients and curvatures of the experts' and the gate's part of the EM objective, eq. (E.1)-(M.4) of docs/math.md;
or the second derivative of the log-likelihood, eq. (I.1). em_problem.h lists the sums and their layout.

The number of row blocks depends on the shapes alone; one thread sums a block in row order; block sums are added in
block order: same bits for every n_threads.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memset

ctypedef fused floating:
    float
    double

cdef extern from "isa.h" nogil:
    int isa_selected()
    double *aligned(double *) noexcept
    const Py_ssize_t ALIGNMENT

cdef extern from "blocks.h" nogil:
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
    const int WANT_EXPERT_GRAM, WANT_GATE_GRAM, WANT_INFORMATION, WANT_ENTROPY, WANT_MAJORISED, WANT_SINGLE

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
    cdef em_problem s
    cdef em_layout o
    cdef Py_ssize_t n_samples = X.shape[0], b, n_block, scratch_size
    cdef const em_kernels *kernels = em_kernels_for(ISA)
    memset(&s, 0, sizeof(s))
    s.n_samples, s.n_features, s.n_experts = n_samples, X.shape[1], expert.shape[0]
    s.is_float32 = sizeof(floating) == 4
    s.n_gate_features = X.shape[1] if Z is None else Z.shape[1]
    s.expert_intercept, s.gate_intercept = expert_intercept, gate_intercept
    s.activation, s.leak, s.want = activation, leak, want
    o = em_layout_of(&s)
    sums[:] = 0.0
    if n_samples == 0:
        return
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
    s.expert = &expert[0, 0]
    s.gate = &gate[0, 0] if gate.shape[0] and gate.shape[1] else NULL
    s.noise_std = &noise_std[0]
    if mean is not None:
        s.mean, s.slope = &mean[0, 0], &slope[0, 0]
    if bend is not None:
        s.bend = &bend[0, 0]
    if resp is not None:
        s.resp = &resp[0, 0]

    n_block = blocks_of(n_samples, o.size)
    scratch_size = em_scratch_rows(&s) * TILE_STRIDE
    n_threads = max(1, min(n_threads, n_block))
    cdef double *block_sums = &work[0]
    cdef double *scratch = aligned(&work[n_block * o.size])
    with nogil:
        memset(block_sums, 0, n_block * o.size * sizeof(double))
        # Dynamic: a busy core takes fewer blocks. Which thread sums a block has no effect on its bits.
        for b in prange(n_block, schedule="dynamic", chunksize=1, num_threads=n_threads,
                        use_threads_if=n_threads > 1):
            kernels.em_rows(&s, block_start(n_samples, n_block, b), block_start(n_samples, n_block, b + 1),
                            block_sums + b * o.size, scratch + threadid() * scratch_size)
        add_blocks(block_sums, n_block, o.size, &sums[0])
        if want & WANT_EXPERT_GRAM:
            _mirror(&sums[o.expert_gram], s.n_experts, o.p)
        if want & WANT_GATE_GRAM and s.n_experts > 1 and o.q:
            _mirror(&sums[o.gate_gram], s.n_experts * (s.n_experts - 1) // 2, o.q)
        if want & WANT_INFORMATION:
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


def vector_exp(const double[::1] x, double[::1] out):
    """exp of the kernels, for tests; sizes must be a multiple of 8."""
    em_kernels_for(ISA).exp(&x[0], x.shape[0], &out[0])


def vector_log(const double[::1] x, double[::1] out):
    """log of the kernels, for tests; sizes must be a multiple of 8."""
    em_kernels_for(ISA).log(&x[0], x.shape[0], &out[0])
