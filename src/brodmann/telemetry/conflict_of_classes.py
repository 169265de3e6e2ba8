"""How far the gradients of different classes pull one map apart."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_tensors
from ..errors import BrodmannError
from ..layers import AreaLinear
from ..network import Network, check_network
from ..routing import Choice, Route
from .quiet_copy import quiet_copy

_AT_A_TIME = 1 << 23
"""Numbers of the gradients of all classes that are formed at a time: 64 MB."""


@dataclass(frozen=True)
class ClassConflict:
    """How far the gradients of different classes pull one map in different directions.

    With ``G[c]`` the gradient of the samples of class ``c`` that use the map, the cancelled share is
    ``1 - sum_maps |sum_c G[c]| / sum_maps sum_c |G[c]|``: 0 if all classes pull alike, 1 if their pulls add up to
    nothing. In a gated layer the gradients inside areas hold the gate; those of the one map, which would have none, do
    not.

    Attributes:
        layer: Name of the layer.
        inside_areas: Cancelled share if every area is a map of its own.
        pooled: Cancelled share if all samples used one map.
        opposed_inside: Share of the pairs of classes within an area whose gradients point apart (cosine below 0).
        opposed_pooled: Share of all pairs of classes whose gradients point apart.
    """

    layer: str
    inside_areas: float
    pooled: float
    opposed_inside: float
    opposed_pooled: float


def class_conflict(network: Network, x: Tensor, target: Tensor) -> list[ClassConflict]:
    """Measures the conflict between classes inside areas and in a map that all would share, on a copy.

    Errors are those that the feedback carries; dropout is off.

    Args:
        network: Left as it is.
        x: (samples, in).
        target: Classes, (samples,).

    Returns:
        One entry per `AreaLinear` that inference and the error reach, from input to output.

    Raises:
        BrodmannError: Targets are no classes, one for each sample; it is no network; or its layers see several rows of
            each sample, as in a convolution.
    """
    check_network(network)
    check_tensors(x=x, target=target)
    if x.ndim != 2 or target.shape != x.shape[:1] or target.is_floating_point():
        raise BrodmannError(
            f"Expected samples of shape (n, in) and their classes of shape (n,) as whole numbers, got {tuple(x.shape)} "
            f"and {tuple(target.shape)} {target.dtype}."
        )
    with quiet_copy(network) as twin:
        x = x.detach()
        inputs, choices = _seen(twin, x)
        errors = _errors(twin, x, target)
    return [
        _conflict_of(name, layer, inputs[layer], errors[layer], choices.get(layer, []), target)
        for name, layer in twin.area_layers()
        if layer in inputs and layer in errors
    ]


# Lists by layer: one may stand in several places, whose rows count as rows of one batch.
_Tensors = dict[nn.Module, list[Tensor]]
_Choices = dict[nn.Module, list[Route | Choice]]


def _seen(twin: Network, x: Tensor) -> tuple[_Tensors, _Choices]:
    """Returns the input of each layer, and the areas that are chosen if it has several.

    Its hooks end with it: a step of a network that may recruit begins with inference.
    """
    inputs: _Tensors = defaultdict(list)
    choices: _Choices = defaultdict(list)

    def keep(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        assert isinstance(layer, AreaLinear)
        if arguments[0].ndim != 2:
            raise BrodmannError(
                "The conflict of classes can be measured only for layers with one row per sample, not for "
                "convolutions or sequences."
            )
        inputs[layer].append(arguments[0])
        choice = arguments[1] if len(arguments) > 1 else None
        routed = layer.areas is not None and layer.budget > 1
        if routed and layer.router is not None:
            choices[layer].append(layer.router(arguments[0]))
        elif routed and choice is not None:
            choices[layer].append(choice)

    with ExitStack() as hooks, torch.no_grad():
        for _, layer in twin.area_layers():
            hooks.enter_context(layer.register_forward_pre_hook(keep))
        twin(x)
    return inputs, choices


def _errors(twin: Network, x: Tensor, target: Tensor) -> _Tensors:
    """Returns the errors that arrive at each layer, in the order of its places."""
    errors: _Tensors = defaultdict(list)  # from the last place to the first
    twin.learn(x, target, lr=0.0, observe=lambda layer, error: errors[layer].insert(0, error))
    return errors


def _conflict_of(
    name: str,
    layer: AreaLinear,
    inputs: list[Tensor],
    errors: list[Tensor],
    choices: list[Route | Choice],
    target: Tensor,
) -> ClassConflict:
    delta, h = torch.cat(errors).double(), torch.cat(inputs).double()
    classes = target.repeat(len(inputs))
    if len(h) != len(classes):
        raise BrodmannError(
            f"The conflict of classes can be measured only for layers with one row per sample, but '{name}' has "
            "other rows."
        )
    if layer.biased:  # a weight on an input that is always one
        h = torch.cat((h, torch.ones_like(h[:, :1])), 1)
    area = torch.zeros(len(h), dtype=torch.int64, device=h.device)
    pooled, opposed_pooled = _cancelled(delta, h, area, classes)
    if choices:
        area, gate = (torch.cat([getattr(one, part) for one in choices]) for part in ("area", "gate"))
        delta = delta * gate[:, None] if layer.gated else delta
    inside, opposed_inside = _cancelled(delta, h, area, classes)
    return ClassConflict(name, inside, pooled, opposed_inside, opposed_pooled)


def _cancelled(delta: Tensor, x: Tensor, group: Tensor, target: Tensor) -> tuple[float, float]:
    """Returns the cancelled share and the share of opposed pairs of the classes within each group of samples."""
    kept = total = 0.0
    opposed = pairs = 0
    for index in torch.unique(group).tolist():
        rows = group == index
        gram = products_of_gradients(delta[rows], x[rows], target[rows])
        kept += float(gram.sum().clamp_min(0).sqrt())
        total += float(gram.diagonal().clamp_min(0).sqrt().sum())
        above = gram[torch.triu(torch.ones_like(gram, dtype=torch.bool), 1)]
        opposed += int((above < 0).sum())
        pairs += len(above)
    return (1.0 - kept / total if total else 0.0), (opposed / pairs if pairs else 0.0)


def products_of_gradients(delta: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """Returns the products of the classes' gradients ``delta^T x`` with each other, (classes, classes).

    By what takes fewer operations: the gradients themselves, or ``(delta_i . delta_j) (x_i . x_j)`` of all samples.
    """
    classes, member = torch.unique(target, return_inverse=True)
    count, rows, outputs, inputs = len(classes), len(target), delta.shape[1], x.shape[1]
    gram = delta.new_zeros(count, count)
    if count**2 * outputs * inputs > rows**2 * (outputs + inputs):
        for some in torch.split(torch.arange(rows, device=x.device), max(1, _AT_A_TIME // rows)):
            products = (delta[some] @ delta.t()) * (x[some] @ x.t())
            gram.index_add_(0, member[some], products.new_zeros(len(some), count).index_add_(1, member, products))
        return gram
    of_classes = [member == one for one in range(count)]
    for some in torch.split(delta, max(1, _AT_A_TIME // (count * inputs)), 1):
        gradients = torch.stack([(some[own].t() @ x[own]).flatten() for own in of_classes])
        gram.addmm_(gradients, gradients.t())
    return gram
