"""Conversion of PyTorch networks: the body computes what the model does, and learns as it would where it should."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from brodmann import SGD, Adam, BrodmannError, Network, from_torch
from brodmann.area_linear import AreaLinear
from brodmann.local import Local


def dense() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Sequential(nn.Linear(8, 5), nn.Tanh()), nn.Linear(5, 3))


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 9, 9)),
        nn.Conv2d(1, 3, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.InstanceNorm2d(4),
        nn.MaxPool2d(2),
        nn.Identity(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "dense": (dense, (6,)),
    "convolutional": (convolutional, (81,)),
    "images": (lambda: nn.Sequential(*list(convolutional())[1:]), (1, 9, 9)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("routing", ["network", "layer"])
@pytest.mark.parametrize(
    ("shared", "gated"), [("learned", False), ("learned", True), ("frozen", False), ("off", False)]
)
def test_a_converted_network_computes_what_the_model_does(name: str, routing: str, shared: str, gated: bool) -> None:
    build, shape = MODELS[name]
    torch.manual_seed(0)
    model = build()
    before = copy.deepcopy(model.state_dict())
    for areas in (1, 4):
        body = from_torch(model, shape, areas=areas, routing=routing, shared=shared, gated=gated)
        x = torch.randn(20, *shape)
        with torch.no_grad():
            expected = copy.deepcopy(model).eval()(x)
            torch.testing.assert_close(body(x), expected)
            torch.testing.assert_close(body(x.flatten(1)), expected)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert any(getattr(part, "inplace", False) for part in model) == (name != "dense")


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("rule", "optimiser"),
    [
        (SGD(momentum=0.9), partial(torch.optim.SGD, momentum=0.9)),
        (Adam(decay=0.0), partial(torch.optim.Adam, eps=1e-8)),
    ],
)
def test_with_one_area_and_transpose_feedback_it_learns_as_under_autograd(name: str, rule: Any, optimiser: Any) -> None:
    build, shape = MODELS[name]
    torch.manual_seed(1)
    model = build()
    network = Network(from_torch(model, shape, areas=1, feedback="transpose", update=rule), lr=0.01)
    theirs = optimiser(model.parameters(), lr=0.01)
    for _ in range(5):
        x, y = torch.randn(16, *shape), torch.randint(0, 3, (16,))
        theirs.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        theirs.step()
        assert float(network.learn(x, y)) == pytest.approx(loss.item(), abs=1e-10)
    x = torch.randn(16, *shape)
    torch.testing.assert_close(network(x), model(x).detach(), rtol=0, atol=1e-9)


@settings(max_examples=40, deadline=None)
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


def test_what_works_in_place_does_not_work_on_what_is_compared() -> None:
    model = nn.Sequential(nn.ELU(inplace=True), nn.Linear(6, 3), nn.Hardswish(inplace=True))
    x = torch.randn(5, 6)
    torch.testing.assert_close(from_torch(model, (6,))(x), model(x.clone()))


def test_an_activation_of_ones_own_is_followed_where_it_looks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), Odd(), nn.Softmax(1), nn.Flatten(2), nn.Linear(36, 2), nn.Flatten())
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(from_torch(model, (1, 8, 8), areas=2)(x), model(x).detach())


def test_a_trained_network_goes_on_without_backpropagation() -> None:
    torch.manual_seed(0)
    centres = 2.0 * torch.randn(3, 6)
    y = torch.randint(0, 3, (400,))
    x = centres[y] + torch.randn(400, 6)
    model = dense()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(20):
        optimiser.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    network = Network(from_torch(model, areas=4), lr=1e-3)
    losses = [float(network.learn(x, y)) for _ in range(200)]
    assert losses[0] == pytest.approx(functional.cross_entropy(model(x), y).item(), rel=1e-5)
    assert losses[-1] < 0.8 * losses[0]


def test_feedback_starts_as_large_as_the_weights_and_independently_of_them() -> None:
    torch.manual_seed(0)
    start = nn.Linear(300, 200)
    with torch.no_grad():
        start.weight.mul_(5.0)
    layer = AreaLinear(300, 200, areas=2, start=start)
    weights, back = layer.shared.value[0], layer.feedback.shared.value[0]
    assert torch.equal(weights, start.weight)
    assert float(back.std() / weights.std()) == pytest.approx(1.0, rel=0.02)
    assert abs(float(functional.cosine_similarity(back.flatten(), weights.flatten(), dim=0))) < 0.02


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


class Own(nn.Module):
    """A module with a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


class Scaled(nn.Linear):
    """A map with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Odd(nn.ReLU):
    """An activation with a forward of its own, which is no operation on each number."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


def tied() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


def hooked(place: int) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4)))
    model[place].register_forward_hook(lambda _layer, _inputs, output: 2 * output + 1)
    return model


