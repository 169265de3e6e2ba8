"""What fails while training: no step is lost, no failure hides another, and everyone sees the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from brodmann import BrodmannError, Network, mlp
from brodmann.training import Callback, Trainer
from brodmann.training.checkpoints import checkpoint_names
from brodmann.training.schedule import Schedule

from .parts import Items, Remember, blobs, network


class Failing(Callback):
    """Fails once, after a step or at the end of an epoch."""

    def __init__(self, place: str, step: int) -> None:
        self.place, self.step = place, step

    def on_step(self, trainer: Trainer, loss: float) -> None:
        self.fail("step", trainer)

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        self.fail("epoch", trainer)

    def fail(self, place: str, trainer: Trainer) -> None:
        if (place, trainer.progress.step) == (self.place, self.step):
            raise OSError("no space left")


class Drawing(Callback):
    """Puts a random number into every row."""

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        row["drawn"] = float(torch.rand(()))


class Unreadable(Items):
    """A data set one of whose items cannot be read."""

    def __getitem__(self, row: int) -> Any:
        if row == 17:
            raise OSError("no space left")
        return super().__getitem__(row)


@pytest.mark.parametrize("patience", [None, 3])
@pytest.mark.parametrize(
    ("place", "step"),
    [("step", 1), ("step", 8), ("epoch", 6), ("epoch", 18), ("item", 0), ("transform", 8), ("shape", 8)],
)
def test_what_fails_between_two_steps_loses_none(place: str, step: int, patience: int | None, tmp_path: Path) -> None:
    items = list(zip(*blobs(), strict=True))

    def trainer(folder: Path | None = tmp_path, failing: str = "", data: Any = Items) -> Trainer:
        calls = iter(range(100))

        def noisy(samples: Tensor) -> Tensor:
            samples = samples + 0.1 * torch.randn_like(samples)
            if failing == "transform" and next(calls) == step:
                raise OSError("no space left")
            return samples

        def falling(done: float) -> float:
            if failing == "shape" and done == step / 18:
                raise OSError("no space left")
            return 1.0 - done

        schedule = Schedule(epochs=3, batch_size=15, patience=patience, shape=falling)
        callbacks = [Drawing(), Failing(failing, step)]
        learner, score = network(dropout=0.5), blobs(30, 1)
        return Trainer(learner, data(items), score, schedule, folder=folder, callbacks=callbacks, transform=noisy)

    failing = trainer(failing=place, data=Unreadable if place == "item" else Items)
    with pytest.raises(OSError, match="no space left"):
        failing.run()
    assert isinstance(failing.failure, OSError)
    resumed = trainer()
    resumed.resume()
    assert 0 < resumed.progress.step == failing.progress.step == (step or failing.progress.step)
    history = resumed.run().history
    straight = trainer(folder=None)
    assert [row | {"seconds": 0} for row in history] == [row | {"seconds": 0} for row in straight.run().history]
    states = resumed.network.learning_state(), straight.network.learning_state()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_checkpoint_that_cannot_be_written_hides_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise RuntimeError("read-only file system")

    monkeypatch.setattr("brodmann.training.keeper.write_checkpoint", refuse)
    with pytest.raises(OSError, match="no space left"):
        Trainer(network(), blobs(), None, Schedule(), folder=tmp_path, callbacks=[Failing("step", 1)]).run()


def test_data_that_cannot_be_read_at_all_leaves_no_checkpoint_behind(tmp_path: Path) -> None:
    for data in (Unreadable(list(zip(*blobs(), strict=True))), Items(["nothing"] * 90)):
        with pytest.raises((OSError, BrodmannError)):
            Trainer(network(), data, None, Schedule(batch_size=90), folder=tmp_path).run()
        assert not checkpoint_names(tmp_path)


def test_a_checkpoint_that_fails_after_something_else_is_told_of_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            raise KeyError("mine")

    def full() -> Any:
        raise BrodmannError("the disk is full")

    network = Network(mlp(4, 2, areas=1))
    trainer = Trainer(network, (torch.randn(8, 4), torch.arange(8) % 2), folder=tmp_path, callbacks=[Failing()])
    monkeypatch.setattr(network, "learning_state", full)
    with pytest.raises(KeyError, match="mine") as caught:
        trainer.run()
    assert caught.value.__notes__ == ["No checkpoint could be written either: the disk is full"]


def test_a_callback_that_fails_at_the_end_keeps_no_other_from_its_end() -> None:
    class Failing(Callback):
        def on_end(self, trainer: Trainer) -> None:
            raise OSError("no room")

    seen = Remember()
    with pytest.raises(OSError, match="no room"):
        Trainer(network(), blobs(), None, Schedule(epochs=1), callbacks=[Failing(), seen]).run()
    assert seen.ends == 1
