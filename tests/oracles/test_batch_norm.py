"""Batch norms: PyTorch's numbers, derivatives and statistics, alone and in networks that are converted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import (
    SGD,
    Adam,
    AreaLinear,
    BatchNorm,
    BrodmannError,
    Context,
    DivergenceError,
    Local,
    Network,
    Rates,
    Recomputed,
    Sequential,
    Transpose,
    from_torch,
    to_torch,
)
from brodmann.layers import Constant
from brodmann.telemetry import alignment


def norms(network: nn.Module) -> list[BatchNorm]:
    return [part for part in network.modules() if isinstance(part, BatchNorm)]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("shape", [(9, 4), (3, 5, 4), (2, 3, 5, 4)])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.1, 1.0, 0.0, None])
def test_it_does_what_that_of_pytorch_does(shape: tuple[int, ...], affine: bool, momentum: float | None) -> None:
    torch.manual_seed(0)
    theirs = nn.BatchNorm1d(4, eps=1e-3, momentum=momentum, affine=affine)
    theirs(torch.randn(7, 4))
    if affine:
        nn.init.normal_(theirs.weight), nn.init.normal_(theirs.bias)
    ours = BatchNorm(4, update=SGD() if affine else None, start=theirs)
    for _ in range(3):
        x = (3.0 * torch.randn(shape) + 100.0).requires_grad_()
        error = torch.randn(shape)
        expected = theirs(x.reshape(-1, 4)).reshape(shape)
        below, *moves = torch.autograd.grad(expected, (x, *theirs.parameters()), error)
        with torch.no_grad():
            for parameter, move in zip(theirs.parameters(), moves, strict=True):
                parameter -= 0.1 * move
        y, trace = ours.trace(x.detach(), Context())
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(ours.learn(trace, error, Context(lr=0.1)), below)
        held = {"mean": theirs.running_mean, "variance": theirs.running_var, "batches": theirs.num_batches_tracked}
        for name, value in held.items():
            torch.testing.assert_close(getattr(ours, name), value)
        if ours.gain is not None and ours.shift is not None:
            torch.testing.assert_close(ours.gain.value, theirs.weight.detach())
            torch.testing.assert_close(ours.shift.value, theirs.bias.detach())
    x = torch.randn(shape)
    torch.testing.assert_close(ours(x), theirs.eval()(x.reshape(-1, 4)).reshape(shape).detach())


@pytest.mark.usefixtures("double")
def test_a_new_one_is_a_new_one_of_pytorch() -> None:
    ours, theirs, x = BatchNorm(4, update=Adam()), nn.BatchNorm1d(4), torch.randn(9, 4)
    torch.testing.assert_close(ours.trace(x, Context())[0], theirs(x).detach())
    assert str(ours.gain) == str(Constant(torch.ones(4), Adam()))
    assert BatchNorm(4).gain is None


def test_at_inference_every_sample_stands_alone() -> None:
    layer, x = BatchNorm(4, update=SGD()), torch.randn(9, 4)
    layer.learn(layer.trace(x, Context())[1], torch.randn(9, 4), Context(lr=0.1))
    torch.testing.assert_close(layer(x), torch.cat([layer(sample) for sample in x.split(1)]))


@pytest.mark.usefixtures("double")
def test_single_values_are_normed_by_the_running_statistics_which_stay() -> None:
    torch.manual_seed(0)
    layer = BatchNorm(4, update=SGD(), start=None)
    layer.learn(layer.trace(torch.randn(9, 4), Context())[1], torch.randn(9, 4), Context(lr=0.1))
    before = copy.deepcopy(layer)
    x, error = torch.randn(1, 4).requires_grad_(), torch.randn(1, 4)
    y, trace = layer.trace(x.detach(), Context())
    torch.testing.assert_close(y, before(x).detach())
    (expected,) = torch.autograd.grad(before(x), x, error)
    torch.testing.assert_close(layer.learn(trace, error, Context(lr=0.1)), expected)
    assert torch.equal(layer.mean, before.mean)
    assert torch.equal(layer.variance, before.variance)
    assert int(layer.batches) == 1
    assert not torch.equal(layer.shift.value, before.shift.value)  # factors and summands learn from one


def small(update: Any = None) -> Network:
    torch.manual_seed(0)
    layers = (AreaLinear(4, 6, areas=3, feedback=None), BatchNorm(6, update=update or SGD()), Local(nn.ReLU()))
    return Network(Sequential(*layers, AreaLinear(6, 3, areas=3)), lr=0.1)


def test_nothing_moves_without_a_rate_nor_in_a_step_that_is_refused() -> None:
    network = small()
    before = copy.deepcopy(network.state_dict())
    x, y = torch.randn(9, 4), torch.arange(9) % 3
    network.learn(x, y, lr=0.0)
    with pytest.raises(DivergenceError):
        network.learn(x.index_fill(0, torch.tensor([2]), torch.nan), y)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    network.learn(x, y)
    assert int(norms(network)[0].batches) == 1


def test_a_norm_is_frozen_by_its_name() -> None:
    network = small()
    before = copy.deepcopy(norms(network)[0].state_dict())
    network.rates = Rates(layers={"layers.1": 0.0})
    network.learn(torch.randn(9, 4), torch.arange(9) % 3)
    assert all(map(torch.equal, norms(network)[0].state_dict().values(), before.values()))
    names = ["layers.1", "layers.1.gain", "layers.1.shift"]
    assert [name for name, _ in network.learning_layers() if "layers.1" in name] == names


def test_what_is_known_of_errors_is_of_norms_by_the_batch() -> None:
    torch.manual_seed(0)
    layers = (AreaLinear(4, 6, areas=1, feedback=None), Local(nn.Tanh()), BatchNorm(6, update=SGD()))
    network = Network(Sequential(*layers, AreaLinear(6, 3, areas=1, feedback=Transpose)))
    for batch in (9, 1):
        found = alignment(network, 3.0 * torch.randn(batch, 4) + 2.0, torch.arange(batch) % 3)
        assert [row.cosine for row in found] == pytest.approx([1.0, 1.0], abs=1e-5)
        assert [row.norm_ratio for row in found] == pytest.approx([1.0, 1.0], abs=1e-5)


def test_computed_again_it_is_the_same() -> None:
    x, y = torch.randn(9, 4), torch.arange(9) % 3
    plain, again = small(Adam()), small(Adam())
    again.body.layers[1] = Recomputed(again.body.layers[1])
    for _ in range(3):
        assert torch.equal(plain.learn(x, y), again.learn(x, y))
    assert torch.equal(plain(x), again(x))


def test_a_norm_of_what_comes_to_the_network_gets_its_error() -> None:
    network = Network(Sequential(BatchNorm(4, update=SGD()), AreaLinear(4, 3)), lr=0.1)
    network.learn(torch.randn(9, 4), torch.arange(9) % 3)
    (norm,) = norms(network)
    assert int(norm.batches) == 1
    assert not torch.equal(norm.shift.value, torch.zeros(4))
    with pytest.raises(BrodmannError, match="sends no error down, but layers below it learn"):
        Sequential(BatchNorm(4), AreaLinear(4, 3, feedback=None))


class Activated(nn.BatchNorm2d):
    """A batch norm and an activation in one module, which calls a function, as those of timm do."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.num_batches_tracked.add_(1)
        mean, variance = self.running_mean, self.running_var
        return functional.batch_norm(
            x, mean, variance, self.weight, self.bias, self.training, self.momentum, self.eps
        ).relu()


