"""Conversion of PyTorch networks: the body computes what the model does, and learns as it would where it should."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.nn.utils.parametrizations import weight_norm

from brodmann import SGD, Adam, BrodmannError, Constant, Network, Rates, Sequential, from_torch
from brodmann.layers import AreaLinear, Local, Product, TiedProduct
from brodmann.telemetry import alignment

from .models import (
    CLASSES,
    MODELS,
    OF_TOKENS,
    Asserting,
    Choosing,
    Language,
    batched,
    batches,
    dense,
    described,
    learn_beside,
    samples,
)


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


def constants(network: Network) -> list[Constant]:
    return [part for part in network.modules() if isinstance(part, Constant) and part.learns]


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


def test_long_chains_of_functions_are_followed() -> None:
    def chain(x: Tensor) -> Tensor:
        for _ in range(450):
            x = torch.sin(x)
        return x

    model, x = Returning(chain), torch.randn(5, 4)
    torch.testing.assert_close(from_torch(model, areas=1)(x), model(x).detach())


def test_images_of_whole_numbers_are_scaled_by_the_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Bytes(), nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3))
    x = torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8)
    network = Network(from_torch(model, x, areas=1))
    torch.testing.assert_close(network(x), model(x).detach())
    first = network.learn(x, torch.arange(9) % 3)
    assert network.learn(x, torch.arange(9) % 3) < first


class Bytes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.float32) / 255


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


def test_what_works_in_place_does_not_work_on_what_is_compared() -> None:
    model = nn.Sequential(nn.ELU(inplace=True), nn.Linear(6, 3), nn.Hardswish(inplace=True))
    x = torch.randn(5, 6)
    torch.testing.assert_close(from_torch(model, (6,))(x), model(x.clone()))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: functional.relu(1.0 * functional.elu(x, 0.5, True), True),
        lambda x: torch.relu_(x),
        lambda x: x.index_fill_(1, torch.tensor([0, 2]), 0.0),
        lambda x: x.mul_(2.0) * x.size(1) + x.new_ones(4),
        lambda x: torch.where(x > 0, x, torch.zeros(())) / x.abs().max(dim=1, keepdim=True).values,
        lambda x: torch.split(x, [1, 3], 1)[1].cumsum(1) - x[:, -1:],
        lambda x: x + x,
        lambda x: (torch.add(x, x, alpha=2), x.sum())[0],
        lambda x: x.sin() if x.dim() == 2 and len(x.shape) == x.ndim and x.is_floating_point() else -x,
        lambda x: sum((x[:, index:].sum(1, keepdim=True) for index in range(x.shape[1])), x) / math.sqrt(x.size(-1)),
        lambda x: torch.cat([part.cos() for part in x.chunk(x.size(1) // 2, 1)], 1),
        lambda x: x * torch.arange(x.shape[1], device=x.device) + torch.zeros(x.shape[0], 1, dtype=x.dtype),
        lambda x: covered(x) * (len(x.shape) - 1),
        lambda x: counted(x),
        lambda x: overwritten(x),
        lambda x: x * torch.arange(4.0)[None].expand(x.shape[0], -1) + torch.ones(1, 4).repeat(x.size(0), 1),
        lambda x: x + functional.relu(x, inplace=True),
        lambda x: (x.exp() * numpy.float64(0.3)).sin() + numpy.int64(2),
        lambda x: x.reshape(x.shape[0], *(int(size / 2) for size in x.shape[1:]), 2).flatten(1),
    ],
)
def test_functions_are_followed(function: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Returning(function), nn.Tanh())
    network = Network(from_torch(model, areas=1, feedback="transpose", update=SGD()), nn.MSELoss(), lr=0.1)
    x = torch.randn(5, 4)
    y = torch.randn_like(network(x))
    torch.testing.assert_close(network(x), model(x).detach())
    functional.mse_loss(model(x), y).backward()
    network.learn(x, y)
    lowest = network.area_layers()[0][1].shared.value[0]
    moved = model[0].inside.weight - 0.1 * model[0].inside.weight.grad
    torch.testing.assert_close(lowest, moved.detach())


def doubled(x: Tensor) -> Tensor:
    """Writes, and nobody reads what that returns."""
    x.mul_(2.0)
    return x


def parted(x: Tensor, parts: Callable[[Tensor], Any]) -> Tensor:
    """Writes into a part of what is read later as one of several views, where the samples do not show it."""
    mask = torch.ones_like(x)
    views = parts(mask)
    mask[x > 9.0] = 0.0
    return x * views[0].sum()


def spread_and_written(x: Tensor) -> Tensor:
    """Writes into what is a view of others for a sample that comes alone, and its own for several."""
    ones = x.new_ones(1, 4)
    mask = ones.expand(x.shape[0], -1).contiguous()
    mask[x > 9.0] = 0.0
    return x * mask + ones


def spread_in_place(x: Tensor, write: Callable[[Tensor], Tensor]) -> Tensor:
    """The same, by a method."""
    ones = x.new_ones(1, 4)
    mask = ones.expand(x.shape[0], -1).contiguous()
    write(mask)
    return x * mask + ones


def copied(x: Tensor) -> Tensor:
    """Writes into a copy where several samples come."""
    y = x.clone() if x.shape[0] != 1 else x
    y.mul_(2.0)
    return x + y


class DropConnect(nn.Module):
    """Drops out weights, of which it computes the mean, too."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.weights = nn.Linear(4, 4), nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        weights = functional.dropout(self.weights, 0.5, self.training)
        return self.low(x) @ weights + weights.mean(0)


