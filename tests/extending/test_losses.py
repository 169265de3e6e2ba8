"""Losses of one's own: with weights and without, functions, modules, and those with buffers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import BrodmannError, CrossEntropy, DivergenceError, Network

from .parts import X, Y, body, each_of, message_of


class Floating:
    """A loss that knows its derivative, and returns a number that is not a tensor."""

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return output.sum()

    def value_and_error(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Any:
        return 3.0, torch.ones_like(output)


class Knowing:
    """A loss that is wrong about its derivative."""

    def __init__(self, wrong: Callable[[Tensor], Any]) -> None:
        self.wrong = wrong

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return output.sum()

    def value_and_error(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Any:
        return output.sum(), self.wrong(torch.ones_like(output))


class Trained(nn.Module):
    """A loss with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return self.scale * functional.cross_entropy(output, target)


class Centring(Floating):
    """A loss that changes the output, which the caller gets too."""

    def value_and_error(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Any:
        output -= output.mean(0)
        return output.sum(), torch.ones_like(output)


CASES: list[tuple[Callable[[], object], str]] = [
    (
        lambda: Network(body(), Trained()),
        "Trained holds parameters, which nothing would train: make them buffers, or freeze them with "
        "requires_grad_(False).",
    ),
    (
        lambda: Network(body(), lambda output, target: functional.cross_entropy(output, target).detach()).learn(X, Y),
        "Expected a loss that PyTorch can differentiate with respect to the output: leave out .item(), .detach() and "
        "NumPy.",
    ),
    (
        lambda: Network(body(), functional.cross_entropy).learn(X, Y, torch.ones(20)),
        "cross_entropy takes no sample weights: use CrossEntropy, BinaryCrossEntropy, MeanSquaredError, or a "
        "callable that takes (output, target, weight).",
    ),
    (
        lambda: Network(body(), Centring()).learn(X, Y),
        "Centring.value_and_error changed in place what it was given, which others read after it: work on a copy, as "
        "in x = x - mean or x = x.clone().",
    ),
    (lambda: Network(body()).learn(X[0], Y[0]), "Expected as many targets as samples, got a single number for 6."),
    (
        lambda: Network(body()).learn(X, Y, torch.full((20,), -1.0)),
        "Expected sample weights that are finite and at least 0: leave out samples with other weights.",
    ),
    (
        lambda: Network(body(), Floating()).learn(X, Y),
        "Expected a loss that returns a tensor with one number, got 3.0.",
    ),
    (
        lambda: Network(body(), Knowing(lambda error: error.sum(0))).learn(X, Y),
        "Knowing.value_and_error should return the value and dL/d output, (20, 3) torch.float32, got (3,) "
        "torch.float32.",
    ),
    (
        lambda: Network(body(), Knowing(lambda error: None)).learn(X, Y),
        "Knowing.value_and_error should return the value and dL/d output, (20, 3) torch.float32, got NoneType.",
    ),
    (
        lambda: Network(body(), Knowing(lambda error: (error, error))).learn(X, Y),
        "Knowing.value_and_error should return the value and dL/d output, (20, 3) torch.float32, got (20, 3) "
        "torch.float32, (20, 3) torch.float32.",
    ),
]


@each_of(CASES)
def test_what_users_may_get_wrong(act: Callable[[], object], message: str) -> None:
    assert message_of(act) == message


def test_a_loss_that_takes_two_arguments_nothing() -> None:
    with pytest.raises(BrodmannError, match="Expected a loss that takes \\(output, target\\) or"):
        Network(body(), lambda output: output.sum())


def focal(output: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """A loss whose third argument is an option, not a weight."""
    value = functional.cross_entropy(output, target, reduction="none")
    return ((1 - (-value).exp()) ** gamma * value).mean()


class Focal(nn.Module):
    """The same as a module."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return focal(output, target)


def keyword(output: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """A loss whose weight cannot be given by its place."""
    assert weight is None
    return focal(output, target)


LOSSES: list[Any] = [focal, Focal(), lambda output, target: focal(output, target), keyword, partial(focal, gamma=2.0)]


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_ones_own_without_weights(loss: Any, double: None) -> None:
    torch.manual_seed(0)
    network = Network(body(), loss)
    x = X.double()
    found = network.learn(x, Y, lr=0.0)
    leaf = network(x).requires_grad_(True)
    expected = focal(leaf, Y)
    error, _ = network.output_error(network(x), Y)
    assert torch.equal(found, expected.detach())
    assert torch.equal(error, torch.autograd.grad(expected, leaf)[0])
    with pytest.raises(BrodmannError, match="takes no sample weights"):
        network.learn(x, Y, torch.ones(20))


WEIGHTED: list[Any] = [
    lambda o, t, weight=None: CrossEntropy()(o, t, weight),
    lambda o, t, sample_weight=None: CrossEntropy()(o, t, sample_weight),
    lambda o, t, w=None: CrossEntropy()(o, t, w),
    lambda o, t, third: CrossEntropy()(o, t, third),
    lambda *given: CrossEntropy()(*given),
]


@pytest.mark.parametrize("loss", WEIGHTED)
def test_losses_of_ones_own_with_weights(loss: Any) -> None:
    weight = torch.rand(20)
    torch.manual_seed(0)
    own = Network(body(), loss)
    torch.manual_seed(0)
    plain = Network(body())
    assert torch.allclose(own.learn(X, Y, weight), plain.learn(X, Y, weight))
    assert torch.allclose(own.learn(X, Y), plain.learn(X, Y))


def test_a_derivative_that_is_not_finite_moves_nothing() -> None:
    network = Network(body(), Knowing(lambda error: error / 0))
    before = network(X)
    with pytest.raises(DivergenceError, match="but its derivative with respect to the output is not finite"):
        network.learn(X, Y)
    assert torch.equal(network(X), before)


def test_a_loss_of_pytorch_with_options() -> None:
    loss = partial(functional.cross_entropy, label_smoothing=0.1)
    assert torch.allclose(Network(body(), loss).loss(X[:, :3], Y), CrossEntropy(0.1)(X[:, :3], Y))
    with pytest.raises(BrodmannError, match="takes no sample weights"):
        Network(body(), loss).learn(X, Y, torch.ones(20))


class Balanced(nn.Module):
    """A loss with a buffer."""

    share: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("share", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output, target, self.share)


def test_a_loss_with_buffers_follows_the_network() -> None:
    network = Network(body(), Balanced()).double()
    assert torch.isfinite(network.learn(X.double(), Y))


def test_a_frozen_network_in_a_loss() -> None:
    loss = Trained().requires_grad_(False)
    assert torch.isfinite(Network(body(), loss).learn(X, Y))


class Exact(CrossEntropy):
    """Knows its derivative, and looks as if it took no weight."""

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:  # type: ignore[override]
        return super().__call__(output, target)


def test_a_loss_that_knows_its_derivative_is_left_alone() -> None:
    loss = Exact()
    assert Network(body(), loss).loss is loss
