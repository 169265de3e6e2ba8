"""Update rules that are replaced between two steps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from brodmann import (
    RLS,
    SGD,
    Adam,
    AreaLinear,
    BatchNorm,
    BrodmannError,
    Captured,
    Constant,
    Layer,
    Local,
    Muon,
    Network,
    Product,
    Sequential,
    affine,
    convnet,
    mlp,
)
from brodmann.areas import Slab
from brodmann.updates import UpdateRule

RULED: dict[str, Callable[[UpdateRule], Layer]] = {
    "areas": lambda rule: mlp(16, 3, width=5, areas=3, feedback="kolen-pollack-per-area", update=rule),
    "patches": lambda rule: convnet((1, 4, 4), 3, channels=(3,), areas=2, update=rule),
    "single weights": lambda rule: Sequential(
        Product(functional.linear, torch.randn(6, 16), feedback=None, update=rule),
        affine(torch.ones(6), torch.zeros(6), rule),
        BatchNorm(6, update=rule),
        Product(functional.linear, torch.randn(3, 6), update=rule),
    ),
}


def _replace_in_layers(network: Network, rule: UpdateRule) -> None:
    for part in network.body.modules():
        if isinstance(part, Layer) and part.update_rule is not None:
            part.update_rule = rule


REPLACE: dict[str, Callable[[Network, UpdateRule], None]] = {
    "in each layer": _replace_in_layers,
    "in the body": lambda network, rule: setattr(network.body, "update_rule", rule),
    "in the network": lambda network, rule: setattr(network, "update_rule", rule),
}


@pytest.mark.parametrize("replace", REPLACE)
@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("after", [SGD(momentum=0.5, decay=0.1), SGD(), Adam(decay=0.1)], ids=str)
@pytest.mark.parametrize("body", RULED)
def test_a_rule_that_is_replaced_moves_nothing_any_more(
    body: str, after: UpdateRule, captured: bool, replace: str
) -> None:
    def built(rule: UpdateRule) -> Network:
        torch.manual_seed(0)
        return Network(RULED[body](rule), lr=0.1)

    def learn(learner: Network | Captured) -> None:
        for _ in range(3):
            learner.learn(x, torch.arange(8) % 3)

    network, wanted = built(SGD(momentum=0.9)), built(after)
    x, learner = torch.randn(8, 16), Captured(network) if captured else network
    if body == "patches":
        x = x.reshape(8, 1, 4, 4)
    learn(learner)
    REPLACE[replace](network, after)
    assert network.update_rule == network.body.update_rule == after
    network.load_learning_state(wanted.learning_state())
    assert repr(network) == repr(wanted)
    learn(learner)
    learn(wanted)
    torch.testing.assert_close(network.state_dict(), wanted.state_dict(), rtol=0, atol=0)


def test_what_a_rule_remembers_stays_where_only_its_settings_change() -> None:
    layer = AreaLinear(4, 3, areas=2, update=Adam())
    Network(layer).learn(torch.randn(6, 4), torch.arange(6) % 3)
    before = copy.deepcopy(layer.state_dict())
    layer.update_rule = Adam(beta1=0.5)
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)
    layer.update_rule = SGD(momentum=0.5)
    state = layer.state_dict()
    assert {name.rpartition(".")[2] for name in state.keys() - before.keys()} == {"velocity"}
    assert all(torch.equal(state[name], before[name]) for name in state.keys() & before.keys())


def test_another_rule_does_not_go_on_from_what_one_with_the_same_names_remembers() -> None:
    layer = AreaLinear(4, 3, areas=1, bias=False, update=SGD(momentum=0.9))
    Network(layer).learn(torch.randn(6, 4), torch.arange(6) % 3)
    assert layer.shared is not None
    assert layer.shared.velocity.any()  # a sum of gradients
    layer.update_rule = Muon()
    assert not layer.shared.velocity.any()  # which begins as their mean


def test_a_layer_of_ones_own_hands_a_new_rule_to_its_slabs() -> None:
    class Own(Local):
        def __init__(self) -> None:
            super().__init__(nn.ReLU())
            self.update_rule = SGD()
            self.slab, self.other = Slab(torch.ones(1, 2), SGD()), Slab(torch.ones(1, 2), Adam())

    layer = Own()
    layer.update_rule = SGD(momentum=0.5)
    assert layer.slab.update_rule == SGD(momentum=0.5)
    assert layer.other.update_rule == Adam()  # which was never the layer's


@pytest.mark.parametrize(
    ("layer", "rule"),
    [
        (Sequential(Local(nn.ReLU())), Adam()),
        (Constant(torch.ones(2)), Adam()),
        (AreaLinear(2, 2), "adam"),
        (AreaLinear(2, 2), None),
        (AreaLinear(2, 2), RLS()),
        (Product(functional.linear, torch.ones(2, 2), update=RLS()), Adam()),
    ],
)
def test_a_rule_that_a_layer_cannot_take_later_is_refused(layer: Layer, rule: Any) -> None:
    before = layer.update_rule
    with pytest.raises(BrodmannError, match=r"set that of layers|Expected update|build the network with the rule"):
        layer.update_rule = rule
    assert layer.update_rule is before


def test_a_rule_that_biases_cannot_follow_is_refused_whole() -> None:
    class Unkept(SGD):
        def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
            return {"value": shape} if len(shape) == 1 else {"velocity": shape}

    layer = AreaLinear(4, 3, areas=2, update=Adam())
    network = Network(layer)
    network.learn(torch.randn(6, 4), torch.arange(6) % 3)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(BrodmannError, match="'value', which is reserved"):
        layer.update_rule = Unkept()
    assert {part.update_rule for part in layer.modules() if isinstance(part, Layer | Slab)} == {Adam()}
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)
    network.learn(torch.randn(6, 4), torch.arange(6) % 3)


def test_a_network_replaces_the_rules_of_all_its_layers_or_of_none() -> None:
    first, last = AreaLinear(4, 3, feedback=None, update=SGD()), AreaLinear(3, 2, update=RLS())
    network = Network(Sequential(first, last), lr=0.1)
    assert network.update_rule is None  # there are two
    for rule in (Adam(), RLS(), None, "adam"):
        with pytest.raises(BrodmannError, match="build the network with the rule|Expected update"):
            network.update_rule = rule  # type: ignore[assignment]
        assert (first.update_rule, last.update_rule) == (SGD(), RLS())
