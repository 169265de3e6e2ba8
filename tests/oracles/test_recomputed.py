"""Recomputed traces change nothing but memory: every number is the same, dropout's masks too."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
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
    Local,
    Network,
    Rates,
    Recomputed,
    RecomputedGraph,
    Recurrent,
    RMSNorm,
    Routed,
    Router,
    Sequential,
    from_torch,
    residual_mlp,
)
from brodmann.layers import Elman
from brodmann.routing import Recruiting

from .cases import LAYERS, PATHS
from .models import MODELS, batches, described


def trained(recompute: bool, **options: Any) -> tuple[Network, list[float]]:
    torch.manual_seed(0)
    network = Network(residual_mlp(6, 3, depth=5, width=7, update=Adam(decay=0.1), recompute=recompute, **options))
    x, y = torch.randn(12, 6), torch.randint(3, (12,))
    return network, [float(network.learn(x, y, lr=0.01)) for _ in range(4)]


def assert_same(options: dict[str, Any]) -> None:
    plain, losses = trained(False, **options)
    lean, again = trained(True, **options)
    assert losses == again
    theirs = lean.state_dict()
    assert list(theirs) == list(plain.state_dict())
    for name, value in plain.state_dict().items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer(layer: str) -> None:
    assert_same({**LAYERS[layer], "dropout": 0.3})


@pytest.mark.parametrize("feedback", PATHS)
def test_every_path(feedback: str) -> None:
    assert_same({"areas": 3, "feedback": feedback})


def test_a_function_that_draws_random_numbers() -> None:
    def noisy(x: torch.Tensor) -> torch.Tensor:
        return x * (torch.rand_like(x) < 0.5)

    body = Local(noisy)
    x, error = torch.randn(5, 4), torch.ones(5, 4)
    context = None
    torch.manual_seed(3)
    y, trace = Recomputed(body).trace(x, context)
    drawn = torch.rand(2)
    below = Recomputed(body).learn(trace, error, context)
    assert torch.equal(below * x, y)
    torch.manual_seed(3)
    body.trace(x, context)
    assert torch.equal(torch.rand(2), drawn)  # and what is drawn afterwards is the same too


class Scaled(nn.Module):
    """Dropout of one's own, whose share has another name than PyTorch's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(x, 0.5, self.training)


@pytest.mark.parametrize("operation", [nn.RReLU(), nn.AlphaDropout(0.4), Scaled()])
def test_modules_that_draw_random_numbers(operation: nn.Module) -> None:
    body = Local(operation)
    x, error = torch.randn(50, 4), torch.randn(50, 4)
    torch.manual_seed(3)
    y, trace = body.trace(x, None)
    below = body.learn(trace, error, None)
    torch.manual_seed(3)
    again, kept = Recomputed(body).trace(x, None)
    assert torch.equal(again, y)
    assert torch.equal(Recomputed(body).learn(kept, error, None), below)


def test_files_do_not_say_how_traces_are_kept(tmp_path: Path) -> None:
    lean, _ = trained(True)
    lean.save(tmp_path / "network.safetensors")
    body = residual_mlp(6, 3, depth=5, width=7, update=Adam(decay=0.1))
    plain = Network.load(tmp_path / "network.safetensors", body=body)
    x, y = torch.randn(12, 6), torch.randint(3, (12,))
    for _ in range(2):
        assert torch.equal(plain.learn(x, y), lean.learn(x, y))


@pytest.mark.parametrize("segments", [1, 2, 3, 5, None])
def test_any_number_of_segments(segments: int | None) -> None:
    learners = []
    for wrap in (Sequential, functools.partial(Recomputed, segments=segments)):
        torch.manual_seed(0)
        first = AreaLinear(6, 7, areas=3, feedback=None, update=SGD(momentum=0.9))
        readout = AreaLinear(7, 3, areas=3, update=Adam())
        learners.append(
            Network(wrap(first, Local(nn.ReLU()), Local(nn.Dropout(0.3)), Local(RMSNorm()), readout), lr=0.1)
        )
    x, y = torch.randn(12, 6), torch.randint(3, (12,))
    for _ in range(4):
        torch.manual_seed(1)
        loss = learners[0].learn(x, y)
        torch.manual_seed(1)
        assert torch.equal(learners[1].learn(x, y), loss)
    for one, other in zip(*(learner.state_dict().values() for learner in learners), strict=True):
        assert torch.equal(one, other)