class Matrices(nn.Module):
    """Looks up a matrix for every token."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.matrices = nn.Embedding(9, 4), nn.Parameter(torch.randn(9, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bti,btio->bto", self.rows(x), self.matrices[x])


def zeros() -> nn.Linear:
    """Returns a readout that does not show what comes to it."""
    readout = nn.Linear(4, 3)
    nn.init.zeros_(readout.weight)
    return readout


def written(x: Tensor, part: Callable[[Tensor], Tensor]) -> Tensor:
    """Writes into a part of what is read later, where the values do not show it."""
    y = x.sin()
    z = part(y)
    if z.ndim == 2:
        z[0] = 0.5
    return x + 0.0 * y


def overwritten(x: Tensor) -> Tensor:
    """Writes into what is read later under its own name, twice, and asks of what kind it is."""
    y = x.sin()
    y.mul_(2.0)
    z = y.exp()
    y += x if torch.is_autocast_enabled(y.device.type) or y.dim() == 3 else 1.0
    with torch.autocast(device_type=y.device.type, enabled=False):
        y.clamp_(min=0.5)
    return y * z


def covered(x: Tensor) -> Tensor:
    """Writes into a part of a tensor, as masks of attention are made."""
    mask = x.new_zeros((x.shape[0], 4))
    mask[:, 1:3] = 2.0
    mask[:, 0] = x[:, 1]
    return mask.cos() * x


def test_functions_that_hide_parameters_from_torch_fx_are_looked_into() -> None:
    torch.manual_seed(0)
    model, x = Multiplying(lambda x, w: opaque(x, w)), torch.randn(5, 4)
    network = Network(from_torch(model, (4,), areas=1, feedback="transpose", update=SGD()), nn.MSELoss(), lr=0.1)
    y = torch.randn_like(network(x))
    functional.mse_loss(model(x), y).backward()
    network.learn(x, y)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    torch.testing.assert_close(network(x), model(x).detach())


def asking_of(x: Tensor, w: Tensor) -> Tensor:
    """Multiplies by what is made of a weight, and asks that for all but its numbers."""
    y = functional.linear(x.to(w.dtype), w) * w.shape[-1] / (w.size(0) + w.dim())
    return y.type_as(w) + torch.zeros(w.numel() // 4, dtype=w.dtype, device=w.device)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda x, w: x @ w, AreaLinear),
        (lambda x, w: functional.linear(x, w), AreaLinear),
        (lambda x, w: torch.einsum("bi,oi->bo", x, w), AreaLinear),
        (lambda x, w: torch.addmm(w.new_ones(4), x, w), AreaLinear),
        (lambda x, w: (x.view(-1, 2) @ w.view(2, 8)).view(-1, 16), Product),  # not the matrix that it holds
        (lambda x, w: (w @ x.t()).t(), Product),  # samples lie elsewhere
        (lambda x, w: x @ w @ w, TiedProduct),
        (lambda x, w: x @ w.type_as(x), AreaLinear),
        (lambda x, w: x.to(w.dtype) @ w, AreaLinear),
        (lambda x, w: asking_of(x, w.t().contiguous()), AreaLinear),
        (lambda x, w: asking_of(x, w.unsqueeze(1).squeeze(1)), Product),
        (lambda x, w: asking_of(x, w.float()), Product),
        (lambda x, w: x @ (0.9995 * w), Product),
        (lambda x, w: x @ w.clamp(-5, 5), Product),
    ],
)
def test_products_of_rows_and_a_matrix_become_areas(function: Callable[[Tensor, Tensor], Tensor], kind: type) -> None:
    torch.manual_seed(0)
    model, x = Multiplying(function), torch.randn(5, 4)
    body = from_torch(model, areas=3)
    torch.testing.assert_close(body(x), model(x).detach())
    held = [type(part) for part in body.modules() if isinstance(part, AreaLinear | Product | TiedProduct)]
    assert held[0] is AreaLinear  # the map below
    assert set(held[1:]) == {kind}


def again(x: Tensor, w: Tensor) -> Tensor:
    """Reads a weight under names that a conversion of its kind gives it, and turned over."""
    same, turned = w.contiguous(), w.t()
    x = (x @ same).tanh() @ turned + (x @ turned) * same.mean(0)
    return x @ w.to(torch.float64) + torch.zeros(x.shape[0], 4, dtype=x.dtype) @ w


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "function",
    [
        again,
        lambda x, w: functional.linear(x.tanh(), 0.9995 * w),
        lambda x, w: functional.linear(functional.linear(x.float(), w.float()).tanh(), w.float()).double(),
        lambda x, w: functional.linear(x.float(), w.float()).double(),
        lambda x, w: x @ w.type_as(x) + w[0],
        lambda x, w: (torch.ones(4, 4, dtype=x.dtype) @ w)[:1] * x,
    ],
)
def test_however_a_parameter_is_read_it_stays_one(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Multiplying(function), nn.Tanh(), nn.Linear(4, 3))
    network = Network(from_torch(model, (4,), areas=1, feedback="transpose", update=SGD(momentum=0.9)), lr=0.1)
    theirs = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(5):
        x, y = torch.randn(9, 4), torch.randint(0, 3, (9,))
        theirs.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        theirs.step()
        assert float(network.learn(x, y)) == pytest.approx(loss.item(), abs=1e-7)  # of float32 in between


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this PyTorch has no grouped product")
def test_grouped_products_of_experts_learn_as_under_autograd() -> None:
    """As transformers write mixtures of experts: rows are sorted by their expert, whose ends a third tensor names."""

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.choose = nn.Linear(8, 4)
            self.weights = nn.Parameter(torch.randn(4, 8, 8) / 3)

        def forward(self, x: Tensor) -> Tensor:
            weight, expert = self.choose(x).softmax(-1).max(-1)
            order = expert.argsort(stable=True)
            ends = torch.histc(expert.float(), bins=4, min=0, max=3).cumsum(0).to(torch.int32)
            sorted_back = torch._grouped_mm(x[order], self.weights.transpose(-2, -1), offs=ends)[order.argsort()]
            return weight[:, None] * sorted_back

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), Experts(), nn.ReLU(), nn.Linear(8, CLASSES))
    network = Network(from_torch(model, areas=1, feedback="transpose", update=SGD()), lr=0.3)
    assert sum(isinstance(part, Product) for part in network.modules()) == 1
    theirs = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(5):
        x, y = torch.randn(24, 6), torch.randint(0, CLASSES, (24,))
        theirs.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        theirs.step()
        assert float(network.learn(x, y)) == pytest.approx(loss.item(), abs=1e-5)
    torch.testing.assert_close(network(x), model(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("double")
def test_what_asks_for_the_size_of_tokens_alone_is_no_parameter() -> None:
    """A mask of padding that the samples lack; a table that is read by indices; what only a size is asked of."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.place = nn.Parameter(torch.randn(9, 4)), nn.Parameter(torch.randn(5, 4))
            self.map, self.other, self.readout = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.mixed = nn.Parameter(torch.randn(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            y = self.table[x] @ self.mixed
            mask = x.ne(0)[:, None, :].expand(-1, y.shape[1], -1)
            y = functional.scaled_dot_product_attention(self.map(y), y, y, attn_mask=mask)
            return self.readout(y.mean(1)) * (self.other(self.place) @ self.mixed).shape[0]

    torch.manual_seed(0)
    model = Padded()
    network = Network(from_torch(model, torch.ones(3, 5, dtype=torch.int64), areas=1, feedback="transpose"), lr=0.01)
    theirs = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for _ in range(4):
        x, y = torch.randint(1, 9, (6, 5)), torch.randint(0, 3, (6,))
        x[2, 3:] = x[4, 1:] = 0
        theirs.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        theirs.step()
        assert float(network.learn(x, y)) == pytest.approx(loss.item(), abs=1e-10)


def test_a_layer_that_is_asked_of_what_kind_it_is_stays_one() -> None:
    class Asked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.readout = nn.Conv2d(1, 3, 2, stride=2), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x.to(self.patches.weight.dtype)).flatten(1)
            return self.readout(x.type_as(self.readout.weight))

    body = from_torch(Asked(), (1, 4, 4), areas=2, routing="layer")
    names = [name for name, _ in Network(body).area_layers()]
    assert [name.endswith(".map") for name in names] == [True, False]


def test_activations_that_a_package_holds_are_followed() -> None:
    torch.manual_seed(0)
    model, x = Returning(lambda x: ACTIVATION(x)), torch.randn(5, 4)
    torch.testing.assert_close(from_torch(model, areas=1)(x), model(x).detach())
    for part in ELSEWHERE:
        with pytest.raises(BrodmannError, match="torch.fx cannot trace its forward"):
            from_torch(Returning(lambda x, part=part: part(x)), areas=1)


@pytest.mark.usefixtures("double")
def test_a_body_that_changes_its_numbers_takes_buffers_that_a_model_asks_for_theirs_with_it() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(4, 3)
            self.register_buffer("scale", torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.map(x.type_as(self.scale))  # type: ignore[no-any-return]

    body, x = from_torch(Scaled(), areas=1, shape=(4,)).float(), torch.randn(5, 4)
    assert body(x).dtype == torch.float32


ACTIVATION = nn.Sequential(nn.GELU(), nn.Tanh())
ELSEWHERE = nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False, track_running_stats=False)
"""No parts of the networks that call them."""


def test_a_batch_norm_above_a_matrix_is_folded_into_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Multiplying(lambda x, w: x @ w), nn.BatchNorm1d(4), nn.Linear(4, 3))
    for _ in range(3):
        model(2.0 * torch.randn(20, 4) + 1.0)
    body, x = from_torch(model, (4,), areas=2, batch_norms="running"), torch.randn(5, 4)
    torch.testing.assert_close(body(x), model.eval()(x).detach())
    assert len(Network(body).area_layers()) == 3


