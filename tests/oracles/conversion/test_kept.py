"""Models that keep something from call to call, or write into their parameters, are refused; caches and counts pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import BrodmannError, from_torch


class Doing(nn.Module):
    """Does something with itself and its input, and then maps."""

    def __init__(self, do: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.do, self.below, self.above = do, nn.Linear(4, 5), nn.Linear(5, 3)
        self.temperature, self.rate, self.calls = nn.Parameter(torch.tensor(2.0)), 1.0, 0
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.above(self.do(self, self.below(x)))


class Masked(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= torch.ones_like(self.weight).tril()
        return super().forward(x)


class Bounded(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = torch.renorm(self.weight.data, 2, 0, 2.0)
        return super().forward(x)


def clamped(self: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        self.temperature.clamp_(max=4.6)
    return x * self.temperature.exp()


def positive(self: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        for held in self.above.parameters():
            held.abs_()
    return x


def masked() -> nn.Module:
    model = nn.Sequential(Masked(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    model(torch.randn(2, 1, 4, 4))  # from here on the mask changes nothing
    return model


def already_positive() -> nn.Module:
    model = Doing(positive)
    model(torch.randn(2, 4))
    return model


@pytest.mark.parametrize(
    ("build", "shape", "name"),
    [
        (masked, (1, 4, 4), "0.weight"),
        (lambda: nn.Sequential(Bounded(4, 5), nn.Linear(5, 3)), (4,), "0.weight"),
        (lambda: Doing(clamped), (4,), "temperature"),
        (already_positive, (4,), "above.weight"),
    ],
)
def test_models_that_write_into_their_parameters_are_refused(
    build: Callable[[], nn.Module], shape: tuple[int, ...], name: str
) -> None:
    torch.manual_seed(0)
    with pytest.raises(BrodmannError, match=f"it writes into its parameter '{name}'"):
        from_torch(build(), shape, areas=1)


def decaying(self: Any, x: Tensor) -> Tensor:
    if self.training:
        self.rate = max(0.5, self.rate * 0.99)
    return x * self.rate


def warming(self: Any, x: Tensor) -> Tensor:
    self.calls += 1
    return x * min(1.0, 0.99 + self.calls / 10000)


def centred(self: Any, x: Tensor) -> Tensor:
    self.mean = 0.9999 * self.mean + 0.0001 * x.detach().mean(0)
    return x - self.mean


def looping(self: Any, x: Tensor) -> Tensor:
    """Never returns after some hundred calls."""
    self.calls += 1
    while self.calls > 500:
        pass
    return x


@pytest.mark.parametrize(
    ("do", "name"), [(decaying, "rate"), (warming, "calls"), (centred, "mean"), (looping, "calls")]
)
def test_models_that_answer_by_what_they_keep_are_refused(do: Callable[[Any, Tensor], Tensor], name: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(BrodmannError, match=f"it changes '{name}' from call to call"):
        from_torch(Doing(do), (4,), areas=1)


def counted(self: Any, x: Tensor) -> Tensor:
    self.calls += 1
    return x


def tallied(self: Any, x: Tensor) -> Tensor:
    """Counts in a buffer, and asks what comes."""
    if x.dim() == 2:
        self.mean += 1
    return x


def watched(self: Any, x: Tensor) -> Tensor:
    self.last = functional.dropout(x, 0.5, self.training)
    return x


def normed(self: Any, x: Tensor) -> Tensor:
    variance = torch.ones(5)
    return functional.batch_norm(x, self.mean, variance, training=self.training)


def remembered(self: Any, x: Tensor) -> Tensor:
    """As attention that computes its biases once for inference, with the graph by which they were computed."""
    if self.training:
        return x * self.temperature.exp()
    known = self.__dict__.setdefault("known", {})
    if "scale" not in known:
        known["scale"] = self.temperature.exp()
    return x * known["scale"]


class Root(torch.autograd.Function):
    """Newton's method, which never ends for numbers so large that they have no digits behind the point."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        root = torch.ones_like(x)
        while (root * root - x).abs().max() > 1e-4:
            root = (root + x / root) / 2
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> Tensor:
        return error / (2 * ctx.saved_tensors[0])


def iterated(self: Any, x: Tensor) -> Tensor:
    return Root.apply(x * x + 0.1)  # type: ignore[no-untyped-call, no-any-return]


@pytest.mark.parametrize("do", [counted, tallied, watched, normed, remembered, iterated])
def test_what_models_keep_and_never_read_or_norms_keep_and_loops_by_values_are_no_obstacle(
    do: Callable[[Any, Tensor], Tensor],
) -> None:
    torch.manual_seed(0)
    model, x = Doing(do).eval(), torch.randn(5, 4)
    torch.testing.assert_close(from_torch(model, (4,), areas=1)(x), model(x).detach())
