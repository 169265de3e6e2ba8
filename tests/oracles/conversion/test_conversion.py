"""Conversion of PyTorch networks: the body computes what the model does, in its parts and numbers."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from brodmann import Adam, BrodmannError, Network, Sequential, from_torch
from brodmann.layers import AreaLinear, Local

from ...pairs import pairwise
from ..models import MODELS, dense, described, routes, samples
from .converting import Windows

KINDS: dict[str, dict[str, Any]] = {
    "learned": {},
    "learned, gated": {"gated": True},
    "frozen": {"shared": "frozen"},
    "off": {"shared": "off"},
}
PLACES: dict[str, dict[str, Any]] = {
    "one area": {"areas": 1},
    "areas": {"areas": 4, "routing": "layer"},
    "one route": {"areas": 4, "routing": "network"},
}


@pairwise(name=MODELS, kind=KINDS, place=PLACES)
def test_a_converted_network_computes_what_the_model_does(name: str, kind: str, place: str) -> None:
    build, shape = MODELS[name]
    torch.manual_seed(0)
    model = build()
    before = copy.deepcopy(model.state_dict())
    place = place if "network" in routes(name) or place == "one area" else "areas"
    body = from_torch(model, described(name), **KINDS[kind], **PLACES[place])
    for count in (1, 40):
        x = samples(name, count)
        with torch.no_grad():
            expected = copy.deepcopy(model).eval()(x.clone())
            torch.testing.assert_close(body(x), expected)
            if len(shape) == 3:
                torch.testing.assert_close(body(x.flatten(1)), expected)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert any(getattr(part, "inplace", False) for part in model.modules()) == (name in ("convolutional", "images"))


def test_batch_norms_that_have_seen_nothing_are_told() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with pytest.warns(UserWarning, match="batch norms that have seen no samples") as found:
        from_torch(model, batch_norms="running")
    assert found[0].filename == __file__
    model(torch.randn(9, 4))
    older = {name: value for name, value in model.state_dict().items() if "num_batches_tracked" not in name}
    again = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    again.load_state_dict(older, strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_torch(model, batch_norms="running")
        from_torch(again, batch_norms="running")


@pytest.mark.parametrize("name", ["residual", "attending", "language", "grouped", "written", "decoding", "folded"])
def test_a_converted_network_goes_through_compilers(name: str) -> None:
    torch.compiler.reset()
    network = Network(from_torch(MODELS[name][0](), described(name), areas=3, routing=routes(name)[0]))
    x = samples(name, 24)
    for again in (torch.compile(network, backend="eager"), torch.export.export(network, (x,)).module()):
        torch.testing.assert_close(again(x), network(x), rtol=1e-4, atol=1e-5)


def test_what_a_model_names_keeps_its_name() -> None:
    body = from_torch(MODELS["residual"][0](), (2, 6, 6), areas=2, routing="layer")
    names = [name for name, _ in Network(body).area_layers()]
    assert names[0] == "nodes.stem.map"
    assert "nodes.blocks_1_shortcut_0.map" in names
    assert names[-1] == "nodes.readout"
    assert isinstance(from_torch(dense(), areas=2, routing="layer"), Sequential)  # a chain needs no graph


@settings(max_examples=40)
@given(
    size=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.one_of(st.integers(0, 2), st.sampled_from(["same", "valid"])),
    bias=st.booleans(),
    channels=st.integers(1, 3),
    side=st.integers(4, 7),
)
def test_every_convolution_that_is_converted_is_the_models(
    size: int, stride: int, padding: int | str, bias: bool, channels: int, side: int
) -> None:
    if padding == "same":
        size, stride = 2 * (size // 2) + 1, 1
    model = nn.Sequential(nn.Conv2d(channels, 2, size, stride=stride, padding=padding, bias=bias), nn.Flatten())
    x = torch.randn(3, channels, side, side)
    torch.testing.assert_close(from_torch(model, x.shape[1:], areas=2)(x), model(x).detach())


class Casting(nn.Linear):
    """A map with a forward of its own that does what PyTorch's does."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.to(self.weight.dtype), self.weight, self.bias)


