"""Learning rates may change from step to step."""

from __future__ import annotations

import pytest
import torch

from brodmann import BrodmannError

from .parts import Pair, network_of


def test_the_default_rate_is_the_networks() -> None:
    pair = Pair(network_of()).learn()
    x, y = torch.randn(8, 5), torch.randint(3, (8,))
    pair.change(lambda network: setattr(network, "lr", 0.02))
    for _ in range(12):
        assert torch.equal(pair.ordinary.learn(x, y), pair.step.learn(x, y))
    pair.check()


def test_the_rate_of_the_network_may_change_in_every_step() -> None:
    pair = Pair(network_of())
    for step in range(6):
        pair.change(lambda network: setattr(network, "lr", 0.1 / (step + 1)))  # noqa: B023  # it is called at once
        x, y = torch.randn(8, 5), torch.randint(3, (8,))
        assert torch.equal(pair.ordinary.learn(x, y), pair.step.learn(x, y))
    assert pair.captured
    assert pair.step.recordings == 1


def test_a_rate_whose_multiples_round_to_0() -> None:
    pair = Pair(network_of()).learn()
    pair.learn(3, lr=5e-324 * 8)  # over the number of the step, with a tenth of it for areas
    pair.learn()
    assert pair.captured


@pytest.mark.parametrize("lr", [-1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none(lr: float) -> None:
    pair = Pair(network_of()).learn()
    with pytest.raises(BrodmannError, match="Expected lr to be a number of at least 0"):
        pair.step.learn(torch.zeros(8, 5), torch.zeros(8, dtype=torch.int64), lr=lr)
