"""Captured inference computes what an ordinary call does."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from brodmann import AreaLinear, Captured, Local, Network, Sequential

from ..cases import BODIES, LAYERS
from .parts import Pair, network_of


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("body", BODIES)
def test_inference_of_every_layer_and_body(body: str, layer: str) -> None:
    network = network_of(body, **LAYERS[layer])
    network.learn(torch.randn(8, 5), torch.randint(3, (8,)), lr=0.1)
    captured = Captured(network, own_parts=True)
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            for _ in range(3):
                x = torch.randn(6, 5)
                assert torch.equal(captured(x), network(x))
    assert captured.is_captured, captured.refusal
    assert captured.recordings == 1


def test_inference_between_steps_sees_what_was_learned() -> None:
    pair = Pair(network_of(areas=40))
    x = torch.randn(6, 5)
    for _ in range(12):
        pair.learn(1, rows=2)
        assert torch.equal(pair.step(x), pair.ordinary(x))
    assert pair.step.recordings == 2


def test_a_merged_network() -> None:
    network = network_of(routing="layer")
    network.learn(torch.randn(8, 5), torch.randint(3, (8,)), lr=0.1)
    merged = network.merged()
    captured, x = Captured(merged), torch.randn(6, 5)
    for _ in range(3):
        assert torch.equal(captured(x), merged(x))
    assert captured.is_captured


def test_where_autograd_follows_inference_is_an_ordinary_call() -> None:
    network = network_of()
    captured, x = Captured(network), torch.randn(6, 5)
    for _ in range(3):
        captured(x)
    assert captured(x.clone().requires_grad_()).requires_grad
    weight = network.area_layers()[0][1].shared.value.requires_grad_()
    assert captured(x).requires_grad
    captured(x).sum().backward()
    assert weight.grad is not None
    with torch.no_grad():
        assert not captured(x).requires_grad


def test_an_output_that_is_the_input_seen_in_another_way() -> None:
    network = Network(Sequential(Local(nn.Flatten())))
    captured = Captured(network)
    for _ in range(4):
        x = torch.randn(6, 2, 3)
        assert torch.equal(captured(x), x.flatten(1))
    assert captured.is_captured


def test_inference_has_no_rate_that_a_number_could_equal() -> None:
    captured = Captured(Network(Sequential(Local(partial(torch.mul, other=1.0)), AreaLinear(5, 3, feedback=None))))
    for _ in range(3):
        captured(torch.randn(4, 5))
    assert captured.is_captured, captured.refusal
