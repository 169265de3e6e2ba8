"""The loss of an epoch and of an evaluation: the mean over all that counts, whatever the loss sums or leaves out."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from brodmann import (
    SGD,
    BinaryCrossEntropy,
    BrodmannError,
    CrossEntropy,
    DivergenceError,
    MeanSquaredError,
    Network,
    SumOfSquares,
    mlp,
)
from brodmann.training import Trainer, evaluate
from brodmann.training.schedule import Schedule

from .parts import AS_IT_IS, blobs, network

SUMMED = functools.partial(torch.nn.functional.cross_entropy, reduction="sum")


@pytest.mark.parametrize("loss", [SumOfSquares(), torch.nn.CrossEntropyLoss(reduction="sum"), SUMMED])
def test_losses_that_sum_are_reported_per_sample(loss: Any) -> None:
    x, target = blobs()
    learner = network(loss, lr=0.0)
    whole = evaluate(learner, x, target)["loss"]
    assert whole == pytest.approx(float(learner.loss(learner(x), target, None)) / 90)
    assert whole == pytest.approx(evaluate(learner, x[:30].repeat(3, 1), target[:30].repeat(3))["loss"], rel=0.5)
    row = Trainer(learner, (x, target), (x, target), Schedule(1, 7)).run().history[-1]
    assert row["train_loss"] == pytest.approx(row["validation_loss"], rel=1e-5)


def test_a_loss_that_sums_is_reported_as_a_mean_by_the_weights_of_samples() -> None:
    x, target = blobs()
    learner, weight = network(SumOfSquares(), lr=0.0), torch.where(torch.arange(90) % 3 == 0, 4.0, 0.0)
    weighed = evaluate(learner, x, target, weight)["loss"]
    assert weighed == pytest.approx(evaluate(learner, x[::3], target[::3])["loss"], rel=1e-5)
    row = Trainer(learner, (x, target, weight), (x, target, weight), Schedule(1, 7)).run().history[-1]
    assert row["train_loss"] == pytest.approx(weighed, rel=1e-5)
    assert row["validation_loss"] == pytest.approx(weighed, rel=1e-5)
    assert evaluate(learner, x, target, torch.zeros(90))["loss"] == 0.0
    outputs, steps, wanted = Network(AS_IT_IS, SumOfSquares()), torch.randn(6, 5, 2), torch.randn(6, 5, 2)
    whole = evaluate(outputs, steps, wanted)  # of sequences, all of whose targets count alike
    assert evaluate(outputs, steps, wanted, torch.ones(6, 5)) == pytest.approx(whole)


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float32])
def test_weights_of_any_kind_divide_a_sum(kind: torch.dtype) -> None:
    network = Network(mlp(5, 3, width=6, areas=2), SumOfSquares())
    x, y, weight = torch.randn(64, 5), torch.randn(64, 3), (torch.arange(64) % 3 > 0).to(kind)
    expected = evaluate(network, x[weight > 0], y[weight > 0])["loss"]
    assert evaluate(network, x, y, weight)["loss"] == pytest.approx(expected, rel=1e-5)


def weighed(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return (torch.nn.functional.cross_entropy(output, target, reduction="none") * weight).sum() / weight.sum()


OF_CLASSES = torch.tensor([1.0, 20.0, 0.1])


class Summed:
    """A loss of a user's own that sums, counts a class for its weight, and may know its derivative."""

    sums = True

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        assert weight is None
        return torch.nn.functional.cross_entropy(output, target, OF_CLASSES, reduction="sum")

    def counts_for(self, target: Tensor, weight: Tensor | None, samples: int) -> float:
        return float(OF_CLASSES[target].sum())


