"""Conversion of PyTorch networks: the body computes what the model does, and learns as it would where it should."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

from brodmann import SGD, Adam, BrodmannError, Network, Rates, Sequential, from_torch
from brodmann.layers import AreaLinear, Local
from brodmann.telemetry import alignment

from .converting import Windows, constants
from .models import CLASSES, MODELS, OF_TOKENS, batched, batches, dense, described, learn_beside, samples


def routes(name: str) -> list[str]:
    return ["layer"] if name in OF_TOKENS else ["network", "layer"]


@pytest.mark.parametrize(("name", "routing"), [(name, routing) for name in MODELS for routing in routes(name)])
@pytest.mark.parametrize(
    ("shared", "gated"), [("learned", False), ("learned", True), ("frozen", False), ("off", False)]
)
def test_a_converted_network_computes_what_the_model_does(name: str, routing: str, shared: str, gated: bool) -> None:
    build, shape = MODELS[name]
    torch.manual_seed(0)
    model = build()
    before = copy.deepcopy(model.state_dict())
    for areas, counts in ((1, (1, 40)), (4, (20,))):
        body = from_torch(model, described(name), areas=areas, routing=routing, shared=shared, gated=gated)
        for count in counts:
            x = samples(name, count)
            with torch.no_grad():
                expected = copy.deepcopy(model).eval()(x.clone())
                torch.testing.assert_close(body(x), expected)
                if len(shape) == 3:
                    torch.testing.assert_close(body(x.flatten(1)), expected)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert any(getattr(part, "inplace", False) for part in model.modules()) == (name in ("convolutional", "images"))


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
    torch.manual_seed(1)
    model = MODELS[name][0]()
    network = Network(from_torch(model, described(name), areas=1, feedback="transpose", update=rule), lr=0.01)
    learn_beside(network, model, optimiser(model.parameters(), lr=0.01), batches(name, 5))
    x = samples(name, 16)
    # Biases below a batch norm have no gradient but rounding, which Adam divides by its epsilon.
    near = 1e-8 if name == "batched" else 1e-9
    torch.testing.assert_close(network(x), model.eval()(x).detach(), rtol=0, atol=near)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", [name for name in MODELS if name not in OF_TOKENS])
def test_the_error_of_its_input_is_that_of_autograd(name: str) -> None:
    torch.manual_seed(1)
    model = MODELS[name][0]()
    network = Network(from_torch(model, described(name), areas=1, feedback="transpose", lowest=False))
    ((x, y),) = batches(name, 1)
    functional.cross_entropy(model(x.requires_grad_()), y).backward()
    _, error = network.learn_with_error(x, y)
    torch.testing.assert_close(error, x.grad, rtol=1e-9, atol=1e-11)


class Affine(nn.Module):
    """A batch norm at inference, as a factor and a summand."""

    def __init__(self, norm: Any, behind: int) -> None:
        super().__init__()
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        self.gain, self.shift = (
            nn.Parameter(gain.detach()),
            nn.Parameter((norm.bias - gain * norm.running_mean).detach()),
        )
        self.behind = (1,) * behind

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain.view(-1, *self.behind) + self.shift.view(-1, *self.behind)


@pytest.mark.usefixtures("double")
def test_batch_norms_may_stay_what_they_are_at_inference_and_learn_as_such() -> None:
    torch.manual_seed(2)
    model = batched().eval()
    convert = partial(from_torch, areas=1, feedback="transpose", update=SGD(), batch_norms="running")
    network = Network(convert(model, (2, 5, 5)), lr=0.01)
    assert len(constants(network)) == 4  # two norms that do not stand above a map which they alone read
    x, y = torch.randn(16, 2, 5, 5), torch.randint(0, CLASSES, (16,))
    torch.testing.assert_close(network(x), model(x).detach())
    theirs = copy.deepcopy(model)  # the same as PyTorch folds it, with factors and summands for the other two
    theirs.conv, theirs.above = fuse_conv_bn_eval(theirs.conv, theirs.above), nn.Identity()
    theirs.direct, theirs.directly = fuse_linear_bn_eval(theirs.direct, theirs.directly), nn.Identity()
    theirs.elsewhere, theirs.beside = Affine(theirs.elsewhere, 2), Affine(theirs.beside, 0)
    for _ in range(3):
        loss = functional.cross_entropy(theirs(x), y)
        gradients = torch.autograd.grad(loss, list(theirs.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(theirs.parameters(), gradients, strict=True):
                parameter.sub_(gradient, alpha=0.01)
        assert float(network.learn(x, y)) == pytest.approx(loss.item(), abs=1e-10)


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


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_network_learns_with_areas_and_goes_through_files_and_copies(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MODELS[name][0]()
    convert = partial(from_torch, model, described(name), areas=3, routing=routes(name)[0])
    network = Network(convert())
    x, y = samples(name, 24), torch.randint(0, CLASSES, (24,))
    losses = [float(network.learn(x, y)) for _ in range(60)]
    assert losses[-1] < 0.9 * losses[0]
    network.save(tmp_path / "network.safetensors")
    others = [
        Network.load(tmp_path / "network.safetensors", body=convert()),
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
    ]
    loss = network.learn(x, y)
    for other in others:
        assert torch.equal(other.learn(x, y), loss)
        assert torch.equal(other(x), network(x))
    torch.testing.assert_close(network.merged()(x), network(x), rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        network.learn(x, y)
    network.learn(x, y)


@pytest.mark.parametrize("name", ["residual", "attending", "language", "grouped", "written", "decoding", "folded"])
def test_a_converted_network_goes_through_compilers(name: str) -> None:
    torch.compiler.reset()
    network = Network(from_torch(MODELS[name][0](), described(name), areas=3, routing=routes(name)[0]))
    x = samples(name, 24)
    for again in (torch.compile(network, backend="eager"), torch.export.export(network, (x,)).module()):
        torch.testing.assert_close(again(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["language", "asking", "decoding", "folded"])
def test_alignment_is_known_of_what_reads_tokens_or_parameters_alone(name: str) -> None:
    torch.manual_seed(0)
    network = Network(from_torch(MODELS[name][0](), described(name), areas=2, routing=routes(name)[0]))
    for row in alignment(network, samples(name, 12), torch.arange(12) % CLASSES):
        assert row.cosine == pytest.approx(1.0, abs=1e-5)  # of feedback that starts equal


def test_models_are_converted_in_inference_mode_and_under_any_names() -> None:
    model = nn.Sequential(OrderedDict(images=nn.Conv2d(1, 2, 3), flat=nn.Flatten(), readout=nn.Linear(72, 3)))
    x = torch.randn(5, 1, 8, 8)
    with torch.inference_mode():
        body = from_torch(model, (1, 8, 8), areas=1, feedback="transpose", update=SGD())
    network, theirs = Network(body, lr=0.1), torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        theirs.zero_grad()
        loss = functional.cross_entropy(model(x), torch.arange(5) % 3)
        loss.backward()
        theirs.step()
        assert float(network.learn(x, torch.arange(5) % 3)) == pytest.approx(loss.item(), rel=1e-4)


class Bytes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.float32) / 255


def test_images_of_whole_numbers_are_scaled_by_the_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Bytes(), nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3))
    x = torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8)
    network = Network(from_torch(model, x, areas=1))
    torch.testing.assert_close(network(x), model(x).detach())
    first = network.learn(x, torch.arange(9) % 3)
    assert network.learn(x, torch.arange(9) % 3) < first


def test_all_that_learns_has_a_name_and_a_star_names_a_block() -> None:
    torch.manual_seed(0)
    network = Network(from_torch(MODELS["residual"][0](), (2, 6, 6), areas=2))
    names = [name for name, _ in network.learning_layers()]
    assert {name for name, _ in network.area_layers()} < {name.removeprefix("body.") for name in names} | set(names)
    block = [name for name in names if ".blocks_0_" in name]
    assert len(block) == 6  # two convolutions, factors and summands of two norms
    before = {name: value.clone() for name, value in network.body.named_parameters()}
    network.rates = Rates(layers={"nodes.blocks_0_*": 0.0})
    x, y = samples("residual", 9), torch.arange(9) % CLASSES
    for _ in range(2):
        network.learn(x, y, lr=0.1)
    after = dict(network.body.named_parameters())
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert not any(".blocks_0_" in name for name in moved)
    assert any(".blocks_1_" in name for name in moved)
    with pytest.raises(BrodmannError, match=r"Unknown layer 'nodes.block_\*'"):
        network.rates = Rates(layers={"nodes.block_*": 0.0})


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


class Holding(nn.Module):
    """Functions that need buffers, in which no error may ask for theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.readout = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("mean", torch.ones(4))
        self.register_buffer("variance", torch.full((4,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(functional.batch_norm(self.map(x), self.mean, self.variance).relu())


def test_what_needs_buffers_learns_and_moves_with_them() -> None:
    torch.manual_seed(0)
    model = Holding()
    network = Network(from_torch(model, areas=1))
    x, y = torch.randn(9, 4), torch.arange(9) % 4
    torch.testing.assert_close(network(x), model.eval()(x).detach())
    assert network.learn(x, y) > network.learn(x, y)
    assert network.double()(x.double()).dtype == torch.float64
    copy.deepcopy(network).learn(x.double(), y)
    assert constants(network) == []


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


def test_conversion_takes_no_notice_of_autocast() -> None:
    model = dense()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        body = from_torch(model, areas=1)
    x = torch.randn(4, 6)
    torch.testing.assert_close(body(x), model(x).detach())