TWICE = nn.Linear(4, 4)
IMAGES: dict[str, Any] = {"shape": (1, 8, 8)}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("model", {}, "Expected an nn.Sequential, got str."),
        (nn.Sequential(nn.ReLU()), {}, "Expected an nn.Sequential with an nn.Linear or an nn.Conv2d in it, got none."),
        (
            Own(),
            {},
            "Expected nn.Sequential alone to hold layers, got Own, whose forward is its own",
        ),
        (nn.Sequential(TWICE, nn.ReLU(), TWICE), {}, "got weights that stand in the model twice."),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), {}, "torch.nn.utils.fuse_conv_bn_eval or fuse_linear_bn_"),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), {}, "A norm goes without, by elementwise_affine=False"),
        (
            nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 4)),
            {},
            "does not take what comes to it, (4,) a sample: check shape=(4,).",
        ),
        (nn.Conv2d(1, 2, 3), {}, "name the shape of a sample, such as shape=(3, 32, 32)."),
        (
            nn.Conv2d(2, 2, 3, groups=2),
            {"shape": (2, 8, 8)},
            "expected square kernels, strides and paddings",
        ),
        (nn.Conv2d(2, 2, (3, 2)), {"shape": (2, 8, 8)}, "expected square kernels, strides and paddings"),
        (nn.Conv2d(2, 2, 2, padding="same"), {"shape": (2, 8, 8)}, "expected square kernels, strides and paddings"),
        (tied(), {}, "got weights that stand in the model twice."),
        (hooked(0), {}, "Linear has hooks."),
        (hooked(2), {}, "The converted network does not return what the model does"),
        (nn.Sequential(Scaled(4, 4)), {}, "Scaled has a forward of its own."),
        (nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Linear(6, 3)), IMAGES, "would map the width of images"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(36, 2)),
            {"shape": (8, 8)},
            "check shape=(8, 8)",
        ),
        (nn.Sequential(nn.Linear(4, 4), nn.Flatten(0)), {}, "it does not return one tensor of samples."),
        (nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4)), {}, "it does not return one tensor of samples."),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, return_indices=True)), IMAGES, "one tensor of samples."),
        (nn.Sequential(nn.LazyLinear(4)), {"shape": (4,)}, "it has no weights yet, or no real ones."),
        (nn.Sequential(nn.Linear(4, 4, device="meta")), {}, "it has no weights yet, or no real ones."),
        (nn.Sequential(nn.Linear(4, 4, dtype=torch.complex64)), {}, "it has no weights yet, or no real ones."),
        (nn.Sequential(weight_norm(nn.Linear(4, 4))), {}, "torch.nn.utils.parametrize.remove_parametrizations."),
        (nn.Sequential(nn.ConvTranspose2d(1, 2, 3), nn.Flatten(), nn.Linear(200, 2)), IMAGES, "nn.Conv2d alone can."),
        (nn.Linear(4, 4), {"shape": 4}, "Expected the shape of a sample, such as (784,) or (3, 32, 32), got 4."),
        (nn.Linear(4, 4), {"shape": (0,)}, "Expected shape to be a whole number of at least 1, got 0."),
        (
            nn.Linear(4, 4),
            {"gated": True, "shared": "off"},
            "A gate without a shared part would scale the start: leave",
        ),
        (nn.Linear(4, 4).double(), {"storage": "bfloat16"}, "A storage of its own goes with float32"),
        (nn.Linear(4, 4), {"routing": "none"}, "Unknown routing 'none'"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(8, 2)),
            {"shape": (1, 6, 6), "feedback": "direct"},
            "Direct feedback has no path from an output to a patch",
        ),
    ],
)
def test_what_cannot_be_converted_is_named(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BrodmannError) as error:
        from_torch(model, **options)
    assert message in str(error.value)


def test_a_start_must_fit() -> None:
    halves = nn.Linear(4, 3)
    for start, options, message in (
        (nn.Linear(3, 4), {}, r"an nn.Linear with weights \(3, 4\), got one of \(4, 3\)"),
        (nn.LazyLinear(3), {}, r"weights \(3, 4\), got one that is not initialised"),
        (torch.zeros(3, 4), {}, "an nn.Linear, got Tensor"),
        (Scaled(4, 3), {}, "an nn.Linear, got Scaled"),
        (nn.Linear(4, 3, device="meta"), {}, "Expected to start as numbers, got torch.float32 on meta"),
        (halves, {"gated": True, "shared": "off"}, "A gate without a shared part would scale the start"),
        (copy.deepcopy(halves).double(), {"storage": torch.bfloat16}, "A storage of its own goes with float32"),
    ):
        with pytest.raises(BrodmannError, match=message):
            AreaLinear(4, 3, start=start, **options)


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
