"""Oracle: networks of several inputs and outputs learn as under autograd, and as if the inputs came side by side."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import (
    SGD,
    Adam,
    AreaLinear,
    BrodmannError,
    Graph,
    KolenPollack,
    MeanSquaredError,
    Network,
    Recomputed,
    Residual,
    Sequential,
    from_torch,
    mlp,
)
from brodmann.several import called_with, of_each, parts_in
from brodmann.telemetry import alignment, area_usage
from brodmann.training import Schedule, Trainer, evaluate, outputs_of

from .cases import BESIDE_AUTOGRAD

SAMPLES = 12


class Denoiser(nn.Module):
    """Takes a sample and how noisy it is; returns a mean and the logarithm of a variance."""

    def __init__(self) -> None:
        super().__init__()
        self.sample, self.time, self.middle = nn.Linear(6, 8), nn.Linear(1, 8), nn.Linear(8, 8)
        self.mean, self.spread = nn.Linear(8, 6), nn.Linear(8, 6)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.middle(torch.relu(self.sample(x) + self.time(noise.unsqueeze(-1)))))
        return self.mean(hidden), self.spread(hidden)


class Captions(nn.Module):
    """An image and a word; two heads, one of which the other reads, and the image as one layer sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
        self.words = nn.Embedding(7, 5)
        self.kind, self.place = nn.Linear(3 * 9 + 5, 4), nn.Linear(4, 2)
        self.pixels = nn.Parameter(0.1 * torch.randn(50, 4))

    def forward(self, image: Tensor, word: Tensor) -> dict[str, Tensor]:
        seen = self.norm(self.look(image))
        kind = self.kind(torch.cat((torch.relu(seen).flatten(1), self.words(word)), -1))
        kind = kind + image.flatten(1) @ self.pixels
        return {"kind": kind, "place": self.place(torch.relu(kind)), "seen": seen}


class Translator(nn.Module):
    """A sequence is read while another one is written; a mask says which steps there are."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 8)
        self.read = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.query, self.key, self.value, self.say = (nn.Linear(8, size) for size in (8, 8, 8, 9))

    def forward(self, source: Tensor, there: Tensor, target: Tensor) -> Tensor:
        memory = self.read(self.words(source))
        scores = self.query(self.words(target)) @ self.key(memory).transpose(1, 2)
        scores = scores.masked_fill(~there[:, None], -torch.inf)
        return self.say(scores.softmax(-1) @ self.value(memory))


def denoising() -> tuple[nn.Module, Any, Any, Callable[[Any, Any], Tensor]]:
    def loss(output: Any, target: Tensor) -> Tensor:
        mean, spread = output
        return ((mean - target).square() * (-spread).exp() + spread).mean()

    return Denoiser(), (torch.randn(SAMPLES, 6), torch.rand(SAMPLES)), torch.randn(SAMPLES, 6), loss


def captioning() -> tuple[nn.Module, Any, Any, Callable[[Any, Any], Tensor]]:
    def loss(output: Any, target: Any) -> Tensor:
        found = functional.cross_entropy(output["kind"], target["kind"])
        return found + functional.mse_loss(output["place"], target["place"]) + output["seen"].square().mean()

    x = {"image": torch.randn(SAMPLES, 2, 5, 5), "word": torch.randint(0, 7, (SAMPLES,))}
    target = {"kind": torch.randint(0, 4, (SAMPLES,)), "place": torch.randn(SAMPLES, 2)}
    return Captions(), x, target, loss


def translating() -> tuple[nn.Module, Any, Any, Callable[[Any, Any], Tensor]]:
    source, target = torch.randint(0, 9, (SAMPLES, 5)), torch.randint(0, 9, (SAMPLES, 4))
    there = torch.arange(5) < torch.randint(1, 6, (SAMPLES, 1))

    def loss(output: Tensor, wanted: Tensor) -> Tensor:
        return functional.cross_entropy(output.flatten(0, 1), wanted.flatten())

    return Translator(), (source, there, target), target.roll(-1, 1), loss


class Sequences(nn.Module):
    """PyTorch's own transformer, whose padding comes as an input."""

    def __init__(self, *, norm_first: bool = False) -> None:
        super().__init__()
        self.words, self.say = nn.Embedding(9, 8), nn.Linear(8, 9)
        self.transformer = nn.Transformer(
            8, 2, 2, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first
        )

    def forward(self, source: Tensor, padding: Tensor, target: Tensor) -> Tensor:
        later = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        masks = {"tgt_mask": later, "src_key_padding_mask": padding, "memory_key_padding_mask": padding}
        return self.say(self.transformer(self.words(source), self.words(target), **masks))


