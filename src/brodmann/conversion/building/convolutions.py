"""Convolutions of PyTorch: which are one map of patches, and the functions that all others are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from ...layers import Patches
from ..modules import function_of


def is_of_patches(conv: _ConvNd) -> bool:
    """Whether a convolution is one map of all patches, and its padding zeros, equally many on both sides."""
    plain = isinstance(conv, nn.Conv1d | nn.Conv2d) and conv.groups == 1 and conv.padding_mode == "zeros"
    return plain and all(before == behind for before, behind in _around(conv))


def _around(conv: _ConvNd) -> list[tuple[int, int]]:
    """Returns how many pixels a convolution pads before and behind, for each dimension."""
    if not isinstance(conv.padding, str):
        return [(pixels, pixels) for pixels in conv.padding]
    windows = zip(conv.kernel_size, conv.dilation, strict=True)
    more = [step * (size - 1) if conv.padding == "same" else 0 for size, step in windows]
    return [(pixels // 2, pixels - pixels // 2) for pixels in more]


def window_of(conv: _ConvNd) -> Patches:
    """Returns the window of a convolution; that of sequences is one pixel high."""
    size, stride, dilation = conv.kernel_size, conv.stride, conv.dilation
    padding = tuple(before for before, _ in _around(conv))
    return Patches(
        _of_plane(size, 1), stride=_of_plane(stride, 1), padding=_of_plane(padding, 0), dilation=_of_plane(dilation, 1)
    )


def padded_function_of(conv: _ConvNd) -> Callable[..., Tensor]:
    """Returns the function of an input and weights that a convolution is, whatever its padding, without its biases."""
    function, settings = function_of(conv)
    lopsided = any(before != behind for before, behind in _around(conv))
    if conv.padding_mode == "zeros" and not lopsided:
        return partial(function, **settings)
    around = [pixels for both in reversed(_around(conv)) for pixels in both]
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    return partial(_padded, partial(function, **settings | {"padding": 0}), around, mode)


def _padded(
    function: Callable[[Tensor, Tensor], Tensor], around: list[int], mode: str, x: Tensor, weight: Tensor
) -> Tensor:
    return function(functional.pad(x, around, mode=mode), weight)


def _of_plane(numbers: tuple[int, ...], first: int) -> tuple[int, int]:
    """Returns numbers for height and width, ``first`` for the height if there is none."""
    height, width = numbers if len(numbers) == 2 else (first, *numbers)
    return height, width


def as_image(x: Tensor) -> Tensor:
    """Returns sequences (samples, channels, length) as images (samples, 1, length, channels)."""
    return x.transpose(1, 2).unsqueeze(1)


def as_sequence(x: Tensor) -> Tensor:
    """Returns images (samples, 1, length, channels) as sequences (samples, channels, length)."""
    return x.squeeze(1).transpose(1, 2)
