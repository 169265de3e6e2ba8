"""Oracle: a convolution learns exactly as its two layers do one after the other."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from brodmann import (
    SGD,
    Adam,
    AreaLinear,
    BrodmannError,
    Context,
    Convolution,
    FixedRandom,
    Graph,
    KolenPollack,
    Layer,
    Muon,
    Patches,
    Product,
    Rates,
    Sequential,
    Transpose,
    UpdateRule,
)
from brodmann.feedback import Signal
from brodmann.network.hooks import watched


@pytest.mark.usefixtures("double")
@settings(max_examples=60)
@given(
    size=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    extent=st.tuples(st.integers(4, 8), st.integers(4, 8)),
    feedback=st.sampled_from([KolenPollack, FixedRandom, Transpose, partial(KolenPollack, per_area=True)]),
    areas=st.sampled_from([1, 3]),
    shared=st.sampled_from(["learned", "off"]),
    clip=st.sampled_from([None, 0.1]),
)
def test_a_convolution_learns_as_its_two_layers_do(
    size: int, stride: int, padding: int, extent: tuple[int, int], feedback: Any, areas: int, shared: str, clip: Any
) -> None:
    bodies: list[Layer] = []
    for make in (Sequential, Convolution):
        torch.manual_seed(0)
        layer = AreaLinear(2 * size * size, 3, areas=areas, shared=shared, feedback=feedback, update=Adam(), gated=True)
        bodies.append(make(Patches(size, stride=stride, padding=padding), layer))
    for _ in range(3):
        x = torch.randn(4, *extent, 2)
        outputs, traces = zip(*(body.trace(x, Context()) for body in bodies), strict=True)
        torch.testing.assert_close(*outputs)
        torch.testing.assert_close(bodies[0](x), bodies[1](x))
        error = torch.randn_like(outputs[0])
        context = Context(lr=0.1, clip=clip)
        below = [body.learn(trace, error, context) for body, trace in zip(bodies, traces, strict=True)]
        torch.testing.assert_close(*below, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(bodies[0].parameters(), bodies[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("rates", [Rates(), Rates(shared=0.0), Rates(feedback=0.0), Rates(shared=0.5, feedback=2.0)])
@pytest.mark.parametrize("rule", [SGD(momentum=0.9, decay=0.1), Muon(decay=0.1)])
@pytest.mark.parametrize("twice", [False, True])
def test_a_convolution_by_one_map_moves_as_rows_say(rates: Rates, rule: UpdateRule, twice: bool) -> None:
    """Also where it stands in two places, and moves once by both."""
    bodies: list[Any] = []
    for make in (Sequential, Convolution):
        torch.manual_seed(0)
        map = AreaLinear(2 * 9, 2, areas=1, update=rule)
        patches = Patches(3, padding=1)
        if not twice:
            bodies.append(make(patches, map))
        elif make is Convolution:
            layer = Convolution(patches, map)
            bodies.append(Graph({"a": (layer, "input"), "b": ("a", "a")}))
        else:
            nodes = {"c": (patches, "input"), "a": (map, "c"), "d": ("c", "a"), "b": ("a", "d")}
            bodies.append(Graph(nodes))
    for _ in range(3):
        x, error = torch.randn(4, 5, 6, 2), torch.randn(4, 5, 6, 2)
        context = Context(lr=0.1, rates=rates)
        below = [body.learn(body.trace(x, context)[1], error, context) for body in bodies]
        torch.testing.assert_close(*below, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(*(body.parameters() for body in bodies), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_a_convolution_by_one_map_makes_no_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Tensor:
        raise AssertionError("patches were made")

    monkeypatch.setattr(Patches, "forward", refuse)
    torch.manual_seed(0)
    layer = Convolution(Patches(3), AreaLinear(9, 4, areas=1, update=Adam()))
    x = torch.randn(2, 6, 5, 1)
    y, trace = layer.trace(x, Context())
    assert torch.equal(layer(x), y)
    assert layer.learn(trace, torch.randn_like(y), Context(lr=0.1)).shape == x.shape
    with pytest.raises(AssertionError, match="patches were made"), watched([("map", layer.map)], lambda *_: None):
        layer(x)  # since someone looks at the map
    with pytest.raises(AssertionError, match="patches were made"):
        layer(x.double())  # which the map refuses, in its own words


def test_a_path_of_ones_own_is_asked_for_its_errors_where_it_says_no_matrix_anew() -> None:
    asked = []

    class Doubling(FixedRandom):
        def error(self, signal: Signal) -> Tensor:
            asked.append(len(signal.x))
            return 2 * super().error(signal)

    torch.manual_seed(0)
    map = AreaLinear(2 * 9, 3, areas=1, feedback=Doubling)
    x, error = torch.randn(4, 5, 5, 2), torch.randn(4, 3, 3, 3)
    bodies = Convolution(Patches(3), map), Sequential(Patches(3), copy.deepcopy(map))
    below = [body.learn(body.trace(x, Context())[1], error, Context()) for body in bodies]
    torch.testing.assert_close(*below)
    assert len(asked) == 2
    with pytest.raises(BrodmannError, match="Doubling cannot send errors down through a Product"):
        Product(torch.mul, torch.randn(3, 4), feedback=Doubling)