def transforming(*, norm_first: bool = False) -> tuple[nn.Module, Any, Any, Callable[[Any, Any], Tensor]]:
    _, (source, there, target), wanted, loss = translating()
    return Sequences(norm_first=norm_first), (source, ~there, target), wanted, loss


TASKS = {
    "transforming": transforming,
    "transforming, norm first": partial(transforming, norm_first=True),
    "denoising": denoising,
    "captioning": captioning,
    "translating": translating,
}


def channels_last(output: Any) -> Any:
    return of_each(lambda part: part.movedim(1, -1) if part.ndim == 4 else part, output)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("task", TASKS)
@BESIDE_AUTOGRAD
def test_networks_of_several_inputs_and_outputs_learn_as_under_autograd(task: str, rule: Any, optimiser: Any) -> None:
    torch.manual_seed(0)
    model, x, target, loss = TASKS[task]()
    called_with(model, x)  # for batch norms
    model.eval()
    network = Network(from_torch(model, x, areas=1, feedback="transpose", update=rule), loss, lr=0.01)
    model.train()
    theirs = optimiser(model.parameters(), lr=0.01)
    for _ in range(4):
        theirs.zero_grad()
        value = loss(called_with(model, x), target)
        value.backward()
        theirs.step()
        assert float(network.learn(x, target)) == pytest.approx(value.item(), abs=1e-10)
    expected = of_each(Tensor.detach, channels_last(called_with(model.eval(), x)))
    # Biases below a batch norm have no gradient but rounding, which Adam divides by its epsilon.
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("task", TASKS)
def test_they_learn_with_areas_by_feedback_of_their_own_and_go_through_files(task: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x, target, loss = TASKS[task]()
    called_with(model, x)
    convert = partial(from_torch, model, x, areas=3, routing="layer")
    network = Network(convert(), loss)
    losses = [float(network.learn(x, target)) for _ in range(40)]
    assert losses[-1] < 0.9 * losses[0]
    network.save(tmp_path / "network.safetensors")
    other = Network.load(tmp_path / "network.safetensors", body=convert(), loss=loss)
    assert torch.equal(other.learn(x, target), network.learn(x, target))
    assert all(abs(row.cosine) <= 1 + 1e-6 for row in alignment(network, x, target))


@pytest.mark.parametrize("batch_norms", ["batch", "running"])
def test_a_batch_norm_that_is_an_output_leaves_the_map_below_it_to_itself(batch_norms: str) -> None:
    """Both are returned: folded into one, the other would be lost."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            raw = self.map(x)
            return raw, self.norm(raw)

    class Normed(Both):
        def forward(self, x: Tensor) -> Any:
            return [super().forward(x)[1]]

    for model in (Both(), Normed()):
        model(5.0 + torch.randn(20, 4))
        x = torch.randn(6, 4)
        body = from_torch(model, areas=1, batch_norms=batch_norms)
        expected = of_each(Tensor.detach, tuple(model.eval()(x)))
        torch.testing.assert_close(body(x), expected)


def halves(rule: Any, **form: Any) -> Graph:
    """Two inputs meet; two outputs, one above the other."""
    torch.manual_seed(3)
    common = {"areas": 3, "update": rule}
    seen = {"left": "left", "right": "right"} if form else {"left": "first", "right": "second"}
    cut: dict[str, Any] = {
        "first": (lambda x: x[:, :4], "input"),
        "second": (lambda x: x[:, 4:], "input"),
    }
    nodes: dict[str, Any] = {
        "low": (AreaLinear(4, 6, feedback=None, **common), seen["left"]),
        "beside": (AreaLinear(3, 6, feedback=None, **common), seen["right"]),
        "sum": (lambda x, y: torch.tanh(x + y), "low", "beside"),
        "middle": (AreaLinear(6, 5, feedback=KolenPollack, **common), "sum"),
        "bent": (torch.tanh, "middle"),
        "top": (AreaLinear(5, 2, feedback=KolenPollack, **common), "bent"),
    }
    joined = {"out": (lambda x, y: torch.cat((x, y), -1), "middle", "top")}
    return Graph(nodes, **form) if form else Graph({**cut, **nodes, **joined})


@pytest.mark.parametrize("rule", [SGD(momentum=0.5), Adam()])
def test_several_tensors_are_one_tensor_cut_into_parts(rule: Any) -> None:
    x, target = torch.randn(SAMPLES, 7), torch.randn(SAMPLES, 7)
    one = Network(halves(rule), lambda output, wanted: (output - wanted).square().mean(), lr=0.01)
    parts, wanted = x.split((4, 3), -1), target.split((5, 2), -1)

    def loss(output: Any, wanted: Any) -> Tensor:
        return (torch.cat(parts_in(output), -1) - torch.cat(parts_in(wanted), -1)).square().mean()

    tuples = Network(halves(rule, inputs=("left", "right"), outputs=("middle", "top")), loss, lr=0.01)
    names = {"first": "middle", "then": "top"}
    named = Network(halves(rule, inputs=["left", "right"], outputs=names), loss, lr=0.01)
    for _ in range(5):
        value = one.learn(x, target)
        torch.testing.assert_close(tuples.learn(list(parts), wanted), value)
        by_name = {"right": parts[1], "left": parts[0]}  # whose order does not matter
        torch.testing.assert_close(named.learn(by_name, dict(zip(names, wanted, strict=True))), value)
    torch.testing.assert_close(torch.cat(tuples(parts), -1), one(x))
    assert {name: part.shape for name, part in named(parts).items()} == {"first": (SAMPLES, 5), "then": (SAMPLES, 2)}


def test_an_output_that_the_loss_leaves_out_has_no_error() -> None:
    form: dict[str, Any] = {"inputs": ("left", "right"), "outputs": ("middle", "top", "middle")}
    x = torch.randn(SAMPLES, 4), torch.randn(SAMPLES, 3)
    network = Network(halves(SGD(), **form), lambda output, target: (output[0] - target).square().mean(), lr=0.1)
    hidden = torch.randn(SAMPLES, 5)
    before = network.body.nodes["top"](hidden)
    target = torch.randn(SAMPLES, 5)
    loss = [float(network.learn(x, target)) for _ in range(3)]
    assert loss == sorted(loss, reverse=True)
    assert torch.equal(network.body.nodes["top"](hidden), before)


@pytest.mark.usefixtures("double")
def test_one_node_may_be_returned_twice_and_gets_the_sum_of_both_errors() -> None:
    x, target = (torch.randn(SAMPLES, 4), torch.randn(SAMPLES, 3)), torch.randn(SAMPLES, 5)
    form: dict[str, Any] = {"inputs": ("left", "right")}
    losses: dict[int, Callable[[Any, Tensor], Tensor]] = {
        2: lambda output, wanted: (output[0] - wanted).square().mean() + output[1].square().mean() + output[2].mean(),
        1: lambda output, wanted: (output[0] - wanted).square().mean() + output[0].square().mean() + output[1].mean(),
    }
    twice, once = (
        Network(halves(SGD(), outputs=("middle",) * count + ("top",), **form), loss, lr=0.1)
        for count, loss in losses.items()
    )
    for _ in range(3):
        torch.testing.assert_close(twice.learn(x, target), once.learn(x, target))


def pairs(count: int = 30) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    x = torch.randn(count, 4), torch.randn(count, 3)
    return x, (torch.randn(count, 5), x[0][:, :2] - x[1][:, :2])


def learner() -> Network:
    def loss(output: Any, target: Any) -> Tensor:
        return functional.mse_loss(output[0], target[0]) + functional.mse_loss(output[1], target[1])

    return Network(halves(SGD(), inputs=("left", "right"), outputs=("middle", "top")), loss, lr=0.1)


class Items(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> Any:
        x, target = pairs()
        return {"left": x[0][index], "right": x[1][index]}, [part[index] for part in target]


def test_the_trainer_takes_several_tensors_in_memory_or_as_items(tmp_path: Path) -> None:
    schedule = Schedule(epochs=3, batch_size=8, patience=2)
    runs = [
        Trainer(learner(), pairs(), pairs(10), schedule, folder=tmp_path).run(),
        Trainer(learner(), Items(), pairs(10), schedule).run(),
        Trainer(learner(), Items(), pairs(10), schedule, transform=lambda x: (x["left"], x["right"])).run(),
    ]
    histories = [[{**row, "seconds": 0} for row in run.history] for run in runs]
    assert histories[0] == histories[1] == histories[2]
    assert set(runs[0].history[0]) == {"epoch", "train_loss", "validation_loss", "seconds"}
    resumed = Trainer(learner(), pairs(), pairs(10), schedule, folder=tmp_path)
    resumed.resume()
    assert resumed.progress.step == runs[0].step
    network = learner()
    x, target = pairs()
    whole, parted = network(x), outputs_of(network, x, rows=7)
    torch.testing.assert_close(parted, whole)
    assert evaluate(network, x, target, rows=7) == {"loss": pytest.approx(float(network.loss(whole, target)))}


def test_a_chain_may_begin_with_several_inputs_and_a_node_may_be_named_alone() -> None:
    form: dict[str, Any] = {"inputs": ("left", "right"), "outputs": "top"}
    nodes = {"top": (lambda x, y: torch.cat((x, y), -1), "left", "right")}
    network = Network(Sequential(Graph(nodes, **form), AreaLinear(7, 2, areas=1)), MeanSquaredError(), lr=0.1)
    x, (_, target) = pairs()
    losses = [float(network.learn(x, target)) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    single = Graph({"same": (nn.Tanh(), "image")}, inputs=("image",))
    for given in (x[0], (x[0],), {"image": x[0]}):
        assert torch.equal(single(given), x[0].tanh())


def test_padding_is_what_it_is_while_learning() -> None:
    """At inference alone PyTorch's encoder returns 0 there, by a faster way."""

    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)

        def forward(self, x: Tensor, padding: Tensor) -> Tensor:
            return self.encoder(x, src_key_padding_mask=padding)

    torch.manual_seed(0)
    model, x = Reading(), torch.randn(6, 5, 8)
    padding = torch.arange(5) >= torch.tensor([[5], [3], [1], [4], [2], [5]])
    body = from_torch(model, (x, padding), areas=1)
    torch.testing.assert_close(body((x, padding)), model(x, padding).detach())
    assert torch.backends.mha.get_fastpath_enabled()


