"""Captured calls of networks that take or return several tensors."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from brodmann import SGD, Adam, Captured, Local, Network, Sequential, from_torch
from brodmann.several import in_form_of, parts_in

from ..copies import assert_same_state
from ..several.parts import halves, pairs

INPUTS: dict[str, Any] = {"tuple": (0, 0), "list": [0, 0], "dictionary": {"left": 0, "right": 0}}
OUTPUTS: dict[str, Any] = {"tuple": ("middle", "top"), "dictionary": {"below": "middle", "above": "top"}}


def loss(output: Any, target: Any) -> Tensor:
    return sum((one - two).square().mean() for one, two in zip(parts_in(output), parts_in(target), strict=True))


def assert_equal(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
    assert all(map(torch.equal, parts_in(ours), parts_in(theirs)))


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("outputs", OUTPUTS)
def test_captured_calls_are_ordinary_ones(inputs: str, outputs: str) -> None:
    network = Network(halves(Adam(), inputs=("left", "right"), outputs=OUTPUTS[outputs]), loss, lr=0.03)
    other = deepcopy(network)
    captured = Captured(network, own_parts=True)
    for _ in range(6):
        x, y = pairs(8)
        x, y = in_form_of(INPUTS[inputs], x), in_form_of(OUTPUTS[outputs], y)
        assert_equal(captured(x), other(x))
        ours, theirs = captured.learn_with_output(x, y), other.learn_with_output(x, y)
        assert torch.equal(ours[0], theirs[0])
        assert_equal(ours[1], theirs[1])
    assert captured.is_captured, captured.refusal
    assert_same_state(network, other)


def test_what_is_returned_stays_as_it_is() -> None:
    captured = Captured(Network(halves(SGD(), inputs=("left", "right"), outputs=("middle", "top"))), own_parts=True)
    x = pairs(8)[0]
    first = [captured(x) for _ in range(3)][-1]
    before = [part.clone() for part in first]
    captured((x[0] + 1, x[1]))
    assert captured.is_captured
    assert all(map(torch.equal, first, before))


def test_batches_in_another_form_are_recorded_anew() -> None:
    network = Network(halves(SGD(), inputs=("left", "right"), outputs=("middle", "top")))
    captured = Captured(network, own_parts=True)
    left, right = pairs(8)[0]
    for x in ((left, right), {"left": left, "right": right}, {"right": right, "left": left}):
        for _ in range(3):
            assert_equal(captured(x), network(x))
    assert captured.recordings == 3


class Asked(nn.Module):
    """Words, and which of them count."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.map, self.readout = nn.Embedding(7, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, words: Tensor, counts: Tensor) -> Tensor:
        hidden = torch.relu(self.map(self.table(words))) * counts.unsqueeze(-1)
        return self.readout(hidden.sum(1) / counts.sum(1, keepdim=True))


def test_a_converted_model_of_words_and_a_mask_is_captured() -> None:
    torch.manual_seed(0)

    def batch() -> tuple[dict[str, Tensor], Tensor]:
        words = torch.randint(0, 7, (8, 5))
        return {"words": words[:, :-1], "counts": (words[:, 1:] + 1).clamp(max=1)}, words[:, -1] % 3

    network = Network(from_torch(Asked(), batch()[0], areas=3, routing="layer"))
    other = deepcopy(network)
    captured = Captured(network)
    for _ in range(5):
        x, y = batch()
        assert torch.equal(captured.learn(x, y, lr=0.03), other.learn(x, y, lr=0.03))
        assert torch.equal(captured(x), other(x))
    assert captured.is_captured, captured.refusal
    assert_same_state(network, other)


def test_a_tensor_that_is_input_and_target_may_be_two_the_next_time() -> None:
    network = Network(Sequential(from_torch(nn.Linear(4, 4), areas=2)), nn.MSELoss())
    other = deepcopy(network)
    captured = Captured(network)
    for step in range(6):
        x = torch.randn(8, 4)
        y = x if step < 3 else torch.randn(8, 4)
        assert torch.equal(captured.learn(x, y), other.learn(x, y))
    assert captured.is_captured


class Both(NamedTuple):
    """Two tensors under names of their own."""

    left: Tensor
    right: Tensor


def test_outputs_of_a_kind_that_cannot_be_laid_out_are_ordinary() -> None:
    network = Network(Local(lambda x: Both(x, 2 * x)))
    captured = Captured(network, own_parts=True)
    for _ in range(3):
        assert_equal(captured(torch.ones(8, 4)), network(torch.ones(8, 4)))
    assert captured.refusal == "the network returns a Both, not tensors"


@pytest.mark.parametrize(
    ("x", "why"),
    [
        ((torch.ones(8, 4), torch.ones(8, 3, requires_grad=True)), "requires a gradient"),
        ((torch.ones(8, 4), torch.ones(3, 8).t()), "is not contiguous"),
        ((torch.ones(8, 4), nn.Parameter(torch.ones(8, 3))), "a Parameter, not a plain tensor"),
    ],
)
def test_each_part_of_a_batch_counts(x: Any, why: str) -> None:
    captured = Captured(Network(halves(SGD(), inputs=("left", "right"), outputs=("middle", "top"))), own_parts=True)
    captured(x)
    assert why in (captured.refusal or "")