def test_what_is_spread_over_samples_may_be_spread_where_there_are_several_alone() -> None:
    def spread(x: Tensor) -> Tensor:
        mask = x.new_ones(1, 4)
        if x.shape[0] != mask.shape[0]:
            mask = mask.expand(x.shape[0], -1)
        return x * mask

    model = nn.Sequential(nn.Linear(4, 4), Returning(spread))
    body = from_torch(model, (4,), areas=1)
    for count in (1, 2, 40):
        x = torch.randn(count, 4)
        torch.testing.assert_close(body(x), model(x).detach())


class Positions(nn.Module):
    """Asks for sizes, and cuts its buffer to the length that comes."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.readout = nn.Linear(4, 4), nn.Linear(4, 3)
        self.register_buffer("positions", torch.randn(16, 4))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("variance", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        _, steps, units = x.shape
        h = functional.batch_norm(self.map(x).flatten(0, 1), self.mean, self.variance, training=self.training)
        assert h.shape[1] == units, f"of shape {h.shape}"
        return self.readout((h.view(-1, steps, units) + self.positions[:steps]).relu())


def test_questions_of_size_are_answered_and_what_needs_no_answer_holds_for_every_length() -> None:
    torch.manual_seed(0)
    model = Positions()
    network = Network(from_torch(model, (5, 4), areas=1))
    for steps in (5, 9):
        x = torch.randn(7, steps, 4)
        torch.testing.assert_close(network(x), model.eval()(x).detach())
        network.learn(x, torch.zeros(7, steps, dtype=torch.int64), lr=0.0)
    assert bool((model.mean == 0).all())  # asking moves no statistics


def test_the_line_that_cannot_be_followed_is_named() -> None:
    for function, line in ((lambda x: x[{}["missing"]], "missing"), (lambda x: -x if x[0, 0] > 2 else x, r"x\[0, 0\]")):
        with pytest.raises(BrodmannError, match=rf"test_conversion.py, line \d+: `.*{line}.*`\)"):
            from_torch(Returning(function))


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


class Windows(nn.Module):
    """Maps the windows of an image as if they were samples, as networks like Swin do."""

    def __init__(self, order: str = "samples") -> None:
        super().__init__()
        self.order = order
        self.norm, self.map, self.readout = nn.LayerNorm(3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        windows = x.unflatten(1, (2, 4))  # (samples, windows, steps, 3)
        windows = windows if self.order == "samples" else windows.transpose(0, 1)
        h = self.map(self.norm(windows.flatten(0, 1))).softmax(-1)
        h = h.unflatten(0, windows.shape[:2])
        return self.readout((h if self.order == "samples" else h.transpose(0, 1)).flatten(1, 2).mean(1))


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


class Biased(nn.Module):
    """Attention whose mask is a parameter, as the relative positions of vision transformers are."""

    def __init__(self, scale: float | None) -> None:
        super().__init__()
        self.scale, self.maps, self.mask = scale, nn.Linear(4, 12), nn.Parameter(torch.randn(5, 5))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.maps(x).chunk(3, -1)
        bias = self.mask.tanh()
        if self.scale is None:
            return functional.scaled_dot_product_attention(q, k, v, bias)
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_the_mask_of_attention_may_be_made_of_parameters_and_learns(scale: float | None) -> None:
    torch.manual_seed(0)
    model, x = Biased(scale), torch.randn(6, 5, 4)
    network = Network(from_torch(model, (5, 4), areas=1, feedback="transpose", update=SGD()), nn.MSELoss(), lr=0.1)
    y = torch.randn_like(network(x))
    torch.testing.assert_close(network(x), model(x).detach())
    functional.mse_loss(model(x), y).backward()
    network.learn(x, y)
    (mask,) = constants(network)
    torch.testing.assert_close(mask.value, (model.mask - 0.1 * model.mask.grad).detach())


def counted(x: Tensor) -> Tensor:
    """Changes what a name stands for, not what it stood for."""
    size = more = x.shape[1]
    more += 2
    y = x * size
    y += x / more
    return y


def clamped_view(h: Tensor) -> Tensor:
    r = h.view(-1).clamp_(-8, 8)
    return h + 0 * r.view(h.shape)


def shifted_part(h: Tensor) -> Tensor:
    part = h[:, 1:]
    part += 1
    return h


def copied_over(h: Tensor) -> Tensor:
    other = torch.empty_like(h)
    other.copy_(h * 2)
    return h + 0 * other.isnan()


def filled(h: Tensor) -> Tensor:
    mask = torch.zeros(4)
    mask[h.shape[1] - 1] = 1.0
    return h * mask


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda h: torch.cat([part * 2 for part in h.split(16)]), "by the number of samples"),
        (lambda h: h * 2 if h.shape[0] % 2 == 0 else h, "by the number of samples"),
        (lambda h: h * 2 if h.shape[0] > 20 else h, "by the number of samples"),
        (lambda h: h / 2 if (h.abs() > 8).nonzero().shape[0] > 0 else h, "by the values of the samples"),
        (lambda h: h / 2 if h[h.abs() > 8].numel() else h, "by the values of the samples"),
        (lambda h: h / 2 if len(h[h.abs() > 8]) > 0 else h, "by the values of the samples"),
        (clamped_view, "overwrites a value that others read"),
        (shifted_part, "overwrites a value that others read"),
        (lambda h: (h.t().mul_(2), h)[1], "overwrites a value that others read"),
        (copied_over, "overwrites a value that others read"),
        (filled, "overwrites a value that others read"),
    ],
)
def test_what_random_samples_would_not_show_is_refused(function: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        from_torch(Returning(function))


class Counting(nn.Module):
    """Replaces a buffer, and asks for a size after it."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.scale = nn.Linear(4, 3), nn.Parameter(torch.tensor(0.5))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return self.map(x * 1 if x.dim() == 3 else x)


