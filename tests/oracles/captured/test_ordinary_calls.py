"""Calls that are not captured are ordinary ones, and say why."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from brodmann import BrodmannError, Captured, mlp
from brodmann.kernels import library

from .parts import Pair, network_of


def test_only_networks_are_captured() -> None:
    with pytest.raises(BrodmannError, match="Expected a Network, got Routed: put the body into one"):
        Captured(mlp(5, 3))
    with pytest.raises(BrodmannError, match="Expected own_parts to be True or False, got 1"):
        Captured(network_of(), own_parts=1)


def test_observers_and_a_rate_of_0_make_ordinary_steps() -> None:
    pair = Pair(network_of()).learn()
    x, y, seen = torch.randn(8, 5), torch.randint(3, (8,)), []
    assert torch.equal(pair.ordinary.learn(x, y, lr=0.0), pair.step.learn(x, y, lr=0.0))
    pair.ordinary.learn(x, y)
    pair.step.learn(x, y, observe=lambda layer, error: seen.append(layer))
    assert seen
    pair.learn(2)


def test_inference_mode_and_autocast_make_ordinary_steps() -> None:
    pair = Pair(network_of()).learn()
    for mode in (torch.inference_mode(), torch.autocast("cpu"), torch.enable_grad()):
        with mode:
            pair.learn(2)
        assert pair.captured == isinstance(mode, torch.enable_grad)


SAMPLES, CLASSES = torch.randn(8, 5), torch.randint(3, (8,))
ORDINARY: dict[str, Callable[[Captured], object]] = {
    "observer": lambda step: step.learn(SAMPLES, CLASSES, observe=lambda layer, error: None),
    "learning rate, 0.0,": lambda step: step.learn(SAMPLES, CLASSES, lr=0.0),
    "not contiguous": lambda step: step.learn(torch.randn(5, 8).t(), CLASSES),
    "part of a batch is not contiguous": lambda step: step(torch.randn(5, 8).t()),
    "a Parameter, not a plain tensor": lambda step: step(nn.Parameter(SAMPLES, requires_grad=False)),
    "inference_mode": torch.inference_mode()(lambda step: step.learn(SAMPLES, CLASSES)),
    "autocast": torch.autocast("cpu")(lambda step: step(SAMPLES)),
    "no compiled kernels": library.switched_off()(lambda step: step(SAMPLES)),
    "requires a gradient": lambda step: step(SAMPLES.clone().requires_grad_()),
    "8 sizes": lambda step: [step.learn(SAMPLES[:rows], CLASSES[:rows]) for rows in range(1, 9)],
}


@pytest.mark.parametrize("why", ORDINARY)
def test_a_call_that_is_not_captured_says_why(why: str) -> None:
    step = Captured(network_of())
    for _ in range(3):
        step.learn(torch.randn(9, 5), torch.randint(3, (9,)))
        step(torch.randn(9, 5))
    assert step.is_captured
    assert step.refusal is None
    ORDINARY[why](step)
    assert not step.is_captured
    assert why in step.refusal
    step(torch.randn(9, 5))
    assert step.is_captured
    assert step.refusal is None
