"""From a PyTorch network of linear and convolutional layers to areas that start as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .checks import check_whole
from .containers import Routed, Sequential
from .errors import BrodmannError
from .feedback import Direct, Feedback, Shape
from .layers import Layer
from .local import Local
from .parts import ACTIVATIONS, Parts
from .patches import ChannelsLast, Images, Patches
from .updates import UpdateRule


def from_torch(
    model: nn.Module,
    shape: Sequence[int] | None = None,
    *,
    areas: int = 16,
    feedback: str | Callable[[Shape], Feedback] = "kolen-pollack",
    update: UpdateRule | None = None,
    routing: str = "network",
    shared: str = "learned",
    gated: bool = False,
    pooling: float = 0.0,
    router: dict[str, Any] | None = None,
    storage: str | None = None,
) -> Sequential | Routed:
    """Builds a body of areas that computes what a PyTorch network does, and learns on without backpropagation.

    Every `nn.Linear` becomes an `AreaLinear`, every `nn.Conv2d` `Patches` and one, which start as it is, whatever the
    area; all else must hold no parameters and becomes a `Local`. The model is left as it was. A map without biases gets
    some, which start at 0; images that come out have their channels last, as losses here take them. With ``areas=1``
    and ``feedback="transpose"`` the body also learns as the model would under autograd, where all its maps have biases.

    Source: our choice; for feedback paths alone, BioTorch (Sanfiz and Akrout 2021) converts networks likewise.

    Args:
        model: An `nn.Sequential` of layers, which may hold others.
        shape: Of a sample, (features,) or (channels, height, width). Default None: what the model's first layer takes,
            if that is an `nn.Linear`. Images may also come flat.
        areas: As in `brodmann.mlp`; likewise ``feedback``, ``update``, ``routing``, ``shared``, ``gated``, ``pooling``,
            ``router`` and ``storage``.
        feedback: As in `brodmann.mlp`. Not ``"direct"`` where there are convolutions, see `brodmann.convnet`.
        update: See ``areas``.
        routing: See ``areas``.
        shared: See ``areas``.
        gated: See ``areas``.
        pooling: See ``areas``.
        router: See ``areas``.
        storage: See ``areas``.

    Raises:
        BrodmannError: A layer is of a kind that cannot be converted, the shape does not fit, a choice is unknown, or a
            gate would change what the network computes.
    """
    layers = list(_layers_of(model))
    maps = [layer for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d)]
    if not maps:
        raise BrodmannError("Expected an nn.Sequential with an nn.Linear or an nn.Conv2d in it, got none.")
    if len(set(map(id, maps))) < len(maps):
        raise BrodmannError("Expected layers with weights of their own, got one that stands in the model twice.")
    if gated and shared == "off":
        raise BrodmannError("A gate without a shared part would scale what the model computes: leave one of them out.")
    shape = _shape_of(layers[0]) if shape is None else _checked(shape)
    dtype = torch.promote_types(maps[0].weight.dtype, torch.float32)
    if storage is not None and dtype != torch.float32:
        raise BrodmannError(f"A storage of its own goes with float32, and the model is of {dtype}: leave it out.")
    sample = torch.zeros(1, *shape, dtype=dtype)
    parts = Parts(
        math.prod(shape),
        _size_of(maps[-1]),
        areas,
        feedback,
        update=update,
        routing=routing,
        shared=shared,
        gated=gated,
        pooling=pooling,
        router=router,
        storage=storage,
    )
    parts.check(len(maps), sum(layer.weight.numel() for layer in maps))
    converted: list[Layer] = [Local(Images(*shape))] if len(shape) == 3 else []
    for layer in layers:
        twin = deepcopy(layer).to("cpu", dtype).eval()
        before = sample
        try:
            sample = twin(before).detach()
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise BrodmannError(
                f"{_named(layer)} does not take what comes to it, {tuple(before.shape)}: check shape={shape}. ({error})"
            ) from None
        converted += _convert(twin, before, sample, parts, lowest=layer is maps[0])
    body = parts.wrap(Sequential(*converted)).to(maps[0].weight.device)
    return body.double() if dtype == torch.float64 else body


def _layers_of(model: nn.Module) -> Iterator[nn.Module]:
    """Yields the layers of nested `nn.Sequential` in their order."""
    if not isinstance(model, nn.Module):
        raise BrodmannError(f"Expected an nn.Sequential, got {type(model).__name__}.")
    if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
        for part in model:
            yield from _layers_of(part)
    elif any(True for _ in model.children()):
        raise BrodmannError(
            f"Expected nn.Sequential alone to hold layers, got {type(model).__name__}, whose forward is its own: "
            "compose its layers by brodmann.Sequential and Residual."
        )
    else:
        yield model


def _shape_of(first: nn.Module) -> tuple[int, ...]:
    if not isinstance(first, nn.Linear):
        raise BrodmannError(f"The model begins with {first}: name the shape of a sample, such as shape=(3, 32, 32).")
    return (first.in_features,)


def _checked(shape: Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(shape)
    except TypeError:
        raise BrodmannError(f"Expected the shape of a sample, such as (784,) or (3, 32, 32), got {shape!r}.") from None
    for size in sizes:
        check_whole(shape=size)
    return sizes


def _named(layer: nn.Module) -> str:
    """Returns a layer as it prints itself, or its kind where that takes lines."""
    said = str(layer)
    return type(layer).__name__ if "\n" in said else said


def _size_of(last: nn.Linear | nn.Conv2d) -> int:
    return last.out_features if isinstance(last, nn.Linear) else last.out_channels


def _convert(layer: nn.Module, before: Tensor, after: Tensor, parts: Parts, *, lowest: bool) -> list[Layer]:
    """Returns the layers that stand for one of the model's, which makes ``after`` of ``before``, a sample each."""
    if isinstance(layer, nn.Linear):
        return [parts.layer(layer.in_features, layer.out_features, lowest=lowest, start=layer)]
    if isinstance(layer, nn.Conv2d):
        patches, linear = _patches(layer), _linear(layer)
        mapped = parts.layer(linear.in_features, linear.out_features, lowest=lowest, start=linear)
        if isinstance(mapped.feedback, Direct):
            raise BrodmannError(
                "Direct feedback has no path from an output to a patch: choose another for convolutions."
            )
        return [patches, mapped]
    if isinstance(layer, nn.Identity):
        return []
    if isinstance(layer, _BatchNorm):
        raise BrodmannError(
            f"{layer} cannot be converted, since it mixes the samples of a batch: fold it into the map below it by "
            "torch.nn.utils.fuse_conv_bn_eval or fuse_linear_bn_eval first."
        )
    if getattr(layer, "inplace", False):
        layer.inplace = False  # type: ignore[assignment]
    elementwise = isinstance(layer, (*ACTIVATIONS.values(), nn.Dropout))
    images = 4 in (before.ndim, after.ndim) and not elementwise
    try:
        return [Local(ChannelsLast(layer) if images else layer)]
    except BrodmannError as error:
        raise BrodmannError(f"{_named(layer)} cannot be converted: {error}") from None


def _patches(conv: nn.Conv2d) -> Patches:
    """Returns the window of a convolution."""
    padding = conv.padding
    if isinstance(padding, str):
        padding = tuple(size // 2 if padding == "same" else 0 for size in conv.kernel_size)
    square = all(len(set(pair)) == 1 for pair in (conv.kernel_size, conv.stride, padding))
    odd = conv.padding != "same" or conv.kernel_size[0] % 2 == 1
    if not square or not odd or conv.groups != 1 or set(conv.dilation) != {1} or conv.padding_mode != "zeros":
        raise BrodmannError(
            f"{conv} cannot be converted: expected square kernels, strides and paddings (of zeros), one group and no "
            "dilation."
        )
    return Patches(conv.kernel_size[0], stride=conv.stride[0], padding=padding[0])


def _linear(conv: nn.Conv2d) -> nn.Linear:
    """Returns a convolution's weights, (out, in, k, k), as a map of patches, (out, k * k * in)."""
    weight = conv.weight.detach().permute(0, 2, 3, 1).flatten(1)
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=conv.bias is not None, dtype=weight.dtype)
    linear.weight = nn.Parameter(weight)
    if conv.bias is not None:
        linear.bias = nn.Parameter(conv.bias.detach())
    return linear
