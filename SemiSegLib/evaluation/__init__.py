"""Bringing predicted and reference masks together: which file belongs to which, and which class is which."""

from SemiSegLib.errors import SemiSegError


class EvaluationError(SemiSegError):
    """Predictions and references cannot be brought together."""
