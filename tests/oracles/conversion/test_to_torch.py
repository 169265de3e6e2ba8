"""Back to PyTorch: what a body has learned, in a copy of the model that it was made of."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import SGD, Adam, AreaLinear, BrodmannError, Network, Residual, from_torch, mlp, to_torch
from brodmann.conversion.to_torch import BITS

from ..models import CLASSES, MODELS, batches, dense, described, learn_beside, samples


def taught(network: Network, name: str, steps: int = 3) -> Network:
    """Lets a network learn from random samples."""
    for batch in batches(name, steps):
        network.learn(*batch)
    return network


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_and_statistic_becomes_what_autograd_makes_of_it(name: str) -> None:
    torch.manual_seed(1)
    model = MODELS[name][0]()
    before = copy.deepcopy(model.state_dict())
    body = from_torch(model, described(name), areas=1, feedback="transpose", update=SGD())
    network, trained = Network(body, lr=0.1), copy.deepcopy(model)
    learn_beside(network, trained, torch.optim.SGD(trained.parameters(), lr=0.1), batches(name, 3))
    found = to_torch(network, model, described(name))
    assert type(found) is type(model)
    assert found.training
    for key, value in trained.state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], value, rtol=0, atol=1e-9, msg=key)
    assert any(not torch.equal(value, before[key]) for key, value in found.state_dict().items())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Reader(nn.Module):
    """Reads sequences both ways, on two levels."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.read = kind(4, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.said = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.said(self.read(x)[0][:, -1])  # type: ignore[no-any-return]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_so_do_those_of_recurrent_layers(kind: Any) -> None:
    torch.manual_seed(1)
    model = Reader(kind)
    network = Network(from_torch(model, (5, 4), areas=1, feedback="transpose", update=SGD()), lr=0.1)
    trained = copy.deepcopy(model)
    x, y = torch.randn(16, 5, 4), torch.randint(0, CLASSES, (16,))
    gradients = torch.autograd.grad(functional.cross_entropy(trained(x), y), list(trained.parameters()))
    network.learn(x, y)
    found = to_torch(network, model, (5, 4))
    for ours, theirs, gradient in zip(found.parameters(), trained.parameters(), gradients, strict=True):
        torch.testing.assert_close(ours.data, theirs.data - 0.1 * gradient, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("wrap", [nn.DataParallel, partial(torch.compile, backend="eager")])
@pytest.mark.parametrize("whole", [True, False])
def test_what_wraps_a_model_or_a_part_of_it_makes_no_difference(wrap: Any, whole: bool) -> None:
    torch.manual_seed(0)
    model: Any = dense()
    if whole:
        wrapped = wrap(model)
    else:
        wrapped = nn.Sequential(*(wrap(part) if isinstance(part, nn.Linear) else part for part in model))
    network = Network(from_torch(wrapped, (6,), areas=1, feedback="transpose", update=SGD()), lr=0.1)
    before = copy.deepcopy(wrapped)
    learn_beside(network, model, torch.optim.SGD(model.parameters(), lr=0.1), batches("dense", 3))
    for ours, theirs in zip(to_torch(network, before, (6,)).parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["images", "attending", "language", "batched"])
@pytest.mark.parametrize("shared", ["learned", "frozen", "off"])
def test_the_parts_of_one_area_become_one_map(name: str, shared: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name][0]().eval()
    body = from_torch(model, described(name), areas=1, shared=shared, feedback="kolen-pollack", update=Adam())
    network = taught(Network(body, lr=0.01), name)
    found, x = to_torch(network, model, described(name)), samples(name, 20)
    assert not found.training
    assert not torch.allclose(model(x.clone()), network(x))
    torch.testing.assert_close(found(x.clone()).detach(), network(x), rtol=1e-4, atol=1e-5)


def test_tables_that_are_readouts_too_stay_one_tensor() -> None:
    torch.manual_seed(0)
    model = MODELS["language"][0]()
    network = taught(Network(from_torch(model, described("language"), areas=1)), "language")
    found, x = to_torch(network, model, described("language")), samples("language", 9)
    torch.testing.assert_close(found(x).detach(), network(x))
    assert len(list(found.parameters())) == len(list(model.parameters()))
    again = Network(from_torch(found, described("language"), areas=1))
    torch.testing.assert_close(again(x), network(x))


def test_numbers_of_more_than_one_digit_come_back() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1 << 9, 1 << (BITS - 8), bias=False), nn.ReLU(), nn.Linear(1 << (BITS - 8), 2))
    network = Network(from_torch(model, areas=1), lr=0.1)
    network.learn(torch.randn(4, 1 << 9), torch.tensor([0, 1, 1, 0]))
    found = to_torch(network, model)
    for layer, at in zip((layer for _, layer in network.area_layers()), (0, 2), strict=True):
        torch.testing.assert_close(found[at].weight.data, layer.as_linear().weight.data, rtol=0, atol=0)


