"""Counterparts: the layer that stands for a step of a PyTorch network, and starts out computing the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, singledispatch
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from ...builders import Parts
from ...errors import BrodmannError
from ...layer import Gathering, Layer, has_parameters
from ...layers import (
    BatchNorm,
    ChannelsLast,
    Constant,
    Recurrent,
    Sequential,
    TiedProduct,
    TiedWeights,
    affine,
)
from ...layers.graph import INPUT, Graph
from ...layers.local import Local, Sum
from ...layers.weights import NoWayDownError
from ..following.recurrent import Recurrence
from ..modules import NORMS, linear_of, module_text
from ..rewriting.batch_norms import FixedNorm, KeptNorm
from ..steps.computation import Step, Tied, Weighted
from .convolutions import as_image, as_sequence, is_of_patches, padded_function_of, window_of
from .norms import ImageNorm, ScaledNorm

ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Dropout, Sum)
"""Operations that do not depend on the place of the channels."""


def counterpart(step: Step, parts: Parts, output_rows: int, *, lowest: bool) -> Layer:
    """Returns the layer that stands for a step; a map that is ``lowest`` gets no feedback.

    It is frozen, and has one area, if none of the step's parameters asks for a gradient.

    Between layers, tensors of four dimensions lie as images do, with PyTorch's second dimension last.

    Args:
        step: The step.
        parts: What layers have in common.
        output_rows: Rows of outputs that the network has for each sample.
        lowest: Whether no layer below learns.

    Raises:
        BrodmannError: There is no such layer.
    """
    frozen = _is_frozen(step)
    if frozen or not step.rows_per_sample:  # then there is no sample by which to choose
        parts = replace(parts, areas=1, routing="network")
    with _named(step):
        layer = _layer_of(step.operation, _Place(step, parts, output_rows, lowest))
    if frozen:
        for part in layer.modules():
            if isinstance(part, Gathering):  # not a batch norm, whose statistics go on
                part.frozen_here = True
    return layer


@contextmanager
def _named(step: Step) -> Iterator[None]:
    """Lets an error say which step of the model no feedback passes."""
    try:
        yield
    except NoWayDownError as error:
        raise BrodmannError(f"At '{step.name}': {error}") from None


def _is_frozen(step: Step) -> bool:
    """Whether a step has parameters, none of which asks for a gradient."""
    operation = step.operation
    held = [operation] if isinstance(operation, Tensor) else list(operation.parameters())
    return bool(held) and not any(part.requires_grad for part in held)


def tied_weights(step: Step, parts: Parts) -> TiedWeights:
    """Returns weights that several products share."""
    with _named(step):
        weights = parts.tied_weights(step.output.detach())
    weights.frozen = _is_frozen(step)
    return weights


def tied_product(step: Step, weights: TiedWeights, *, lowest: bool) -> TiedProduct:
    """Returns a product by weights that others use too; one that is ``lowest`` sends no error down."""
    assert isinstance(step.operation, Tied)
    return TiedProduct(_as_laid(step.operation.product, step), weights, lowest=lowest)


class _Place(NamedTuple):
    """Where a layer is to stand, see `counterpart`."""

    step: Step
    parts: Parts
    output_rows: int
    lowest: bool

    def rows_of(self, outputs: int) -> int:
        """Returns how many rows a map has for each row of the network's output; 0 if there is no such number."""
        rows, more = divmod(self.step.rows_of(outputs), self.output_rows)
        return 0 if more or not self.step.rows_per_sample else rows


@singledispatch
def _layer_of(operation: Any, place: _Place) -> Layer:
    """Returns the layer that stands for an operation: here for a norm of each sample, or one without parameters."""
    if isinstance(operation, _InstanceNorm) and operation.track_running_stats:
        raise BrodmannError(
            f"{module_text(operation)} cannot be converted: at inference it would use statistics other than those of "
            "the sample: leave track_running_stats out."
        )
    of_images = _of_images(operation) if place.step.output.ndim == 4 else None
    if isinstance(operation, NORMS) and operation.weight is not None:
        norm = _local(ScaledNorm(operation), place.step) if of_images is None else Local(of_images)
        return _with_parameters(norm, operation, place.parts)
    if of_images is not None:
        return Local(of_images)
    if has_parameters(operation):
        raise BrodmannError(
            f"{module_text(operation)} cannot be converted: it has parameters, and of such layers only linear maps, "
            "convolutions, embeddings, recurrent layers, attention and norms can be."
        )
    return _local(operation, place.step)


