"""Layers that are put in another's place: the network then is as if it had been built of the body as it is now."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from brodmann import (
    RLS,
    AreaLinear,
    BrodmannError,
    Direct,
    Graph,
    Layer,
    Local,
    Network,
    Rates,
    Residual,
    Routed,
    Sequential,
)
from brodmann.routing import Router


def chain() -> Sequential:
    """Three maps of six units, the first at the bottom."""
    maps = AreaLinear(6, 6, areas=2, feedback=None), AreaLinear(6, 6, areas=2), AreaLinear(6, 6, areas=2)
    return Sequential(maps[0], Local(nn.Tanh()), maps[1], Local(nn.Tanh()), maps[2])


X, Y = torch.randn(16, 6, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 6


def the_same_twice(body: Sequential) -> None:
    body.layers[0] = body.layers[2]


def no_layer(body: Sequential) -> None:
    body.layers[2] = nn.Linear(6, 6)


def one_without_feedback(body: Sequential) -> None:
    body.layers[4] = AreaLinear(6, 6, areas=2, feedback=None)


def one_with_extra_state(body: Sequential) -> None:
    class Extra(AreaLinear):
        def get_extra_state(self) -> object:
            return 1

    body.layers[2] = Extra(6, 6)


@pytest.mark.parametrize("put", [the_same_twice, no_layer, one_without_feedback, one_with_extra_state])
def test_a_layer_that_could_not_have_stood_there_is_refused_before_anything_moves(
    put: Callable[[Sequential], None],
) -> None:
    network = Network(chain())
    network.learn(X, Y)
    put(network.body)
    with torch.no_grad():
        before = [value.clone() for value in network.parameters()]
    for _ in range(2):  # the second step does not take it either
        with pytest.raises(BrodmannError, match=r"is in it twice|which cannot learn|sends no error down|extra state"):
            network.learn(X, Y)
    assert all(map(torch.equal, before, network.parameters()))


def test_the_same_layer_in_two_containers_is_refused() -> None:
    network = Network(Sequential(chain(), Residual(AreaLinear(6, 6)), Residual(AreaLinear(6, 6))))
    network.body.layers[1].body = network.body.layers[2].body
    with pytest.raises(BrodmannError, match="are the same AreaLinear, which would be updated twice per step"):
        network.learn(X, Y)


def test_recursive_least_squares_under_another_loss_is_warned_of_and_known() -> None:
    network = Network(chain())
    assert not network.recursive
    network.body.layers[2] = AreaLinear(6, 6, areas=2, update=RLS())
    with pytest.warns(UserWarning, match="Recursive least squares needs SumOfSquares"):
        network.learn(X, Y)
    assert network.recursive


def test_direct_feedback_below_several_outputs_is_refused_before_anything_moves() -> None:
    heads = {name: (AreaLinear(6, 6), "below") for name in "ab"}

    def loss(outputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        return sum(nn.functional.cross_entropy(output, target) for output in outputs)  # type: ignore[return-value]

    network = Network(Graph({"below": (chain(), "input"), **heads}, outputs=("a", "b")), loss)
    network.learn(X, Y)
    network.body.nodes["below"].layers[2] = AreaLinear(6, 6, areas=2, feedback=partial(Direct, outputs=6))
    before = [value.clone() for value in network.parameters()]
    with pytest.raises(BrodmannError, match=r"needs one output, but the network has 2: .*'body.nodes.below.layers.2'"):
        network.learn(X, Y)
    assert all(map(torch.equal, before, network.parameters()))


def growing(*layers: Layer) -> Routed:
    """Layers under one router whose areas split by themselves, soon."""
    return Routed(Router(6, 4, partition="growing", conflict={"evidence": 32}), Sequential(*layers))


def test_a_layer_put_under_a_router_learns_as_if_it_had_been_built_there() -> None:
    """Each layer that follows a growing router measures conflict in a place of its own."""
    torch.manual_seed(0)
    maps = [AreaLinear(6, 6, areas=4, router=None, feedback=None), AreaLinear(6, 6, areas=4, router=None)]
    later, other = AreaLinear(6, 6, areas=4, router=None), AreaLinear(6, 6, areas=4, router=None)
    networks = []
    for put in (True, False):
        torch.manual_seed(1)
        bottom, middle, top = copy.deepcopy([*maps, other if put else later])
        network = Network(growing(bottom, middle, top))
        if put:
            network.body.body.layers[2] = copy.deepcopy(later)
        for _ in range(4):
            network.learn(X, Y)
        networks.append(network)
    put, built = (network.state_dict() for network in networks)
    assert all(torch.equal(put[name], value) for name, value in built.items())


def test_a_layer_has_the_rate_of_its_name() -> None:
    network = Network(chain(), rates=Rates(layers={"layers.2": 0.0}))
    layer = network.body.layers[2] = AreaLinear(6, 6, areas=2)
    before = layer.shared.value.clone()
    network.learn(X, Y)
    assert torch.equal(layer.shared.value, before)
    network.body.layers[2] = Local(nn.Tanh())
    with pytest.raises(BrodmannError, match=r"Unknown layer 'layers\.2'"):
        network.learn(X, Y)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_notice_their_own_layers(copied: Callable[[Network], Network]) -> None:
    network = Network(chain())
    twin = copied(network)
    the_same_twice(twin.body)
    with pytest.raises(BrodmannError, match="twice"):
        twin.learn(X, Y)
    network.learn(X, Y)