def test_half_precision_and_weights_stored_so() -> None:
    torch.manual_seed(0)
    model, x, y = dense().bfloat16(), torch.randn(16, 6), torch.randint(0, CLASSES, (16,))
    for storage in (None, "bfloat16"):
        network = Network(from_torch(model, areas=1, storage=storage), lr=0.1)
        network.learn(x, y)
        found = to_torch(network, model)
        assert {parameter.dtype for parameter in found.parameters()} == {torch.bfloat16}
        torch.testing.assert_close(found(x.bfloat16()).float().detach(), network(x), rtol=0.1, atol=0.1)


class Partly(nn.Module):
    """A map, and what nothing learns: of other kinds of numbers, in other orders, shown several times."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.norm, self.unread = nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(4, 3).double()
        self.register_buffer("scale", torch.full((3,), 2.0))
        self.register_buffer("same", torch.ones(1).expand(3))
        self.register_buffer("limit", torch.tensor([torch.iinfo(torch.int64).max, 2654435761]))
        self.register_buffer("exact", torch.tensor(1.0 / 3.0, dtype=torch.float64))
        self.register_buffer("column", torch.ones(3, 2, dtype=torch.float64)[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.map(x)) * self.scale * self.same  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_learned_in_another_dtype_comes_in_that_of_the_model(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).to(dtype)
    other = torch.float64 if dtype == torch.float32 else torch.float32
    network = Network(from_torch(model, (4,), areas=1), lr=0.1).to(other)
    network.learn(torch.randn(8, 4, dtype=other), torch.arange(8) % 3)
    found = to_torch(network, model)
    assert {parameter.dtype for parameter in found.parameters()} == {dtype}
    x = torch.randn(6, 4)
    torch.testing.assert_close(found(x.to(dtype)).float(), network(x.to(other)).float())


def test_what_no_layer_learns_stays_to_the_bit() -> None:
    model = Partly()
    model.norm.num_batches_tracked.fill_(2**40 + 5)
    network = Network(from_torch(model, (4,), areas=1))
    network.learn(torch.randn(8, 4), torch.randint(0, 3, (8,)))
    found, before = to_torch(network, model, (4,)).state_dict(), model.state_dict()
    learned = {"map.weight", "map.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}
    for key, value in found.items():
        assert value.dtype == before[key].dtype
        assert torch.equal(value, before[key]) is not (key in learned or key == "norm.num_batches_tracked"), key
    assert found["norm.num_batches_tracked"] == 2**40 + 6


def test_a_training_goes_on_as_if_nobody_had_looked() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3))
    losses = []
    for looks in (False, True):
        torch.manual_seed(0)
        network = Network(from_torch(model, areas=1))
        for _ in range(3):
            loss = network.learn(torch.randn(8, 4), torch.randint(0, 3, (8,)))
            if looks:
                to_torch(network, model)
        losses.append(float(loss))
    assert losses[0] == losses[1]


@pytest.mark.usefixtures("double")
def test_tensors_in_any_order_of_memory_come_back() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    columns = torch.rand(6, 2)
    model[1].running_mean, model[1].running_var = columns[:, 0], columns[:, 1]
    model[0].weight = nn.Parameter(torch.randn(4, 6).t())
    network = Network(from_torch(model, areas=1, feedback="transpose", update=SGD()), lr=0.1)
    x, y = torch.randn(16, 4), torch.randint(0, 3, (16,))
    trained = copy.deepcopy(model)
    gradients = torch.autograd.grad(functional.cross_entropy(trained(x), y), list(trained.parameters()))
    network.learn(x, y)
    found = to_torch(network, model)
    for ours, theirs, gradient in zip(found.parameters(), model.parameters(), gradients, strict=True):
        torch.testing.assert_close(ours.data, theirs.data - 0.1 * gradient, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1].running_var, trained[1].running_var)


class TwoOutputs(nn.Module):
    """Returns one output twice."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.above = nn.Linear(6, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.above(self.below(x).relu())
        return y, 2.0 * y