@_layer_of.register
def _constant(held: Tensor, place: _Place) -> Constant:
    learns = isinstance(held, nn.Parameter) and held.is_floating_point()
    return Constant(channels_last(held.detach()), place.parts.update_rule if learns else None)


@_layer_of.register
def _weighted(operation: Weighted, place: _Place) -> Layer:
    return place.parts.product(_as_laid(operation.product, place.step), operation.weight, lowest=place.lowest)


@_layer_of.register
def _linear(operation: nn.Linear, place: _Place) -> Layer:
    """Returns a map of the last dimension, as PyTorch counts."""
    step, parts = place.step, place.parts
    plain = type(operation).forward is nn.Linear.forward
    start = operation if plain else linear_of(operation.weight, operation.bias)
    size, rows = (start.in_features, start.out_features), place.rows_of(operation.out_features)
    linear: Layer = parts.layer(*size, rows=rows, lowest=place.lowest, start=start)
    if step.batch_second:
        return Sequential(Local(_turned), linear, Local(_turned))
    if step.rows_per_sample > 1 and parts.routed:  # by a route, which has one entry for each sample
        linear = Sequential(Local(nn.Unflatten(0, (-1, step.rows_per_sample))), linear, Local(nn.Flatten(0, 1)))
    if step.output.ndim != 4:
        return linear
    return Sequential(Local(partial(torch.movedim, source=-1, destination=1)), linear, Local(channels_last))


@_layer_of.register
def _recurrent(operation: Recurrence, place: _Place) -> Recurrent:
    """Returns a recurrent layer that starts as another one."""
    plain, parts, rows = operation.plain, place.parts, place.rows_of(operation.plain.hidden_size)
    biases = (plain.bias_ih_l0, plain.bias_hh_l0) if plain.bias else (None, None)
    below, before = map(linear_of, (plain.weight_ih_l0, plain.weight_hh_l0), biases)
    inputs = parts.layer(below.in_features, below.out_features, rows=rows, lowest=place.lowest, start=below)
    states = parts.layer(before.in_features, before.out_features, start=before)  # a row a sample, at every step
    return Recurrent(inputs, states, operation.cell)


@_layer_of.register
def _convolution(operation: _ConvNd, place: _Place) -> Layer:
    """Returns a convolution: one map of all patches if possible, else a product of its kind."""
    # Areas are chosen for one image or sequence of a sample.
    if place.step.rows_per_sample > 1 or not is_of_patches(operation):
        return _product(operation, place)
    start = linear_of(operation.weight.movedim(1, -1).flatten(1), operation.bias)  # (out, [k *] k * in)
    size, rows = (start.in_features, start.out_features), place.rows_of(operation.out_channels)
    convolution = place.parts.convolution(window_of(operation), *size, rows=rows, lowest=place.lowest, start=start)
    if isinstance(operation, nn.Conv2d):
        return convolution
    return Sequential(Local(as_image), convolution, Local(as_sequence))  # one of sequences, as images of one row


@_layer_of.register
def _batch_norm(norm: _BatchNorm, place: _Place, *, fixed: bool = False) -> Layer:
    """Returns a batch norm that starts as another one."""
    _running(norm)
    own = BatchNorm(norm.num_features, update=place.parts.update_rule, start=norm, fixed=fixed)
    if place.step.output.ndim in (2, 4):
        return own
    last, second = (partial(torch.movedim, source=a, destination=b) for a, b in ((1, -1), (-1, 1)))
    return Sequential(Local(last), own, Local(second))


@_layer_of.register
def _kept_norm(operation: KeptNorm, place: _Place) -> Layer:
    return _batch_norm(operation.norm, place, fixed=True)


