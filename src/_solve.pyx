"""Small symmetric systems, solved where a call into LAPACK would cost more than the work.

Cholesky with columns brought to one scale, so that a pivot is the squared sine of the angle between a column and the
span of those before it: what tells dependent columns.
"""

from libc.math cimport sqrt

cdef double VANISHING = 1e-30   # of the largest diagonal entry: a column without curvature, as of a gate that separates


def solve_small(
    const double[:, :, ::1] matrices,   # IN   (m, p, p), symmetric
    const double[:, ::1] right,         # IN   (m, p)
    double[:, ::1] solution,            # OUT  (m, p)
    double[:, ::1] lower,               # WORK (p, p)
    double[::1] size,                   # WORK (p,)
    double dependent,
):
    """Solve each system. Returns 0, or 1 + the index of the first that is not clearly positive definite."""
    cdef Py_ssize_t m = matrices.shape[0], p = matrices.shape[1], i
    with nogil:
        for i in range(m):
            if not _solve_one(&matrices[i, 0, 0], &right[i, 0], &solution[i, 0], &lower[0, 0], &size[0], p, dependent):
                break
        else:
            i = m
    return 0 if i == m else i + 1


cdef bint _solve_one(const double *matrix, const double *right, double *x, double *lower, double *size,
                     Py_ssize_t p, double dependent) noexcept nogil:
    cdef Py_ssize_t a, b, c
    cdef double total, largest = 0.0
    for a in range(p):
        if matrix[a * p + a] > largest:
            largest = matrix[a * p + a]
    for a in range(p):
        if not matrix[a * p + a] > VANISHING * largest:
            return False
        size[a] = 1.0 / sqrt(matrix[a * p + a])
    for a in range(p):
        for b in range(a + 1):
            total = matrix[a * p + b] * size[a] * size[b]
            for c in range(b):
                total = total - lower[a * p + c] * lower[b * p + c]
            if a == b:
                if not total > dependent:
                    return False
                lower[a * p + a] = sqrt(total)
            else:
                lower[a * p + b] = total / lower[b * p + b]
    for a in range(p):
        total = right[a] * size[a]
        for c in range(a):
            total = total - lower[a * p + c] * x[c]
        x[a] = total / lower[a * p + a]
    for a in range(p - 1, -1, -1):
        total = x[a]
        for c in range(a + 1, p):
            total = total - lower[c * p + a] * x[c]
        x[a] = total / lower[a * p + a]
    for a in range(p):
        x[a] = x[a] * size[a]
    return True