class ByFunction(nn.Module):
    """A batch norm of tensors that the network holds, without factors."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)
        self.register_buffer("mean", torch.ones(4))
        self.register_buffer("variance", torch.full((4,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(self.map(x).tanh(), self.mean, self.variance, training=self.training, momentum=0.3)


class Kept(nn.Sequential):
    """Keeps its batch norms from training mode, as those who train on do."""

    def train(self, mode: bool = True) -> Kept:
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.train(False)
        return self


class KeptWhereCalled(nn.Module):
    """Puts its norm into inference mode where it calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.norm, self.readout = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.norm.eval()(self.map(x).tanh()))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "sequences": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.Tanh(), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(16, 3)),
        (2, 6),
    ),
    "volumes": (
        lambda: nn.Sequential(nn.Conv3d(1, 4, 2), nn.Tanh(), nn.BatchNorm3d(4), nn.Flatten(), nn.Linear(32, 3)),
        (1, 3, 3, 3),
    ),
    "synchronised": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.SyncBatchNorm(5), nn.Linear(5, 3)),
        (4,),
    ),
    "activated": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 2), nn.Tanh(), Activated(4), nn.Flatten(), nn.Linear(16, 3)),
        (1, 3, 3),
    ),
    "by function": (lambda: nn.Sequential(ByFunction(), nn.Linear(4, 3)), (4,)),
    "kept": (lambda: Kept(nn.Linear(4, 5), nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, 3)), (4,)),
    "kept where called": (KeptWhereCalled, (4,)),
    "of what comes": (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)), (4,)),
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_converted_it_learns_as_under_autograd(name: str, statistics: str) -> None:
    build, shape = MODELS[name]
    torch.manual_seed(0)
    model = build().train()
    if name == "synchronised":  # which PyTorch computes on graphics processors alone
        model[2].forward = partial(nn.BatchNorm1d.forward, model[2])
    for _ in range(4):
        model(2.0 * torch.randn(20, *shape) + 1.0)
    kept = "kept" in name
    for part in model.modules():
        if kept and isinstance(part, nn.BatchNorm1d):
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    body = from_torch(model, shape, areas=1, feedback="transpose", update=SGD(), batch_norms=statistics)
    assert [norm.fixed for norm in norms(body)] == ([kept] if statistics == "batch" else [])
    network = Network(body, lr=0.1)
    if statistics == "running":
        model.eval()
    theirs = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(16, *shape), torch.arange(16) % 3
    torch.testing.assert_close(network(x), copy.deepcopy(model).eval()(x).detach())
    losses = []
    for _ in range(4):
        loss = functional.cross_entropy(model(x), y)
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        losses.append(loss.item())
    # As at inference a norm is a factor and a summand, or in the map below: these move otherwise than its own.
    steps = 4 if statistics == "batch" else 1
    ours = [float(network.learn(x, y)) for _ in range(steps)]
    assert ours == pytest.approx(losses[:steps], abs=1e-10)
    if steps > 1:
        torch.testing.assert_close(network(x), model.eval()(x).detach())


