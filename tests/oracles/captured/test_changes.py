"""What changes between two steps, in the network or around it, is noticed."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import AreaLinear, Captured, CrossEntropy, Layer, Local, Network, Rates, Recurrent, Sequential
from brodmann.layers.cells import Elman

from ...settings import using_threads
from .parts import Pair, network_of

CHANGES: dict[str, Callable[[Network], object]] = {
    "rates": lambda network: setattr(network, "rates", Rates(areas=0.0, feedback=0.5)),
    "clip": lambda network: setattr(network, "clip", 0.01),
    "frozen": lambda network: setattr(network.area_layers()[0][1], "frozen", True),
    "protected": lambda network: setattr(network.area_layers()[0][1].router, "protected", [0, 1]),
    "loss": lambda network: setattr(network, "loss", CrossEntropy(label_smoothing=0.2)),
    "a setting of the loss": lambda network: setattr(network.loss, "label_smoothing", 0.2),
    "a setting of a loss of PyTorch": lambda network: setattr(network.loss.loss, "label_smoothing", 0.3),
    "the weights of a loss of PyTorch": lambda network: setattr(network.loss.loss, "weight", torch.tensor([1.0, 2, 3])),
    "an order of numbers": lambda network: network.area_layers()[1][1].shared.value.data.transpose_(1, 2),
    "a setting of an operation": lambda network: setattr(
        next(part for part in network.modules() if isinstance(part, nn.Dropout)), "p", 0.1
    ),
    "float64": lambda network: network.double(),
    "numbers": lambda network: network.load_state_dict({k: v.clone() for k, v in network.state_dict().items()}),
    "tensors": lambda network: network.load_state_dict(
        {k: v.clone() for k, v in network.state_dict().items()}, assign=True
    ),
    "a split": lambda network: network.area_layers()[0][1].split(0),
    "a part": lambda network: network.body.layers.__setitem__(1, Local(nn.Tanh())),
    "allocate": lambda network: network.allocate(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_between_two_steps_is_noticed(change: str) -> None:
    manual = {"partition": "manual", "cells": 8}
    network = network_of(depth=2, dropout=0.3, routing="layer", router=manual if change == "a split" else {})
    if "PyTorch" in change:
        network.loss = nn.CrossEntropyLoss(weight=torch.ones(3))
    pair = Pair(network).learn()
    assert pair.captured
    pair.change(CHANGES[change])
    pair.learn(12)
    assert pair.captured


def test_a_network_that_changes_now_and_then_stays_captured() -> None:
    pair = Pair(network_of())
    for epoch in range(6):
        pair.change(lambda network: setattr(network, "clip", 10.0 - epoch))  # noqa: B023  # it is called at once
        pair.learn(70)
        assert pair.captured
    assert pair.step.recordings == 6


def test_a_network_that_changes_all_the_time_is_recorded_ever_more_rarely() -> None:
    pair = Pair(network_of())
    for turn in range(40):
        pair.change(lambda network: setattr(network, "clip", 100.0 - turn))  # noqa: B023  # it is called at once
        pair.learn(5)
    assert pair.step.recordings < 5


def test_a_hook_sees_every_call() -> None:
    seen: list[Tensor] = []
    pair = Pair(network_of(activation="gelu", areas=1)).learn()
    gelu = next(part for part in pair.network.modules() if isinstance(part, nn.GELU))
    handle = gelu.register_forward_hook(lambda module, given, output: seen.append(output))
    pair.learn(3)
    assert len(seen) == 3
    handle.remove()
    pair.learn(12)
    assert pair.captured


@pytest.mark.parametrize("register", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_hooks_on_the_way_down_are_called(register: str) -> None:
    called: list[Any] = []
    pair = Pair(network_of(activation="gelu", areas=1)).learn()
    gelu = next(part for part in pair.network.modules() if isinstance(part, nn.GELU))
    getattr(gelu, register)(lambda *given: called.append(given))
    pair.learn(1)
    assert called


def test_another_number_of_threads() -> None:
    pair = Pair(network_of()).learn()
    with using_threads(torch.get_num_threads() + 1):
        pair.learn(3)
    pair.learn(12)
    assert pair.captured


HELD: dict[str, tuple[Callable[[], Layer], Callable[[Any], object]]] = {
    "the activation of a cell": (
        lambda: Recurrent(AreaLinear(4, 4), AreaLinear(4, 4), Elman()),
        lambda layer: setattr(layer.cell, "activation", torch.relu),
    ),
    "a module that is such an activation": (
        lambda: Recurrent(AreaLinear(4, 4), AreaLinear(4, 4), Elman(nn.LeakyReLU())),
        lambda layer: setattr(layer.cell.activation, "negative_slope", 0.9),
    ),
    "what a function is a method of": (
        lambda: Local(nn.LeakyReLU().forward),
        lambda layer: setattr(layer.operation.__self__, "negative_slope", 0.9),
    ),
    "an argument of a function": (
        lambda: Local(partial(nn.functional.leaky_relu, negative_slope=0.1)),
        lambda layer: layer.operation.keywords.update(negative_slope=0.9),
    ),
}


@pytest.mark.parametrize("held", HELD)
def test_changes_of_what_layers_hold_are_noticed(held: str) -> None:
    make, change = HELD[held]
    torch.manual_seed(0)
    network = Network(Sequential(AreaLinear(5, 4, feedback=None), make(), AreaLinear(4, 3)))
    captured, ordinary = Captured(network), deepcopy(network)
    for step in range(14):
        if step == 4:
            assert captured.is_captured, captured.refusal
            for one in (network, ordinary):
                change(one.body.layers[1])
        x, y = torch.randn(2, 6, 5), torch.randint(3, (2, 6))
        assert torch.equal(ordinary.learn(x, y, lr=0.01), captured.learn(x, y, lr=0.01))
    assert captured.is_captured
