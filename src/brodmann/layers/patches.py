"""Patches: the parts of images under a sliding window, as rows. A convolution is this and an `AreaLinear`."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from ..autograd import unrecorded
from ..checks import check_tensors, check_whole
from ..errors import BrodmannError
from ..layer import Context, Layer
from ..routing import Chosen

Pair = int | tuple[int, int]
"""A number for the height and one for the width, or one for both."""


class Patches(Layer):
    """Every patch of an image under a sliding window, as one row.

    ``y[n, i, j, (a, b, c)] = x[n, i s + a d - p, j s + b d - p, c]``, 0 beyond the border: x (samples, height, width,
    channels), y (samples, rows, columns, k * k * channels) with ``rows = (height + 2 p - d (k - 1) - 1) // s + 1``,
    columns likewise; k the size, s the stride, p the padding, d the dilation, each of which may differ between height
    and width. An `AreaLinear` on top maps every patch alike, which is a convolution; under a `Routed` all patches of an
    image follow the image's area.

    The error below is that of the transposed map: each pixel gets the sum over the patches that hold it. Channels come
    last, since layers map the last dimension; `ChannelsLast` brings PyTorch's operations for images, such as pooling.
    """

    def __init__(self, size: Pair, *, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1) -> None:
        """Stores the window.

        Args:
            size: Height and width of the window, k.
            stride: Pixels from one window to the next, s. Default 1.
            padding: Zeros around the image, p. Default 0.
            dilation: Pixels from one pixel of a window to the next, d. Default 1.

        Raises:
            BrodmannError: A number is not whole, or too small.
        """
        super().__init__()
        self.size = _pair("size", size, least=1)
        self.stride = _pair("stride", stride, least=1)
        self.padding = _pair("padding", padding, least=0)
        self.dilation = _pair("dilation", dilation, least=1)

    def fits(self, x: Tensor) -> bool:
        """Whether these are images, (samples, height, width, channels), no smaller than the window."""
        return x.ndim == 4 and min(self._spare(*x.shape[1:3])) >= 0

    def _spare(self, height: int, width: int) -> list[int]:
        """Returns how many pixels an image, with its padding, is higher and wider than a window."""
        settings = zip((height, width), self.size, self.padding, self.dilation, strict=True)
        return [extent + 2 * padding - dilation * (size - 1) - 1 for extent, size, padding, dilation in settings]

    def places(self, height: int, width: int) -> tuple[int, int]:
        """Returns how many rows and columns of patches an image has, see `fits`."""
        down, across = (
            spare // stride + 1 for spare, stride in zip(self._spare(height, width), self.stride, strict=True)
        )
        return down, across

    def forward(self, x: Tensor, choice: Chosen = None) -> Tensor:
        """Inference: x (samples, height, width, channels); returns (samples, rows, columns, k * k * channels)."""
        check_tensors(x=x)
        if not self.fits(x):
            high, wide = (d * (k - 1) + 1 for k, d in zip(self.size, self.dilation, strict=True))
            raise BrodmannError(
                f"Expected images (samples, height, width, channels) of at least {high} x {wide} pixels, including "
                f"their padding of {_as_text(self.padding)}, got {tuple(x.shape)}."
            )
        windows = functional.pad(x, (0, 0, self.padding[1], self.padding[1], self.padding[0], self.padding[0]))
        for axis, (size, stride, dilation) in enumerate(zip(self.size, self.stride, self.dilation, strict=True), 1):
            windows = windows.unfold(axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
        return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)  # from (samples, rows, columns, channels, k, k)

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, torch.Size]:
        """Learning forward pass; remembers the shape of the input."""
        return self(x), x.shape

    @unrecorded
    def learn(self, trace: Any, error: Tensor, context: Context) -> Tensor | None:
        """Adds the error of every patch, (samples, rows, columns, k * k * channels), to the pixels that it holds."""
        return self.added_up(error, trace)

    def added_up(self, patches: Tensor, images: tuple[int, ...]) -> Tensor:
        """Returns images of this shape, of which each pixel is the sum over the patches that hold it, as in `learn`."""
        samples, height, width, channels = images
        _, rows, columns, _ = patches.shape
        (top, left), (down, across), (apart, aside) = self.padding, self.stride, self.dilation
        whole = patches.new_zeros(samples, height + 2 * top, width + 2 * left, channels)
        by_place = patches.reshape(samples, rows, columns, *self.size, channels)
        for i, j in product(*map(range, self.size)):
            high = slice(i * apart, i * apart + down * (rows - 1) + 1, down)
            wide = slice(j * aside, j * aside + across * (columns - 1) + 1, across)
            whole[:, high, wide] += by_place[:, :, :, i, j]
        return whole[:, top : top + height, left : left + width]

    def mapped(self, x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        """Returns every patch under one map, ``self(x) @ matrix.T + bias``, without making patches: a convolution.

        Takes x (samples, height, width, channels), matrix (out, k * k * channels) and bias (out,); returns (samples,
        rows, columns, out).
        """
        kernel = self._kernel(matrix, x, x.shape[3])
        y = functional.conv2d(x.permute(0, 3, 1, 2), kernel, bias, self.stride, self.padding, self.dilation)
        return y.permute(0, 2, 3, 1).contiguous()

    def gradient(self, x: Tensor, error: Tensor) -> Tensor:
        """Returns the gradient of the matrix of `mapped`, likewise: the sum of ``error patch^T`` over all patches.

        Takes x as there and error (samples, rows, columns, out); returns (out, k * k * channels).
        """
        planes, errors = x.permute(0, 3, 1, 2), error.permute(0, 3, 1, 2)
        form = (error.shape[3], x.shape[3], *self.size)
        of_kernel: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
            planes, form, errors, self.stride, self.padding, self.dilation
        )
        return of_kernel.permute(0, 2, 3, 1).flatten(1)

    def error_through(self, matrix: Tensor, error: Tensor, trace: torch.Size) -> Tensor:
        """Returns what `learn` does with ``error @ matrix``, without the errors of patches: a transposed convolution.

        Takes matrix (out, k * k * channels), error (samples, rows, columns, out) and what `trace` remembered.
        """
        _, height, width, channels = trace
        kernel = self._kernel(matrix, error, channels)
        # Pixels that lie beyond the last patch.
        left_over = [spare % stride for spare, stride in zip(self._spare(height, width), self.stride, strict=True)]
        planes = error.permute(0, 3, 1, 2)
        below = functional.conv_transpose2d(
            planes, kernel, None, self.stride, self.padding, left_over, dilation=self.dilation
        )
        return below.permute(0, 2, 3, 1)

    def _kernel(self, matrix: Tensor, rows: Tensor, channels: int) -> Tensor:
        """Returns a matrix (out, k * k * channels) as PyTorch's convolutions take it, in the dtype of the rows."""
        return matrix.to(rows.dtype).reshape(-1, *self.size, channels).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        dilated = "" if self.dilation == (1, 1) else f", dilation={_as_text(self.dilation)}"
        return f"{_as_text(self.size)}, stride={_as_text(self.stride)}, padding={_as_text(self.padding)}{dilated}"


def _pair(name: str, value: Any, *, least: int) -> tuple[int, int]:
    """Returns a number as a pair, or a pair as it is, once checked."""
    pair = value if isinstance(value, tuple) and len(value) == 2 else (value, value)
    for part in pair:
        check_whole(least, **{name: part})
    return int(pair[0]), int(pair[1])


def _as_text(pair: tuple[int, int]) -> str:
    """Returns a pair as messages show it: one number if both are equal."""
    return str(pair[0]) if pair[0] == pair[1] else str(pair)
