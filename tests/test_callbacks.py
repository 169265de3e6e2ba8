"""Callbacks: what they put into the row of an epoch is what the network does."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import (
    Adam,
    AreaLinear,
    Local,
    MeanSquaredError,
    Network,
    Product,
    Residual,
    Router,
    Sequential,
    Transpose,
    mlp,
)
from brodmann.layer import Context, Layer
from brodmann.network import routers
from brodmann.telemetry import alignment
from brodmann.training import (
    AlignmentRecord,
    AreaRecord,
    Callback,
    Interrupted,
    ProgressBar,
    Schedule,
    TensorBoard,
    Trainer,
)
from brodmann.training.checkpoints import checkpoint_names

X, Y = torch.randn(90, 5, generator=torch.Generator().manual_seed(0)), torch.arange(90) % 3


def rows_of(network: Network, *callbacks: Any, epochs: int = 2) -> list[dict[str, Any]]:
    schedule = Schedule(epochs=epochs, lr=0.01)
    return Trainer(network, (X, Y), (X, Y), schedule, callbacks=callbacks).run().history


def test_counts_of_growing_areas_are_those_of_their_router() -> None:
    torch.manual_seed(0)
    growing = AreaLinear(5, 5, areas=4, router=lambda *sizes, **options: Router(*sizes, partition="growing", **options))
    network = Network(Sequential(Residual(growing, shortcut=AreaLinear(5, 5, areas=4)), AreaLinear(5, 3, areas=1)))
    row = rows_of(network, AreaRecord(X))[-1]
    assert row["area_counts"] == [[90, 0, 0, 0]]  # the shortcut, which is called first, uses all of its areas
    assert len(row["effective_areas"]) == 2


def test_splits_are_told_with_the_cells_that_they_moved() -> None:
    torch.manual_seed(0)
    x = torch.randn(4000, 10)
    y = x @ torch.randn(10, 3)
    y = torch.where(x[:, :1] > 0, y, -y)
    router = {"partition": "growing", "cells": 64}
    network = Network(mlp(10, 3, depth=1, areas=8, router=router, update=Adam(decay=0.2)), MeanSquaredError())
    history = Trainer(network, (x, y), None, Schedule(8, 64, lr=1e-2), callbacks=AreaRecord(x)).run().history
    splits = [split for row in history for split in row["splits"]]
    ((_, part),) = [(name, part) for name, part in network.named_modules() if isinstance(part, Router)]
    replayed = torch.zeros_like(part.partition)
    for split in splits:
        assert bool((replayed[split["cells"]] == split["from"]).all())
        replayed[split["cells"]] = split["to"]
    assert torch.equal(replayed, part.partition)
    assert len(splits) >= 1


def test_the_record_of_alignment_is_that_of_the_network_at_the_end_of_the_epoch() -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, depth=3, width=8, areas=2, feedback="kolen-pollack"))
    row = rows_of(network, AlignmentRecord(X, Y))[-1]
    found = alignment(network, X, Y)
    assert row["alignment"] == {layer.layer: round(layer.cosine, 4) for layer in found}
    first, *others = found
    assert first.weight_cosine is None  # it sends nothing down
    for layer, (name, value) in zip(others, row["weight_alignment"].items(), strict=True):
        part = network.get_submodule(f"body.{name}")
        forward, back = part.shared.value.flatten(), part.feedback.shared.value.flatten()
        assert layer.layer == name
        assert value == pytest.approx(float(torch.cosine_similarity(forward, back, dim=0)), abs=1e-4)
        assert layer.weight_ratio == pytest.approx(float(back.norm() / forward.norm()))
        assert row["weight_ratio"][name] == pytest.approx(layer.weight_ratio, abs=1e-4)
    for path, cosine in (("transpose", 1.0), ("kolen-pollack-equal", 1.0), ("sign", math.sqrt(2 / math.pi))):
        torch.manual_seed(0)
        layers = alignment(Network(mlp(5, 3, depth=3, width=400, areas=1, feedback=path)), X, Y)[1:]
        assert layers[0].weight_cosine == pytest.approx(cosine, abs=0.01)
        assert layers[0].weight_ratio == pytest.approx(cosine, abs=0.01)  # signs, too, are scaled by the mean size
    network = Network(mlp(5, 3, depth=3, width=8, areas=1))
    for _, part in network.area_layers():
        part.shared.value.zero_()
    assert all(layer.weight_ratio is None for layer in alignment(network, X, Y))


class Greedy(Layer):
    """A layer that learns by a readout of its own, which inference does not pass."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.head = AreaLinear(5, 5, areas=1), AreaLinear(5, 3, areas=1, feedback=Transpose)

    def forward(self, x: torch.Tensor, choice: Any = None) -> torch.Tensor:
        return self.map(x)

    def trace(self, x: torch.Tensor, context: Context) -> tuple[torch.Tensor, Any]:
        y, trace = self.map.trace(x, context)
        return y, (trace, self.head.trace(y, context))

    def learn(self, trace: Any, error: torch.Tensor, context: Context) -> torch.Tensor | None:
        trace, (output, above) = trace
        own = (output.softmax(-1) - nn.functional.one_hot(context.target, 3)) / len(output)
        return self.map.learn(trace, self.head.learn(above, own, context), context)


