"""The grouped operations over areas (forward, error down, update in place): compiled where possible, else PyTorch.

`operations` picks an implementation for the tensors at hand; both compute the same up to rounding.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from ..errors import warn
from .groups import Groups
from .interface import Operations, Target, known_rule
from .library import supports
from .native import Native
from .pure import PURE
from .served import Served

_NATIVE = Native()


def operations(weight: Tensor, rows: Tensor) -> Operations:
    """Returns what computes with this weight (slots, out, in) and these rows of a batch."""
    if supports(weight, rows):
        return _NATIVE
    return _on_cuda() if weight.is_cuda and rows.dtype == torch.float32 and weight.is_contiguous() else PURE


@cache
def _on_cuda() -> Operations:
    """Returns the Triton kernels, or pure PyTorch if Triton is missing, which it warns of once."""
    try:
        from .cuda import Cuda
    except ImportError as error:
        warn(
            f"Brodmann computes in pure PyTorch on this GPU, area by area: {error}. Install triton.",
            RuntimeWarning,
        )
        return PURE
    return Cuda()


__all__ = ["Groups", "Served", "Target", "known_rule", "operations"]