class Deciding(Counting):
    def forward(self, x: Tensor) -> Tensor:
        return self.map(x * self.scale if self.scale > 0 else x)


class Detached(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


def test_no_error_goes_down_through_a_map_that_detaches_its_input() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), Detached(4, 3))
    network = Network(from_torch(model, areas=1, feedback="transpose", update=SGD()))
    before = copy.deepcopy(network.state_dict())
    network.learn(torch.randn(6, 4), torch.zeros(6, dtype=torch.int64), lr=0.1)
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert changed
    assert not any(name.startswith("body.nodes.0.") for name in changed)


class Noticing(nn.Module):
    """Does something else where torch.fx follows it."""

    def __init__(self, followed: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.map, self.followed = nn.Linear(4, 3), followed

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, fx.Proxy):
            return self.followed(self.map(x))
        if self.followed is torch.relu and x.max() > 100:
            raise ValueError
        return self.map(x).relu()


@pytest.mark.parametrize("followed", [torch.tanh, torch.relu])
def test_a_network_that_asks_whether_it_is_followed_does_as_it_does_alone(followed: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model, x = Noticing(followed), torch.randn(5, 4)
    torch.testing.assert_close(from_torch(model, (4,), areas=1)(x), model(x).detach())


class Padded(nn.Module):
    """Leaves a mask out where it hides nothing, but not while it is followed; cuts its places to the length."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places, self.readout = nn.Embedding(9, 4), nn.Embedding(12, 4), nn.Linear(4, 3)
        self.register_buffer("position_ids", torch.arange(12)[None])

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.table(tokens) + self.places(self.position_ids[:, : tokens.shape[1]])
        hidden = None if not isinstance(mask, fx.Proxy) and mask.all() else mask[:, None, None].bool()
        attended = functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], attn_mask=hidden)
        return self.readout(attended[:, 0])  # type: ignore[no-any-return]


@pytest.mark.parametrize("ends", [(7, 7, 7), (4, 7, 5)])
def test_a_mask_whose_numbers_are_asked_only_where_nobody_follows_may_hide_all_or_some(ends: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, tokens = Padded(), torch.randint(0, 9, (3, 7))
    there = (torch.arange(7) < torch.tensor(ends)[:, None]).long()
    body = from_torch(model, (tokens, there), areas=1)
    for mask in (there, torch.ones_like(there), there.flip(0)):
        torch.testing.assert_close(body((tokens, mask)), model(tokens, mask).detach())


def test_what_a_network_is_refused_for_is_what_it_does_once_it_is_told_that_it_is_followed() -> None:
    class Told(Padded):
        def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
            y = super().forward(tokens, mask)
            return y if y.detach().max() > 9 else -y

    there = torch.ones(3, 7, dtype=torch.int64)
    with pytest.raises(BrodmannError, match=r"decides what to do by the values .* `return y if y.detach\(\)"):
        from_torch(Told(), (there, there), areas=1)


def test_what_is_asserted_of_numbers_decides_nothing_but_to_go_on() -> None:
    model, x = Asserting(20.0), torch.randn(5, 4)
    torch.testing.assert_close(from_torch(model, (4,), areas=1)(x), model(x).detach())
    with pytest.raises(BrodmannError, match="AssertionError: too large"):
        from_torch(Asserting(0.1), (4,), areas=1)
    with pytest.raises(
        BrodmannError, match="Choosing cannot be converted: it decides what to do by the values of the samples"
    ):
        from_torch(Choosing(20.0), (4,), areas=1)


def test_whole_numbers_may_be_written_into_without_gradients() -> None:
    class Offset(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(4, 3)
            self.register_buffer("table", torch.randn(12, 4))

        def forward(self, x: Tensor) -> Tensor:
            places = torch.arange(x.shape[1])
            with torch.no_grad():
                places += 2
            return self.map(x + self.table[places])

    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            spectrum = torch.fft.rfft(self.map(x))
            with torch.no_grad():
                spectrum.mul_(2)
            return torch.fft.irfft(spectrum, n=4)

    model, x = Offset(), torch.randn(3, 5, 4)
    torch.testing.assert_close(from_torch(model, (5, 4), areas=1)(x), model(x).detach())
    with pytest.raises(BrodmannError, match=r"writes under torch.no_grad\(\) into a value that errors go down through"):
        from_torch(Spectral(), (4,), areas=1)  # complex numbers carry errors


def test_what_only_learning_or_other_samples_would_show_is_refused() -> None:
    model = Counting()
    torch.testing.assert_close(from_torch(model, (5, 4), areas=1)(torch.ones(2, 5, 4)), model(torch.ones(2, 5, 4)))
    with pytest.raises(
        BrodmannError, match="Deciding cannot be converted: it decides what to do by the values of the samples"
    ):
        from_torch(Deciding(), (5, 4))
    own = nn.Linear(4, 3)
    own.forward = lambda x: functional.linear(x, own.weight, own.bias).clamp(-5, 5)  # type: ignore[method-assign]
    with pytest.raises(BrodmannError, match="cannot be converted"):
        from_torch(nn.Sequential(own))  # a copy of it would compute with its weights
    hooked = nn.Identity()
    hooked.register_forward_hook(lambda _, __, output: output.clamp(max=6))
    with pytest.raises(BrodmannError, match="Identity has hooks."):
        from_torch(nn.Sequential(nn.Linear(4, 3), hooked))
    first, second = (nn.MultiheadAttention(4, 2, batch_first=True) for _ in range(2))
    second.out_proj.weight = first.out_proj.weight
    with pytest.raises(BrodmannError, match="got weights that are in the model twice."):
        from_torch(Twofold(first, second), (5, 4))


class Twofold(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.readout = first, second, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x, x, x)[0]
        return self.readout(self.second(x, x, x)[0].mean(1))


class LastFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map, self.readout = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.map(x.flip(0)).relu().flip(0).mean(1))


def test_rows_that_do_not_lie_sample_by_sample_are_refused_whatever_the_weights() -> None:
    with pytest.raises(BrodmannError, match="or keeps them in a dimension other than the first"):
        from_torch(LastFirst(), (11, 4))  # as many steps as samples are tried
    model = Windows("windows")
    with torch.no_grad():
        model.map.weight.zero_()
    with pytest.raises(BrodmannError, match="does not hold one row for each sample, or equally many rows for each"):
        from_torch(model, (8, 3), areas=4)


def test_bodies_that_make_masks_of_sizes_go_through_pickle() -> None:
    torch.manual_seed(0)
    for function in (covered, lambda x: x * torch.arange(x.shape[1], device=x.device) * (x.dim() - 1)):
        body = from_torch(Returning(function), areas=1)
        x = torch.randn(7, 4)
        torch.testing.assert_close(pickle.loads(pickle.dumps(body))(x), body(x))


def test_networks_are_converted_in_threads_one_after_the_other() -> None:
    before = torch.arange, nn.Module.__call__
    models = [Positions() for _ in range(6)]
    with ThreadPoolExecutor(3) as pool:
        bodies = list(pool.map(lambda model: from_torch(model, (5, 4), areas=1), models))
    assert before == (torch.arange, nn.Module.__call__)
    x = torch.randn(3, 5, 4)
    for model, body in zip(models, bodies, strict=True):
        torch.testing.assert_close(body(x), model.eval()(x).detach())


class Remembering(nn.Module):
    """Keeps what it makes for the length that came last."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 3)
        self.register_buffer("steps", torch.zeros(1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.steps.shape[0] != x.shape[1]:
            self.steps = torch.arange(x.shape[1], dtype=x.dtype, device=x.device)[:, None]
        return self.map(x + self.steps)


class Caching(Remembering):
    """Keeps it by length."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[int, Tensor] = {}
        self.lengths: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        length = int(x.shape[1])
        if length not in self.cache:
            self.cache[length] = torch.arange(length, device=x.device).to(x.dtype)[:, None]
            self.lengths.append(x.sum())
        return self.map((x + self.cache[length]).relu_())


class CachingBy(nn.Module):
    """Keeps what it makes of a size by what a function makes of the size."""

    def __init__(self, key: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.map, self.key, self.cache = nn.Linear(4, 3), key, dict[Any, Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        key = self.key(x)
        if key not in self.cache:
            self.cache[key] = torch.linspace(0, 1, x.shape[1])[:, None]
        return self.map(x) * self.cache[key]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "key", [lambda x: x.shape[1], lambda x: (x.shape[1], "steps"), lambda x: tuple(x.shape[1:]), lambda x: x.shape[1:]]
)
def test_a_network_may_keep_what_it_makes_by_any_form_of_a_size(key: Any) -> None:
    torch.manual_seed(0)
    model, x = CachingBy(key), torch.randn(6, 5, 4)
    torch.testing.assert_close(from_torch(model, (5, 4), areas=1)(x), model(x).detach())


def test_a_network_that_remembers_sizes_is_followed_and_left_as_it_was() -> None:
    model, x = Remembering(), torch.randn(6, 5, 4)
    body = from_torch(model, (5, 4), areas=2)
    caching = Caching()
    torch.testing.assert_close(from_torch(caching, (5, 4), areas=2)(x), caching(x).detach())
    assert type(caching.cache[5]) is Tensor
    assert model.steps.shape == (1, 1)
    torch.testing.assert_close(body(x), model(x).detach())


def test_what_torch_fx_lends_is_given_back() -> None:
    before = torch.arange, nn.Module.__call__, nn.Module.__getattr__
    with pytest.raises(BrodmannError):
        from_torch(Returning(lambda x: x if x.ndim == 2 and x.max() > 0 else -x))
    assert before == (torch.arange, nn.Module.__call__, nn.Module.__getattr__)


def test_hooks_on_what_holds_layers_are_followed() -> None:
    model, x = hooked(2), torch.randn(5, 4)
    torch.testing.assert_close(from_torch(model, areas=2)(x), model(x).detach())


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


class Holding(nn.Module):
    """Functions that need buffers, in which no error may ask for theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.readout = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("mean", torch.ones(4))
        self.register_buffer("variance", torch.full((4,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(functional.batch_norm(self.map(x), self.mean, self.variance).relu())


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


class Returning(nn.Module):
    """What a function makes of a map."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inside, self.function = nn.Linear(4, 4), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.inside(x))


class Multiplying(nn.Module):
    """What a function makes of a map and of weights that stand by themselves."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.inside, self.function, self.weights = nn.Linear(4, 4), function, nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.inside(x), self.weights)


class Passing(nn.Module):
    """Weights that go through a module without any, and are as many rows as samples are tried."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.weights = module, nn.Parameter(torch.randn(11, 11))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.module(self.weights)


class KeyCache:
    """What a model keeps of what it has read, for the next call."""


class Below(nn.Module):
    """Dropout below an `if`."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.map(x)
        return functional.dropout(x) if self.training else x


class Complex(nn.Module):
    """Rotated pairs, as in positions of language models."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)
        self.register_buffer("turns", torch.polar(torch.ones(2), torch.tensor([0.1, 1.0])))

    def forward(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(self.map(x).unflatten(-1, (2, 2)))
        return torch.view_as_real(pairs * self.turns).flatten(1)


@fx.wrap
def opaque(x: Tensor, weights: Tensor) -> Tensor:
    return x @ weights


class Hidden(nn.Module):
    """Reads a parameter where nobody sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.scale = nn.Linear(4, 4), nn.Parameter(torch.zeros(4))
        self.scales = (self.scale,)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x) * torch.exp(self.scales[0])


Unknown: Any = type("Unknown", (nn.PReLU,), {"__module__": "torch.nn.modules.unknown"})
"""A layer of PyTorch's that this package does not know."""


class Offsets(nn.Module):
    """Bags of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bag(x.flatten(), torch.arange(x.shape[0]) * 4)  # type: ignore[no-any-return]


class OfOnesOwn(nn.Module):
    """A recurrent layer of one's own class, which may do something else than PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.readout = type("Own", (nn.LSTM,), {})(4, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.layer(x)[0][:, -1])


class Later(nn.Module):
    """A layer with parameters such as a later PyTorch may have."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


Later.__module__ = "torch.nn.later"


class Scaled(nn.Linear):
    """A map with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Casting(nn.Linear):
    """A map with a forward of its own that does what PyTorch's does."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.to(self.weight.dtype), self.weight, self.bias)


class DroppingConv(nn.Conv2d):
    """A map that does something else while it learns."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(super().forward(x), 0.5, self.training)


class Odd(nn.ReLU):
    """An activation with a forward of its own, which is no operation on each number."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


class Last(nn.Module):
    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        return x[0][:, -1]


def tied_gru() -> nn.GRU:
    gru = nn.GRU(4, 4, batch_first=True)
    gru.weight_hh_l0 = gru.weight_ih_l0
    return gru


def sharing_with_a_gru() -> nn.Sequential:
    model = nn.Sequential(nn.GRU(4, 4, batch_first=True), Last(), nn.Linear(4, 12), nn.Linear(12, 3))
    model[2].weight = model[0].weight_hh_l0
    return model


def with_one_norm() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.LayerNorm(4))
    model[3].weight = model[1].weight
    return model


def hooked(place: int) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4)))
    model[place].register_forward_hook(lambda _layer, _inputs, output: 2 * output + 1)
    return model


BOTH = nn.BatchNorm1d(4)
IMAGES: dict[str, Any] = {"shape": (1, 8, 8)}


def hooked_cell() -> nn.Sequential:
    cell = nn.GRUCell(4, 4)
    cell.register_forward_hook(lambda _layer, _inputs, output: 2 * output)
    return nn.Sequential(nn.Linear(4, 4), cell)


class Halving(nn.Module):
    """Maps all steps, then half of them, by one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.readout = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.map(self.map(x).tanh()[:, :2]).mean(1))


class Asking(nn.Module):
    """Scores its input by a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.query = nn.Linear(4, 4), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return (self.map(x) @ self.query)[:, None]


class Stateful(nn.Module):
    """Adds what it made of the samples before."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.state = nn.Linear(4, 3), None

    def forward(self, x: Tensor) -> Tensor:
        self.state = self.map(x) if self.state is None else self.map(x) + self.state
        return self.state


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("model", {}, "Expected an nn.Module, got str."),
        (nn.Sequential(nn.ReLU()), {}, "Expected a network with weights to learn, such as those of an nn.Linear"),
        (
            Returning(lambda x: x if x.sum() > 0 else -x),
            {},
            "Returning cannot be converted: it decides what to do by the values of the samples (",
        ),
        (
            Returning(lambda x: x if x.size(0) > 1 else -x),
            {},
            "Returning cannot be converted: it treats a sample that comes alone differently than several,",
        ),
        *(
            (
                nn.Sequential(Returning(function), zeros()),
                {},
                "it treats a sample that comes alone differently than several, as with `if len(x) > 1`.",
            )
            for function in (
                lambda x: 2.0 * x if x.shape[0] != 1 else x,
                lambda x: x if x.shape[0] != 1 else x.detach(),
                lambda x: x.masked_fill(x.abs() > 9, 0.0) if len(x.shape) == 2 and x.shape[0] > 1 else x,
                lambda x: x + 0.0 * x[1] if x.shape[0] != 1 else x,
                lambda x: doubled(x) if x.shape[0] != 1 else x,
                lambda x: x if x.squeeze().dim() == 2 else 2.0 * x,
                lambda x: copied(x),
            )
        ),
        *(
            (Returning(function), {}, "clone it first, or compose")
            for function in (
                lambda x: parted(x, lambda y: y.unbind(1)),
                lambda x: parted(x, lambda y: torch.broadcast_tensors(y, y[:, :1])),
                lambda x: spread_and_written(x),
            )
        ),
        (DropConnect(), {}, "through a dropout, which would be lost."),
        (Matrices(), {"shape": torch.ones(3, 5, dtype=torch.int64), "areas": 1}, "einsum cannot be converted here"),
        *(
            (Returning(function), {}, "overwrites a value that others read")
            for function in (
                lambda x: spread_in_place(x, lambda mask: mask.mul_(2.0)),
                lambda x: spread_in_place(x, lambda mask: mask.masked_fill_(x > 9.0, 0.0)),
            )
        ),
        (
            Returning(lambda x: written(x, lambda y: y[:2])),
            {},
            "z[0] = 0.5`). Instead, clone it first, or compose its layers with brodmann.Sequential, Residual and "
            "Graph.",
        ),
        (
            Returning(lambda x: (x, None)),
            {},
            "Expected a network that returns a tensor of real numbers, or a tuple or a dictionary",
        ),
        (
            Returning(lambda x: x.argmax(1)),
            {},
            "Expected a network that returns a tensor of real numbers, or a tuple or a dictionary",
        ),
        (Returning(lambda x: x.fill_(1.0)), {}, "fill_ cannot be converted: it overwrites its input."),
        (
            nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)),
            {},
            "got (11,) for 11 samples: keep the last dimension, of one output, as in x[:, None].",
        ),
        (
            Returning(lambda x: (x, x.square().mean())),
            {},
            "got () for 11 samples: return it for each sample, as in x.square().mean(1, keepdim=True), or",
        ),
        (Asking(), {}, "matmul cannot be converted: it multiplies by a parameter of shape (4,). Expected one of two"),
        (
            Multiplying(lambda x, w: x @ w.t().softmax(0)),
            {},
            "matmul cannot be converted here, since it takes parameters",
        ),
        (
            Multiplying(lambda x, w: x.matmul(torch.relu(w))),
            {},
            "expected a product of one value and one parameter, linear in both.",
        ),
        (Multiplying(lambda x, w: x + w @ w), {}, "matmul cannot be converted here, since it takes parameters"),
        (
            Multiplying(lambda x, w: torch.addmm(w[0], x, w, alpha=2)),
            {},
            "addmm cannot be converted here, since it takes parameters",
        ),
        (
            Multiplying(lambda x, w: x @ torch.cat([w[:2], torch.ones(2, 4)])),
            {},
            "matmul cannot be converted here, since",
        ),
        *(
            (Multiplying(function), {}, "cannot be converted here, since it takes parameters")
            for function in (
                lambda x, w: x @ torch.linalg.qr(w)[0],
                lambda x, w: torch.linalg.matmul(x, w.relu()),
                lambda x, w: torch.linalg.lstsq(w, x.t())[0].t(),
                lambda x, w: torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(w[0]), 4),
                lambda x, w: torch.fft.irfft(torch.fft.rfft(x)[:, :2] * torch.view_as_complex(w[:2, :2]), 4),
            )
        ),
        (Passing(nn.Tanh()), {"shape": (11,)}, "matmul cannot be converted here, since it takes parameters"),
        (Complex(), {}, "A network that holds complex numbers cannot be converted: hold their real and imaginary"),
        (
            nn.Sequential(nn.Embedding(4, 4, scale_grad_by_freq=True), nn.Linear(4, 4)),
            {"shape": torch.tensor([[1], [2]]), "routing": "layer"},
            "leave scale_grad_by_freq out.",
        ),
        (
            Returning(lambda x: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.1)),
            {},
            "set dropout_p to 0, or write the attention out with an nn.Dropout, as models of Hugging Face do",
        ),
        (
            Returning(lambda x: {"logits": x, "past": KeyCache()}),
            {},
            "Returning cannot be converted: it returns a cache of what it has read. Let it return none, as",
        ),
        (Below(), {}, "in training mode it calls other functions for dropout and the like, which would be lost"),
        (
            Multiplying(lambda x, w: opaque(x, w.tanh())),
            {},
            "opaque cannot be converted here, since it takes parameters",
        ),
        (Multiplying(lambda x, w: torch.cdist(x, w)), {}, "cdist cannot be converted here, since it takes parameters"),
        (Hidden(), {}, "read it in `forward` by its name, as in self.scale."),
        (Language(), {"shape": (5,)}, "give a few samples of whole numbers instead of a shape."),
        (Language(), {"shape": torch.ones(2, 5, dtype=torch.int64)}, "choose routing='layer'"),
        (
            nn.Linear(4, 4),
            {"shape": torch.ones(4)},
            "Expected a few samples, (samples, ...), got a tensor of shape (4,).",
        ),
        (
            nn.Sequential(nn.MultiheadAttention(4, 2, add_bias_kv=True)),
            {"shape": (3, 4)},
            "nn.MultiheadAttention cannot be converted: expected one without add_bias_kv and add_zero_attn.",
        ),
        (
            nn.Sequential(nn.EmbeddingBag(4, 4, padding_idx=0)),
            {"shape": (3,)},
            "cannot be converted: leave padding_idx",
        ),
        (Offsets(), {"shape": torch.ones(3, 4, dtype=torch.int64), "areas": 1}, "pass bags as (samples, bag)."),
        (
            nn.Sequential(nn.Embedding(4, 4, max_norm=1.0), nn.Linear(4, 4)),
            {"shape": (3,)},
            "its max_norm changes its weights at every call.",
        ),
        (
            nn.Sequential(BOTH, nn.ReLU(), BOTH),
            {"shape": (4,)},
            "got weights that are in the model twice. One layer may be called",
        ),
        (
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)),
            {},
            "it mixes the samples of a batch at inference too: let it track its running statistics",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2, affine=True, track_running_stats=True)),
            IMAGES,
            "statistics other than those of the sample: leave track_running_stats out.",
        ),
        (
            Returning(lambda x: 2.0 * x if x.requires_grad else x),
            {},
            "Returning cannot be converted: it decides what to do by whether a value requires a gradient (",
        ),
        (nn.Sequential(nn.Linear(4, 4), Later()), {}, "of layers with parameters, only maps and norms can be."),
        (
            nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 4)),
            {},
            "does not accept its input, (4,) for each sample: check shape=(4,).",
        ),
        (
            nn.Conv2d(1, 2, 3),
            {},
            "name the shape of a sample, such as shape=(3, 32, 32), or give a few samples if",
        ),
        (
            nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, groups=2), nn.Flatten()),
            {"shape": (2, 8, 8), "feedback": "kolen-pollack-noisy"},
            "At '1': KolenPollack cannot send errors down through a Product, such as a convolution of several groups",
        ),
        (with_one_norm(), {}, "got weights that are in the model twice."),
        (sharing_with_a_gru(), {"shape": (3, 4)}, "got weights that are in the model twice."),
        (nn.Sequential(tied_gru(), Last()), {"shape": (3, 4)}, "got weights that are in the model twice."),
        (hooked(0), {}, "Linear has hooks, which would be lost."),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(36, 2)),
            {"shape": (8, 8)},
            "check shape=(8, 8)",
        ),
        (
            nn.Sequential(nn.Linear(4, 4), nn.Flatten(0)),
            {},
            "returns (samples, ..., outputs), got (44,) for 11 samples.",
        ),
        (hooked_cell(), {"shape": (4,)}, "GRUCell(4, 4) cannot be converted: GRUCell has hooks, which would be lost."),
        (Halving(), {"shape": (4, 3), "feedback": "direct"}, "equal shapes under direct feedback."),
        (Stateful(), {"shape": (4,)}, "Stateful cannot be converted: it answers the same samples differently the"),
        (OfOnesOwn(), {"shape": (3, 4)}, "lstm cannot be converted here, since it takes parameters"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, return_indices=True)), IMAGES, "one tensor of samples."),
        (
            nn.Sequential(nn.LazyLinear(4)),
            {"shape": (4,)},
            "The network has no weights yet: call it once",
        ),
        (
            nn.Sequential(nn.Linear(4, 4, device="meta")),
            {},
            "The network has no weights yet: call it once",
        ),
        (nn.Sequential(nn.Linear(4, 4, dtype=torch.complex64)), {}, "Expected a network with weights to learn"),
        (nn.Sequential(weight_norm(nn.Linear(4, 4))), {}, "torch.nn.utils.parametrize.remove_parametrizations."),
        (nn.Sequential(nn.Linear(4, 4), Unknown()), {}, "of layers with parameters, only maps and norms can be."),
        (nn.Linear(4, 4), {"shape": 4}, "Expected the shape of a sample, such as (784,) or (3, 32, 32), got 4."),
        (nn.Linear(4, 4), {"shape": (0,)}, "Expected shape to be a whole number of at least 1, got 0."),
        (
            nn.Linear(4, 4),
            {"gated": True, "shared": "off"},
            "A gate without a shared part would scale the weights given as start: leave",
        ),
        (nn.Linear(4, 4).double(), {"storage": "bfloat16"}, "A separate storage dtype works only with float32"),
        (nn.Linear(4, 4), {"routing": "none"}, "Unknown routing 'none'"),
        (nn.Linear(4, 4), {"batch_norms": "none"}, "Unknown batch_norms 'none'. Choose one of: batch, running."),
    ],
)
def test_what_cannot_be_converted_is_named(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BrodmannError) as error:
        from_torch(model, **options)
    assert message in str(error.value)