class Unfollowed(Local):
    """An operation that autograd does not see."""

    def forward(self, x: Any, choice: Any = None) -> torch.Tensor:
        with torch.no_grad():
            return super().forward(x, choice)


def test_alignment_leaves_out_layers_beside_the_path_and_what_autograd_cannot_follow() -> None:
    torch.manual_seed(0)
    network = Network(Sequential(Greedy(), AreaLinear(5, 3, areas=1)))
    assert list(rows_of(network, AlignmentRecord(X, Y))[-1]["alignment"]) == ["layers.0.map", "layers.1"]
    network = Network(Sequential(AreaLinear(5, 3, areas=1), Unfollowed(nn.Tanh())))
    with pytest.warns(UserWarning, match="The alignment of this network cannot be recorded") as found:
        assert "alignment" not in rows_of(network, AlignmentRecord(X, Y))[-1]
    assert len(found) == 1
    network = Network(Sequential(AreaLinear(5, 3, areas=1), Local(nn.Identity())))
    network.body.layers[1].lock = threading.Lock()  # which cannot be copied
    with pytest.warns(UserWarning, match="cannot be recorded: cannot pickle"):
        rows_of(network, AlignmentRecord(X, Y))


def test_products_are_watched_and_align_as_maps_do() -> None:
    torch.manual_seed(0)
    layers = (
        Product(nn.functional.linear, torch.randn(6, 5), feedback=None),
        Product(nn.functional.linear, torch.randn(3, 6)),
    )
    row = rows_of(Network(Sequential(*layers), lr=0.01), AlignmentRecord(X, Y))[-1]
    assert row["alignment"]["layers.1"] == pytest.approx(1.0, abs=1e-4)
    assert set(row["alignment"]) == {"layers.0", "layers.1"}
    assert list(row["weight_alignment"]) == ["layers.1"]


def test_splits_are_told_once_also_where_the_training_was_broken_off(tmp_path: Path) -> None:
    def parts() -> tuple[Network, tuple[torch.Tensor, torch.Tensor]]:
        torch.manual_seed(0)
        x = torch.randn(2000, 10)
        y = x @ torch.randn(10, 3)
        y = torch.where(x[:, :1] > 0, y, -y)
        router = {"partition": "growing", "cells": 64, "conflict": {"evidence": 512}}
        network = Network(mlp(10, 3, depth=1, areas=8, router=router, update=Adam()), MeanSquaredError())
        return network, (x, y)

    def trained(folder: Path, *callbacks: Callback, resume: bool = False) -> list[Any]:
        network, data = parts()
        trainer = Trainer(network, data, None, Schedule(6, 64, lr=1e-2), folder=folder, callbacks=callbacks)
        if resume:
            trainer.resume()
        return [row["splits"] for row in trainer.run().history]

    class Stop(Callback):
        """Ends the training in the middle of the epoch in which the first split happened."""

        def on_step(self, trainer: Trainer, loss: float) -> None:
            ((_, router),) = routers(trainer.network)
            if int(router.partition.max()) and trainer.progress.batch > 5:
                os.kill(os.getpid(), signal.SIGINT)

    whole = trained(tmp_path / "whole", AreaRecord(X.new_zeros(1, 10)))
    assert any(whole)
    with pytest.raises(Interrupted):
        trained(tmp_path / "broken", AreaRecord(X.new_zeros(1, 10)), Stop())
    assert trained(tmp_path / "broken", AreaRecord(X.new_zeros(1, 10)), resume=True) == whole


