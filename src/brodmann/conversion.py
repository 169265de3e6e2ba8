"""From a PyTorch network of linear and convolutional layers to areas that start as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from .area_linear import AreaLinear
from .checks import check_whole
from .containers import Routed, Sequential
from .convolution import Convolution
from .errors import BrodmannError
from .feedback import Feedback, Shape
from .layers import Layer
from .local import Local
from .parts import Parts
from .patches import ChannelsLast, Images, Patches
from .updates import UpdateRule

PROBES = 3
"""Random samples that go through model and body, to see what comes to each layer and that both return the same."""


def from_torch(
    model: nn.Module,
    shape: Sequence[int] | None = None,
    *,
    areas: int = 16,
    feedback: str | Callable[[Shape], Feedback] = "kolen-pollack-equal",
    update: UpdateRule | None = None,
    routing: str = "network",
    shared: str = "learned",
    gated: bool = False,
    pooling: float = 0.0,
    router: dict[str, Any] | None = None,
    storage: str | None = None,
) -> Sequential | Routed:
    """Builds a body of areas that computes what a PyTorch network does, and learns on without backpropagation.

    Every `nn.Linear` becomes an `AreaLinear`, every `nn.Conv2d` a `Convolution`, which start as it is, whatever the
    area; all else must hold no parameters and becomes a `Local`. The model is left as it was. A map without biases gets
    some, which start at 0; images that come out have their channels last, as losses here take them. With ``areas=1``
    and ``feedback="transpose"`` the body also learns as the model would under autograd, where all its maps have biases.
    Parameters learn whether or not they asked for gradients. A model of float64 stays so, others become float32.

    Source: our choice; for feedback paths alone, BioTorch (Sanfiz and Akrout 2021) converts networks likewise.

    Args:
        model: An `nn.Sequential` of layers, which may hold others, or one layer.
        shape: Of a sample, (features,) or (channels, height, width). Default None: what the model's first layer takes,
            if that is an `nn.Linear`. Images may also come flat.
        areas: As in `brodmann.mlp`; likewise ``feedback``, ``update``, ``routing``, ``shared``, ``gated``, ``pooling``,
            ``router`` and ``storage``.
        feedback: As in `brodmann.mlp`. Default ``"kolen-pollack-equal"``: feedback weights begin as copies of the
            model's, since independent ones know nothing of what it has learned and first undo it (docs/log.md).
            ``"sign"`` needs no copy. Not ``"direct"`` where there are convolutions, see `brodmann.convnet`.
        update: See ``areas``.
        routing: See ``areas``.
        shared: See ``areas``.
        gated: See ``areas``.
        pooling: See ``areas``.
        router: See ``areas``.
        storage: See ``areas``.

    Raises:
        BrodmannError: A layer is of a kind that cannot be converted, the shape does not fit, a choice is unknown, or a
            gate without a shared part would change what the network computes.
    """
    layers = list(_layers_of(model))
    maps = [layer for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d)]
    if not maps:
        raise BrodmannError("Expected an nn.Sequential with an nn.Linear or an nn.Conv2d in it, got none.")
    for mapped in maps:
        _check_map(mapped)
    if len({id(mapped.weight) for mapped in maps}) < len(maps):
        raise BrodmannError("Expected layers with weights of their own, got weights that stand in the model twice.")
    shape = _shape_of(layers[0]) if shape is None else _checked(shape)
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
    kind = torch.promote_types(maps[0].weight.dtype, torch.get_default_dtype())
    sample = torch.randn(PROBES, *shape, generator=torch.Generator().manual_seed(0)).to(kind)
    converted: list[Layer] = [Local(Images(*shape))] if len(shape) == 3 else []
    for layer, before, after in _run(layers, sample):
        lowest = not any(isinstance(below, AreaLinear | Convolution) for below in converted)
        converted += _convert(layer, before, after, parts, lowest=lowest)
    body = parts.wrap(Sequential(*converted))
    if kind == torch.float64:
        body.double()  # its routers
    _check_equal(body, sample, deepcopy(model).to("cpu", kind).eval()(sample.clone()))
    return body.to(maps[0].weight.device)


def _run(layers: Sequence[nn.Module], sample: Tensor) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
    """Yields a copy of each layer, what comes to it of samples, and what it makes of that."""
    after = sample
    for layer in layers:
        before = after
        try:
            twin = deepcopy(layer).to("cpu", sample.dtype).eval()
            after = twin(before.clone())  # it may work in place
        except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError) as error:
            raise BrodmannError(
                f"{_named(layer)} does not take what comes to it, {tuple(before.shape[1:])} a sample: check "
                f"shape={tuple(sample.shape[1:])}. ({error})"
            ) from None
        if not isinstance(after, Tensor) or len(after) != PROBES:
            raise BrodmannError(f"{_named(layer)} cannot be converted: it does not return one tensor of samples.")
        yield twin, before, after


def _check_map(layer: nn.Linear | nn.Conv2d) -> None:
    """Raises where a map's output is not that of its weights alone, or they are no numbers yet."""
    weight = layer.weight
    if isinstance(weight, nn.UninitializedParameter) or weight.is_meta or not weight.is_floating_point():
        raise BrodmannError(f"{_named(layer)} cannot be converted: it has no weights yet, or no real ones.")
    plain = nn.Linear.forward if isinstance(layer, nn.Linear) else nn.Conv2d.forward
    hooks = [*layer._forward_hooks, *layer._forward_pre_hooks]
    if type(layer).forward is not plain or hooks:
        what = "hooks" if hooks else "a forward of its own"
        raise BrodmannError(f"{_named(layer)} cannot be converted: {type(layer).__name__} has {what}.")


