"""Backpropagation by PyTorch autograd and torch.optim: the baseline that every result is compared with."""

from .backpropagation import Backpropagation
from .twins import in_proportion, matching_width

__all__ = ["Backpropagation", "in_proportion", "matching_width"]
