"""Converted networks learn as their models do under autograd where they should, and otherwise by their areas."""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

from brodmann import SGD, BrodmannError, Network, Rates, from_torch
from brodmann.layers import AreaLinear
from brodmann.telemetry import alignment

from ..cases import BESIDE_AUTOGRAD
from ..copies import assert_copies_go_on_alike
from ..models import CLASSES, MODELS, OF_TOKENS, batched, batches, dense, described, learn_beside, routes, samples
from .converting import constants


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", MODELS)
@BESIDE_AUTOGRAD
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


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_network_learns_with_areas_and_goes_through_files_and_copies(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MODELS[name][0]()
    convert = partial(from_torch, model, described(name), areas=3, routing=routes(name)[0])
    network = Network(convert())
    x, y = samples(name, 24), torch.randint(0, CLASSES, (24,))
    first = network.learn(x, y)
    assert any(network.learn(x, y) < 0.9 * first for _ in range(60))
    assert_copies_go_on_alike(network, convert(), x, y, tmp_path)
    torch.testing.assert_close(network.merged()(x), network(x), rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        network.learn(x, y)
    network.learn(x, y)


@pytest.mark.parametrize("name", ["language", "asking", "decoding", "folded"])
def test_alignment_is_known_of_what_reads_tokens_or_parameters_alone(name: str) -> None:
    torch.manual_seed(0)
    network = Network(from_torch(MODELS[name][0](), described(name), areas=2, routing=routes(name)[0]))
    rows = alignment(network, samples(name, 12), torch.arange(12) % CLASSES)
    assert len(rows) > 1
    for row in rows:
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
