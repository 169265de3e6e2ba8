"""Training with parts of one's own: callbacks, schedules, learners and data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from brodmann import BrodmannError, Network, mlp
from brodmann.training import Callback, Schedule, Trainer

from .parts import X, Y, body, each_of, message_of


class Incomplete(nn.Module):
    """A learner that forgets most of it."""

    def learn_with_output(self) -> None: ...


CASES: list[tuple[Callable[[], object], str]] = [
    (
        lambda: Trainer(Network(body()), torch.utils.data.DataLoader([0])),  # type: ignore[arg-type]
        "Expected samples and targets as tensors in memory, or a data set with a length and numbered items, got "
        "DataLoader: give its data set, loader.dataset.",
    ),
    (
        lambda: Trainer(Network(body()), iter([0])),  # type: ignore[arg-type]
        "Expected samples and targets as tensors in memory, or a data set with a length and numbered items, got "
        "list_iterator: give batches to network.learn(*batch).",
    ),
    (
        lambda: Trainer(Network(body()), (X, Y), (X, Y, Y, Y)),  # type: ignore[arg-type]
        "Expected samples and targets, and optionally weights, got 4 tensors.",
    ),
    (
        lambda: Trainer(Network(body()), (X, Y), (X[:0], Y[:0])),
        "Expected a validation part with samples, got an empty one: give None for none.",
    ),
    (
        lambda: Trainer(Network(body()), list(zip(X, Y, strict=True))),  # type: ignore[arg-type]
        "Expected samples and targets as two tensors, (x, y), got a list of 20 pairs: stack the samples, and the "
        "targets, with torch.stack, or give a torch.utils.data.Dataset of the pairs.",
    ),
    (
        lambda: Trainer(Incomplete(), (X, Y)),  # type: ignore[arg-type]
        "Expected a learner with everything that brodmann.training.Learner names, but Incomplete lacks learning_state, "
        "load_learning_state, lr, loss, recursive.",
    ),
]


@each_of(CASES)
def test_what_users_may_get_wrong(act: Callable[[], object], message: str) -> None:
    assert message_of(act) == message


def test_a_callback_stops_the_training() -> None:
    class Enough(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.progress.step == 7:
                trainer.stop()

    progress = Trainer(Network(body()), (X, Y), schedule=Schedule(10, 5), callbacks=[Enough()]).run()
    assert progress.epoch == 2  # the running epoch of four steps came to its end
    assert len(progress.history) == 2


def test_a_stopped_trainer_goes_on() -> None:
    class Once(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            trainer.stop()

    trainer = Trainer(Network(body()), (X, Y), schedule=Schedule(3, 5), callbacks=[Once()])
    assert [trainer.run().epoch for _ in range(3)] == [1, 2, 3]


def test_a_schedule_may_be_a_function() -> None:
    network = Network(mlp(6, 3, width=4, areas=1))
    trainer = Trainer(network, (X, Y), None, Schedule(1, 10, lr=0.1, shape=lambda done: 0.5 - 0.5 * done))
    trainer.run()
    assert trainer.rate == pytest.approx(0.1 * 0.25)
    with pytest.raises(BrodmannError, match="Expected the share that a schedule returns to be a number of at least 0"):
        Trainer(network, (X, Y), None, Schedule(1, 10, shape=lambda done: "half")).run()
