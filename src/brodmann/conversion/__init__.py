"""Conversion: a PyTorch network is followed step by step, and becomes layers of areas that start as it is; and back."""

from .from_torch import from_torch
from .to_torch import to_torch

__all__ = [
    "from_torch",
    "to_torch",
]