class SummedExactly(Summed):
    def value_and_error(self, output: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        shares = output.softmax(1) - torch.nn.functional.one_hot(target, 3)
        return self(output, target), OF_CLASSES[target, None] * shares


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (CrossEntropy(), "weights"),
        (CrossEntropy(normalised=False), "weights"),
        (CrossEntropy(0.1, OF_CLASSES), "weights"),
        (CrossEntropy(0.1, OF_CLASSES), None),
        (MeanSquaredError(), "weights"),
        (SumOfSquares(), "weights"),
        (BinaryCrossEntropy(), "weights"),
        (BinaryCrossEntropy(normalised=False), "weights"),
        (weighed, "weights"),
        (Summed(), None),
        (SummedExactly(), None),
        (torch.nn.CrossEntropyLoss(weight=OF_CLASSES), None),
        (torch.nn.CrossEntropyLoss(weight=OF_CLASSES, label_smoothing=0.1), "left out"),
        (torch.nn.CrossEntropyLoss(weight=OF_CLASSES, reduction="sum"), "left out"),
        (functools.partial(torch.nn.functional.cross_entropy, weight=OF_CLASSES, ignore_index=2), None),
        (torch.nn.MultiMarginLoss(weight=OF_CLASSES), None),
    ],
)
def test_the_training_loss_is_that_of_all_samples_at_once(loss: Any, kind: str | None) -> None:
    x, y = blobs(50)
    learner = network(loss, lr=0.05)
    if isinstance(loss, BinaryCrossEntropy):
        y = torch.nn.functional.one_hot(y, 3)
    if kind == "left out":
        y = y.where(torch.arange(50) % 7 < 3, -100)
    weight = torch.where(torch.arange(50) % 3 == 0, 100.0, torch.rand(50)) * (torch.arange(50) % 5 > 0)
    part = (x, y, weight) if kind == "weights" else (x, y)
    Trainer(learner, part, None, Schedule(epochs=2, batch_size=8)).run()
    learner.frozen_layers = ["*"]
    row = Trainer(learner, part, part, Schedule(epochs=1, batch_size=4)).run().history[-1]
    assert row["train_loss"] == pytest.approx(row["validation_loss"], rel=1e-5)
    assert row["validation_loss"] == pytest.approx(evaluate(learner, *part)["loss"])


@pytest.mark.parametrize("loss", [Summed(), SummedExactly()])
def test_a_sum_of_ones_own_is_reported_as_a_mean(loss: Any) -> None:
    x, y = blobs(50)
    learner = network(loss)
    of_classes = torch.nn.functional.cross_entropy(learner(x), y, OF_CLASSES)
    assert evaluate(learner, x, y)["loss"] == pytest.approx(float(of_classes), rel=1e-5)


def test_a_function_whose_mean_is_over_nothing_is_told_what_it_lacks() -> None:
    learner = network(lambda output, target: torch.nn.functional.cross_entropy(output, target))
    with pytest.raises(
        DivergenceError, match="divides by the number of targets that count is NaN for a batch in which none does"
    ):
        learner.learn(blobs(12)[0], torch.full((12,), -100))


@pytest.mark.parametrize("loss", [torch.nn.CrossEntropyLoss(), torch.nn.NLLLoss(), torch.nn.functional.cross_entropy])
def test_a_batch_whose_targets_are_all_left_out_teaches_nothing(loss: Any) -> None:
    x, y = blobs(12)
    learner, none = network(loss, update=SGD()), torch.full_like(y, -100)
    before = learner(x)
    assert learner.learn(x, none, lr=1.0) == 0
    assert torch.equal(learner(x), before)
    few = y.where(torch.arange(12) < 2, none)
    row = Trainer(learner, (x, few), (x, few), Schedule(epochs=1, batch_size=2, lr=1e-9)).run().history[-1]
    assert row["train_loss"] == pytest.approx(row["validation_loss"], rel=1e-5)
    with pytest.raises(BrodmannError, match=r"No target of epoch 1 counted: .* such as -100. Leave such samples out"):
        Trainer(learner, (x, none), None, Schedule(epochs=1)).run()
    with pytest.raises(BrodmannError, match="No target of the validation part counted: all have weight 0, or are what"):
        Trainer(learner, (x, y), (x, none), Schedule(epochs=1)).run()


@pytest.mark.parametrize(
    "loss",
    [
        torch.nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1.0, 2.0])),
        torch.nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1.0, 2.0]), label_smoothing=0.1),
        torch.nn.NLLLoss(weight=torch.tensor([0.0, 1.0, 2.0])),
        functools.partial(torch.nn.functional.cross_entropy, weight=torch.tensor([0.0, 1.0, 2.0]), ignore_index=2),
        CrossEntropy(class_weights=torch.tensor([0.0, 1.0, 2.0])),
    ],
)
def test_a_batch_of_nothing_but_classes_of_weight_0_teaches_nothing(loss: Any) -> None:
    x, y = blobs(60)
    learner, first = network(loss, update=SGD()), y == 0
    before = learner(x)
    assert learner.learn(x[first], y[first], lr=1.0) == evaluate(learner, x[first], y[first])["loss"] == 0
    assert torch.equal(learner(x), before)
    if isinstance(loss, torch.nn.Module):  # PyTorch takes bytes, too
        assert learner.learn(x[first], y[first].byte(), lr=1.0) == 0
    torch.testing.assert_close(learner.learn(x, y, lr=1.0), loss(before, y))
    row = Trainer(learner, (x, y), None, Schedule(epochs=1, batch_size=1, lr=1e-9)).run().history[-1]
    assert math.isfinite(row["train_loss"])
