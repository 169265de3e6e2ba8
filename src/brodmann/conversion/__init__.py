"""Conversion: a PyTorch network is followed step by step, and becomes layers of areas that start as it is."""

from .from_torch import from_torch

__all__ = [
    "from_torch",
]
