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
    """A mixture of experts under autograd: one frozen route for two layers, PyTorch's grouped products.

    Its backward pass writes the gradient of every expert, and the optimiser walks over all of them.
    """

    def __init__(self, inputs: int, width: int, outputs: int, experts: int) -> None:
        super().__init__()
        padded = -(-outputs // ALIGNED) * ALIGNED
        self.outputs, self.experts = outputs, experts
        self.router = Router(inputs, experts, learned=False)
        self.first = nn.Parameter(torch.randn(experts, inputs, width) / inputs**0.5)
        self.second = nn.Parameter(torch.randn(experts, width, padded) / width**0.5)

    def forward(self, x: Tensor) -> Tensor:
        order, counts = routed(self.router, x, self.experts)
        ends = counts.cumsum(0).int()
        hidden = torch.relu(F.grouped_mm(x[order], self.first, offs=ends))
        return F.grouped_mm(hidden, self.second, offs=ends)[order.argsort()][:, : self.outputs]


class ListedMixture(nn.Module):
    """The same as a list of experts, of which only those that have samples compute, get gradients and move."""

    def __init__(self, inputs: int, width: int, outputs: int, experts: int) -> None:
        super().__init__()
        self.router = Router(inputs, experts, learned=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs)) for _ in range(experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        order, counts = routed(self.router, x, len(self.experts))
        chosen = [(expert, count) for expert, count in enumerate(counts.tolist()) if count]
        parts = x[order].split([count for _, count in chosen])
        out = [self.experts[expert](rows) for (expert, _), rows in zip(chosen, parts, strict=True)]
        return torch.cat(out)[order.argsort()]


@torch.no_grad()
def routed(router: Router, x: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """Returns the rows of a batch by expert, (rows,), and how many each has, (experts,)."""
    area = router(x).area
    return area.argsort(), torch.bincount(area, minlength=experts)


def autograd_step(
    model: nn.Module, optimiser: str, lr: float, *, compiled: bool = False
) -> Callable[[Tensor, Tensor], None]:
    """Returns a step of the loop that everybody writes, with PyTorch's fastest optimiser: nothing is checked.

    ``compiled``: the loss, and so its backward pass, by `torch.compile`.
    """
    kind: Any = torch.optim.SGD if optimiser == "sgd" else torch.optim.AdamW
    moving = kind(model.parameters(), lr=lr, fused=True)

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y)

    loss: Callable[[Tensor, Tensor], Tensor] = torch.compile(loss_of) if compiled else loss_of

    def step(x: Tensor, y: Tensor) -> None:
        moving.zero_grad()
        loss(x, y).backward()
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