class Changing(nn.Module):
    """A loss that puts other things into what it is handed."""

    def forward(self, output: Any, target: Any) -> Tensor:
        output["first"], target["then"] = output["first"].sigmoid(), 2.0 * target["then"]
        output["sum"] = (output["first"] - target["first"]).square().mean()
        return output["sum"] + (output.pop("then") - target.pop("then")).square().mean()


def test_a_loss_may_change_what_it_is_handed() -> None:
    form: dict[str, Any] = {"inputs": ("left", "right"), "outputs": {"first": "middle", "then": "top"}}

    def plain(output: Any, target: Any) -> Tensor:
        first = (output["first"].sigmoid() - target["first"]).square().mean()
        return first + (output["then"] - 2.0 * target["then"]).square().mean()

    x, (first, then) = pairs()
    target = {"first": first, "then": then}
    networks = [Network(halves(SGD(), **form), loss, lr=0.1) for loss in (Changing(), plain)]
    for _ in range(3):
        one, other = (network.learn(x, target) for network in networks)
        torch.testing.assert_close(one, other)
        one, other = (evaluate(network, x, target)["loss"] for network in networks)
        assert one == pytest.approx(other)
        assert len(alignment(networks[0], x, target)) == 4
    assert torch.equal(target["then"], then)


def test_a_head_that_has_nothing_to_learn_stops_no_training() -> None:
    """Errors of other layers are not compared with that of one head, and a head alone is no silent network."""
    torch.manual_seed(0)
    nodes = {name: (AreaLinear(4, 2, areas=1, feedback=None), "input") for name in ("ready", "learning")}

    def loss(output: Any, target: Tensor) -> Tensor:
        return 1e-20 * output[0].square().sum() + functional.mse_loss(output[1], target)

    network = Network(Graph(nodes, outputs=("learning", "ready")), lambda output, target: loss(output[::-1], target))
    x = torch.randn(40, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(network, (x, x[:, :2]), None, Schedule(epochs=3, batch_size=8)).run()


def test_what_recomputes_its_traces_takes_several_inputs() -> None:
    x, target = pairs()
    one = learner()
    other = Network(Recomputed(learner().body), one.loss, lr=0.1)
    for _ in range(3):
        assert torch.equal(one.learn(x, target), other.learn(x, target))


def test_one_tensor_may_come_and_go_in_a_tuple_or_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.readout = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, *, x: Tensor) -> dict[str, Tensor]:
            return {"y": self.readout(self.map(x).relu())}

    x, model = torch.randn(8, 4), Named()
    network = Network(from_torch(model, {"x": x}, areas=1, feedback="direct"), lambda output, _: output["y"].mean())
    for given in (x, {"x": x}, (x,)):
        torch.testing.assert_close(network(given)["y"], model(x=x)["y"].detach())
    network.learn({"x": x}, x)
    chain = from_torch(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), ((4,),), areas=1)
    assert torch.equal(chain((x,)), chain(x))


