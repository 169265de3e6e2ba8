"""PyTorch's norms, whose gains and shifts come as tensors, so that they can learn as such."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...layers.local import WithPullBack


class ScaledNorm(nn.Module):
    """``y = g (x - mean) / sqrt(variance + eps) + b``, or ``y = g x / rms``: one of `NORMS` as an operation of x, g, b.

    The error below is that of the norm, of ``g e``: a unit knows its own factor, and no weight of another layer is
    transported. PyTorch has one kernel for all three derivatives; a norm without weights, and an `affine` after it,
    would go through the values five times more.
    """

    def __init__(self, norm: Any) -> None:
        """Takes the settings of a norm, not its weights."""
        super().__init__()
        self.norm = deepcopy(norm)
        self.norm.weight = self.norm.bias = None

    def forward(self, x: Tensor, gain: Tensor, shift: Tensor | None = None) -> Tensor:
        """Takes x as the norm does, gains and shifts in the shape of its weights; returns the shape of x."""
        norm = self.norm
        if isinstance(norm, nn.GroupNorm):
            return functional.group_norm(x, norm.num_groups, gain, shift, norm.eps)
        if isinstance(norm, nn.LayerNorm):
            return functional.layer_norm(x, norm.normalized_shape, gain, shift, norm.eps)
        if isinstance(norm, nn.RMSNorm):
            return functional.rms_norm(x, norm.normalized_shape, gain, norm.eps)
        return functional.instance_norm(x, weight=gain, bias=shift, eps=norm.eps)


class ImageNorm(WithPullBack):
    """Group norm of images whose channels come last: ``y = g (x - mean) / sqrt(variance + eps) + b``.

    Mean and variance are those of a sample's pixels in a group of channels. PyTorch's own kernel takes two to fifteen
    times as long if channels come last (docs/log.md). With ``n = (x - mean) / sqrt(variance + eps)`` the errors are
    ``sum n e`` of g, ``sum e`` of b, and below ``(g e - mean(g e) - n mean(g e n)) / sqrt(variance + eps)``.
    """

    def __init__(self, groups: int, eps: float) -> None:
        """Takes the number of groups, and what is added to every variance."""
        super().__init__()
        self.groups, self.eps = groups, eps

    def forward(self, x: Tensor, gain: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Takes x (samples, ..., channels), gains and shifts (channels,); returns the shape of x."""
        apart, root = self._parts(x)
        return self._scaled(apart, root, gain, shift).view(x.shape)

    def with_pull_back(self, x: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
        """See `WithPullBack`: of x alone, of x and g, or of x, g and b."""
        x, gain, shift = (*((x,) if isinstance(x, Tensor) else x), None, None)[:3]
        shape = x.shape
        apart, root = self._parts(x)  # (samples, pixels, channels), (samples, 1, channels)

        def pull_back(error: Tensor) -> Any:
            error = error.reshape(apart.shape)
            sums, along = error.sum(1, keepdim=True), torch.linalg.vecdot(error, apart, dim=1)[:, None] * root
            scale, of_all, of_along = root, sums, along
            if gain is not None:
                scale, of_all, of_along = root * gain, sums * gain, along * gain
            pixels = apart.shape[1]
            of_all, of_along = root * self._mean(of_all, pixels), root * root * self._mean(of_along, pixels)
            below = torch.addcmul(-of_all, error, scale).addcmul_(apart, -of_along).view(shape)
            if gain is None:
                return below
            return below, along.sum((0, 1)), *(() if shift is None else (sums.sum((0, 1)),))

        return self._scaled(apart, root, gain, shift).view(shape), pull_back

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns ``x - mean``, (samples, pixels, channels), and ``1 / sqrt(variance + eps)`` of each channel."""
        rows = x.reshape(x.shape[0], -1, x.shape[-1])
        apart = rows - self._mean(rows.sum(1, keepdim=True), rows.shape[1])
        variance = self._mean(torch.linalg.vecdot(apart, apart, dim=1)[:, None], rows.shape[1])
        return apart, torch.rsqrt(variance + self.eps)

    def _mean(self, sums: Tensor, pixels: int) -> Tensor:
        """Returns the mean of each group, for each of its channels, from sums over pixels, (samples, 1, channels)."""
        of_groups = sums.view(*sums.shape[:2], self.groups, -1)
        return of_groups.mean(-1, keepdim=True).div(pixels).expand_as(of_groups).reshape(sums.shape)

    @staticmethod
    def _scaled(apart: Tensor, root: Tensor, gain: Tensor | None, shift: Tensor | None) -> Tensor:
        scale = root if gain is None else root * gain
        return apart * scale if shift is None else torch.addcmul(shift, apart, scale)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"{self.groups}, eps={self.eps}"