class DroppingConv(nn.Conv2d):
    """A map that does something else while it learns."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(super().forward(x), 0.5, self.training)


def test_a_map_of_another_class_that_does_the_same_becomes_areas() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Casting(4, 6), nn.ReLU(), Casting(6, 3))
    network = Network(from_torch(model, areas=2))
    assert [layer.budget for _, layer in network.area_layers()] == [2, 2]
    x = torch.randn(5, 4)
    torch.testing.assert_close(network(x), model(x).detach())
    network = Network(
        from_torch(nn.Sequential(DroppingConv(1, 2, 3), nn.Flatten(), nn.Linear(72, 3)), (1, 8, 8), areas=1)
    )
    images, outputs = torch.randn(5, 1, 8, 8), []
    for _ in range(2):
        _, output = network.learn_with_output(images, torch.zeros(5, dtype=torch.int64), lr=0.0)
        outputs.append(output)
    assert not torch.equal(*outputs)  # what it drops while it learns is another thing each time


def test_windows_of_a_sample_have_its_area() -> None:
    torch.manual_seed(0)
    model, x = Windows(), torch.randn(6, 8, 3)
    network = Network(from_torch(model, (8, 3), areas=4), lr=0.1)
    torch.testing.assert_close(network(x), model(x).detach())
    first = network.learn(x, torch.arange(6) % 2)
    assert network.learn(x, torch.arange(6) % 2) < first
    for _, layer in network.area_layers():  # each sample alone, with the areas that it had among the others
        layer.areas.weight.value.data.normal_()
    torch.testing.assert_close(network(x), torch.cat([network(sample) for sample in x.split(1)]))
    with pytest.raises(BrodmannError, match="or equally many rows for each, one sample after the other."):
        from_torch(Windows("windows"), (8, 3), areas=4)


def test_weights_of_other_kinds_are_brought_to_what_layers_compute_in() -> None:
    model = dense()
    x = torch.randn(4, 6)
    halved = from_torch(copy.deepcopy(model).bfloat16(), areas=2)
    torch.testing.assert_close(halved(x), model(x).detach(), rtol=0.05, atol=0.05)
    stored = Network(from_torch(model, areas=2, storage="bfloat16"))
    torch.testing.assert_close(stored(x), model(x).detach(), rtol=0.05, atol=0.05)
    assert from_torch(copy.deepcopy(model).double(), areas=2)(x.double()).dtype == torch.float64
    again = from_torch(nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)), areas=2)
    assert isinstance(again.body.layers[1], Local)
    assert torch.equal(again(x), again(x))  # dropout is drawn while learning alone


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_layer_computes_in_the_numbers_of_its_start_or_the_usual_ones(kind: torch.dtype) -> None:
    start = nn.Linear(4, 3).to(kind)
    layer = AreaLinear(4, 3, areas=3, start=start, update=Adam())
    expected = torch.float64 if kind == torch.float64 else torch.float32
    assert {parameter.dtype for parameter in layer.parameters()} == {expected}
    network = Network(layer)
    x = torch.randn(5, 4, dtype=expected)
    torch.testing.assert_close(network(x), functional.linear(x, start.weight.to(x), start.bias.to(x)).detach())
    network.learn(x, torch.zeros(5, dtype=torch.int64))


def test_gates_scale_maps_that_have_no_shared_part() -> None:
    theirs = nn.Linear(4, 3)
    body = from_torch(theirs, areas=4, shared="off", gated=True)
    x = torch.randn(9, 4)
    gate = body.router.route(x).gate[:, None]
    assert not torch.allclose(gate, torch.ones(1))
    torch.testing.assert_close(body(x), (gate * theirs(x)).detach())


def test_conversion_takes_no_notice_of_autocast() -> None:
    model = dense()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        body = from_torch(model, areas=1)
    x = torch.randn(4, 6)
    torch.testing.assert_close(body(x), model(x).detach())
