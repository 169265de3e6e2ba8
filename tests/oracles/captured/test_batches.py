"""Batches of any size, order and weight; those that cannot be learned are refused as by ordinary steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from brodmann import RLS, BrodmannError, Captured, DivergenceError, Network, convnet, mlp

from .parts import Pair, network_of


def test_batches_of_several_sizes_each_have_their_program() -> None:
    pair = Pair(network_of())
    for rows in (8, 5, 8, 5, 8, 8, 5, 5, 1, 8):
        pair.learn(1, rows=rows)
    assert pair.captured


@pytest.mark.parametrize("from_the_start", [False, True])
def test_a_strided_batch_is_a_batch(from_the_start: bool) -> None:
    pair = Pair(network_of(activation="gelu"))
    if not from_the_start:
        assert pair.learn().captured
    for _ in range(4):
        x, y = torch.randn(5, 8).t(), torch.randint(3, (16,))[::2]
        assert torch.equal(pair.ordinary.learn(x, y, lr=0.01), pair.step.learn(x, y, lr=0.01))
        assert torch.equal(pair.ordinary(x), pair.step(x))
        pair.check()


def test_images_whose_channels_come_last_are_computed_as_such() -> None:
    network = Network(convnet((3, 8, 8), 3))
    captured = Captured(network)
    for _ in range(4):
        images = torch.randn(4, 8, 8, 3).permute(0, 3, 1, 2)
        assert torch.equal(captured(images), network(images))


def test_weights_of_samples() -> None:
    pair = Pair(network_of())
    for _ in range(5):
        x, y, weight = torch.randn(8, 5), torch.randint(3, (8,)), torch.rand(8)
        assert torch.equal(pair.ordinary.learn(x, y, weight, lr=0.01), pair.step.learn(x, y, weight, lr=0.01))
        pair.check()
    assert pair.captured, pair.step.refusal
    for learn in (pair.ordinary.learn, pair.step.learn):
        with pytest.raises(BrodmannError, match="Expected sample weights that are finite and at least 0"):
            learn(x, y, -weight)
    pair.check()


@pytest.mark.parametrize(
    ("x", "y", "error", "match"),
    [
        (torch.full((8, 5), torch.nan), torch.zeros(8, dtype=torch.int64), DivergenceError, "samples hold NaN"),
        (torch.zeros(8, 5), torch.full((8,), 3), BrodmannError, "from 0 to 2, got 3"),
        (torch.zeros(8, 4), torch.zeros(8, dtype=torch.int64), BrodmannError, "4"),
    ],
)
def test_a_batch_that_cannot_be_learned_moves_nothing(x: Tensor, y: Tensor, error: Any, match: str) -> None:
    pair = Pair(network_of()).learn()
    for learn in (pair.ordinary.learn, pair.step.learn):
        with pytest.raises(error, match=match):
            learn(x, y, lr=0.01)
    pair.check()
    pair.learn(2)
    assert pair.captured


def test_a_target_that_is_no_class_of_many_outputs() -> None:
    torch.manual_seed(0)
    pair = Pair(Network(mlp(5, 3000, depth=2, width=6, areas=2))).learn()  # too many for the kernel of the loss
    assert pair.captured
    for learn in (pair.ordinary.learn, pair.step.learn):
        with pytest.raises(BrodmannError, match="from 0 to 2999, got 0 to 3000"):
            learn(torch.zeros(8, 5), torch.tensor([3000, *[0] * 7]))
    pair.learn(2)


def test_after_a_bad_target_random_numbers_go_on_as_ever() -> None:
    pair = Pair(network_of(dropout=0.5)).learn()
    after = []
    for one in (pair.ordinary, pair.step):
        torch.manual_seed(5)
        with pytest.raises(BrodmannError):
            one.learn(torch.randn(8, 5), torch.full((8,), 7))
        after.append(torch.rand(()))
    assert torch.equal(*after)


def test_a_captured_step_that_recursive_least_squares_cannot_make_is_refused_as_ever() -> None:
    network = network_of(areas=1, update=RLS())
    pair = Pair(network).learn()
    assert pair.captured
    x, y = torch.full((8, 5), 1e15), torch.ones(8, 3)
    for learner in (pair.ordinary, pair.step):
        with pytest.raises(DivergenceError, match="inputs are too large"):
            learner.learn(x, y)
    pair.check()


def test_samples_that_require_a_gradient_are_refused_as_ever() -> None:
    pair = Pair(network_of()).learn()
    with pytest.raises(BrodmannError, match="requires a gradient"):
        pair.step.learn(torch.zeros(8, 5, requires_grad=True), torch.zeros(8, dtype=torch.int64))


def test_samples_that_are_sparse_are_refused_as_ever() -> None:
    pair = Pair(network_of()).learn()
    with pytest.raises(BrodmannError, match="Expected x to be dense"):
        pair.step(torch.randn(8, 5).to_sparse())
