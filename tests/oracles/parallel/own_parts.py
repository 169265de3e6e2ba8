"""Layers, routers and rules of one's own in processes that learn together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from brodmann import AreaLinear, Context, Layer, Network, Parallel, Route, Router, Sequential, UpdateRule
from brodmann.layer import Gathering
from brodmann.network import copy_of
from brodmann.updates import Factors

from ..cases import BODIES
from .steps import SMOOTH, STEPS, apart, batch


class Halving(Gathering):
    """A layer of one's own that hands over what is not a tensor, or a gradient."""

    def __init__(self, *, tensor: bool) -> None:
        super().__init__()
        self.factor, self.tensor = nn.Parameter(torch.full((5,), 0.5), requires_grad=False), tensor

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x * self.factor

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        return x * self.factor, x

    def learn(self, trace: Tensor, error: Tensor, context: Context) -> Tensor:
        gradient = (trace * error).sum(0)
        self.hand_over(gradient if self.tensor else [gradient], context)
        return error * self.factor

    def move(self, parts: list[Tensor], context: Context) -> None:
        self.factor.sub_(sum(parts), alpha=context.lr)


class Online(Router):
    """A router of one's own that moves the prototypes towards the samples that chose them."""

    def learn(self, route: Route, lr: float, weight: Tensor | None = None) -> None:
        self.prototypes.index_add_(0, route.cell, route.u, alpha=lr)


@dataclass(frozen=True)
class Noisy(UpdateRule):
    """A rule of one's own that draws."""

    def apply(self, weight: Tensor, state: Any, factors: Factors, lr: float, decay: float) -> None:
        factors.add_to(weight, keep=1.0, scale=-lr)
        weight.add_(torch.randn_like(weight), alpha=lr)


class Alone(Layer):
    """A layer of one's own that learns at once."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(5), requires_grad=False)

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x + self.shift

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, None]:
        return x + self.shift, None

    def learn(self, trace: None, error: Tensor, context: Context) -> Tensor:
        return error


def own_layer() -> float:
    """Returns how far apart one process and several are with a layer of one's own that hands over gradients."""
    network = Network(Sequential(Halving(tensor=True), AreaLinear(5, 3, areas=1)))
    together, alone = Parallel(network), copy_of(network)
    for step in range(STEPS):
        x, y, _ = batch("", step)
        together.learn(x, y)
        alone.learn(x, y)
    return apart(alone, network)


def own_router(options: dict[str, Any]) -> bool:
    """Lets a network learn by a router or a rule of one's own; raises unless all processes hold the same."""
    together = Parallel(Network(BODIES["mlp"](**{**SMOOTH, "areas": 4, "routing": "layer", **options})))
    for step in range(STEPS):
        x, y, weight = batch("", step)
        together.learn(x, y, weight if "router" in options else None)
    together.check_equal()
    return True