def test_networks_with_norms_go_through_files(tmp_path: Path) -> None:
    network, x, y = small(Adam()), torch.randn(9, 4), torch.arange(9) % 3
    network.learn(x, y)
    network.save(tmp_path / "network.safetensors")
    again = Network.load(tmp_path / "network.safetensors", body=small(Adam()).body)
    for _ in range(2):
        assert torch.equal(network.learn(x, y), again.learn(x, y))
    assert torch.equal(network(x), again(x))
    assert network.active_parameters() == small().active_parameters()
    assert "BatchNorm(\n        6, momentum=0.1, eps=1e-05" in str(network)


class Applied(nn.Module):
    """A function of a map, a norm, and tensors for one."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.map, self.readout = function, nn.Linear(4, 4), nn.Linear(4, 3)
        self.norm, self.gain = nn.BatchNorm1d(4, affine=False), nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.function(self, self.map(x)))

    def statistics(self, always: bool = False) -> tuple[Tensor | None, Tensor | None]:
        used = always or not self.training
        return (self.norm.running_mean, self.norm.running_var) if used else (None, None)

    def by_function(self, x: Tensor, *weights: Tensor | None) -> Tensor:
        return functional.batch_norm(x, self.norm.running_mean, self.norm.running_var, *weights, self.training)


def test_norms_of_training_alone_are_told_of() -> None:
    def only_there(model: Any, x: Tensor) -> Tensor:
        return functional.batch_norm(x, None, None, training=True) if model.training else x

    with pytest.warns(UserWarning, match="What Applied does only in training mode is left out"):
        from_torch(Applied(only_there), (4,))


class Even(nn.Module):
    """Pads images to an even width, so that sizes are asked for and buffers followed."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, (0, 1)) if x.shape[-1] % 2 else x


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("below", [Even, nn.Identity])
def test_a_norm_of_another_class_counts_its_batches_which_is_no_difference_of_modes(
    below: Any, recwarn: pytest.WarningsRecorder
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(below(), nn.Conv2d(1, 4, 2), Activated(4), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    body = from_torch(model, (1, 3, 3), areas=1, feedback="transpose", update=SGD())
    network, before = Network(body, lr=0.1), copy.deepcopy(model)
    theirs = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        x, y = torch.randn(16, 1, 3, 3), torch.arange(16) % 3
        theirs.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        theirs.step()
        network.learn(x, y)
    assert not recwarn.list
    found = to_torch(network, before, (1, 3, 3)).state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-9)


class Frozen(nn.Module):
    """Keeps a body from training mode, dropout in it too, as those do who train a readout on top of it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.BatchNorm1d(6), nn.Dropout(0.5))
        self.layer, self.readout = nn.GRU(6, 4, 2, batch_first=True, dropout=0.5), nn.Linear(4, 3)

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.body.eval()
        self.layer.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.layer(self.body(x)[:, None])[0][:, -1])


class Averaging(nn.BatchNorm1d):
    """A mean over all batches whose share it computes, as norms of timm do."""

    def forward(self, x: Tensor) -> Tensor:
        share = 0.0
        if self.training:
            self.num_batches_tracked.add_(1)
            share = 1.0 / float(self.num_batches_tracked)
        mean, variance = self.running_mean, self.running_var
        return functional.batch_norm(x, mean, variance, self.weight, self.bias, self.training, share, self.eps)


class Auxiliary(nn.Module):
    """Has a head for training alone, with a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.norm, self.readout = nn.Linear(4, 5), Averaging(5, momentum=None), nn.Linear(5, 3)
        self.beside = nn.Sequential(nn.Linear(5, 5), Averaging(5, momentum=None))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.map(x).tanh())
        if self.training:
            self.last = self.beside(h)
        return self.readout(h)


