"""The grouped operations over areas (forward, error down, update in place): compiled where possible, else PyTorch.

`operations` picks an implementation for the tensors at hand; both compute the same up to rounding.
"""

from __future__ import annotations

from torch import Tensor

from . import native, pure
from .interface import Operations

_PURE, _NATIVE = pure.Pure(), native.Native()


def operations(weight: Tensor, rows: Tensor) -> Operations:
    """Returns what computes with this weight (slots, out, in) and these rows of a batch."""
    return _NATIVE if native.supports(weight, rows) else _PURE


__all__ = ["Operations", "operations"]