@torch.no_grad()
def _check_equal(body: Layer, sample: Tensor, output: Tensor) -> None:
    """Raises where the body does not return what the model does for samples."""
    ours = body(sample)
    theirs = output.movedim(1, -1) if output.ndim == 4 else output
    stored = any(parameter.dtype == torch.bfloat16 for parameter in body.parameters())
    tolerance = 0.1 if stored else 1e-3
    size = float(theirs.abs().max()) + 1e-6
    if ours.shape != theirs.shape or not float((ours - theirs).abs().max()) <= tolerance * size:
        raise BrodmannError(
            "The converted network does not return what the model does: one of its layers treats samples in a way that "
            "does not show, such as by hooks. Compose it by brodmann.Sequential."
        )


def _layers_of(model: nn.Module) -> Iterator[nn.Module]:
    """Yields the layers of nested `nn.Sequential` in their order."""
    if not isinstance(model, nn.Module):
        raise BrodmannError(f"Expected an nn.Sequential, got {type(model).__name__}.")
    if is_parametrized(model):
        raise BrodmannError(
            f"{type(model).__name__} cannot be converted: make its parametrisation an ordinary weight first, by "
            "torch.nn.utils.parametrize.remove_parametrizations."
        )
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
        if before.ndim == 4:
            raise BrodmannError(f"{layer} would map the width of images: put an nn.Flatten() before it.")
        return [parts.layer(layer.in_features, layer.out_features, lowest=lowest, start=layer)]
    if isinstance(layer, nn.Conv2d):
        if before.ndim != 4:
            raise BrodmannError(f"{layer} takes images, and what comes to it is {tuple(before.shape[1:])} a sample.")
        linear = _linear(layer)
        size = linear.in_features, linear.out_features
        return [parts.convolution(_patches(layer), *size, lowest=lowest, start=linear)]
    if isinstance(layer, nn.Identity):
        return []
    if isinstance(layer, _BatchNorm):
        raise BrodmannError(
            f"{layer} cannot be converted, since it mixes the samples of a batch. Right above a map, fold it into that "
            "first, by torch.nn.utils.fuse_conv_bn_eval or fuse_linear_bn_eval."
        )
    if any(True for _ in layer.parameters()):
        raise BrodmannError(
            f"{layer} cannot be converted: of layers with parameters nn.Linear and nn.Conv2d alone can. A norm goes "
            "without, by elementwise_affine=False or affine=False."
        )
    if getattr(layer, "inplace", False):
        layer.inplace = False  # type: ignore[assignment]
    elementwise = type(layer) in (nn.ReLU, nn.GELU, nn.Tanh, nn.Dropout)
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
