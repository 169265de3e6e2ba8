"""What a step is timed and weighed against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brodmann import Router

ALIGNED = 4
"""grouped_mm wants rows of whole 16 bytes: outputs are padded to a multiple of four float32."""


class GroupedMixture(nn.Module):
    """A mixture of experts under autograd: the same frozen router, two layers, PyTorch's grouped products.

    Its backward pass writes the gradient of every expert, and the optimiser walks over all of them.
    """

    def __init__(self, inputs: int, width: int, outputs: int, experts: int, optimiser: str) -> None:
        super().__init__()
        padded = -(-outputs // ALIGNED) * ALIGNED
        self.outputs, self.experts = outputs, experts
        self.routers = nn.ModuleList([Router(inputs, experts, learned=False), Router(width, experts, learned=False)])
        self.first = nn.Parameter(torch.randn(experts, inputs, width) / inputs**0.5)
        self.second = nn.Parameter(torch.randn(experts, width, padded) / width**0.5)
        weights = [self.first, self.second]
        self.optimiser = torch.optim.SGD(weights) if optimiser == "sgd" else torch.optim.AdamW(weights)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self._product(x, self.first, 0))
        return self._product(h, self.second, 1)[:, : self.outputs]

    def _product(self, x: Tensor, weight: Tensor, place: int) -> Tensor:
        with torch.no_grad():
            area = self.routers[place](x).area
            order = area.argsort()
            ends = torch.bincount(area, minlength=self.experts).cumsum(0).int()
            back = order.argsort()
        return F.grouped_mm(x[order], weight, offs=ends)[back]

    def learn(self, x: Tensor, y: Tensor, lr: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(self(x), y).backward()
        self.optimiser.step()


def autograd_step(model: nn.Module, optimiser: str, lr: float) -> Callable[[Tensor, Tensor], None]:
    """Returns a step of the loop that everybody writes, with PyTorch's fastest optimiser: nothing is checked."""
    kind: Any = torch.optim.SGD if optimiser == "sgd" else torch.optim.AdamW
    moving = kind(model.parameters(), lr=lr, fused=True)

    def step(x: Tensor, y: Tensor) -> None:
        moving.zero_grad()
        F.cross_entropy(model(x), y).backward()
        moving.step()

    return step


def update_in_hooks(network: nn.Module, lr: float) -> Callable[[Tensor, Tensor], None]:
    """Returns a step of plain SGD inside backward hooks: every gradient is applied and freed as soon as it is there."""
    for parameter in network.parameters():

        @torch.no_grad()
        def apply(weight: Tensor) -> None:
            assert weight.grad is not None
            weight.add_(weight.grad, alpha=-lr)
            weight.grad = None

        parameter.register_post_accumulate_grad_hook(apply)

    def step(x: Tensor, y: Tensor) -> None:
        F.cross_entropy(network(x), y).backward()

    return step
