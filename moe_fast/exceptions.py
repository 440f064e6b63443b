"""Warnings of the package's own."""

__all__ = ["ConvergenceWarning"]


class ConvergenceWarning(UserWarning):
    """A fit stopped before it converged, or ended at something other than what was asked for."""
