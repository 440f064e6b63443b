"""Small symmetric systems, solved where a call into LAPACK would cost more than the work: solve.h, many at a time."""

cdef extern from "solve.h" nogil:
    int solve_symmetric(const double *matrix, const double *right, double *x, double *upper, double *size,
                        Py_ssize_t p, double dependent) noexcept


def solve_small(
    const double[:, :, ::1] matrices,   # IN   (m, p, p), symmetric
    const double[:, ::1] right,         # IN   (m, p)
    double[:, ::1] solution,            # OUT  (m, p)
    int[::1] left_out,                  # OUT  (m,): columns of each that depend on others; 0: clearly definite
    double[:, ::1] upper,               # WORK (p, p)
    double[::1] size,                   # WORK (p,)
    double dependent,
):
    """Solve each system."""
    cdef Py_ssize_t m = matrices.shape[0], p = matrices.shape[1], i
    with nogil:
        for i in range(m):
            left_out[i] = solve_symmetric(
                &matrices[i, 0, 0], &right[i, 0], &solution[i, 0], &upper[0, 0], &size[0], p, dependent
            )