def test_splits_that_a_training_took_back_are_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It went back to a checkpoint from before the split, in the same process."""
    torch.manual_seed(0)
    network = Network(mlp(4, 3, width=8, areas=3, router={"partition": "growing", "cells": 8}, update=Adam()))
    data = torch.randn(40, 4), torch.randint(0, 3, (40,))

    class Split(Callback):
        """Splits by hand in the second epoch, the first time."""

        def __init__(self) -> None:
            self.done = False

        def on_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.progress.history and not self.done:
                self.done = True
                network.body.split(0)

    monkeypatch.setattr("brodmann.training.trainer.BRIEF", 0.0)
    trainer = Trainer(network, data, None, Schedule(2, 40), folder=tmp_path, callbacks=[AreaRecord(data[0]), Split()])
    assert len(trainer.run().history[1]["splits"]) == 1
    trainer.resume(checkpoint_names(tmp_path)[0])
    assert len(trainer.progress.history) == 1
    assert trainer.run().history[1]["splits"] == []


def test_a_progress_bar_serves_several_trainings(capsys: pytest.CaptureFixture[str]) -> None:
    bar, network = ProgressBar("twice"), Network(mlp(5, 3, width=8, areas=2))
    for _ in range(2):
        rows_of(network, bar)
        assert capsys.readouterr().err.count("twice epoch") == 2
        assert bar.bar is None


def test_a_progress_bar_in_a_notebook_without_widgets_does_not_warn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # not installed
    with warnings.catch_warnings(action="error"):
        rows_of(Network(mlp(5, 3, width=8, areas=2)), ProgressBar("noted"))
    assert capsys.readouterr().err.count("noted epoch") == 2


def test_a_progress_bar_of_a_long_name_shows_bar_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    rows_of(Network(mlp(5, 3, width=8, areas=2)), ProgressBar("measurements-of-the-north-station.csv kolen-pollack"))
    said = capsys.readouterr().err
    assert "measurements-of-the-nor…" in said
    assert "━" * 10 in said
    assert "0:00:00" in said
    assert "loss" in said


@pytest.mark.parametrize("reader", ["gone", "a full disk"])
@pytest.mark.parametrize("terminal", ["0", "1"])
def test_a_training_goes_on_where_nobody_can_read_its_progress(
    reader: str, terminal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", terminal)
    if reader == "gone":
        end, handle = os.pipe()
        os.close(end)
    else:
        handle = os.open("/dev/full", os.O_WRONLY)
    stream = os.fdopen(handle, "w")
    monkeypatch.setattr(sys, "stderr", stream)
    try:
        assert len(rows_of(Network(mlp(5, 3, width=8, areas=2)), ProgressBar("unread"))) == 2
    finally:
        with suppress(OSError):
            stream.close()


@pytest.fixture
def accumulators(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What reads events. Files of one second are read in the order of a counter as text, where 10 is before 9."""
    writers = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    monkeypatch.setattr(writers, "_global_uid", writers.AtomicCounter(0))
    return pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_epochs_that_are_made_again_replace_those_in_tensorboard(tmp_path: Path, accumulators: Any) -> None:
    torch.manual_seed(0)
    data = torch.randn(40, 4), torch.randint(0, 3, (40,))

    def trainer() -> Trainer:
        schedule = Schedule(epochs=3, batch_size=40, checkpoint_seconds=0)
        events = TensorBoard(tmp_path / "events")
        return Trainer(Network(mlp(4, 3, width=8)), data, None, schedule, folder=tmp_path / "run", callbacks=events)

    trainer().run()
    again = trainer()
    again.resume(checkpoint_names(tmp_path / "run")[0])
    assert 0 < again.progress.epoch < 3
    again.run()
    assert len(list((tmp_path / "events").iterdir())) == 2
    told = accumulators.EventAccumulator(str(tmp_path / "events")).Reload()
    assert [event.step for event in told.Scalars("train_loss")] == [1, 2, 3]


