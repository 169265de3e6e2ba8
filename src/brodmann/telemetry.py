"""What goes on inside a network, as data: use of areas, alignment of errors, norms."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .area_linear import AreaLinear
from .network import Network, routers


@dataclass(frozen=True)
class AreaUsage:
    """How often each area of a router was chosen.

    Attributes:
        layer: Name of the routed layer.
        counts: Samples of each area.
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
    """

    layer: str
    cosine: float
    norm_ratio: float
    error_norm: float


@torch.no_grad()
def area_usage(network: Network, x: Tensor) -> list[AreaUsage]:
    """Counts the areas that the samples x (batch, ..., in) choose, one entry per router, from input to output."""
    rows: list[AreaUsage] = []
    for name, counts in area_counts(network, x).items():
        share = counts.double() / counts.sum().clamp_min(1)
        entropy = float(torch.special.entr(share).sum())
        rows.append(
            AreaUsage(
                name, tuple(counts.tolist()), entropy, float(torch.tensor(entropy).exp()), int((counts == 0).sum())
            )
        )
    return rows


@torch.no_grad()
def area_counts(network: Network, x: Tensor) -> dict[str, Tensor]:
    """Returns for each router's layer the number of samples in each area, (areas,)."""
    return {
        name: torch.bincount(area, minlength=router.areas)
        for (name, router), area in zip(routers(network), area_choices(network, x).values(), strict=True)
    }


@torch.no_grad()
def area_choices(network: Network, x: Tensor) -> dict[str, Tensor]:
    """Returns for each router's layer the area of every row, (rows,)."""
    choices: dict[str, Tensor] = {}
    hooks = []
    for name, router in routers(network):

        def keep(_: nn.Module, __: tuple[Tensor, ...], output: tuple[Tensor, Tensor], name: str = name) -> None:
            choices[name] = output[0]

        hooks.append(router.register_forward_hook(keep))
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return choices


def alignment(network: Network, x: Tensor, target: Tensor) -> list[Alignment]:
    """Compares each layer's error with the true gradient, on a copy of the network; dropout is off.

    The true gradient comes from PyTorch autograd through the forward weights, routes held fixed.

    Args:
        network: Left as it is.
        x: (batch, ..., in).
        target: As for `Network.learn`.

    Returns:
        One entry per `AreaLinear`, from input to output.
    """
    with torch.inference_mode(False):
        twin = copy.deepcopy(network)
        for part in twin.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        truth = _true_errors(twin, x.clone(), target)
        received: dict[AreaLinear, Tensor] = {}
        twin.clip = None
        twin.learn(x, target, lr=0.0, observe=lambda layer, error: received.update({layer: error}))
    rows = []
    for name, layer in twin.area_layers():
        error, gradient = received[layer].flatten().double(), truth[layer].flatten().double()
        tiny = torch.finfo(torch.float64).tiny
        cosine = float(error @ gradient / (error.norm() * gradient.norm()).clamp_min(tiny))
        norm = float(error.norm())
        rows.append(Alignment(name, cosine, norm / max(float(gradient.norm()), tiny), norm))
    return rows


def _true_errors(network: Network, x: Tensor, target: Tensor) -> dict[AreaLinear, Tensor]:
    outputs: dict[AreaLinear, Tensor] = {}

    def keep(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, AreaLinear)
        outputs[layer] = output

    hooks = [layer.register_forward_hook(keep) for _, layer in network.area_layers()]
    detached = [router.register_forward_hook(_detach) for _, router in routers(network)]
    try:
        with torch.enable_grad():
            loss = network.loss(network(x.requires_grad_(True)), target, None)
            gradients = torch.autograd.grad(loss, list(outputs.values()))
    finally:
        for hook in [*hooks, *detached]:
            hook.remove()
    return dict(zip(outputs, gradients, strict=True))


def _detach(_: nn.Module, __: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return output[0], output[1].detach()
