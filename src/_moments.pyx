"""Weighted moments of the rows: the score-function step.

With c_i a polynomial of y_i times a weight, one pass gives sum c x x' (the T2 of eq. (S.4) of docs/math.md) and one
more, along k directions, sum c v (x) v (x) v (the whitened T3 of eq. (S.6)), never anything of size d^3.

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

cdef extern from "moment_problem.h" nogil:   # and blocks.h, for its tiles
    const Py_ssize_t TILE_STRIDE, MOST_RIGHT
    Py_ssize_t blocks_of "n_blocks"(Py_ssize_t n_samples, Py_ssize_t size) noexcept
    Py_ssize_t block_start(Py_ssize_t n_samples, Py_ssize_t n_block, Py_ssize_t b) noexcept
    void add_blocks(const double *block_sums, Py_ssize_t n_block, Py_ssize_t size, double *sums) noexcept

cdef extern from "moment_problem.h" nogil:
    ctypedef struct moment_problem:
        Py_ssize_t n_features, n_directions
        int is_float32
        const void *X
        const double *y
        const double *weight
        double polynomial[4]
        const double *shift
        const double *scale
        const double *directions

    ctypedef void (*moment_function)(const moment_problem *, Py_ssize_t first, Py_ssize_t last,
                                     double *sums, double *scratch) noexcept nogil
    ctypedef struct moment_kernels:
        moment_function powers
        moment_function columns
        moment_function second
        moment_function third

    const moment_kernels *moment_kernels_for(int isa) noexcept

cdef const moment_kernels *KERNELS = moment_kernels_for(max(isa_selected(), 0))

COLUMNS, SECOND, THIRD, POWERS = range(4)


def sums_size(int order, Py_ssize_t n_features, Py_ssize_t n_directions):
    """Doubles that the sums of one order fill; moment_problem.h says how they lie."""
    d, k = n_features, n_directions
    return (2 * d + 1, d * d + d + 1, k * (k + 1) * (k + 2) // 6 + k + 1, 4)[order]


def work_size(int order, Py_ssize_t n_samples, Py_ssize_t n_features, Py_ssize_t n_directions, int n_threads):
    """Doubles of workspace that `moment_pass` needs."""
    size = sums_size(order, n_features, n_directions)
    blocks = blocks_of(n_samples, size)
    rows = n_features + 1 + max(MOST_RIGHT, 2 * n_directions + 1)
    return blocks * size + max(1, min(n_threads, blocks)) * rows * TILE_STRIDE + ALIGNMENT


def moment_pass(
    int order,                         # IN   COLUMNS, SECOND, THIRD or POWERS
    const floating[:, ::1] X,          # IN   (n_samples, n_features)
    const double[::1] y,               # IN   (n_samples,), or None: c is the weight alone
    const double[::1] weight,          # IN   (n_samples,), or None: all one
    const double[::1] polynomial,      # IN   (4,): c = weight * sum_m polynomial[m] y^m
    const double[:, ::1] standard,     # IN   (2, n_features): shift and scale of X's columns
    const double[:, ::1] directions,   # IN   (n_directions, n_features) for THIRD, else None
    double[::1] sums,                  # OUT  (sums_size(...),)
    double[::1] work,                  # WORK (work_size(...),)
    int n_threads,
):
    """Overwrite `sums` with the sums over all rows."""
    cdef moment_problem s
    cdef Py_ssize_t n_samples = X.shape[0], size = sums.shape[0], b, m, n_block, scratch_size
    cdef moment_function kernel
    sums[:] = 0.0
    if n_samples == 0:
        return
    memset(&s, 0, sizeof(s))
    s.n_features = X.shape[1]
    s.is_float32 = sizeof(floating) == 4
    s.X = &X[0, 0]
    if y is not None:
        s.y = &y[0]
    if weight is not None:
        s.weight = &weight[0]
    for m in range(4):
        s.polynomial[m] = polynomial[m]
    s.shift, s.scale = &standard[0, 0], &standard[1, 0]
    if directions is not None:
        s.n_directions, s.directions = directions.shape[0], &directions[0, 0]
    kernel = (KERNELS.columns if order == 0 else KERNELS.second if order == 1
              else KERNELS.third if order == 2 else KERNELS.powers)

    n_block = blocks_of(n_samples, size)
    scratch_size = (s.n_features + 1 + max(MOST_RIGHT, 2 * s.n_directions + 1)) * TILE_STRIDE
    n_threads = max(1, min(n_threads, n_block))
    cdef double *block_sums = &work[0]
    cdef double *scratch = aligned(&work[n_block * size])
    with nogil:
        # Dynamic: a busy core takes fewer blocks. Which thread sums a block has no effect on its bits.
        for b in prange(n_block, schedule="dynamic", chunksize=1, num_threads=n_threads,
                        use_threads_if=n_threads > 1):
            memset(block_sums + b * size, 0, size * sizeof(double))   # by the thread that will add to it
            kernel(&s, block_start(n_samples, n_block, b), block_start(n_samples, n_block, b + 1),
                   block_sums + b * size, scratch + threadid() * scratch_size)
        add_blocks(block_sums, n_block, size, &sums[0])