def test_a_start_must_fit() -> None:
    halves = nn.Linear(4, 3)
    for start, options, message in (
        (nn.Linear(3, 4), {}, r"an nn.Linear with weights of shape \(3, 4\), got one with \(4, 3\)"),
        (nn.LazyLinear(3), {}, r"shape \(3, 4\), got one that is not initialised"),
        (torch.zeros(3, 4), {}, "an nn.Linear, got Tensor"),
        (Scaled(4, 3), {}, "an nn.Linear, got Scaled"),
        (nn.Linear(4, 3, device="meta"), {}, "not on the meta device, got torch.float32 on meta"),
        (
            halves,
            {"gated": True, "shared": "off"},
            "A gate without a shared part would scale the weights given as start",
        ),
        (
            copy.deepcopy(halves).double(),
            {"storage": torch.bfloat16},
            "A separate storage dtype works only with float32",
        ),
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


def test_conversion_takes_no_notice_of_autocast() -> None:
    model = dense()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        body = from_torch(model, areas=1)
    x = torch.randn(4, 6)
    torch.testing.assert_close(body(x), model(x).detach())


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


@torch.jit.script
def scaled(x: Tensor, factor: float) -> Tensor:
    return x * factor / x.size(-1)


class Asking(nn.Module):
    """Asks what came, as Python, NumPy and compiled functions do."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.readout = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, mask: Any = None) -> Tensor:
        h = self.map(x) / numpy.sqrt(x.shape[-1])
        if isinstance(h, (list, Tensor)) and not isinstance(x.shape[1], Tensor) and not isinstance(mask, Tensor):
            h = scaled(h, 2.0)
        for step in range(x.shape[1]):
            h = h + step
        return self.readout(h.relu())  # type: ignore[no-any-return]


def test_what_a_model_asks_python_and_numpy_is_answered_and_compiled_functions_are_followed() -> None:
    torch.manual_seed(0)
    model, x = Asking(), torch.randn(5, 4)
    network = Network(from_torch(model, (4,), areas=1, feedback="transpose", update=SGD()), nn.MSELoss(), lr=0.1)
    torch.testing.assert_close(network(x), model(x).detach())
    y = torch.randn(5, 3)
    for loss in [network.learn(x, y) for _ in range(3)][:1]:
        torch.testing.assert_close(loss, nn.functional.mse_loss(model(x), y).detach())
    assert isinstance(x, Tensor)  # Python's own again
    torch.testing.assert_close(scaled(x, 2.0), x / 2)


class Kinds(nn.Module):
    """Asks its parts what they are, and how large."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.added = nn.Embedding(9, 4), nn.Parameter(torch.zeros(5, 4))
        self.read, self.attend = nn.LSTM(4, 4, batch_first=True), nn.MultiheadAttention(4, 2, batch_first=True)
        self.readout = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.table(x) * math.sqrt(self.table.embedding_dim) + (
            self.added if isinstance(self.table, nn.Embedding) else 0.0
        )
        z = z * self.attend.num_heads + self.attend(z, z, z)[0]
        state = torch.ones(1, x.shape[0], 4, dtype=z.dtype)
        y, (h, c) = self.read(z, (state, state) if isinstance(self.read, nn.LSTM) else state)
        return self.readout(y[:, -1] + (h * c)[0] + torch.cat([h, c])[1] + torch.sigmoid(c)[0])  # type: ignore[no-any-return]


@pytest.mark.usefixtures("double")
def test_parts_that_are_written_out_are_still_what_they_were_to_the_model() -> None:
    torch.manual_seed(0)
    model, x, y = Kinds(), torch.randint(0, 9, (8, 5)), torch.randint(0, 3, (8,))
    network = Network(from_torch(model, x, areas=1, feedback="transpose", update=SGD()), lr=0.1)
    learn_beside(network, model, torch.optim.SGD(model.parameters(), lr=0.1), [(x, y)] * 3)


class TimeMajor(nn.Module):
    """Maps rows that lie step by step, behind a map of zeros, which makes all of them alike."""

    def __init__(self) -> None:
        super().__init__()
        self.zeros, self.map, self.readout = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        nn.init.zeros_(self.zeros.weight)
        nn.init.zeros_(self.zeros.bias)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        z = torch.tanh(self.zeros(x)).transpose(0, 1).flatten(0, 1)
        return self.readout(self.map(z).tanh().unflatten(0, (t, n)).transpose(0, 1)).mean(1)  # type: ignore[no-any-return]


def apart(model: nn.Module) -> nn.Module:
    """Lets two maps share their memory, and not their parameter."""
    model[2].weight.data = model[0].weight.data  # type: ignore[index, union-attr]
    return model


def with_hook(kind: nn.Module) -> nn.Module:
    """Returns a network with a hook on one of its parts."""
    kind.register_forward_hook(lambda module, given, returned: 2.0 * returned)
    return nn.Sequential(nn.Linear(4, 4), kind)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            TimeMajor(),
            "does not hold one row for each sample, or equally many rows for each, one sample after the other.",
        ),
        (
            apart(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))),
            "share the same memory, and would be separated",
        ),
        (nn.Sequential(nn.PReLU(device="meta")), "The network has no weights yet: call it once"),
        (
            nn.Sequential(nn.Linear(4, 4).apply(lambda part: nn.init.constant_(part.weight, math.nan))),
            "hold NaN or infin",
        ),
        (with_hook(nn.ReLU()), "ReLU has hooks, which would be lost."),
        (with_hook(nn.PReLU()), "PReLU has hooks, which would be lost."),
    ],
)
def test_what_would_be_wrong_in_silence_is_refused(model: nn.Module, message: str) -> None:
    shape = (5, 4) if isinstance(model, TimeMajor) else (4,)
    with pytest.raises(BrodmannError) as raised:
        from_torch(model, shape, areas=4)
    assert message in str(raised.value)


