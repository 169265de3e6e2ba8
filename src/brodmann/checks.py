"""What layers and routers check of their input before they compute."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import BrodmannError


def check_input(x: Tensor, weight: Tensor) -> None:
    """Checks that a map can be applied to an input: x (..., in), weight (..., out, in).

    Raises:
        BrodmannError: The size or the kind of number does not fit. Weights stored as bfloat16 take float32.
    """
    if x.shape[-1] != weight.shape[-1]:
        raise BrodmannError(f"Expected an input of shape (..., {weight.shape[-1]}), got {tuple(x.shape)}.")
    expected = torch.float32 if weight.dtype == torch.bfloat16 else weight.dtype
    if x.dtype != expected:
        raise BrodmannError(
            f"Expected an input of {expected}, as the weights are, got {x.dtype}: convert it with x.to({expected}), or "
            "the network with .to(...)."
        )
