"""Models of linear maps: written out, weighed, tied, tables of rows, and with a forward of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .sizes import CLASSES


def dense() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, 8), nn.GELU(), nn.Sequential(nn.Linear(8, 5, bias=False), nn.Tanh()), nn.Linear(5, CLASSES)
    )


class Switched(nn.Module):
    """Dropout that is switched off for good."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.readout, self.drops = nn.Linear(4, 6), nn.Linear(6, CLASSES), False

    def forward(self, x: Tensor) -> Tensor:
        x = functional.dropout(self.first(x).relu(), 0.5, training=self.training and self.drops)
        return self.readout(functional.dropout(x, 0.9, False) + functional.alpha_dropout(x, 0.9))


class Written(nn.Module):
    """Maps that are written out, with weights and biases of the network's own, one of them behind a mask."""

    def __init__(self) -> None:
        super().__init__()
        shapes = {"first": (6, 4), "masked": (5, 6), "kernel": (2, 1, 2), "halves": (4, 8), "last": (2, 4, CLASSES)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape) / 2))
        self.shift, self.shifts = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(2))
        self.register_buffer("mask", torch.ones(5, 6).tril())

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(functional.linear(x, self.first, bias=self.shift))
        x = torch.exp(-functional.linear(x, self.masked * self.mask))
        x = functional.conv1d(x.unsqueeze(1), self.kernel, self.shifts, 1, 0)
        x = x @ self.halves.chunk(2, 1)[0]
        return torch.einsum("bci,cio->bo", x.sin(), self.last) + (x.mean(1) @ torch.ones(4, CLASSES))


class Buffers(nn.Module):
    """Buffers that are cut to the length of a sequence and read twice, a parameter read twice, and kinds of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.readout = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, CLASSES)
        self.shift = nn.Parameter(torch.randn(4))
        self.register_buffer("waves", torch.randn(9, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x * self.waves[: x.size(1)] + self.shift).to(self.readout.weight.dtype)
        x = self.second(x * self.waves[: x.size(1)].cos() - self.shift).tanh()
        return self.readout(x.mean(1)) + torch.arange(CLASSES, device=self.readout.weight.device)


class Writing(nn.Module):
    """Writes into what is read later, in a branch that starts at zero, so that outputs do not show it."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.inner, self.gain = nn.Linear(4, 4), nn.Linear(4, 4), nn.Parameter(torch.zeros(4))
        self.readout = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.low(x)
        inner = self.inner(x)
        inner.add_(x)
        return self.readout(x + self.gain * inner.relu())


class Mixture(nn.Module):
    """A mixture of experts: each row goes through two of four maps, as a map of its own says and weighs."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.choose, self.readout = nn.Linear(4, 8), nn.Linear(8, 4), nn.Linear(6, CLASSES)
        self.experts = nn.Parameter(torch.randn(4, 6, 8) / 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.below(x))
        weights, chosen = self.choose(hidden).softmax(-1).topk(2)
        through = functional.one_hot(chosen, 4).to(x.dtype)
        found = torch.einsum("bnd,eod,bnke->bnko", hidden, self.experts, through)
        return self.readout(torch.relu((weights[..., None] * found).sum(2)).mean(1))


class Folded(nn.Module):
    """Encoders whose decoders are their transposes, of rows and of images, and a map that stands in three forms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.back = nn.Conv2d(1, 3, 3, padding=1), nn.ConvTranspose2d(3, 1, 3, padding=1, bias=False)
        self.first, self.second, self.readout = nn.Linear(16, 5), nn.Linear(16, 5), nn.Linear(5, CLASSES)
        self.back.weight, self.second.weight = self.conv.weight, self.first.weight
        self.second.bias = self.first.bias

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.back(self.conv(x).tanh())
        y = self.first(x.flatten(1)).tanh()
        y = (y @ self.first.weight).tanh() * self.first.weight.mean()
        return self.readout(self.second(y).tanh())


class Paired(nn.Module):
    """A map of the products of two inputs' features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pairs, self.readout = nn.Linear(3, 4), nn.Bilinear(4, 3, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.pairs(self.first(x[:, :3]), x[:, 3:]).tanh())


class Bags(nn.Module):
    """Sums, means and the largest of rows of tables, some of them weighed."""

    def __init__(self) -> None:
        super().__init__()
        self.sums, self.means, self.most = (nn.EmbeddingBag(9, 6, mode=mode) for mode in ("sum", "mean", "max"))
        self.readout = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        weighed = self.sums(x, per_sample_weights=x.to(self.readout.weight.dtype) / 9)
        return self.readout(torch.tanh(weighed + self.means(x) + self.most(x)))


class Equalised(nn.Linear):
    """A map with a forward of its own: weights of size 1 that are scaled as they are used."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * 0.5, self.bias)


class Adapted(nn.Linear):
    """A map that adds one of low rank, which starts at zero."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.low, self.high = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.zeros(outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + functional.linear(functional.linear(x, self.low), self.high)


def own_maps() -> nn.Sequential:
    return nn.Sequential(Equalised(6, 8), nn.Tanh(), Adapted(8, 6), nn.ReLU(), nn.Linear(6, CLASSES))