@_layer_of.register
def _fixed_norm(operation: FixedNorm, place: _Place) -> Graph:
    """Returns what a batch norm does at inference: a gain and a shift for each channel."""
    norm, ndim = operation.norm, place.step.output.ndim
    mean, variance = _running(norm)
    gain = torch.rsqrt(variance + norm.eps)
    if norm.affine:
        gain = gain * norm.weight
    shift = -gain * mean + (0.0 if norm.bias is None else norm.bias)
    rule = place.parts.update_rule if norm.affine else None
    return affine(gain.detach(), shift.detach(), rule, form=_form(len(gain), ndim))


def _product(conv: _ConvNd, place: _Place) -> Layer:
    """Returns any other convolution as a product of its kind, and a sum with its biases."""
    step, parts = place.step, place.parts
    product = parts.product(_as_laid(padded_function_of(conv), step), conv.weight, lowest=place.lowest)
    if conv.bias is None:
        return product
    bias = Constant(conv.bias.detach(), parts.update_rule, form=_form(len(conv.bias), step.output.ndim))
    return Graph({"product": (product, INPUT), "bias": (bias,), "sum": (torch.add, "product", "bias")})


def _with_parameters(norm: Layer, operation: Any, parts: Parts) -> Graph:
    """Returns a norm with the gains and shifts of PyTorch's, which learn."""
    held = {"gain": operation.weight, "shift": getattr(operation, "bias", None)}
    rule = parts.update_rule
    nodes = {name: (Constant(value.detach(), rule),) for name, value in held.items() if value is not None}
    return Graph({**nodes, "norm": (norm, INPUT, *nodes)})


def _of_images(operation: Any) -> ImageNorm | None:
    """Returns the norm of images that PyTorch's amounts to, None for one that is not over groups of channels."""
    if isinstance(operation, nn.GroupNorm):
        return ImageNorm(operation.num_groups, operation.eps)
    if isinstance(operation, nn.InstanceNorm2d):
        return ImageNorm(operation.num_features, operation.eps)
    return None


def _running(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Returns mean and variance at inference."""
    if norm.running_mean is None or norm.running_var is None:
        raise BrodmannError(
            f"{norm} cannot be converted, since it mixes the samples of a batch at inference too: let it track its "
            "running statistics, or use another norm."
        )
    return norm.running_mean, norm.running_var


def _form(channels: int, ndim: int) -> tuple[int, ...]:
    """Returns the shape in which a number for each channel broadcasts with values between layers."""
    return (1, 1, channels) if ndim == 4 else (channels, *(1,) * (ndim - 2))


def _local(operation: nn.Module, step: Step) -> Local:
    """Returns an operation without parameters, which is given tensors in PyTorch's layout."""
    moved = any(value.ndim == 4 for value in (*step.inputs, step.output)) and type(operation) not in ELEMENTWISE
    try:
        return Local(ChannelsLast(operation) if moved else operation)
    except BrodmannError as error:
        raise BrodmannError(f"{module_text(operation)} cannot be converted: {error}") from None


def _as_laid(product: Callable[[Tensor, Tensor], Tensor], step: Step) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns a product of a value and weights for values as they are laid out between layers."""
    values = step.inputs[:1] if isinstance(step.operation, Tied) else step.inputs
    moved = any(value.ndim == 4 for value in (*values, step.output))
    return partial(_moved, product) if moved else product


def _moved(product: Callable[..., Tensor], x: Tensor, weight: Tensor, *others: Tensor) -> Tensor:
    x, *behind = (value.movedim(-1, 1) if value.ndim == 4 else value for value in (x, *others))
    return channels_last(product(x, weight, *behind))


def channels_last(value: Tensor) -> Tensor:
    """Returns a tensor as it is laid out between layers."""
    return value.movedim(1, -1) if value.ndim == 4 else value


def _turned(x: Tensor) -> Tensor:
    """Returns (steps, samples, ...) as (samples, steps, ...), and back."""
    return x.transpose(0, 1)
