"""PyTorch's norms, whose factors and summands come as tensors, so that they can learn as such."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.InstanceNorm1d, nn.InstanceNorm2d)
"""Norms that treat every sample alone."""


class ScaledNorm(nn.Module):
    """``y = g (x - mean) / sqrt(variance + eps) + b``, or ``y = g x / rms``: one of `NORMS` as an operation of x, g, b.

    The error below is that of the norm, of ``g e``: a unit knows its own factor, and no weight of another layer is
    transported. PyTorch has one kernel for all three derivatives; a norm without weights, and an `affine` behind it,
    would go through the values five times more.
    """

    def __init__(self, norm: Any) -> None:
        """Takes the settings of a norm, not its weights."""
        super().__init__()
        self.norm = deepcopy(norm)
        self.norm.weight = self.norm.bias = None

    def forward(self, x: Tensor, gain: Tensor, shift: Tensor | None = None) -> Tensor:
        """Takes x as the norm does, factors and summands in the shape of its weights; returns the shape of x."""
        norm = self.norm
        if isinstance(norm, nn.GroupNorm):
            return functional.group_norm(x, norm.num_groups, gain, shift, norm.eps)
        if isinstance(norm, nn.LayerNorm):
            return functional.layer_norm(x, norm.normalized_shape, gain, shift, norm.eps)
        if isinstance(norm, nn.RMSNorm):
            return functional.rms_norm(x, norm.normalized_shape, gain, norm.eps)
        return functional.instance_norm(x, weight=gain, bias=shift, eps=norm.eps)
