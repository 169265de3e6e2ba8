"""What goes on inside a network, as data: use of areas, alignment of errors, norms."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from .area_linear import AreaLinear
from .checks import check_pairs, check_tensors
from .errors import BrodmannError
from .network import Network, check_network, routers
from .product import Product
from .routes import Choice, Route
from .routing import Router


@dataclass(frozen=True)
class AreaUsage:
    """How often each area of a router was chosen.

    Attributes:
        layer: Name of the routed layer; empty for one route for all layers.
        counts: Samples of each area; rows, where a layer routes several rows of each sample.
        entropy: ``-sum_g q_g log q_g`` of the shares q, in nats.
        effective: Effective areas, ``exp(entropy)``: 1 if one area takes all, G if all take the same.
        dead: Areas that no sample chose.
    """

    layer: str
    counts: tuple[int, ...]
    entropy: float
    effective: float
    dead: int


@dataclass(frozen=True)
class Alignment:
    """How the error that a layer receives compares with the true gradient at its output.

    Attributes:
        layer: Name of the layer.
        cosine: Cosine of both over the whole batch; 1 for backpropagation, 0 for unrelated.
        norm_ratio: ``|error| / |gradient|``.
        error_norm: ``|error|``.
        weight_cosine: Cosine of the feedback matrix and ``W0``; None where there is not one of each.
    """

    layer: str
    cosine: float
    norm_ratio: float
    error_norm: float
    weight_cosine: float | None = None


@dataclass(frozen=True)
class ClassConflict:
    """How far the gradients of different classes pull one map in different directions.

    With ``G[c]`` the gradient of the samples of class ``c`` that use the map, the cancelled share is
    ``1 - sum_maps |sum_c G[c]| / sum_maps sum_c |G[c]|``: 0 if all classes pull alike, 1 if their pulls add up to
    nothing.

    Attributes:
        layer: Name of the layer.
        inside_areas: Cancelled share where every area is a map of its own.
        pooled: Cancelled share if all samples used one map.
        opposed_inside: Share of the pairs of classes within an area whose gradients point apart (cosine below 0).
        opposed_pooled: The same over all pairs of classes.
    """

    layer: str
    inside_areas: float
    pooled: float
    opposed_inside: float
    opposed_pooled: float


@torch.no_grad()
def area_usage(network: Network, x: Tensor) -> list[AreaUsage]:
    """Counts the areas that the samples x (batch, ..., in) choose, one entry per router, from input to output."""
    rows: list[AreaUsage] = []
    for name, counts in area_counts(network, x).items():
        share = counts.double() / counts.sum().clamp_min(1)
        entropy = float(torch.special.entr(share).sum())
        rows.append(AreaUsage(name, tuple(counts.tolist()), entropy, math.exp(entropy), int((counts == 0).sum())))
    return rows


@torch.no_grad()
def area_counts(network: Network, x: Tensor) -> dict[str, Tensor]:
    """Returns for each router's layer the number of samples in each area, (areas,)."""
    choices = area_choices(network, x)
    of_name = dict(routers(network))
    return {name: torch.bincount(area, minlength=of_name[name].areas) for name, area in choices.items()}


@torch.no_grad()
def area_choices(network: Network, x: Tensor) -> dict[str, Tensor]:
    """Returns for each router's layer the area of every row, (rows,)."""
    check_network(network)
    check_tensors(x=x)
    choices: dict[str, Tensor] = {}

    def keep(_: Any, __: Any, output: Route | Choice, *, name: str) -> None:
        choices[name] = output.area

    with ExitStack() as hooks:
        for name, router in routers(network):
            hooks.enter_context(router.register_forward_hook(partial(keep, name=name)))
        network(x)
    return choices


def alignment(network: Network, x: Tensor, target: Tensor) -> list[Alignment]:
    """Compares each layer's error with the true gradient, on a copy of the network; dropout is off.

    The true gradient comes from PyTorch autograd through the forward weights, routes held fixed.

    Args:
        network: Left as it is.
        x: (batch, ..., in).
        target: As for `Network.learn`.

    Returns:
        One entry per `AreaLinear` and `Product`, from input to output; none for layers that inference, or the error,
        passes by.

    Raises:
        BrodmannError: There are no samples, not as many targets, or it is no network.
    """
    check_network(network)
    check_tensors(x=x, target=target)
    check_pairs(x, target)
    with _quiet_copy(network) as twin:
        truth = _true_errors(twin, x.clone(), target)
        received: dict[nn.Module, Tensor] = {}
        twin.learn(x, target, lr=0.0, observe=lambda layer, error: received.update({layer: error}))
    rows = []
    for name, layer in _maps(twin):
        if layer not in received or layer not in truth:  # one that learns by itself, such as an auxiliary readout
            continue
        error, gradient = received[layer].flatten().double(), truth[layer].flatten().double()
        tiny = torch.finfo(torch.float64).tiny
        cosine = float(error @ gradient / (error.norm() * gradient.norm()).clamp_min(tiny))
        norm = float(error.norm())
        ratio = norm / max(float(gradient.norm()), tiny)
        rows.append(Alignment(name, cosine, ratio, norm, _weight_cosine(layer)))
    return rows


@torch.no_grad()
def _weight_cosine(layer: AreaLinear | Product) -> float | None:
    shared, one = (layer.slab, layer.slab.value[0]) if isinstance(layer, Product) else (layer.shared, layer.one_map)
    matrix = None if layer.feedback is None else layer.feedback.one_matrix(one)
    if matrix is None or shared is None:
        return None
    return float(torch.cosine_similarity(matrix.flatten().double(), shared.value.flatten().double(), dim=0))