class Adapting(nn.Module):
    """An adapter that begins with zeros, where a question about what came is answered by yes."""

    def __init__(self, ask: Callable[[Any, nn.Module], bool]) -> None:
        super().__init__()
        self.ask, self.inner, self.table = ask, nn.Linear(4, 3), nn.Embedding(3, 3)
        self.down, self.up = nn.Linear(4, 2, bias=False), nn.Linear(2, 3, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y + self.up(self.down(x)) if self.ask(x, self.table) else y


@pytest.mark.parametrize(
    "ask",
    [
        lambda x, table: isinstance(x, Tensor | list),
        lambda x, table: isinstance(x, (int, (list, Tensor))),
        lambda x, table: isinstance(table, nn.Linear | nn.Embedding),
        lambda x, table: torch.is_tensor(x),
    ],
)
def test_questions_of_what_came_are_answered_whatever_their_form(ask: Any) -> None:
    network = Network(from_torch(Adapting(ask), (4,), areas=2))
    assert len(network.area_layers()) == 3


@pytest.mark.parametrize("ask", [lambda x, table: type(x) is Tensor, lambda x, table: type(table) is nn.Embedding])
def test_what_autograd_would_move_and_nobody_follows_is_refused(ask: Any) -> None:
    with pytest.raises(BrodmannError, match="Adapting cannot be converted: it computes with 'down.weight', but"):
        from_torch(Adapting(ask), (4,))


def test_a_model_whose_outputs_have_no_derivative_is_converted_as_it_is() -> None:
    model, x = Returning(lambda x: (2.0 * x).detach()), torch.randn(5, 4)
    torch.testing.assert_close(from_torch(model, areas=1)(x), model(x).detach())
