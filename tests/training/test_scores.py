"""Scores of all kinds of targets: accuracy, R2 and loss, and what counts in none of them."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from brodmann import BinaryCrossEntropy, BrodmannError, MeanSquaredError, Network, mlp
from brodmann.training import Trainer, evaluate, score
from brodmann.training.schedule import Schedule

from .parts import AS_IT_IS, blobs, network


def test_scores_are_accuracy_and_r2() -> None:
    outputs = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, 5.0]])
    assert score(outputs, torch.tensor([0, 1, 1, 1])) == {"accuracy": 0.75}
    target = torch.tensor([1.0, 2.0, 3.0])
    assert score(target[:, None], target) == {"r2": 1.0}
    assert score(torch.full((3, 1), 2.0), target) == {"r2": pytest.approx(0.0)}
    several = torch.tensor([[1.0, 101.0, 7.0], [2.0, 102.0, 7.0], [3.0, 106.0, 7.0]])
    found = score(several + torch.tensor([[1.0], [0.0], [0.0]]), several)  # the last target, a constant, is left out
    assert found == {"r2": pytest.approx(((1 - 1 / 2) + (1 - 1 / 14)) / 2)}
    assert score(torch.randn(0, 3), torch.arange(0)) == score(torch.randn(0, 1), torch.randn(0)) == {}


def test_evaluation_in_parts_is_evaluation_of_the_whole() -> None:
    x, y = blobs()
    learner = network()
    whole, parts = evaluate(learner, x, y), evaluate(learner, x, y, rows=7)
    assert whole["accuracy"] == parts["accuracy"]
    assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-6)


def padded() -> tuple[Tensor, Tensor]:
    """Eight sequences of six steps, whose last three are padding; all that counts is right but one step of each."""
    target = torch.randint(0, 4, (8, 6), generator=torch.Generator().manual_seed(0))
    output = torch.nn.functional.one_hot(target, 4).float()
    output[:, 0] = output[:, 0].roll(1, -1)
    output[:, 3:] = output[:, 3:].roll(1, -1)
    return output, target


def test_what_a_loss_leaves_out_counts_in_no_score() -> None:
    x, target = padded()
    hidden = target.clone()
    hidden[:, 3:] = -100
    reader = Network(AS_IT_IS, torch.nn.CrossEntropyLoss(), lr=0.1)
    assert evaluate(reader, x, hidden)["accuracy"] == pytest.approx(2 / 3)
    row = Trainer(reader, (x, hidden), (x, hidden), Schedule(epochs=1)).run().history[0]
    assert row["train_accuracy"] == row["validation_accuracy"] == pytest.approx(2 / 3)
    assert "accuracy" not in evaluate(reader, x, torch.full_like(target, -100))
    option = functools.partial(torch.nn.functional.cross_entropy, ignore_index=0)
    zero = target.where(torch.arange(6) < 3, 0)
    counted = zero != 0
    expected = float((x.argmax(-1) == zero)[counted].float().mean())
    assert evaluate(Network(AS_IT_IS, option), x, zero)["accuracy"] == pytest.approx(expected)


def test_samples_and_targets_of_weight_0_count_in_no_score() -> None:
    x, target = padded()
    reader, weight = Network(AS_IT_IS, lr=0.1), torch.ones(8, 6)
    weight[:, 3:] = 0
    alone = evaluate(reader, x[:, :3], target[:, :3])
    assert evaluate(reader, x, target, weight) == pytest.approx(alone)
    trainer = Trainer(reader, (x, target, weight), (x, target, weight), Schedule(epochs=1))
    row = trainer.run().history[0]
    assert row["train_accuracy"] == row["validation_accuracy"] == pytest.approx(alone["accuracy"])
    assert row["validation_loss"] == pytest.approx(alone["loss"])
    for bad, message in (
        (weight.t(), "Expected a weight for each sample, got 6 for 8 samples"),
        (torch.tensor(1.0), "Expected a weight for each sample, got a single number for 8 samples"),
        (-weight, "Expected sample weights that are finite and at least 0"),
        (weight * torch.nan, "Expected sample weights that are finite and at least 0"),
    ):
        with pytest.raises(BrodmannError, match=message):
            evaluate(reader, x, target, bad)
        with pytest.raises(BrodmannError, match=message):
            Trainer(reader, (x, target), (x, target, bad))
    of_samples = torch.tensor([1.0] * 4 + [0.0] * 4)
    real = Network(AS_IT_IS, MeanSquaredError())
    found = evaluate(real, x, x.flip(0), of_samples.repeat_interleave(6).reshape(8, 6))
    assert found["r2"] == pytest.approx(evaluate(real, x[:4], x.flip(0)[:4])["r2"])


def test_classes_in_a_column_of_their_own_are_scored_as_they_are() -> None:
    x, y = blobs()
    rows = [Trainer(network(), (x, of), (x, of), Schedule(epochs=2)).run().history[-1] for of in (y, y[:, None])]
    for name in ("train_accuracy", "validation_accuracy", "train_loss"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-6)


def test_whole_numbers_that_are_no_classes_are_real_targets() -> None:
    x, y = blobs()
    targets = torch.stack([y, 2 * y], 1)
    for of in (y[:, None], targets):
        learner = Network(mlp(5, of.shape[1], width=8, areas=1), MeanSquaredError())
        row = Trainer(learner, (x, of), (x, of), Schedule(epochs=2)).run().history[-1]
        assert "train_accuracy" not in row
        assert row["validation_r2"] < 1
    own = Network(mlp(5, 1, width=8, areas=1), lambda output, target: ((output[:, 0] - target) ** 2).mean())
    row = Trainer(own, (x, y), (x, y), Schedule(epochs=1)).run().history[-1]
    assert {name for name in row if "accuracy" in name or "r2" in name} == set()


def test_labels_are_trained_scored_stopped_early_and_resumed(tmp_path: Path) -> None:
    x, y = blobs()
    labels = torch.stack([y == 0, y != 1, x[:, 0] > 1], 1)
    weight = (torch.arange(len(x)) % 4 > 0).float()
    parts = (x, labels.long(), weight), (x, labels)
    learner = network(BinaryCrossEntropy(torch.tensor([1.0, 2.0, 1.0])), lr=0.02)
    schedule = Schedule(epochs=30, batch_size=16, patience=3)
    history = Trainer(learner, *parts, schedule, folder=tmp_path).run().history
    assert {"train_label_accuracy", "validation_label_accuracy"} <= set(history[-1])
    assert not {"validation_accuracy", "validation_r2"} & set(history[-1])
    found = evaluate(learner, x, labels)
    assert found["loss"] == pytest.approx(min(row["validation_loss"] for row in history))
    right = ((learner(x) > 0) == labels).float()
    assert 0.9 < found["label_accuracy"] == pytest.approx(float(right.mean()))
    weighted = evaluate(learner, x, labels.float(), weight)
    assert weighted["label_accuracy"] == pytest.approx(float(right[weight > 0].mean()))
    again = Trainer(network(learner.loss, lr=0.02), *parts, schedule, folder=tmp_path)
    again.resume()
    assert again.run().history == history
    named = Schedule(epochs=4, patience=1, metric="validation_label_accuracy")
    assert Trainer(network(BinaryCrossEntropy()), *parts, named).run().best > 0.5
    steps = network(BinaryCrossEntropy())
    several = x.reshape(18, 5, 5), labels.reshape(18, 5, 3), weight.reshape(18, 5)
    right = ((steps(several[0]) > 0) == several[1]).float()[several[2] > 0]
    assert evaluate(steps, *several)["label_accuracy"] == pytest.approx(float(right.mean()))
    assert set(evaluate(steps, *several[:2], torch.zeros(18, 5))) == {"loss"}


@pytest.mark.parametrize("loss", [torch.nn.BCEWithLogitsLoss(), torch.nn.CrossEntropyLoss()])
def test_losses_of_logits_have_no_r2(loss: torch.nn.Module) -> None:
    x, y = blobs()
    target = torch.nn.functional.one_hot(y, 3).float()
    assert set(evaluate(network(loss=loss), x, target)) == {"loss"}
    assert set(evaluate(network(loss=torch.nn.HuberLoss()), x, target)) == {"loss", "r2"}
    assert set(evaluate(network(loss=torch.nn.functional.mse_loss), x, target)) == {"loss", "r2"}
    huber = functools.partial(torch.nn.functional.huber_loss, delta=0.5)
    own = lambda output, target: ((output - target) ** 2).mean()  # noqa: E731
    for regression in (huber, own):
        assert set(evaluate(network(loss=regression), x, target)) == {"loss", "r2"}
    binary = functools.partial(torch.nn.functional.binary_cross_entropy_with_logits, reduction="sum")
    assert set(evaluate(network(loss=binary), x, target)) == {"loss"}


def test_weights_of_samples_go_with_the_training_part(tmp_path: Path) -> None:
    x, y = blobs()
    kept = y != 2
    learners = [network(), network(), network()]
    parts = [(x, y, kept.float()), (x, y, torch.ones(len(x))), (x, y)]
    for learner, part in zip(learners, parts, strict=True):
        Trainer(learner, part, (x, y), Schedule(epochs=8, batch_size=15, lr=0.05)).run()
    without, ones, plain = (learner(x).argmax(1) for learner in learners)
    assert not (without == 2).any()
    assert torch.equal(ones, plain)
    assert (plain == 2).any()
    with pytest.raises(BrodmannError, match="Expected a weight for each sample, got 3 for 90 samples"):
        Trainer(network(), (x, y, torch.ones(3)))


def test_accuracy_of_sequences_is_a_share_of_their_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 7, 5, generator=generator), torch.zeros(20, 7, dtype=torch.int64)
    row = Trainer(network(), (x, y), (x, y), Schedule(epochs=4, batch_size=6, lr=0.05)).run().history[-1]
    assert 0.5 < row["train_accuracy"] <= 1
    assert row["validation_accuracy"] == 1
