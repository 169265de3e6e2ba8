"""The trainer: what it takes, when it calls its callbacks, and the rows that they add to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.progress
import torch

from brodmann import BrodmannError
from brodmann.training import Callback, MetricsFile, ProgressBar, Trainer, read_metrics
from brodmann.training.schedule import Schedule

from .parts import Remember, Spread, blobs, network


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"validation": (torch.full((4, 5), math.nan), torch.zeros(4).long())},
            "The validation samples hold NaN or inf",
        ),
        ({"callbacks": None}, "Expected callbacks to be a list of `Callback` objects, got None."),
        ({"callbacks": [Callback]}, "Expected callbacks to be a list of `Callback` objects, got <class"),
    ],
)
def test_what_a_trainer_cannot_take(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        Trainer(network(), blobs(), **{"validation": None, **change})


def test_a_trainer_is_given_a_folder_and_a_function(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "inside"):
        with pytest.raises(BrodmannError, match="Checkpoints need a folder, but .*file.* is a file, or is inside one"):
            Trainer(network(), blobs(), folder=folder)
    with pytest.raises(BrodmannError, match="Expected transform to be a function of the samples of a batch, .* got 5"):
        Trainer(network(), blobs(), transform=5)  # type: ignore[arg-type]


def test_arguments_in_another_order_and_shapes_of_other_functions_are_told() -> None:
    x, y = blobs()
    with pytest.raises(BrodmannError, match=r"give tensors as a pair, \(x, y\)"):
        Trainer(network(), x, y)  # type: ignore[arg-type]
    with pytest.raises(BrodmannError, match="validation part or None, and a Schedule, in this order, got Schedule and"):
        Trainer(network(), (x, y), Schedule())  # type: ignore[arg-type]
    with pytest.raises(BrodmannError, match="to be a function of one number, the share of steps done"):
        Schedule(shape=lambda epoch, done: done)  # type: ignore[arg-type, misc]
    with pytest.raises(BrodmannError, match="from 0 to 2, got -100 to 2; nn.CrossEntropyLoss"):
        network().learn(x, torch.where(y == 0, -100, y))


def test_callbacks_see_beginning_and_end() -> None:
    spread, schedule = Spread(), Schedule(epochs=1, batch_size=30, lr=0.02, shape="constant")
    trainer = Trainer(network(), blobs(), None, schedule, callbacks=spread)
    trainer.run()
    assert spread.log == [(0, None), (3, type(None))]
    assert trainer.rate == 0.02
    failing = Trainer(network(), blobs(), None, schedule, callbacks=spread, transform=lambda samples: samples[:1])
    with pytest.raises(BrodmannError):
        failing.run()
    assert spread.log[-1] == (0, BrodmannError)


def test_a_row_takes_numbers_of_every_kind_and_nothing_else(tmp_path: Path) -> None:
    class Adds(Callback):
        def __init__(self, value: Any) -> None:
            self.value = value

        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            row["own"] = self.value

    for place, value in enumerate((torch.tensor(1.5), np.float32(1.5), 1.5)):
        trainer = Trainer(network(), blobs(), None, Schedule(1), folder=tmp_path / str(place), callbacks=Adds(value))
        assert trainer.run().history[-1]["own"] == 1.5
    message = r"After Adds.on_epoch, the row of epoch 1 cannot hold its 'own' \(.*got Tensor\): expected numbers"
    with pytest.raises(BrodmannError, match=message):
        Trainer(network(), blobs(), None, Schedule(1), callbacks=[Adds(torch.zeros(2))]).run()


def test_what_writes_rows_is_called_last_wherever_it_stands(tmp_path: Path) -> None:
    class Adds(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            row["added"] = 1.0

    writer = MetricsFile(tmp_path / "metrics.jsonl")
    Trainer(network(), blobs(), None, Schedule(epochs=2), callbacks=[writer, Adds()]).run()
    assert [row["added"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1.0, 1.0]


def test_a_file_of_metrics_may_be_named_by_text(tmp_path: Path) -> None:
    name = str(tmp_path / "metrics.jsonl")
    Trainer(network(), blobs(), None, Schedule(epochs=1), callbacks=[MetricsFile(name)]).run()
    assert [row["epoch"] for row in read_metrics(name)] == [1]


def test_the_progress_bars_last_line_tells_of_the_last_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    bar = ProgressBar("blobs")
    remember = Remember()
    update = rich.progress.Progress.update
    monkeypatch.setattr(
        rich.progress.Progress,
        "update",
        lambda self, task, **fields: (shown.append(fields["facts"]), update(self, task, **fields))[1],
    )
    Trainer(network(), blobs(), blobs(30, 1), Schedule(epochs=3, batch_size=8), callbacks=[remember, bar]).run()
    last = remember.rows[-1]
    assert f"loss {last['train_loss']:.4f} accuracy {last['validation_accuracy']:.4f}" in shown[-1]
    assert "samples/s" in shown[-1]
