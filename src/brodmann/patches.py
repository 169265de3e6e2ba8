"""Patches: the parts of images under a sliding window, as rows. A convolution is this and an `AreaLinear`."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .checks import check_tensors, check_whole
from .errors import BrodmannError
from .graphs import unrecorded
from .layers import Context, Layer
from .routes import Choice, Route


class Patches(Layer):
    """Every patch of an image under a sliding window, as one row.

    ``y[n, i, j, (a, b, c)] = x[n, i s + a - p, j s + b - p, c]``, 0 beyond the border: x (samples, height, width,
    channels), y (samples, rows, columns, k * k * channels) with ``rows = (height + 2 p - k) // s + 1``, columns
    likewise; k the size, s the stride, p the padding. An `AreaLinear` on top maps every patch alike, which is a
    convolution; under a `Routed` all patches of an image follow the image's area.

    The error below is that of the transposed map: each pixel gets the sum over the patches that hold it. Channels come
    last, since layers map the last dimension; `ChannelsLast` brings PyTorch's operations for images, such as pooling.
    """

    def __init__(self, size: int, *, stride: int = 1, padding: int = 0) -> None:
        """Stores the window.

        Args:
            size: Height and width of the window, k.
            stride: Pixels from one window to the next, s. Default 1.
            padding: Zeros around the image, p. Default 0.

        Raises:
            BrodmannError: A number is not whole, or too small.
        """
        super().__init__()
        check_whole(size=size, stride=stride)
        check_whole(0, padding=padding)
        self.size, self.stride, self.padding = int(size), int(stride), int(padding)

    def forward(self, x: Tensor, choice: Route | Choice | None = None) -> Tensor:
        """Inference: x (samples, height, width, channels); returns (samples, rows, columns, k * k * channels)."""
        check_tensors(x=x)
        if x.ndim != 4 or min(x.shape[1:3]) + 2 * self.padding < self.size:
            raise BrodmannError(
                f"Expected images (samples, height, width, channels) of at least {self.size} x {self.size} pixels, "
                f"their padding of {self.padding} included, got {tuple(x.shape)}."
            )
        size, stride, padding = self.size, self.stride, self.padding
        padded = functional.pad(x, (0, 0, padding, padding, padding, padding))
        windows = padded.unfold(1, size, stride).unfold(2, size, stride)  # (samples, rows, columns, channels, k, k)
        return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, torch.Size]:
        """Learning forward pass; remembers the shape of the input."""
        return self(x), x.shape

    @unrecorded
    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor | None:
        """Adds the error of every patch, (samples, rows, columns, k * k * channels), to the pixels that it holds."""
        samples, height, width, channels = trace
        size, stride, padding = self.size, self.stride, self.padding
        _, rows, columns, _ = error.shape
        below = error.new_zeros(samples, height + 2 * padding, width + 2 * padding, channels)
        by_place = error.reshape(samples, rows, columns, size, size, channels)
        for i, j in product(range(size), repeat=2):
            down, across = slice(i, i + stride * rows, stride), slice(j, j + stride * columns, stride)
            below[:, down, across] += by_place[:, :, :, i, j]
        return below[:, padding : padding + height, padding : padding + width]

    def error_through(self, matrix: Tensor, error: Tensor, trace: torch.Size) -> Tensor:
        """Returns what `learn` does with ``error @ matrix``, without the errors of patches: a transposed convolution.

        Takes matrix (out, k * k * channels), error (samples, rows, columns, out) and what `trace` remembered.
        """
        size, stride, padding = self.size, self.stride, self.padding
        kernel = matrix.to(error.dtype).reshape(-1, size, size, trace[3]).permute(0, 3, 1, 2)
        left_over = [(extent + 2 * padding - size) % stride for extent in trace[1:3]]  # pixels that no patch begins at
        planes = error.permute(0, 3, 1, 2)
        below = functional.conv_transpose2d(planes, kernel, None, stride, padding, left_over)
        return below.permute(0, 2, 3, 1)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"{self.size}, stride={self.stride}, padding={self.padding}"


class ChannelsLast(nn.Module):
    """Applies one of PyTorch's operations for images, (samples, channels, height, width), to channels that come last.

    As in ``Local(ChannelsLast(nn.MaxPool2d(2)))``. Tensors of other dimensions come and go as they are: that of
    ``nn.Flatten()`` is then in PyTorch's order, and ``nn.Unflatten`` makes images whose channels come last.
    """

    def __init__(self, operation: nn.Module) -> None:
        """Wraps an operation without parameters."""
        super().__init__()
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        """Takes x (samples, height, width, channels); returns the same order."""
        result: Tensor = self.operation(x.permute(0, 3, 1, 2) if x.ndim == 4 else x)
        return result.permute(0, 2, 3, 1) if result.ndim == 4 else result


class Images(nn.Module):
    """Brings images, (samples, channels, height, width) or flat, into the form (samples, height, width, channels)."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        """Stores the shape of an image."""
        super().__init__()
        self.channels, self.height, self.width = channels, height, width

    def forward(self, x: Tensor) -> Tensor:
        """See the class.

        Raises:
            BrodmannError: Samples are of another size.
        """
        check_tensors(x=x)
        shape, size = (self.channels, self.height, self.width), self.channels * self.height * self.width
        if x.shape[1:] not in (torch.Size([size]), torch.Size(shape)):
            raise BrodmannError(
                f"Expected images (samples, {size}) or (samples, {', '.join(map(str, shape))}), got {tuple(x.shape)}."
            )
        return x.reshape(-1, self.channels, self.height, self.width).movedim(1, -1)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"{self.channels}, {self.height}, {self.width}"
