"""Oracle: a convolution learns exactly as its two layers do one after the other."""

from __future__ import annotations

import copy
import math
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
    Captured,
    Context,
    Convolution,
    FixedRandom,
    Graph,
    KolenPollack,
    Layer,
    Muon,
    Network,
    Patches,
    Product,
    Rates,
    Sequential,
    Transpose,
    UpdateRule,
    convnet,
)
from brodmann.feedback import Direct, Signal
from brodmann.network.hooks import watched


@pytest.mark.usefixtures("double")
@settings(max_examples=60)
@given(
    size=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    extent=st.tuples(st.integers(4, 8), st.integers(4, 8)),
    feedback=st.sampled_from([KolenPollack, FixedRandom, Transpose, partial(KolenPollack, per_area=True), Direct]),
    areas=st.sampled_from([1, 3]),
    shared=st.sampled_from(["learned", "off"]),
    clip=st.sampled_from([None, 0.1]),
)
def test_a_convolution_learns_as_its_two_layers_do(
    size: int, stride: int, padding: int, extent: tuple[int, int], feedback: Any, areas: int, shared: str, clip: Any
) -> None:
    bodies: list[Layer] = []
    if feedback is Direct:
        rows = math.prod((side + 2 * padding - size) // stride + 1 for side in extent)
        feedback = partial(Direct, outputs=2, rows=rows)
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
        context = Context(lr=0.1, clip=clip, output_error=torch.randn(4, 2))
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


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("outputs_of_an_image", [1, 9])
def test_direct_feedback_reaches_images_as_it_reaches_their_patches(outputs_of_an_image: int) -> None:
    """Whatever has become of its matrix since the last step, and whether an image has one output or one for a patch."""
    map = AreaLinear(2 * 9, 3, areas=1, feedback=partial(Direct, outputs=2, rows=9 // outputs_of_an_image))
    convolution = Convolution(Patches(3), map)

    def check(layer: Convolution, x: Tensor) -> None:
        error, output_error = torch.randn(4, 3, 3, 3, dtype=x.dtype), torch.randn(4 * outputs_of_an_image, 2)
        context = Context(output_error=output_error.to(x.dtype))
        bodies = layer, Sequential(layer.patches, layer.map)
        torch.testing.assert_close(*(body.learn(body.trace(x, context)[1], error, context) for body in bodies))

    x = torch.randn(4, 5, 5, 2)
    check(convolution, x)
    other = copy.deepcopy(convolution)
    assert isinstance(other.map.feedback, Direct)
    other.map.feedback.matrix.mul_(2)
    check(other, x)
    check(convolution, x)
    for _ in range(3):
        other.map.feedback.matrix.data = 2 * other.map.feedback.matrix
        check(other, x)
    for _ in range(2):  # the second lies where the numbers lay that went with the last step
        other.map.feedback.matrix.data = -3 * other.map.feedback.matrix
    check(other, x)
    convolution.load_state_dict(other.state_dict())
    check(convolution, x)
    convolution.float()
    check(convolution, x.float())


def test_captured_steps_follow_a_matrix_of_direct_feedback_that_changed() -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(Network(convnet((1, 8, 8), 3, channels=(4, 4), areas=1, feedback="direct"), lr=0.1))
    plain, captured = networks[0], Captured(networks[1])
    x, y = torch.randn(6, 64), torch.randint(0, 3, (6,))
    for step in range(6):
        if step == 3:
            assert captured.is_captured
            for network in networks:
                for part in network.modules():
                    if isinstance(part, Direct):
                        part.matrix.neg_()
        assert captured.learn(x, y) == plain.learn(x, y)
    assert captured.is_captured
    for ours, theirs in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(ours, theirs)