@pytest.mark.parametrize("opened", [False, True])
def test_epochs_of_a_training_that_begins_again_replace_those_in_tensorboard(
    tmp_path: Path, accumulators: Any, opened: bool
) -> None:
    """As where the first was killed before it wrote a checkpoint."""
    for epochs in (3, 2):
        events = TensorBoard(tmp_path)
        if opened:
            events.writer.add_text("before", "width 8")
        rows_of(Network(mlp(5, 3, width=8)), events, epochs=epochs)
    told = accumulators.EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in told.Scalars("train_loss")] == [1, 2]
    if opened:
        assert len(told.Tensors("before/text_summary")) == 2


def test_the_writer_of_tensorboard_takes_entries_before_and_after_a_training(tmp_path: Path, accumulators: Any) -> None:
    events = TensorBoard(tmp_path)
    writer = events.writer
    writer.add_text("before", "width 8")
    rows_of(Network(mlp(5, 3, width=8)), events)
    events.writer.add_scalar("after", 0.5, 3)
    assert events.writer is writer
    events.writer.close()
    told = accumulators.EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in told.Scalars("train_loss")] == [1, 2]
    assert told.Scalars("after")[0].value == 0.5
    assert told.Tensors("before/text_summary")


def test_the_history_of_a_resumed_training_is_that_of_one_which_was_never_stopped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(40, 4), torch.randint(0, 3, (40,))

    def trainer() -> Trainer:
        network = Network(mlp(4, 3, width=8, areas=3, router={"partition": "growing"}))
        return Trainer(network, (x, y), None, Schedule(epochs=2), folder=tmp_path, callbacks=AreaRecord(x))

    whole = trainer().run().history
    resumed = trainer()
    resumed.resume()
    assert json.loads(json.dumps(whole)) == whole == resumed.run().history


def test_splits_before_a_training_are_not_told_as_its_own(tmp_path: Path) -> None:
    def trainer() -> Trainer:
        torch.manual_seed(0)
        network = Network(mlp(4, 3, width=8, areas=3, router={"partition": "growing", "cells": 8}))
        network.body.split(0, [1, 2])
        data = torch.randn(40, 4), torch.randint(0, 3, (40,))
        return Trainer(
            network, data, None, Schedule(epochs=4), folder=tmp_path, callbacks=[AreaRecord(data[0]), Once()]
        )

    class Once(Callback):
        """Stops after the first epoch of every run."""

        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            trainer.stop()

    first = trainer()
    for _ in range(2):
        first.run()
    resumed = trainer()
    resumed.resume()
    history = resumed.run().history
    assert len(history) == 3
    assert [row["splits"] for row in history] == [[], [], []]
    ((name, area),) = history[0]["began"].items()
    assert area == [0, 1, 1, 0, 0, 0, 0, 0]
    assert name in [name for name, _ in routers(resumed.network)]
    assert not any("began" in row for row in history[1:])


def test_errors_are_told_in_every_step_without_changing_what_is_learned() -> None:
    """Captured steps would tell nobody; the last step of an epoch is watched by the trainer, too."""

    class Errors(Callback):
        def __init__(self) -> None:
            self.seen: list[tuple[int, Layer, Tensor]] = []

        def on_layer_error(self, trainer: Trainer, layer: Layer, error: Tensor) -> None:
            self.seen.append((trainer.progress.step, layer, error.clone()))

    networks, errors = [], Errors()
    for callbacks in ([], [errors]):
        torch.manual_seed(0)
        networks.append(Network(mlp(5, 3, width=6, areas=2)))
        trainer = Trainer(networks[-1], (X, Y), None, Schedule(epochs=2, batch_size=30), callbacks=callbacks)
        trainer.run()
    torch.testing.assert_close(networks[1](X), networks[0](X), rtol=0, atol=0)
    hidden, top = (layer for _, layer in networks[1].area_layers())
    assert [(step, layer) for step, layer, _ in errors.seen] == [
        (step, layer) for step in range(trainer.steps) for layer in (top, hidden)
    ]
    for (_, _, error), (_, _, below) in zip(errors.seen[::2], errors.seen[1::2], strict=True):
        assert (error.shape, below.shape) == ((30, 3), (30, 6))
        # Of the mean cross-entropy: softmax minus target, over the batch.
        torch.testing.assert_close(error.sum(1), torch.zeros(30), rtol=0, atol=1e-7)
        torch.testing.assert_close(error.clamp_max(0).sum(1) < 0, torch.ones(30, dtype=torch.bool))
