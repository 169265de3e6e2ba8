"""Counterparts: the layer that stands for a step of a PyTorch network, and starts as it is."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .constant import Constant, affine
from .containers import Sequential
from .errors import BrodmannError
from .graph import Graph
from .layers import Layer
from .local import Local, Sum
from .parts import Parts
from .patches import ChannelsLast, Patches
from .steps import Step, said
from .transformers import linear_of

MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.InstanceNorm1d, nn.InstanceNorm2d)
"""Norms that treat every sample alone; their factors and summands become an `affine`."""
ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Dropout, Sum)
"""Operations to which it is all one where the channels lie."""


def counterpart(step: Step, parts: Parts, *, lowest: bool) -> Layer:
    """Returns the layer that stands for a step; a map that is ``lowest`` gets no feedback.

    Between layers, tensors of four dimensions lie as images do, with PyTorch's second dimension last.

    Raises:
        BrodmannError: There is none.
    """
    operation, ndim = step.operation, step.after.ndim
    if isinstance(operation, Tensor):
        learns = isinstance(operation, nn.Parameter) and operation.is_floating_point()
        return Constant(channels_last(operation.detach()), parts.rule if learns else None)
    if isinstance(operation, nn.Linear):
        linear = parts.layer(operation.in_features, operation.out_features, lowest=lowest, start=operation)
        if ndim != 4:
            return linear
        # It maps the last dimension as PyTorch counts.
        return Sequential(Local(partial(torch.movedim, source=-1, destination=1)), linear, Local(channels_last))
    if isinstance(operation, nn.Conv1d | nn.Conv2d):
        start = _of_patches(operation)
        size = start.in_features, start.out_features
        convolution = parts.convolution(_window(operation), *size, lowest=lowest, start=start)
        if isinstance(operation, nn.Conv2d):
            return convolution
        return Sequential(Local(_as_image), convolution, Local(_as_sequence))
    if isinstance(operation, _BatchNorm):
        return _fixed(operation, ndim, parts)
    if isinstance(operation, NORMS) and operation.weight is not None:
        gain, shift = _laid(operation.weight, operation, ndim), getattr(operation, "bias", None)
        shift = None if shift is None else _laid(shift, operation, ndim)
        return Sequential(_local(_without_weights(operation), step), affine(gain, shift, parts.rule))
    if any(True for _ in operation.parameters()):
        raise BrodmannError(
            f"{said(operation)} cannot be converted: of layers with parameters maps and norms alone can."
        )
    return _local(operation, step)


def channels_last(value: Tensor) -> Tensor:
    """Returns a tensor as it lies between layers."""
    return value.movedim(1, -1) if value.ndim == 4 else value


def _local(operation: nn.Module, step: Step) -> Local:
    """Returns an operation without parameters, which is given tensors as PyTorch lays them."""
    moved = any(value.ndim == 4 for value in (*step.before, step.after)) and type(operation) not in ELEMENTWISE
    try:
        return Local(ChannelsLast(operation) if moved else operation)
    except BrodmannError as error:
        raise BrodmannError(f"{said(operation)} cannot be converted: {error}") from None


def _without_weights(norm: Any) -> nn.Module:
    """Returns a norm alone, without its factors and summands."""
    plain = deepcopy(norm)
    plain.weight = plain.bias = None
    return plain  # type: ignore[no-any-return]


def _laid(value: Tensor, norm: nn.Module, ndim: int) -> Tensor:
    """Returns numbers of a norm in the shape in which they meet what comes to it between layers."""
    whole = isinstance(norm, nn.LayerNorm | nn.RMSNorm)  # theirs are those of the last dimensions, others' of channels
    shape = (1,) * (ndim - value.ndim) + tuple(value.shape) if whole else (1, len(value)) + (1,) * (ndim - 2)
    return channels_last(value.detach().reshape(shape))[0]


def _fixed(norm: _BatchNorm, ndim: int, parts: Parts) -> Graph:
    """Returns what a batch norm does at inference: a factor and a summand for each channel."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise BrodmannError(
            f"{norm} cannot be converted, since it mixes the samples of a batch at inference too: let it track its "
            "running statistics, or take another norm."
        )
    gain = torch.rsqrt(variance + norm.eps)
    if norm.affine:
        gain = gain * norm.weight
    shift = -gain * mean + (norm.bias if norm.affine else 0.0)
    return affine(_laid(gain, norm, ndim), _laid(shift, norm, ndim), parts.rule if norm.affine else None)


def _window(conv: nn.Conv1d | nn.Conv2d) -> Patches:
    """Returns the window of a convolution; that of sequences is one pixel high."""
    size, stride, padding, dilation = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    around = [step * (extent - 1) for extent, step in zip(size, dilation, strict=True)]  # in all, for "same"
    lopsided = padding == "same" and any(pixels % 2 for pixels in around)
    if lopsided or conv.groups != 1 or conv.padding_mode != "zeros":
        raise BrodmannError(
            f"{conv} cannot be converted: expected one group, and a padding of zeros that is equal on both sides."
        )
    if isinstance(padding, str):
        padding = tuple(pixels // 2 if padding == "same" else 0 for pixels in around)
    return Patches(_pair(size, 1), stride=_pair(stride, 1), padding=_pair(padding, 0), dilation=_pair(dilation, 1))


def _pair(numbers: tuple[int, ...], first: int) -> tuple[int, int]:
    """Returns numbers for height and width, ``first`` for the height where there is none."""
    height, width = numbers if len(numbers) == 2 else (first, *numbers)
    return height, width


def _of_patches(conv: nn.Conv1d | nn.Conv2d) -> nn.Linear:
    """Returns a convolution's weights, (out, in, [k,] k), as a map of patches, (out, [k *] k * in)."""
    return linear_of(conv.weight.movedim(1, -1).flatten(1), conv.bias)


def _as_image(x: Tensor) -> Tensor:
    """Returns sequences (samples, channels, length) as images (samples, 1, length, channels)."""
    return x.transpose(1, 2).unsqueeze(1)


def _as_sequence(x: Tensor) -> Tensor:
    """Returns images (samples, 1, length, channels) as sequences (samples, channels, length)."""
    return x.squeeze(1).transpose(1, 2)
