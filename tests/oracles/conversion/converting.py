"""What several tests of conversion share: small models, most of them around a function, and what they learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import Constant, Network


def constants(network: Network) -> list[Constant]:
    return [part for part in network.modules() if isinstance(part, Constant) and part.learns]


class Returning(nn.Module):
    """What a function makes of a map."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inside, self.function = nn.Linear(4, 4), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.inside(x))


class Multiplying(nn.Module):
    """What a function makes of a map and of weights that stand by themselves."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.inside, self.function, self.weights = nn.Linear(4, 4), function, nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.inside(x), self.weights)


def opaque(x: Tensor, weights: Tensor) -> Tensor:
    """Is not looked into by torch.fx in files that wrap its name."""
    return x @ weights


class Positions(nn.Module):
    """Asks for sizes, and cuts its buffer to the length that comes."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.readout = nn.Linear(4, 4), nn.Linear(4, 3)
        self.register_buffer("positions", torch.randn(16, 4))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("variance", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        _, steps, units = x.shape
        h = functional.batch_norm(self.map(x).flatten(0, 1), self.mean, self.variance, training=self.training)
        assert h.shape[1] == units, f"of shape {h.shape}"
        return self.readout((h.view(-1, steps, units) + self.positions[:steps]).relu())


class Windows(nn.Module):
    """Maps the windows of an image as if they were samples, as networks like Swin do."""

    def __init__(self, order: str = "samples") -> None:
        super().__init__()
        self.order = order
        self.norm, self.map, self.readout = nn.LayerNorm(3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        windows = x.unflatten(1, (2, 4))  # (samples, windows, steps, 3)
        windows = windows if self.order == "samples" else windows.transpose(0, 1)
        h = self.map(self.norm(windows.flatten(0, 1))).softmax(-1)
        h = h.unflatten(0, windows.shape[:2])
        return self.readout((h if self.order == "samples" else h.transpose(0, 1)).flatten(1, 2).mean(1))


class Between(nn.Module):
    """Two maps with a function between them."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.below, self.above = nn.Linear(6, 16), nn.Linear(16, 3)
        self.scale, self.relu = nn.Parameter(torch.randn(16, 16)), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.above(self.function(self.below(x)))


class Held(Between):
    """The same, of a function that also takes the network's own parts."""

    def forward(self, x: Tensor) -> Tensor:
        return self.above(self.function(self, self.below(x)))  # type: ignore[call-arg]


def check_learns_alike(model: nn.Module, network: Network, x: Tensor, y: Tensor) -> None:
    """Four steps of gradient descent on both, whose losses must be the same."""
    optimiser = torch.optim.SGD(model.parameters(), lr=network.lr)
    for _ in range(4):
        loss = functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        torch.testing.assert_close(network.learn(x, y), loss.detach(), rtol=1e-10, atol=1e-10)


def hooked(place: int) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4)))
    model[place].register_forward_hook(lambda _layer, _inputs, output: 2 * output + 1)
    return model