def test_inputs_of_segments_alone_are_kept() -> None:
    seen: list[torch.Tensor] = []

    def noted(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x + 1.0

    x = torch.randn(5, 4)
    body = Recomputed(*(Local(noted) for _ in range(7)))  # in three segments, of 2, 3 and 2
    _, kept = body.trace(x, None)
    assert [int(entry.round().mean() - x.round().mean()) for entry, _ in kept] == [0, 2, 5]
    for _, draws in kept:
        assert [torch.get_rng_state().tolist()] == [state.tolist() for state in draws.states]
    assert len(seen) == 7
    body.learn(kept, torch.ones(5, 4), None)
    assert len(seen) == 14
    assert kept == []


def test_of_no_layers_it_is_the_identity() -> None:
    x, error = torch.randn(5, 4), torch.randn(5, 4)
    y, kept = Recomputed().trace(x, None)
    assert y is x
    assert Recomputed().learn(kept, error, None) is error


def test_a_segment_that_sends_nothing_down_ends_the_pass() -> None:
    class Wall(Local):
        sends_down = False

        def learn(self, trace: Any, error: torch.Tensor, context: Any) -> None:
            super().learn(trace, error, context)

    plain = (Local(nn.ReLU()), Local(nn.ReLU()))
    body = Recomputed(*plain, Wall(nn.ReLU()), Local(nn.ReLU()), segments=2)
    y, kept = body.trace(torch.randn(5, 4), Context())
    assert body.learn(kept, torch.ones_like(y), Context()) is None


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (0, "Expected segments to be a whole number of at least 1, got 0."),
        (3, "Expected at most a segment for each of the 2 layers, got 3."),
    ],
)
def test_segments_that_there_cannot_be(segments: int, message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        Recomputed(Local(nn.ReLU()), Local(nn.ReLU()), segments=segments)


def test_the_norm_carries_errors_down_as_autograd_does(double: None) -> None:
    x, error = torch.randn(2, 6, 9), torch.randn(2, 6, 9)
    y, pull_back = RMSNorm().with_pull_back(x)
    leaf = x.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(RMSNorm()(leaf), leaf, error)
    assert torch.equal(y, RMSNorm()(x))
    assert torch.allclose(pull_back(error), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shared", [False, True])
def test_a_router_of_several_places_learns_once_all_are_done(double: None, shared: bool) -> None:
    """Else the layer would be traced again by another route than the one that made the output."""
    networks = []
    for wrap in (lambda layer: layer, Recomputed):
        torch.manual_seed(0)
        layer = AreaLinear(6, 6, areas=4, update=Adam(), router=None if shared else Router)
        routed = Routed(Router(6, 4, update=Adam()), layer) if shared else layer
        nodes = {
            "first": (wrap(routed), "input"),
            "bent": (nn.Tanh(), "first"),
            "second": ("first", "bent"),
            "readout": (AreaLinear(6, 3, areas=1, update=Adam()), "second"),
        }
        networks.append(Network(Graph(nodes), lr=0.1, rates=Rates(projection=20.0)))
    x, y = torch.randn(48, 6), torch.randint(0, 3, (48,))
    for _ in range(10):
        losses = [float(network.learn(x, y)) for network in networks]
    assert losses[0] == losses[1]
    for one, other in zip(*(network.state_dict().values() for network in networks), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", MODELS)
def test_every_converted_network(name: str) -> None:
    """Branches, layers in several places, norms by the batch and dropout: whole numbers of nodes at a time, or each."""
    torch.manual_seed(1)
    model = MODELS[name][0]()
    body = from_torch(model, described(name), areas=3, routing="layer", update=Adam(), recompute=True)
    networks = [Network(copy.deepcopy(body), lr=0.01), Network(body, lr=0.01)]
    networks[0].body.__class__ = {Recomputed: Sequential, RecomputedGraph: Graph}[type(body)]  # converting takes longer
    if isinstance(body, RecomputedGraph):
        networks.append(copy.deepcopy(networks[1]))
        networks[-1].body.segments = len(body.sources)
    for x, y in batches(name, 2):
        losses = []
        for network in networks:
            torch.manual_seed(3)
            losses.append(network.learn(x, y))
        assert all(torch.equal(loss, losses[0]) for loss in losses)
    first, *others = (network.state_dict() for network in networks)
    for other in others:
        assert list(other) == list(first)
        assert all(torch.equal(value, other[part]) for part, value in first.items())


def test_what_enters_segments_of_a_graph_is_kept_and_nothing_else() -> None:
    nodes = {
        "a": (nn.Tanh(), "input"),
        "b": (nn.Tanh(), "a"),
        "c": (torch.add, "b", "input"),
        "d": (nn.Tanh(), "c"),
        "e": (torch.add, "d", "a"),
        "f": (nn.Tanh(), "e"),
    }
    x = torch.randn(5, 4)
    graph = RecomputedGraph(nodes, segments=3)
    y, kept = graph.trace(x, Context(lr=0.1))
    assert torch.equal(y, Graph(nodes)(x))
    assert [sorted(segment.values) for segment in kept] == [["input"], ["a", "input"], ["a", "d", "input"]]
    leaf = x.clone().requires_grad_(True)
    error = torch.randn(5, 4)
    (expected,) = torch.autograd.grad(Graph(nodes)(leaf), leaf, error)
    assert torch.allclose(graph.learn(kept, error, Context(lr=0.1)), expected, rtol=1e-5)
    assert kept == []
    with pytest.raises(BrodmannError, match="Expected at most a segment for each of the 6 nodes, got 7"):
        RecomputedGraph(nodes, segments=7)


def test_several_inputs_and_outputs_pass_through_segments() -> None:
    networks = []
    for kind in (Graph, RecomputedGraph):
        torch.manual_seed(0)
        nodes = {
            "left": (AreaLinear(4, 6, areas=2, feedback=None), "x"),
            "right": (AreaLinear(3, 6, areas=2, feedback=None), "y"),
            "both": (torch.add, "left", "right"),
            "bent": (nn.Tanh(), "both"),
            "class": (AreaLinear(6, 3, areas=2), "bent"),
            "value": (AreaLinear(6, 1, areas=2), "bent"),
        }
        graph = kind(nodes, inputs=("x", "y"), outputs={"class": "class", "value": "value"})
        networks.append(Network(graph, loss_of_both, lr=0.1))
    inputs = {"x": torch.randn(8, 4), "y": torch.randn(8, 3)}
    targets = {"class": torch.arange(8) % 3, "value": torch.randn(8, 1)}
    for _ in range(3):
        assert torch.equal(*(network.learn(inputs, targets) for network in networks))


def test_a_layer_in_several_nodes_whose_router_recruits_is_refused() -> None:
    """Its second place recruits before the first one is traced again."""

    def nodes(wrap: Any) -> dict[str, Any]:
        layer = AreaLinear(4, 4, areas=4, router=functools.partial(Recruiting, novelty=0.3))
        return {"first": (wrap(layer), "input"), "second": ("first", "first")}

    for kind, wrap in ((RecomputedGraph, lambda layer: layer), (Graph, Recomputed)):
        with pytest.raises(BrodmannError, match="Node 'second' reuses a layer whose router recruits areas"):
            kind(nodes(wrap))
    Graph(nodes(lambda layer: layer))


def test_steps_that_recruit_are_refused_as_they_would_take_other_areas_when_computed_again() -> None:
    states = AreaLinear(4, 4, areas=4, router=functools.partial(Recruiting, novelty=0.3))
    layer = Recurrent(AreaLinear(4, 4, areas=1, feedback=None), states, Elman())
    for make in (lambda: Recomputed(Sequential(layer)), lambda: RecomputedGraph({"h": (layer, "input")})):
        with pytest.raises(BrodmannError, match="A Recurrent whose map of states has a router that recruits"):
            make()
    routed = Recurrent(
        AreaLinear(4, 4, areas=4, feedback=None, router=None), AreaLinear(4, 4, areas=4, router=None), Elman()
    )
    Recomputed(Routed(Recruiting(4, 4, novelty=0.3), routed))


def loss_of_both(output: dict[str, torch.Tensor], target: dict[str, torch.Tensor]) -> torch.Tensor:
    values = nn.functional.mse_loss(output["value"], target["value"])
    return nn.functional.cross_entropy(output["class"], target["class"]) + values
