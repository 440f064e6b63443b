"""Warnings of the package's own."""

__all__ = ["CollinearityWarning", "ConvergenceWarning"]


class CollinearityWarning(UserWarning):
    """Some columns are constant or combinations of others, so that their coefficients cannot be told apart."""


class ConvergenceWarning(UserWarning):
    """A fit stopped before it converged, or ended at something other than what was asked for."""
