"""Oracle: graphs of several inputs and outputs learn as if the inputs came side by side."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import SGD, Adam, AreaLinear, Graph, MeanSquaredError, Network, Recomputed, Sequential
from brodmann.several import parts_in
from brodmann.telemetry import alignment, area_usage
from brodmann.training import Schedule, Trainer, evaluate, outputs_of

from .parts import SAMPLES, halves, learner, pairs


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


def test_the_use_of_areas_is_counted_for_several_inputs() -> None:
    network = learner()
    (usage, *_) = area_usage(network, pairs()[0])
    assert sum(usage.counts) == 30