def _maps(network: Network) -> list[tuple[str, AreaLinear | Product]]:
    """Returns name and layer of all that has weights and a way down."""
    parts = network.body.named_modules()
    return [(name, part) for name, part in parts if isinstance(part, AreaLinear | Product)]


def class_conflict(network: Network, x: Tensor, target: Tensor) -> list[ClassConflict]:
    """Measures the conflict between classes inside areas and in a map that all would share, on a copy.

    Errors are those that the feedback carries; dropout is off. Our choice: the gradients of a linear map need not be
    formed, since ``<G[a], G[b]> = sum_ij (delta_i . delta_j) (x_i . x_j + 1)`` over the samples i of a and j of b.

    Args:
        network: Left as it is.
        x: (samples, in); memory grows with the square of the samples.
        target: Classes, (samples,).

    Returns:
        As of `alignment`.

    Raises:
        BrodmannError: Targets are no classes, one for each sample; it is no network; or its layers see several rows of
            each sample, as in a convolution.
    """
    check_network(network)
    check_tensors(x=x, target=target)
    if x.ndim != 2 or target.shape != x.shape[:1] or target.is_floating_point():
        raise BrodmannError(
            f"Expected samples (n, in) and their classes (n,), whole numbers, got {tuple(x.shape)} and "
            f"{tuple(target.shape)} {target.dtype}."
        )
    with _quiet_copy(network) as twin:
        inputs: dict[AreaLinear, Tensor] = {}
        choices: dict[AreaLinear, Route | Choice] = {}

        def keep(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            assert isinstance(layer, AreaLinear)
            if arguments[0].ndim != 2:
                raise BrodmannError(
                    "The conflict of classes is known of layers with one row per sample, not of convolutions."
                )
            inputs[layer] = arguments[0]
            choice = arguments[1] if len(arguments) > 1 else None
            routed = layer.areas is not None and layer.budget > 1
            if routed and layer.router is not None:
                choices[layer] = layer.router(arguments[0])
            elif routed and choice is not None:
                choices[layer] = choice

        for _, layer in twin.area_layers():  # the copy goes, and its hooks with it
            layer.register_forward_pre_hook(keep)
        with torch.no_grad():
            twin(x)
        errors: dict[nn.Module, Tensor] = {}
        twin.learn(x, target, lr=0.0, observe=lambda layer, error: errors.update({layer: error}))
    rows = []
    for name, layer in twin.area_layers():
        if layer not in errors or layer not in inputs:
            continue
        delta, h = errors[layer].double(), inputs[layer].double()
        products = (delta @ delta.t()) * (h @ h.t() + 1.0)
        area = torch.zeros(len(h), dtype=torch.int64)
        pooled, opposed_pooled = _cancelled(products, area, target)
        if (choice := choices.get(layer)) is not None:
            area = choice.area
            products = products * torch.outer(choice.gate, choice.gate) if layer.gated else products
        inside, opposed_inside = _cancelled(products, area, target)
        rows.append(ClassConflict(name, inside, pooled, opposed_inside, opposed_pooled))
    return rows


@contextmanager
def _quiet_copy(network: Network) -> Iterator[Network]:
    """Yields a copy without dropout, clip and recruiting; what it draws leaves PyTorch's generators as they were."""
    devices = {parameter.device for parameter in network.parameters() if parameter.is_cuda}
    with torch.inference_mode(False), torch.random.fork_rng(devices=list(devices)):
        twin = copy.deepcopy(network)
        twin.clip = None
        for part in twin.modules():
            if isinstance(part, _DropoutNd):
                part.p = 0.0
            if isinstance(part, Router):
                part.novelty = None
        yield twin


def _cancelled(products: Tensor, group: Tensor, target: Tensor) -> tuple[float, float]:
    """Returns the cancelled share and the share of opposed pairs: products (n, n) of the samples' gradients."""
    kept = total = 0.0
    opposed = pairs = 0
    for index in torch.unique(group).tolist():
        rows = group == index
        classes, member = torch.unique(target[rows], return_inverse=True)
        belongs = torch.nn.functional.one_hot(member, len(classes)).to(products.dtype)
        gram = belongs.t() @ products[rows][:, rows] @ belongs
        kept += float(gram.sum().clamp_min(0).sqrt())
        total += float(gram.diagonal().clamp_min(0).sqrt().sum())
        above = gram[torch.triu(torch.ones_like(gram, dtype=torch.bool), 1)]
        opposed += int((above < 0).sum())
        pairs += len(above)
    return (1.0 - kept / total if total else 0.0), (opposed / pairs if pairs else 0.0)


def _true_errors(network: Network, x: Tensor, target: Tensor) -> dict[nn.Module, Tensor]:
    outputs: dict[nn.Module, Tensor] = {}

    def keep(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not output.requires_grad:  # nothing that is followed came to it, such as tokens, or a constant
            output = output.detach().requires_grad_(True)
        outputs[layer] = output
        return output

    with ExitStack() as hooks, torch.enable_grad():
        for _, layer in _maps(network):
            hooks.enter_context(layer.register_forward_hook(keep))
        for _, router in routers(network):
            hooks.enter_context(router.register_forward_hook(_detach))
        loss = network.loss(network(x.requires_grad_(x.is_floating_point())), target, None)
        gradients = torch.autograd.grad(loss, list(outputs.values()), materialize_grads=True)
    return dict(zip(outputs, gradients, strict=True))


def _detach(_: nn.Module, __: tuple[Tensor, ...], output: Route | Choice) -> Choice:
    return Choice(output.area, output.gate.detach())