def keeping_statistics() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, 3))
    model[2].track_running_stats = False
    return model


@pytest.mark.usefixtures("double")
@pytest.mark.filterwarnings("ignore:What .* does only in training mode")
@pytest.mark.parametrize(
    "build",
    [
        Frozen,
        Auxiliary,
        keeping_statistics,
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), Averaging(5, momentum=None), nn.Linear(5, 3)),
    ],
)
def test_what_models_keep_or_compute_for_their_norms_is_heeded(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = build().train()
    network = Network(from_torch(model, (4,), areas=1, feedback="transpose", update=SGD()), lr=0.1)
    theirs = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        x, y = 2.0 * torch.randn(16, 4) + 1.0, torch.arange(16) % 3
        loss = functional.cross_entropy(model(x), y)
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        assert float(network.learn(x, y)) == pytest.approx(loss.item(), abs=1e-10)
    torch.testing.assert_close(network(x), model.eval()(x).detach())


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_norms_without_summands_are_converted(statistics: str) -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    model[0].bias = model[2].bias = None
    model(torch.randn(20, 4) + 1.0)
    network, x = Network(from_torch(model, (4,), areas=1, batch_norms=statistics)), torch.randn(9, 4)
    torch.testing.assert_close(network(x), model.eval()(x).detach())
    network.learn(x, torch.arange(9) % 3)


COMPUTED = "batch_norm cannot be converted if its statistics, gains or shifts are computed or differ in training mode"
SHARED = "Expected layers with weights of their own, got weights that are in the model twice."


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda m, x: m.by_function(x, 2 * m.gain, m.gain), COMPUTED),
        (lambda m, x: m.by_function(x, m.gain, None), COMPUTED),
        (
            lambda m, x: functional.batch_norm(x, *m.statistics(), training=m.training),
            COMPUTED,
        ),
        (
            lambda m, x: functional.batch_norm(x, *m.statistics(True), training=m.training, eps=0.1 + m.training),
            COMPUTED,
        ),
        (lambda m, x: m.norm(x) + m.norm(x.tanh()), SHARED),
        (lambda m, x: m.by_function(m.by_function(x, None, None).tanh(), None, None), SHARED),
    ],
)
def test_norms_that_cannot_be_converted_are_named(function: Callable[[Any, Tensor], Tensor], message: str) -> None:
    with pytest.raises(BrodmannError) as error:
        from_torch(Applied(function), (4,))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(BatchNorm, 0), "Expected features to be a whole number of at least 1, got 0."),
        (partial(BatchNorm, 4, momentum=1.5), "Expected momentum to be at most 1, got 1.5."),
        (partial(BatchNorm, 4, momentum=-0.5), "Expected momentum to be a number of at least 0, got -0.5."),
        (partial(BatchNorm, 4, fixed=1), "Expected fixed to be True or False, got 1."),
        (partial(BatchNorm, 4, eps=0.0), "Expected eps to be a number above 0, got 0.0."),
        (partial(BatchNorm, 4, update="adam"), "Expected update to be a rule such as Adam(), got 'adam'."),
        (
            lambda: BatchNorm(4, start=nn.BatchNorm1d(5)),
            "Expected a batch norm of 4 features that tracks its running statistics to start from, got BatchNorm1d(5, ",
        ),
        (
            lambda: BatchNorm(4, start=nn.BatchNorm1d(4, track_running_stats=False)),
            "that tracks its running statistics to start from",
        ),
        (lambda: BatchNorm(4, start=nn.LayerNorm(4)), "to start from, got LayerNorm((4,)"),
        (
            lambda: BatchNorm(4)(torch.randn(9, 5)),
            "Expected an input of shape (batch, ..., 4) and torch.float32, got (9, 5) torch.float32.",
        ),
        (lambda: small().learn(torch.randn(9, 4).double(), torch.arange(9) % 3), "float64"),
    ],
)
def test_what_does_not_fit_is_told(make: Callable[[], object], message: str) -> None:
    with pytest.raises(BrodmannError) as error:
        make()
    assert message in str(error.value)
