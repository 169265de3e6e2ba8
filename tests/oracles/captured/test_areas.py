"""Areas that get memory, split or are recruited do so at the same captured steps as at ordinary ones."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from brodmann import (
    RLS,
    Adam,
    AreaLinear,
    BrodmannError,
    Captured,
    CrossEntropy,
    DivergenceError,
    Graph,
    Layer,
    Local,
    Network,
    Recurrent,
    Sequential,
    mlp,
    stream_mlp,
)
from brodmann.layers.cells import Elman
from brodmann.network import routers
from brodmann.routing import Recruiting, conflict
from brodmann.updates import UpdateRule

from .parts import GROWING, Pair, network_of


@pytest.mark.parametrize("rule", [Adam(), RLS()], ids=lambda rule: type(rule).__name__)
def test_an_area_that_is_first_chosen_later_gets_memory(rule: UpdateRule) -> None:
    torch.manual_seed(0)
    pair = Pair(Network(mlp(5, 3, depth=2, width=6, areas=40, update=rule)))
    pair.learn(4, rows=2)
    assert pair.captured
    before = pair.network.total_parameters()
    pair.learn(40, rows=2)
    assert pair.network.total_parameters() > before
    assert pair.step.recordings == 1


@pytest.mark.parametrize("made", [deepcopy, Network.double], ids=["copied", "converted"])
def test_networks_that_lost_the_room_for_more_areas_are_captured(made: Callable[[Network], Network]) -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, depth=2, width=6, areas=40, update=Adam()))
    x, y = torch.randn(2, 5), torch.randint(3, (2,))
    network.learn(x, y)
    pair = Pair(made(network))
    for _ in range(3):  # no sample of this batch chooses another area
        loss = pair.step.learn(x.to(pair.network.dtype), y)
        assert torch.equal(loss, pair.ordinary.learn(x.to(pair.network.dtype), y))
    assert pair.captured, pair.step.refusal
    assert pair.learn(12, rows=2).step.recordings == 1


def test_an_area_that_was_given_up_gets_memory_again() -> None:
    network = network_of(depth=2, routing="layer", router={"partition": "manual", "cells": 8})
    pair = Pair(network)
    pair.change(lambda network: network.allocate())
    name = pair.network.area_layers()[0][0]

    def change(by: Callable[[AreaLinear], object]) -> None:
        pair.change(lambda network: by(network.body.get_submodule(name)))
        pair.learn(12)
        assert pair.captured

    change(lambda layer: layer.split(0))
    change(lambda layer: layer.merge(0, 1))
    change(lambda layer: layer.router.partition[4:].fill_(1))  # by hand: area 1 has no memory now


def test_fewer_areas_from_a_file_get_memory_again() -> None:
    network = network_of(areas=40)
    few = {name: value.clone() for name, value in network.state_dict().items()}  # before any area has memory
    pair = Pair(network)
    pair.change(lambda network: network.allocate())
    pair.learn()
    pair.change(lambda network: network.load_state_dict(few))
    pair.learn(12)
    assert pair.captured


@pytest.mark.parametrize(
    "options",
    [
        {"routing": "layer"},
        {"routing": "network"},
        {"routing": "layer", "feedback": "kolen-pollack-per-area"},
        {"routing": "network", "shared": "off", "gated": True},
    ],
    ids=str,
)
def test_areas_split_at_the_same_steps_and_stay_captured(options: dict[str, Any]) -> None:
    pair = Pair(network_of(depth=2, areas=6, router=GROWING, **options)).learn(4)
    assert pair.captured, pair.step.refusal
    before = [int(router.partition.max()) for _, router in routers(pair.network)]
    pair.learn(40)
    after = [int(router.partition.max()) for _, router in routers(pair.network)]
    assert all(map(int.__lt__, before, after))
    assert pair.captured
    assert pair.step.recordings == 1


def test_a_step_that_draws_signs_of_sketches_is_not_captured() -> None:
    network = network_of(router=GROWING)
    ordinary, captured = deepcopy(network), Captured(network)
    x, y = torch.randn(8, 5), torch.randint(3, (8,))
    for step in range(12):
        if step == 1:
            conflict._drawn.cache_clear()
        loss = captured.learn(x, y)
        assert captured.is_captured == (step >= 9)
        assert torch.equal(loss, ordinary.learn(x, y))


def test_areas_are_recruited_by_the_same_samples_and_steps_stay_captured() -> None:
    torch.manual_seed(0)
    pair = Pair(Network(stream_mlp(5, 3, width=6, areas=6, novelty=0.95, dimension=8)))
    vacant = {name: value.clone() for name, value in pair.network.state_dict().items()}
    ((_, router),) = routers(pair.network)
    pair.learn(3, rows=1)
    assert router.recruits
    assert pair.captured, pair.step.refusal
    pair.learn(15, rows=1)
    assert not router.recruits
    assert pair.captured
    assert pair.step.recordings == 2  # one while areas are recruited, one afterwards
    pair.change(lambda network: network.load_state_dict(vacant))
    pair.learn(10, rows=1)
    assert not router.recruits


def recruiting(inputs: int, outputs: int) -> AreaLinear:
    """Builds a layer whose router recruits areas for itself."""
    router = partial(Recruiting, novelty=0.95, dimension=3)
    return AreaLinear(inputs, outputs, areas=8, router=router, update=Adam(decay=0.1))


RECRUITING: dict[str, Callable[[], Layer]] = {
    "two layers": lambda: Sequential(recruiting(5, 4), Local(nn.ReLU()), recruiting(4, 3)),
    "a layer in two places": lambda: Graph(
        {"once": (recruiting(5, 5), "input"), "twice": ("once", "once"), "out": (recruiting(5, 3), "twice")}
    ),
    "steps": lambda: Sequential(
        Local(nn.Unflatten(1, (5, 1))),
        Recurrent(recruiting(1, 4), recruiting(4, 4), Elman()),
        Local(partial(torch.select, dim=1, index=-1)),
        recruiting(4, 3),
    ),
}


@pytest.mark.parametrize("body", RECRUITING)
def test_areas_are_recruited_at_several_places_of_a_captured_step(body: str) -> None:
    torch.manual_seed(0)
    pair = Pair(Network(RECRUITING[body]())).learn(2, rows=1)
    assert pair.captured, pair.step.refusal
    pair.learn(12, rows=1)
    assert not all(router.recruits for _, router in routers(pair.network))


def test_a_layer_that_came_later_is_captured_with_its_router() -> None:
    torch.manual_seed(0)
    late = recruiting(4, 3)
    body = Sequential(AreaLinear(5, 4, areas=2, update=Adam()), Local(nn.ReLU()), AreaLinear(4, 3, update=Adam()))
    pair = Pair(Network(body)).learn(70, rows=1)
    assert pair.captured
    pair.change(lambda network: network.body.layers.__setitem__(2, deepcopy(late)))
    assert pair.learn(1, rows=1).captured, pair.step.refusal  # the recording paid off, so another one comes at once
    assert not pair.learn(12, rows=1).network.body.layers[2].router.vacant.all()


@pytest.mark.parametrize("flaw", ["a target", "a number"])
def test_a_captured_step_that_is_refused_recruits_nothing(flaw: str) -> None:
    torch.manual_seed(0)
    pair = Pair(Network(stream_mlp(5, 3, width=6, areas=40, update=Adam()), CrossEntropy()))
    pair.learn(3, rows=2)
    assert pair.captured
    x, y = torch.randn(2, 5), torch.tensor([0, 1])
    if flaw == "a target":
        y[0] = 3
    else:
        x[0] = torch.nan
    for learner in (pair.ordinary, pair.step):
        with pytest.raises((BrodmannError, DivergenceError)):
            learner.learn(x, y)
    pair.check()
    assert pair.learn(3, rows=2).captured
