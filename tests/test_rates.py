"""Learning rates: those of rules, of layers by their names, and of what is frozen."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import nn

from brodmann import (
    SGD,
    Adam,
    AreaLinear,
    BrodmannError,
    Context,
    Graph,
    Layer,
    Local,
    Network,
    Rates,
    Router,
    Sequential,
    affine,
    mlp,
    stream_mlp,
)
from brodmann.baselines import Backpropagation
from brodmann.routing import Conflict, Recruiting
from brodmann.runs import RunOptions
from brodmann.updates import UpdateRule


def test_the_rate_of_a_step_is_the_networks_own_unless_one_is_given() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(8, 5), torch.zeros(8, dtype=torch.long)
    states = []
    for own, given in ((0.05, None), (0.7, 0.05), (0.05, 0.7)):
        torch.manual_seed(0)
        network = Network(mlp(5, 3, width=6), lr=own)
        network.learn(x, y, lr=given)
        states.append(network.area_layers()[0][1].shared.value)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_the_rate_of_a_network_is_that_of_its_rules() -> None:
    def body(*rules: UpdateRule | None) -> Sequential:
        return Sequential(*(AreaLinear(5, 5, areas=2, update=rule) for rule in rules))

    assert Network(mlp(5, 3)).lr == 3e-3
    assert Network(body(None)).lr == 0.3
    assert Network(body(SGD(momentum=0.9))).lr == pytest.approx(0.03)
    assert Network(body(SGD(), Adam(), SGD())).lr == 3e-3
    assert Network(stream_mlp(5, 3)).lr == 1.0
    assert Network(Sequential(Local(nn.ReLU()))).lr == 3e-3
    assert Backpropagation(5, 3, depth=2, width=4, optimiser="sgd").lr == RunOptions(optimiser="sgd").learning_rate


def test_rules_that_ask_for_different_rates_are_told() -> None:
    layers = AreaLinear(5, 6, areas=1, update=Adam()), AreaLinear(6, 3, areas=1)
    with pytest.warns(UserWarning, match="different learning rates, 0.003, 0.3: the smallest is taken"):
        assert Network(Sequential(*layers)).lr == 0.003
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Network(Sequential(*layers), lr=0.01)
    assert Network(affine(torch.ones(3), update=SGD())).lr == 0.3
    for x, message in (([1.0], "Expected x to be a tensor, got list"), (torch.tensor(1.0), r"of shape \(..., 5\)")):
        with pytest.raises(BrodmannError, match=message):
            Network(layers[0])(x)


@pytest.mark.parametrize("frozen", ["layer", "step"])
@pytest.mark.parametrize(
    "router",
    [partial(Recruiting, novelty=0.5), partial(Router, balance_rate=0.1), partial(Router, partition="growing")],
)
def test_a_rate_of_0_freezes_routers_too(router: Callable[..., Router], frozen: str) -> None:
    torch.manual_seed(0)
    layer = AreaLinear(8, 3, areas=4, router=router, feedback=None)
    if layer.router.conflict is not None:
        layer.router.conflict = Conflict(layer.router.cells, evidence=8, opposition=1e-6, certainty=1e-6)
    learner = Network(Sequential(layer), lr=0.1)
    if frozen == "layer":
        learner.rates = Rates(layers={"layers.0": 0.0})
    before = copy.deepcopy(learner.state_dict())
    for _ in range(8):
        learner.learn(torch.randn(16, 8), torch.randint(0, 3, (16,)), lr=None if frozen == "layer" else 0.0)
    for name, value in learner.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_names_of_layers_are_taken_as_they_are_but_for_the_star() -> None:
    learner = Network(Graph({"w[0]": (AreaLinear(4, 3, areas=1, feedback=None), "input")}))
    learner.rates = Rates(layers={"nodes.w[0]": 0.5})
    learner.rates = Rates(layers={"nodes.w*": 0.5})
    with pytest.raises(BrodmannError, match="Unknown layer"):
        learner.rates = Rates(layers={"nodes.w?0?": 0.5})


@pytest.mark.parametrize(
    ("keys", "name", "winner"),
    [
        (("layers.2", "layers.*"), "layers.2", "layers.2"),
        (("layers.*", "*.map"), "layers.2.map", "layers.*"),
        (("layers.2*", "layers.2"), "layers.2", "layers.2"),
        (("*rs.2", "laye*"), "layers.2", "*rs.2"),
        (("lay*2", "la*.2"), "layers.2", "la*.2"),
        (("body.layers.2", "layers.2"), "body.layers.2", "body.layers.2"),
        (("l*a*y*e*r*s*2", "layers.2"), "layers.2", "layers.2"),
        (("body.layers.*", "layers.2"), "body.layers.2", "layers.2"),
    ],
)
def test_the_key_of_a_rate_that_wins_says_most_wherever_it_stands(
    keys: tuple[str, ...], name: str, winner: str
) -> None:
    for order in (keys, keys[::-1]):
        assert Rates(layers={key: float(key == winner) for key in order}).of_layer(name) == 1.0


def test_rates_are_replaced_not_changed() -> None:
    """A network would not notice, but its file would hold the change."""
    rates = Rates(layers={"layers.0": 0.5})
    for change in (
        lambda: rates.layers.__setitem__("layers.0", 0.0),  # type: ignore[attr-defined]
        lambda: rates.layers.update({"layers.2": 0.0}),  # type: ignore[attr-defined]
        lambda: rates.layers.clear(),  # type: ignore[attr-defined]
    ):
        with pytest.raises(BrodmannError, match="assign new ones, as in network.rates = "):
            change()
    for same in (copy.deepcopy(rates), pickle.loads(pickle.dumps(rates)), replace(rates), eval(repr(rates))):
        assert same == rates
        assert dict(same.layers) == {"layers.0": 0.5}
        assert hash(same) == hash(rates)
        with pytest.raises(BrodmannError, match="assign new ones"):
            same.layers["layers.0"] = 0.0  # type: ignore[index]


def test_rates_as_a_dictionary_are_plain_values() -> None:
    """Writers of configurations, such as ``yaml.safe_dump``, refuse subclasses of dict."""
    rates = Rates(areas=0.3, layers={"layers.0": 0.5, "layers.*": 0.0})
    plain = asdict(rates)
    assert type(plain["layers"]) is dict
    assert Rates(**plain) == rates


def test_rates_of_layers_go_through_files(tmp_path: Path) -> None:
    learner = Network(mlp(4, 3, width=5, areas=2))
    learner.rates = Rates(layers=MappingProxyType({"layers.0": 0.5}))
    learner.save(tmp_path / "network.safetensors")
    assert Network.load(tmp_path / "network.safetensors").rates == learner.rates
    learner.merged().save(tmp_path / "merged.safetensors")
    again = Network(mlp(4, 3, width=5, areas=2)).merged().body
    x = torch.randn(6, 4)
    torch.testing.assert_close(Network.load(tmp_path / "merged.safetensors", again)(x), learner(x))


def test_a_network_whose_layers_are_all_frozen_stands_still() -> None:
    """One route for all layers is no part of any of them, and has a name of its own."""
    torch.manual_seed(0)
    x, y = torch.randn(32, 5), torch.randint(0, 3, (32,))
    network = Network(mlp(5, 3, areas=4, width=8))
    names = [name for name, _ in network.learning_layers()]
    assert names == ["router", "body.layers.0", "body.layers.2"]
    for layers in ({"*": 0.0}, dict.fromkeys(names, 0.0)):
        network.rates = Rates(layers=layers)
        before = copy.deepcopy(network.state_dict())
        network.learn(x, y)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.rates, network.frozen = Rates(), True
    network.learn(x, y)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.frozen
    assert network.frozen_layers == names
    network.frozen = False
    network.rates = Rates(layers={"router": 0.0})
    network.learn(x, y)
    assert not network.frozen
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert not any("router" in name for name in moved)


class Wrapped(Layer):
    """A layer of one's own that holds a module of PyTorch's, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.inner = nn.Linear(5, 5).requires_grad_(False), AreaLinear(5, 3, areas=1, update=Adam())

    def forward(self, x: torch.Tensor, choice: Any = None) -> torch.Tensor:
        return self.inner(self.own(x))  # type: ignore[no-any-return]

    def trace(self, x: torch.Tensor, context: Context) -> tuple[torch.Tensor, Any]:
        h = self.own(x)
        y, trace = self.inner.trace(h, context)
        return y, (x, trace)

    def learn(self, trace: Any, error: torch.Tensor, context: Context) -> None:
        x, inner = trace
        below = self.inner.learn(inner, error, context)
        assert below is not None
        self.own.weight.addmm_(below.t(), x, alpha=-context.lr_of(self))


def test_rates_reach_modules_inside_of_layers_of_ones_own() -> None:
    torch.manual_seed(0)
    network = Network(Wrapped(), lr=0.1)
    assert [name for name, _ in network.learning_layers()] == ["", "inner"]
    x, y = torch.randn(8, 5), torch.randint(0, 3, (8,))
    for layers, moved in (({"*": 0.0}, set()), ({"inner": 0.0}, {"own"}), ({}, {"own", "inner"})):
        network.rates = Rates(layers=layers)
        before = copy.deepcopy(network.body.state_dict())
        network.learn(x, y)
        changed = {name for name, value in network.body.state_dict().items() if not torch.equal(value, before[name])}
        assert {name.split(".")[0] for name in changed} == moved
