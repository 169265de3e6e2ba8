"""Parts of one's own are asked in every step, or captured where that is allowed and can be done."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import AreaLinear, BrodmannError, Captured, Context, Layer, Network, Rates, Router, Sequential
from brodmann.updates import UpdateRule

from ..cases import Rewarded
from .parts import Pair, network_of


class Counting(Layer):
    """A layer of one's own that counts its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = [0]

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, None]:
        self.steps[0] += 1
        return 2 * x, None

    def learn(self, trace: None, error: Tensor, context: Context) -> Tensor:
        return 2 * error


def with_own() -> Network:
    torch.manual_seed(0)
    return Network(Sequential(AreaLinear(5, 4, areas=2, feedback=None), Counting(), AreaLinear(4, 3, areas=2)))


def test_parts_of_ones_own_are_asked_in_every_step() -> None:
    pair = Pair(with_own()).learn()
    assert "'body.layers.1' is a part of your own: own_parts=True" in pair.step.refusal
    assert pair.network.body.layers[1].steps == [5]


def test_parts_of_ones_own_are_captured_where_that_is_allowed() -> None:
    pair = Pair(with_own(), own_parts=True).learn()
    assert pair.captured
    assert pair.network.body.layers[1].steps == [3]  # an ordinary step, and recordings at two rates


def test_a_copy_captures_parts_of_ones_own_as_its_original_does() -> None:
    other = deepcopy(Captured(with_own(), own_parts=True))
    for _ in range(4):
        other.learn(torch.randn(8, 5), torch.arange(8) % 3)
    assert other.is_captured, other.refusal


def test_paths_of_ones_own_see_the_output_of_every_step() -> None:
    pair = Pair(network_of(areas=3, feedback=Rewarded), own_parts=True).learn()
    assert pair.captured, pair.step.refusal


class Gain(Layer):
    """A factor for each feature, which moves in one of several ways."""

    def __init__(self, size: int, move: Callable[[Tensor, Tensor, float], object]) -> None:
        super().__init__()
        self.gain, self.move = nn.Parameter(torch.ones(size), requires_grad=False), move

    def forward(self, x: Tensor, choice: Any = None) -> Tensor:
        return x * self.gain

    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        return self(x), x

    def learn(self, trace: Tensor, error: Tensor, context: Context) -> Tensor:
        below = error * self.gain
        self.move(self.gain, (error * trace).sum(0), context.lr_of(self))
        return below


@pytest.mark.parametrize(
    "move",
    [
        lambda weight, gradient, lr: weight.sub_(lr * gradient),
        lambda weight, gradient, lr: weight.sub_(gradient * lr),
        lambda weight, gradient, lr: weight.add_(gradient, alpha=-lr),
    ],
)
def test_layers_of_ones_own_move_at_rates_that_change(move: Any) -> None:
    torch.manual_seed(0)
    body = Sequential(AreaLinear(5, 4, areas=2, feedback=None), Gain(4, move), AreaLinear(4, 3, areas=2))
    pair = Pair(Network(body, rates=Rates(layers={"layers.1": 0.3})), own_parts=True).learn(8)
    assert pair.captured, pair.step.refusal
    assert pair.step.recordings == 2  # the second, at another rate, holds the same numbers


def _scripted(weight: Tensor, gradient: Tensor, lr: float) -> None:
    weight.sub_(lr * gradient)


@pytest.mark.parametrize(
    "move",
    [
        lambda weight, gradient, lr: weight.mul_(math.exp(-lr)).sub_(gradient, alpha=lr),
        lambda weight, gradient, lr: weight.sub_(gradient.sign(), alpha=math.sqrt(lr)),
        lambda weight, gradient, lr: weight.sub_(gradient, alpha=min(lr, 0.01)),
        lambda weight, gradient, lr: weight.sub_(gradient, alpha=lr if lr < 0.01 else 0.01),
        lambda weight, gradient, lr: weight.sub_(gradient, alpha=round(lr, 2)),
        lambda weight, gradient, lr: weight.sub_(gradient, alpha=+lr),
        lambda weight, gradient, lr: weight.sub_(gradient, alpha=int(lr * 100) / 100),
        lambda weight, gradient, lr: weight.sub_(gradient, alpha=lr.real),
        lambda weight, gradient, lr: weight.sub_(gradient * torch.arange(0.0, 1.0, lr).sum()),
        torch.jit.script(_scripted),
    ],
)
def test_numbers_that_layers_of_ones_own_compute_from_the_rate_follow_it(move: Any) -> None:
    torch.manual_seed(0)
    held = [move]  # a scripted function cannot be copied
    body = Sequential(AreaLinear(5, 4, areas=2, feedback=None), Gain(4, lambda *given: held[0](*given)))
    pair = Pair(Network(Sequential(body, AreaLinear(4, 3, areas=2))), own_parts=True).learn(8)
    assert not pair.captured
    assert pair.step.refusal


class BySign(Router):
    """Cell 0 or 1, by the sign of the first number; a cell that does not exist where it is large."""

    def choose(self, x: Tensor) -> Tensor:
        return (x[:, 0] > 0).long() + 2 * (x[:, 0] > 50)


@pytest.mark.parametrize("learned", [False, True])
def test_routers_of_ones_own(learned: bool) -> None:
    pair = Pair(network_of(areas=2, router=partial(BySign, learned=learned)), own_parts=True).learn()
    assert pair.captured, pair.step.refusal
    for step in (pair.ordinary, pair.step):
        with pytest.raises(BrodmannError, match="BySign.choose should return cells from 0 to 1, got 3 to 3"):
            step.learn(torch.full((8, 5), 60.0), torch.zeros(8, dtype=torch.long))
    pair.learn()
    assert pair.step.recordings == 2


class Rooted(UpdateRule):
    """A rule of one's own that computes with its learning rate in its own way."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> None:
        weight.sub_(factors.dense().sign(), alpha=math.sqrt(lr))


@pytest.mark.parametrize("own_parts", [False, True])
def test_rules_of_ones_own_are_asked_in_every_step(own_parts: bool) -> None:
    pair = Pair(network_of(areas=1, update=Rooted()), own_parts=own_parts).learn()
    assert pair.captured == own_parts


class Halving(Network):
    """A network of one's own that learns from something else than it is given."""

    def learn(self, x: Any, *others: Any, **options: Any) -> Tensor:
        return super().learn(x / 2, *others, **options)


def test_a_network_that_learns_in_its_own_way_goes_on_doing_so() -> None:
    networks = [Halving(network_of().body), Halving(network_of().body)]
    step = Captured(networks[1], own_parts=True)
    for _ in range(4):
        x, y = torch.randn(8, 5), torch.randint(3, (8,))
        assert torch.equal(networks[0].learn(x, y), step.learn(x, y))
