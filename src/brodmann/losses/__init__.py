"""Losses: the only global signal. Those of this package, and adapters for all others."""

from .adapters import as_loss
from .builtin import LOSSES, BinaryCrossEntropy, CrossEntropy, Loss, MeanSquaredError, SumOfSquares

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Loss",
    "MeanSquaredError",
    "SumOfSquares",
    "as_loss",
]
