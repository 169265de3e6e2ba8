"""What cannot be recorded is noticed."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import AreaLinear, Captured, Context, Layer, Local, Network, Recurrent, Sequential
from brodmann.layers.cells import Elman

from .parts import Pair, network_of


def test_functions_and_losses_of_ones_own_are_parts_too() -> None:
    own = Network(Sequential(AreaLinear(5, 3, feedback=None), Local(lambda x: x.tanh())))
    assert "your own" in Pair(own).learn().step.refusal
    own = network_of()
    own.loss = lambda output, target: output.square().mean()
    assert "your own" in Pair(own).learn().step.refusal


class Focal(nn.Module):
    """A loss, and an operation, of one's own."""

    def forward(self, output: Tensor, target: Tensor | None = None) -> Tensor:
        if target is None:
            return output.sin()
        return nn.functional.cross_entropy(output.flatten(0, -2), target.flatten())

    def method(self, output: Tensor, target: Tensor | None = None) -> Tensor:
        return self.forward(output, target)


@pytest.mark.parametrize("own", [Focal(), Focal().method, partial(Focal())], ids=["module", "method", "partial"])
@pytest.mark.parametrize("place", ["loss", "operation", "cell"])
def test_what_objects_of_this_package_hold_may_be_ones_own(own: Any, place: str) -> None:
    torch.manual_seed(0)
    between: Layer = Local(nn.Tanh())
    if place == "operation":
        between = Local(own)
    elif place == "cell":
        between = Recurrent(AreaLinear(4, 4), AreaLinear(4, 4), Elman(own))
    network = Network(Sequential(AreaLinear(5, 4, feedback=None), between, AreaLinear(4, 3)))
    if place == "loss":
        network.loss = own
    captured = Captured(network)
    for _ in range(3):
        captured.learn(torch.randn(2, 6, 5), torch.randint(3, (2, 6)))
    assert not captured.is_captured
    assert "your own" in captured.refusal


class Remembering(Layer):
    """A layer of one's own that changes what it holds, in ways that are not all recorded."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.before, self.loose = kind, 0.0, [torch.zeros(())]

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, None]:
        if self.kind == "an attribute":
            self.before += 1.0
        elif self.kind == "a loose tensor":
            self.loose[0].add_(1.0)
        elif self.kind == "numpy":
            return x * float(x.numpy().max()), None
        elif self.kind == "item":
            return x * x.max().item(), None
        elif self.kind == "mask":
            return x * x[x > 0].sum(), None
        elif self.kind == "nonzero":
            return x * x.nonzero().shape[0], None
        elif self.kind == "rate":
            return x.clamp(max=context.lr) + x.clamp(-context.lr, context.lr), None
        elif self.kind == "rate of another form":
            return x * (1.0 - context.lr), None
        return x, None

    def learn(self, trace: None, error: Tensor, context: Context) -> Tensor:
        return error


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("an attribute", "more than numbers in tensors"),
        ("a loose tensor", "belongs to no layer"),
        ("numpy", "numpy"),
        ("item", "looks at numbers"),
        ("mask", "looks at numbers"),
        ("nonzero", "looks at numbers"),
        ("rate", "takes a learning rate"),
        ("rate of another form", "computed with"),
    ],
)
def test_what_cannot_be_recorded_is_noticed(kind: str, why: str) -> None:
    torch.manual_seed(0)
    body = Sequential(AreaLinear(5, 4, areas=2, feedback=None), Remembering(kind), AreaLinear(4, 3, areas=2))
    pair = Pair(Network(body), own_parts=True).learn()
    assert not pair.captured
    assert why in pair.step.refusal
