"""Tensor power iteration on a symmetric k x k x k tensor: all restarts at once.

v <- T(I, v, v) / ||T(I, v, v)||, Anandkumar et al., JMLR 15 (2014), Algorithm 1; eq. (S.8) of docs/math.md.
k is small (two to twelve experts), so that the whole of it costs less than one pass over a thousand rows.
"""

from libc.math cimport sqrt


cdef void _step(const double *T, Py_ssize_t k, double *v, double *image) noexcept nogil:
    """v <- T(I, v, v), normalised; v stays where that is zero."""
    cdef Py_ssize_t a, b, c
    cdef double norm = 0.0, total, inner
    for a in range(k):
        total = 0.0
        for b in range(k):
            inner = 0.0
            for c in range(k):
                inner = inner + T[(a * k + b) * k + c] * v[c]
            total = total + v[b] * inner
        image[a] = total
        norm += total * total
    if norm > 0.0:
        norm = sqrt(norm)
        for a in range(k):
            v[a] = image[a] / norm


cdef double _form(const double *T, Py_ssize_t k, const double *v) noexcept nogil:
    """T(v, v, v)"""
    cdef Py_ssize_t a, b, c
    cdef double total = 0.0
    for a in range(k):
        for b in range(k):
            for c in range(k):
                total += T[(a * k + b) * k + c] * v[a] * v[b] * v[c]
    return total


def power_iteration(
    const double[:, :, ::1] T,     # IN    (k, k, k), symmetric
    double[:, ::1] v,              # INOUT (n_restarts, k): unit vectors
    double[::1] value,             # OUT   (n_restarts,): T(v, v, v) at the vectors returned
    double[::1] work,              # WORK  (k,)
    int n_iter,
):
    """n_iter power steps from every row of v."""
    cdef Py_ssize_t k = v.shape[1], n_restarts = v.shape[0], restart
    cdef int _step_number
    if k == 0 or n_restarts == 0:
        return
    with nogil:
        for restart in range(n_restarts):
            for _step_number in range(n_iter):
                _step(&T[0, 0, 0], k, &v[restart, 0], &work[0])
            value[restart] = _form(&T[0, 0, 0], k, &v[restart, 0])
