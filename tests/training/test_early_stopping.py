"""Early stopping: what it follows, when it stops, and which weights it brings back."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from brodmann import SGD, Adam, BrodmannError, Network, mlp
from brodmann.training import Callback, Trainer, evaluate
from brodmann.training.best_weights import BestWeights
from brodmann.training.checkpoints import checkpoint_names
from brodmann.training.schedule import Schedule

from .parts import Remember, Spread, blobs, network


@pytest.mark.parametrize("folder", [False, True])
def test_early_stopping_brings_the_best_weights_back(folder: bool, tmp_path: Path) -> None:
    x, y = blobs()
    noise = torch.Generator().manual_seed(9)
    held_out = (torch.randn(40, 5, generator=noise), torch.randint(0, 3, (40,), generator=noise))
    learner, seen = network(), Remember()
    schedule = Schedule(epochs=40, batch_size=8, lr=0.05, patience=3)
    place = tmp_path if folder else None
    progress = Trainer(learner, (x, y), held_out, schedule, folder=place, callbacks=[seen]).run()
    scores = [row["validation_accuracy"] for row in seen.rows]
    assert progress.epoch == len(scores) < 40
    assert progress.best == max(scores)
    assert progress.epoch - 1 - scores.index(max(scores)) == 3
    assert evaluate(learner, *held_out)["accuracy"] == max(scores)
    assert seen.ends == 1
    assert seen.steps == progress.step == 12 * progress.epoch


def test_early_stopping_follows_the_loss_of_real_targets() -> None:
    x, y = blobs()
    torch.manual_seed(0)
    learner = Network(mlp(5, 1, width=8, areas=1), torch.nn.BCEWithLogitsLoss())
    part = (x, (y == 0).float()[:, None])
    progress = Trainer(learner, part, part, Schedule(epochs=12, lr=1e-2, patience=2, shape="constant")).run()
    losses = [row["validation_loss"] for row in progress.history]
    assert losses == sorted(losses, reverse=True)  # it falls all the way
    assert progress.epoch == 12
    assert progress.best == pytest.approx(-losses[-1])


def contrast(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A loss of embeddings, whose largest number is not a class."""
    alike = (target[:, None] == target).float()
    return ((output @ output.t() - alike) ** 2).mean()


def test_early_stopping_follows_the_loss_of_ones_own_or_a_metric_that_is_named() -> None:
    x, y = blobs()
    part, schedule = (x, y), Schedule(epochs=12, batch_size=90, lr=1e-3, patience=2, shape="constant")
    for loss in (contrast, lambda output, target, weight: contrast(output, target)):
        progress = Trainer(network(loss), part, part, schedule).run()
        assert progress.epoch == 12
        assert progress.best == -min(row["validation_loss"] for row in progress.history)
    for metric, epochs in (("validation_loss", 12), ("spread", 3)):
        named = Trainer(network(), part, part, replace(schedule, metric=metric), callbacks=Spread())
        assert named.run().epoch == epochs
    assert Trainer(network(), part, None, replace(schedule, metric="spread"), callbacks=Spread()).run().epoch == 3
    with pytest.raises(
        BrodmannError, match=r"Expected a number 'f1' for early stopping to follow.* The row has: epoch, train_loss"
    ):
        Trainer(network(), part, part, replace(schedule, metric="f1")).run()


def test_early_stopping_does_not_follow_what_is_no_number() -> None:
    class Undefined(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            row["f1"] = math.nan if row["epoch"] == 2 else 0.5

    schedule = Schedule(epochs=5, patience=9, metric="f1")
    with pytest.raises(BrodmannError, match="Early stopping follows 'f1', which is nan in epoch 2"):
        Trainer(network(), blobs(), schedule=schedule, callbacks=Undefined()).run()


def test_an_infinite_validation_loss_ends_no_training_that_nobody_wants_to_stop() -> None:
    x, y = blobs()

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        value = torch.nn.functional.cross_entropy(output, target)
        return value if output.shape[0] == 30 else value / 0.0  # of the validation part alone

    schedule = Schedule(epochs=2, batch_size=30)
    history = Trainer(network(loss), (x, y), (x[:50], y[:50]), schedule).run().history
    assert [row["validation_loss"] for row in history] == [math.inf, math.inf]
    with pytest.raises(BrodmannError, match="Early stopping follows 'validation_loss', which is inf in epoch 1"):
        Trainer(network(loss), (x, y), (x[:50], y[:50]), replace(schedule, patience=2)).run()


class Rising(Callback):
    """A score that every epoch betters."""

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        row["score"] = float(row["epoch"])


@pytest.mark.usefixtures("every_epoch")
def test_the_best_weights_after_going_back_are_those_of_the_epoch_that_is_named(tmp_path: Path) -> None:
    def trainer(learner: Network, epochs: int) -> Trainer:
        schedule = Schedule(epochs=epochs, batch_size=30, patience=3, metric="score")
        return Trainer(learner, blobs(), None, schedule, folder=tmp_path, callbacks=[Rising()])

    class Noted(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            states.append({name: value.clone() for name, value in trainer.network.learning_state().items()})

    states: list[dict[str, torch.Tensor]] = []
    first = trainer(network(), 4)
    first.callbacks.append(Noted())
    first.run()
    assert len(list(tmp_path.glob("best-*.safetensors"))) == 2  # those that the two checkpoints name
    learner = network()
    second = trainer(learner, 3)
    second.resume(checkpoint_names(tmp_path)[0])
    assert second.run().best_epoch == 2
    for name, value in learner.learning_state().items():
        assert torch.equal(value, states[2][name]), name


def test_the_best_weights_are_kept_beyond_a_million_epochs(tmp_path: Path) -> None:
    best, epochs = BestWeights(network(), tmp_path), (999_998, 1_000_003, 1_000_005)
    of_the_user = tmp_path / "best-model.safetensors"
    of_the_user.touch()
    for epoch in epochs:
        best.keep(epoch)
        best.named(epoch)
    best.put_back(epochs[-1], goes_on=False)
    assert {path.stem for path in tmp_path.iterdir()} == {"best-1000003", "best-1000005", "best-model"}
    best.go_back(epochs[1])
    assert {path.stem for path in tmp_path.iterdir()} == {"best-1000003", "best-model"}


@pytest.mark.parametrize("folder", [False, True])
def test_the_best_weights_come_back_where_a_rule_was_replaced_since(folder: bool, tmp_path: Path) -> None:
    class Replace(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            row["score"] = -row["epoch"]  # the first stays the best
            if row["epoch"] == 1:
                self.best = [part.clone() for part in trainer.network.parameters()]
                trainer.network.update_rule = SGD(momentum=0.9)
            else:
                trainer.stop()

    part, learner, replace_rule = blobs(), network(update=Adam()), Replace()
    schedule = Schedule(epochs=3, batch_size=30, patience=5, metric="score")
    trainer = Trainer(learner, part, part, schedule, folder=tmp_path if folder else None, callbacks=replace_rule)
    trainer.run()
    assert all(map(torch.equal, learner.parameters(), replace_rule.best))
    learner.update_rule = Adam()
    assert trainer.run().epoch == 3  # from the last weights