def test_two_inputs_are_two_where_one_tensor_was_shown_for_both() -> None:
    class Difference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(4, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.map(x - 2.0 * y)

    model, x, y = Difference(), torch.randn(6, 4), torch.randn(6, 4)
    body = from_torch(model, (x, x), areas=1)
    torch.testing.assert_close(body((x, y)), model(x, y).detach())


def test_the_use_of_areas_is_counted_for_several_inputs() -> None:
    network = learner()
    (usage, *_) = area_usage(network, pairs()[0])
    assert sum(usage.counts) == 30


def twofold() -> Graph:
    return Graph({"a": (nn.Tanh(), "input"), "b": (nn.ReLU(), "input")}, outputs=("a", "b"))


class Weighing(nn.Module):
    def __init__(self, returned: Callable[..., Any]) -> None:
        super().__init__()
        self.map, self.returned = nn.Linear(4, 3), returned

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.returned(self.map(x), y)


def convert(returned: Callable[..., Any] = lambda x, y: x, samples: Any = ((4,), (3,)), **options: Any) -> None:
    from_torch(Weighing(returned), samples, **{"areas": 1, **options})


NETWORK = (
    "Expected a network that returns a tensor of real numbers, or a tuple or a dictionary of such tensors, each of "
    "them with a name, as in `a, b = x.chunk(2)`; got {} among them."
)
IN_ORDER = "Expected a tuple of 2 tensors for this Graph, left, right, or a dictionary with these names, got "


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: convert(lambda x, y: (x, None)), NETWORK.format("a NoneType")),
        (lambda: convert(lambda x, y: (x, (x, x))), NETWORK.format("a tuple")),
        (lambda: convert(lambda x, y: {"x": x, "y": y}), NETWORK.format("one of its inputs")),
        (lambda: convert(lambda x, y: (x, x.argmax(-1))), NETWORK.format("torch.int64")),
        (lambda: convert(lambda x, y: (x, x.sum())), "Expected a network that returns (samples, ..., outputs), got ()"),
        (
            lambda: convert(samples=(4,)),
            "Weighing.forward(x: 'Tensor', y: 'Tensor') does not accept these samples, missing a required argument: "
            "'y': give a tuple of shapes or samples in the order of its arguments, or a dictionary of samples with "
            "the arguments' names as keys.",
        ),
        (
            lambda: convert(samples={"x": (4,), 3: (3,)}),
            "Expected the keys of a dictionary of samples to be names of the model's arguments, got x",
        ),
        (
            lambda: convert(samples=(torch.randn(5, 4), torch.randn(6, 3))),
            "Expected the same number of samples in all tensors, got 5, 6.",
        ),
        (
            lambda: convert(areas=4),
            "Several inputs have no direction to route them by: choose routing='layer', where every layer routes its "
            "own input, or areas=1.",
        ),
        (
            lambda: convert(lambda x, y: (x, x + y), feedback="direct"),
            "Direct feedback needs one output, but the model has 2: choose another feedback path.",
        ),
        (lambda: learner()(pairs()[0][0]), f"{IN_ORDER}1."),
        (lambda: learner()({"left": pairs()[0][0]}), f"{IN_ORDER}left."),
        (lambda: learner()(dict(zip("ab", pairs()[0], strict=True))), f"{IN_ORDER}a, b."),
        (
            lambda: learner()((pairs()[0][0], 3)),
            "Expected x[1] to be a tensor, got int: convert it with torch.",
        ),
        (
            lambda: learner().learn(pairs()[0], (pairs()[1][0], pairs()[1][1][:3])),
            "Expected as many targets as samples, got 3 for 30.",
        ),
        (
            lambda: learner().learn((pairs()[0][0], pairs()[0][1][:3]), pairs()[1]),
            "Expected the same number of samples in all tensors, got 3, 30.",
        ),
        (
            lambda: Network(learner().body).learn(*pairs()),
            "CrossEntropy takes one output and one target, got 2 and 2: give the network a loss of your own, such as "
            "lambda output, target: cross_entropy(output[0], target[0]) + mse_loss(output[1], target[1]).",
        ),
        (
            lambda: Network(learner().body, nn.L1Loss()).learn(pairs()[0], pairs()[1][0]),
            "L1Loss takes one output and one target, got 2 and 1",
        ),
        (
            lambda: halves(SGD(), inputs=("left", "left")),
            "Expected inputs of a Graph to be a tuple of different names",
        ),
        (
            lambda: halves(SGD(), inputs="left"),
            "Expected inputs of a Graph to be a tuple of different names, got 'left'.",
        ),
        (
            lambda: halves(SGD(), inputs=("left", "right"), outputs=("top", "left")),
            "Expected outputs of this Graph to be among low, beside, sum, middle, bent, top, got top, left.",
        ),
        (lambda: halves(SGD(), inputs=("left", "right"), outputs=()), "middle, bent, top, got none."),
        (
            lambda: halves(SGD(), inputs=("left", "right"), outputs="middle"),
            "Nothing reads top in this Graph: leave out nodes that nothing reads.",
        ),
        (
            lambda: halves(SGD(), inputs=("left", "right", "low")),
            "A node of a Graph cannot be called 'low': choose another name.",
        ),
        (lambda: Graph({"a": (nn.Tanh(), "x")}, inputs=None), "to be a tuple of different names, got None."),  # type: ignore[arg-type]
        (
            lambda: Graph({"inside": (twofold(), "input"), "out": (nn.Tanh(), "inside")})(pairs()[0][0]),
            "Node 'inside' returns 2 values, but other nodes read it as one: make a node for each",
        ),
        (
            lambda: Network(Residual(learner().body)).learn(*pairs()),
            "Expected a residual body to return the shape of its shortcut, tuple, got tuple",
        ),
        (
            lambda: convert(lambda x, y: ()),
            "one or more tensors of real numbers, got one that returns none.",
        ),
        (lambda: convert(lambda x, y: x.chunk(2, 1)), NETWORK.format("a tuple")),
        (lambda: learner()((pairs()[0][0], pairs()[0][1][:1])), "Expected the same number of samples in all tensors"),
        (lambda: learner()(tuple(part.numpy() for part in pairs()[0])), "Expected x[0] to be a tensor, got ndarray"),
        (
            lambda: convert(samples=((4,), numpy.zeros((3, 3)))),
            "Expected a shape, or samples as a tensor, got",
        ),
        (
            lambda: evaluate(Network(learner().body), *pairs()),
            "CrossEntropy takes one output and one target, got 2 and 2",
        ),
        (
            lambda: alignment(Network(learner().body), *pairs()),
            "CrossEntropy takes one output and one target, got 2 and 2",
        ),
        (
            lambda: Network(mlp(4, 2)).learn(pairs()[0][0], (torch.zeros(30).long(),)),
            "CrossEntropy takes one output and one target, got 1 and 1: give the target itself, not a tuple or",
        ),
        (
            lambda: Trainer(learner(), pairs(), transform=lambda x: x[0][:3]).run(),
            "Expected transform to return the 8 samples of the batch, got (3, 4).",
        ),
        (
            lambda: Trainer(learner(), ((pairs()[0][0], pairs()[0][1] / 0), pairs()[1])),
            "The training samples hold NaN or infinite values: remove or fill them first.",
        ),
    ],
)
def test_what_does_not_fit_is_named(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(BrodmannError) as raised:
        wrong()
    assert message in str(raised.value)