def test_errors_say_what_goes_back() -> None:
    model = MODELS["batched"][0]()
    several = Network(from_torch(model, MODELS["batched"][1], areas=2))
    with pytest.raises(
        BrodmannError, match=r"A layer of 2 areas has a map for each of them.*areas=1\) can be converted back"
    ):
        to_torch(several, model, MODELS["batched"][1])
    folded = Network(from_torch(model, MODELS["batched"][1], areas=1, batch_norms="running"))
    with pytest.raises(BrodmannError, match=r'not made from such a model: expected one .* with batch_norms="batch"'):
        to_torch(folded, model, MODELS["batched"][1])
    plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5))
    with pytest.raises(BrodmannError, match="Where it learned nothing more, the model has"):
        to_torch(Network(mlp(6, 5, width=8, areas=1)), nn.Sequential(*list(plain), nn.ReLU(), nn.Linear(5, 3)))
    with pytest.raises(BrodmannError, match="Expected a Network, or a body of layers, got Sequential"):
        to_torch(dense(), dense())
    with pytest.raises(BrodmannError, match=r"Expected an nn\.Module"):
        to_torch(Network(from_torch(dense(), areas=1)), 3)  # type: ignore[type-var]
    with pytest.raises(BrodmannError, match="the model does not return the same"):
        to_torch(Residual(AreaLinear(4, 4, areas=1)), nn.Linear(4, 4))
    with pytest.raises(BrodmannError, match="the model does not return the same"):
        to_torch(Network(mlp(6, CLASSES, width=8, areas=1)), TwoOutputs(), (6,))
    other = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    network = Network(from_torch(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)), areas=1))
    with pytest.raises(BrodmannError, match="the model does not return the same"):
        to_torch(network, other)


def test_a_network_that_was_composed_by_hand_goes_into_a_model_of_its_form() -> None:
    torch.manual_seed(0)
    network = Network(mlp(6, CLASSES, width=9, areas=1))
    x = torch.randn(16, 6)
    network.learn(x, torch.randint(0, CLASSES, (16,)))
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, CLASSES))
    torch.testing.assert_close(to_torch(network, model)(x).detach(), network(x))


@pytest.mark.parametrize("shared", ["learned", "frozen", "off"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_map_of_an_area_is_what_its_samples_see(shared: str, bias: bool) -> None:
    torch.manual_seed(0)
    layer = AreaLinear(5, 4, areas=3, shared=shared, bias=bias)
    network, x = Network(layer, lr=0.5), torch.randn(40, 5)
    for _ in range(3):
        network.learn(x, torch.randint(0, 4, (40,)))
    assert layer.router is not None
    area = layer.router(x).area
    for row, chosen in zip(x, area.tolist(), strict=True):
        torch.testing.assert_close(layer.as_linear(chosen)(row).detach(), network(row[None])[0])
    assert len(area.unique()) > 1
    assert (layer.as_linear(0).bias is None) is not bias
    with pytest.raises(BrodmannError, match="A layer of 3 areas has one map for each of them: name an area"):
        layer.as_linear()
    with pytest.raises(BrodmannError, match="Expected an area from 0 to 2, got 3"):
        layer.as_linear(3)
    with pytest.raises(BrodmannError, match="what an area adds is scaled for each sample"):
        AreaLinear(5, 4, areas=3, gated=True).as_linear(1)
