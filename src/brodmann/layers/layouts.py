"""Layouts of images: channels last between layers, channels first in PyTorch's operations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..checks import check_tensors, check_whole
from ..errors import BrodmannError


class ChannelsLast(nn.Module):
    """Applies one of PyTorch's operations for images, (samples, channels, height, width), to channels that come last.

    Example: ``Local(ChannelsLast(nn.MaxPool2d(2)))``. Tensors of other dimensions come and go as they are: the output
    of ``nn.Flatten()`` is then in PyTorch's order, and ``nn.Unflatten`` makes images whose channels come last.
    """

    def __init__(self, operation: nn.Module) -> None:
        """Wraps an operation without parameters. `Local` checks that, not this class: use it inside one."""
        super().__init__()
        self.operation = operation

    def forward(self, *x: Tensor) -> Tensor:
        """Takes x (samples, height, width, channels), or several such tensors; returns the same order."""
        result: Tensor = self.operation(*(part.permute(0, 3, 1, 2) if part.ndim == 4 else part for part in x))
        return result.permute(0, 2, 3, 1) if result.ndim == 4 else result


class Images(nn.Module):
    """Brings images, (samples, channels, height, width) or flat, into the form (samples, height, width, channels)."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        """Stores the shape of an image."""
        super().__init__()
        check_whole(channels=channels, height=height, width=width)
        self.channels, self.height, self.width = channels, height, width

    def forward(self, x: Tensor) -> Tensor:
        """Takes images, (samples, channels, height, width) or flat; returns (samples, height, width, channels).

        Raises:
            BrodmannError: Samples are of another size.
        """
        check_tensors(x=x)
        shape, size = (self.channels, self.height, self.width), self.channels * self.height * self.width
        if x.shape[1:] not in (torch.Size([size]), torch.Size(shape)):
            last = tuple(x.shape[1:]) == (self.height, self.width, self.channels)
            hint = ": bring channels to the front, as by x.movedim(-1, 1)" if last else ""
            raise BrodmannError(
                f"Expected images (samples, {size}) or (samples, {', '.join(map(str, shape))}), got {tuple(x.shape)}"
                f"{hint}."
            )
        return x.reshape(-1, self.channels, self.height, self.width).movedim(1, -1)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"{self.channels}, {self.height}, {self.width}"
