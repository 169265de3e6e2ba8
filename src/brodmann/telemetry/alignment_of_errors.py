"""How the errors that layers receive compare with true gradients."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..autograd import ordinary
from ..feedback import one_matrix_of
from ..layer import Layer
from ..layers import AreaLinear, Product, TiedProduct
from ..losses.facts import check_single
from ..network import Network, check_network, routers
from ..network.hooks import watched
from ..origin import is_ours
from ..routing import Choice, Route
from ..several import Several, check_pairs, check_several, of_each
from .quiet_copy import quiet_copy

Map = AreaLinear | Product | TiedProduct
"""What has weights and a way down."""


@dataclass(frozen=True)
class Alignment:
    """How the error that a layer receives compares with the true gradient at its output.

    Attributes:
        layer: Name of the layer.
        cosine: Cosine of both over the whole batch; 1 for backpropagation, 0 for unrelated; NaN if one of them is
            0, as behind units that are all silent.
        norm_ratio: ``|error| / |gradient|``; NaN if both are 0.
        error_norm: ``|error|``.
        weight_cosine: Cosine of the feedback matrix and ``W0``; None if there is not one of each.
        weight_ratio: ``|B0| / |W0|``, likewise; None also if ``W0`` is 0.
    """

    layer: str
    cosine: float
    norm_ratio: float
    error_norm: float
    weight_cosine: float | None = None
    weight_ratio: float | None = None


def alignment(network: Network, x: Several, target: Several) -> list[Alignment]:
    """Compares each layer's error with the true gradient, on a copy of the network that draws no dropout.

    The true gradient comes from PyTorch autograd through the forward weights, routes held fixed, and gates too, unless
    their router has feedback: otherwise no error goes down through a router.

    Args:
        network: Left as it is.
        x: (batch, ..., in).
        target: As for `Network.learn`.

    Returns:
        One entry per `AreaLinear`, `Product` and `TiedProduct`, and per layer of your own that tells of its error
        (`Context.received`), from input to output; none for layers that inference, or the error, passes by.

    Raises:
        BrodmannError: There are no samples, not as many targets, or it is not a network.
    """
    check_network(network)
    check_several(x=x, target=target)
    check_pairs(x, target)
    with quiet_copy(network) as twin:
        x, target = (of_each(lambda part: ordinary(part.detach()), several) for several in (x, target))
        truth = _true_errors(twin, of_each(Tensor.clone, x), target)
        received: dict[nn.Module, list[Tensor]] = defaultdict(list)  # from the last place of a layer to its first
        twin.learn(x, target, lr=0.0, observe=lambda layer, error: received[layer].append(error))
        rows = []
        for name, layer in _watched(twin):
            if layer not in received or layer not in truth:  # one that learns by itself, such as an auxiliary readout
                continue
            errors = received[layer][::-1]
            if not is_ours(layer) and [part.shape for part in errors] != [part.shape for part in truth[layer]]:
                continue  # it showed something other than the error at its output
            gradients = _as_arrived(truth[layer], errors)
            error, gradient = (torch.cat([part.flatten() for part in parts]).double() for parts in (errors, gradients))
            size, true_size = error.norm(), gradient.norm()  # tensors, which divide by 0
            cosine = float(error / size @ (gradient / true_size))
            rows.append(Alignment(name, cosine, float(size / true_size), float(size), *_weights_compared(layer)))
    return rows


@torch.no_grad()
def _weights_compared(layer: Layer) -> tuple[float | None, float | None]:
    """Returns ``weight_cosine`` and ``weight_ratio`` of a layer, see `Alignment`."""
    if not isinstance(layer, Map):
        return None, None
    matrix = None if layer.feedback is None else one_matrix_of(layer.feedback, layer.one_map)
    if matrix is None or layer.shared is None:
        return None, None
    back, forward = matrix.flatten().double(), layer.shared.value.flatten().double()
    cosine = float(torch.cosine_similarity(back, forward, dim=0))
    return cosine, float(back.norm() / forward.norm()) if forward.any() else None


def _watched(network: Network) -> list[tuple[str, Layer]]:
    """Returns name and layer of all that has weights and a way down, and of all of a user's layers."""
    parts = [(name, part) for name, part in network.body.named_modules() if isinstance(part, Layer)]
    return [(name, part) for name, part in parts if isinstance(part, Map) or not is_ours(part)]


def _as_arrived(gradients: list[Tensor], errors: list[Tensor]) -> list[Tensor]:
    """Returns gradients as errors arrive: those of a layer that maps step after step come as one, (batch, steps, n)."""
    arrived, left = [], iter(gradients)
    for error in errors:
        parts = [next(left)]
        while sum(part.numel() for part in parts) < error.numel():
            parts.append(next(left))
        arrived.append(torch.stack(parts, 1) if len(parts) > 1 else parts[0])
    return arrived


def _true_errors(network: Network, x: Several, target: Any) -> dict[nn.Module, list[Tensor]]:
    """Returns the gradient at each output of each layer, in the order in which it was called."""
    outputs: dict[nn.Module, list[Tensor]] = defaultdict(list)

    def keep(_: str, layer: nn.Module, __: Any, output: Any) -> Any:
        followed = isinstance(output, Tensor) and output.is_floating_point()
        if not is_ours(layer) and not (followed and output.requires_grad):  # it may be what autograd cannot follow
            return output
        if not output.requires_grad:  # nothing that is followed came to it, such as tokens, or a constant
            output = output.detach().requires_grad_(True)
        outputs[layer].append(output)
        return output

    silent = [(name, router) for name, router in routers(network) if router.feedback is None]
    with watched(_watched(network), keep), watched(silent, _without_gate), torch.enable_grad():
        given = of_each(lambda part: part.requires_grad_(part.is_floating_point()), x)
        output = network(given)
        check_single(network.loss, output, target)
        loss = network.loss(output, target, None)
        places = [output for several in outputs.values() for output in several]
        gradients = iter(torch.autograd.grad(loss, places, materialize_grads=True))
    return {layer: [next(gradients) for _ in several] for layer, several in outputs.items()}


def _without_gate(_: str, __: nn.Module, ___: Any, output: Route | Choice) -> Choice:
    return Choice(output.area, output.gate.detach())
