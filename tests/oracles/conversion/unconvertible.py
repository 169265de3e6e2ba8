"""Models and functions that cannot be converted, each for one reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def doubled(x: Tensor) -> Tensor:
    """Writes, and nobody reads what that returns."""
    x.mul_(2.0)
    return x


def parted(x: Tensor, parts: Callable[[Tensor], Any]) -> Tensor:
    """Writes into a part of what is read later as one of several views, where the samples do not show it."""
    mask = torch.ones_like(x)
    views = parts(mask)
    mask[x > 9.0] = 0.0
    return x * views[0].sum()


def spread_and_written(x: Tensor) -> Tensor:
    """Writes into what is a view of others for a sample that comes alone, and its own for several."""
    ones = x.new_ones(1, 4)
    mask = ones.expand(x.shape[0], -1).contiguous()
    mask[x > 9.0] = 0.0
    return x * mask + ones


def spread_in_place(x: Tensor, write: Callable[[Tensor], Tensor]) -> Tensor:
    """The same, by a method."""
    ones = x.new_ones(1, 4)
    mask = ones.expand(x.shape[0], -1).contiguous()
    write(mask)
    return x * mask + ones


def copied(x: Tensor) -> Tensor:
    """Writes into a copy where several samples come."""
    y = x.clone() if x.shape[0] != 1 else x
    y.mul_(2.0)
    return x + y


class DropConnect(nn.Module):
    """Drops out weights, of which it computes the mean, too."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.weights = nn.Linear(4, 4), nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        weights = functional.dropout(self.weights, 0.5, self.training)
        return self.low(x) @ weights + weights.mean(0)


class Matrices(nn.Module):
    """Looks up a matrix for every token."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.matrices = nn.Embedding(9, 4), nn.Parameter(torch.randn(9, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bti,btio->bto", self.rows(x), self.matrices[x])


def zeros() -> nn.Linear:
    """Returns a readout that does not show what comes to it."""
    readout = nn.Linear(4, 3)
    nn.init.zeros_(readout.weight)
    return readout


def written(x: Tensor, part: Callable[[Tensor], Tensor]) -> Tensor:
    """Writes into a part of what is read later, where the values do not show it."""
    y = x.sin()
    z = part(y)
    if z.ndim == 2:
        z[0] = 0.5
    return x + 0.0 * y


class Passing(nn.Module):
    """Weights that go through a module without any, and are as many rows as samples are tried."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.weights = module, nn.Parameter(torch.randn(11, 11))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.module(self.weights)


class KeyCache:
    """What a model keeps of what it has read, for the next call."""


class Below(nn.Module):
    """Dropout below an `if`."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.map(x)
        return functional.dropout(x) if self.training else x


class Complex(nn.Module):
    """Rotated pairs, as in positions of language models."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)
        self.register_buffer("turns", torch.polar(torch.ones(2), torch.tensor([0.1, 1.0])))

    def forward(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(self.map(x).unflatten(-1, (2, 2)))
        return torch.view_as_real(pairs * self.turns).flatten(1)


class Hidden(nn.Module):
    """Reads a parameter where nobody sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.scale = nn.Linear(4, 4), nn.Parameter(torch.zeros(4))
        self.scales = (self.scale,)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x) * torch.exp(self.scales[0])


Unknown: Any = type("Unknown", (nn.PReLU,), {"__module__": "torch.nn.modules.unknown"})
"""A layer of PyTorch's that this package does not know."""


class Offsets(nn.Module):
    """Bags of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bag(x.flatten(), torch.arange(x.shape[0]) * 4)  # type: ignore[no-any-return]


class OfOnesOwn(nn.Module):
    """A recurrent layer of one's own class, which may do something else than PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.readout = type("Own", (nn.LSTM,), {})(4, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.layer(x)[0][:, -1])


class Later(nn.Module):
    """A layer with parameters such as a later PyTorch may have."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


Later.__module__ = "torch.nn.later"


class Last(nn.Module):
    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        return x[0][:, -1]


def tied_gru() -> nn.GRU:
    gru = nn.GRU(4, 4, batch_first=True)
    gru.weight_hh_l0 = gru.weight_ih_l0
    return gru


def sharing_with_a_gru() -> nn.Sequential:
    model = nn.Sequential(nn.GRU(4, 4, batch_first=True), Last(), nn.Linear(4, 12), nn.Linear(12, 3))
    model[2].weight = model[0].weight_hh_l0
    return model


def with_one_norm() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.LayerNorm(4))
    model[3].weight = model[1].weight
    return model


def hooked_cell() -> nn.Sequential:
    cell = nn.GRUCell(4, 4)
    cell.register_forward_hook(lambda _layer, _inputs, output: 2 * output)
    return nn.Sequential(nn.Linear(4, 4), cell)


class Halving(nn.Module):
    """Maps all steps, then half of them, by one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.readout = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.map(self.map(x).tanh()[:, :2]).mean(1))


class Scoring(nn.Module):
    """Scores its input by a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.query = nn.Linear(4, 4), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return (self.map(x) @ self.query)[:, None]


class Stateful(nn.Module):
    """Adds what it made of the samples before."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.state = nn.Linear(4, 3), None

    def forward(self, x: Tensor) -> Tensor:
        self.state = self.map(x) if self.state is None else self.map(x) + self.state
        return self.state
