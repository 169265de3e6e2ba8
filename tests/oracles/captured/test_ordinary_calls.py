"""Calls that are not captured are ordinary ones, and say why."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn

from brodmann import AreaLinear, BrodmannError, Captured, Graph, Network, mlp
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
    "a Parameter, not one plain tensor": lambda step: step(nn.Parameter(SAMPLES, requires_grad=False)),
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


def test_several_inputs_and_outputs_make_ordinary_calls() -> None:
    nodes = {"a": (AreaLinear(5, 4, feedback=None), "x"), "b": (torch.add, "a", "y")}
    network = Network(
        Graph(nodes, inputs=("x", "y"), outputs=("a", "b")), lambda output, target: output[1].square().mean()
    )
    captured = Captured(network)
    x, y = torch.randn(8, 5), torch.randn(8, 4)
    for _ in range(3):
        assert all(map(torch.equal, captured((x, y)), network((x, y))))
        captured.learn((x, y), y)
    assert not captured.is_captured
    assert "a tuple, not one plain tensor" in captured.refusal


def test_several_outputs_of_one_input_make_ordinary_calls() -> None:
    nodes = {"a": (AreaLinear(5, 4, feedback=None), "input"), "b": (AreaLinear(5, 3, feedback=None), "input")}
    network = Network(Graph(nodes, outputs=("a", "b")), lambda output, target: (output[0][:, 0] * target).mean())
    captured, ordinary = Captured(network, own_parts=True), deepcopy(network)
    for _ in range(4):
        x, y = torch.randn(8, 5), torch.randn(8)
        assert all(map(torch.equal, captured(x), ordinary(x)))
        (loss, output), (again, same) = captured.learn_with_output(x, y), ordinary.learn_with_output(x, y)
        assert all(map(torch.equal, (loss, *output), (again, *same)))
        assert "several outputs" in (captured.refusal or "several outputs")
    assert not captured.is_captured
