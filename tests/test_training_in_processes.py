"""Trainings by several processes: they stop together, the first one keeps the files, and all go on bit for bit."""

from __future__ import annotations

import os
import re
import signal
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from brodmann import Adam, Network, Parallel, mlp
from brodmann.training import Callback, MetricsFile, Schedule, Trainer
from brodmann.training.checkpoints import checkpoint_names
from brodmann.training.signals import Interrupted

COUNT = 2
SCHEDULE = Schedule(epochs=4, batch_size=11, seed=3, patience=4, checkpoint_seconds=0.0)
STEPS = 4 * 4
DESIGNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"dropout": 0.4},
    "noisy feedback": {"feedback": "kolen-pollack-noisy"},
    "bfloat16": {"storage": "bfloat16"},
}


class Stopping(Callback):
    """In one process, does something after a step."""

    def __init__(self, step: int, rank: int, act: Callable[[Trainer], None]) -> None:
        self.step, self.act = step if distributed.get_rank() == rank else 0, act

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if trainer.progress.step == self.step:
            self.act(trainer)


class Writing(Callback):
    """Says in which process it is called."""

    writes = True

    def __init__(self) -> None:
        self.called = False

    def on_start(self, trainer: Trainer) -> None:
        self.called = True


def data() -> tuple[Tensor, Tensor]:
    """Returns samples and their classes."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(44, 5, generator=generator), torch.randint(0, 3, (44,), generator=generator)


def trainer(design: str, folder: Path | None, *callbacks: Callback) -> Trainer:
    """Returns a training of a network that is built anew, otherwise in each process."""
    torch.manual_seed(distributed.get_rank() if folder is None else 7 + distributed.get_rank())
    body = mlp(5, 3, width=8, areas=4, update=Adam(), **DESIGNS[design])
    network = Parallel(Network(body))
    if folder is None or not checkpoint_names(folder):
        torch.manual_seed(5)
        network.network.load_learning_state(
            Network(mlp(5, 3, width=8, areas=4, update=Adam(), **DESIGNS[design])).learning_state()
        )
    return Trainer(network, data(), data(), SCHEDULE, folder=folder, callbacks=callbacks)


def state(training: Trainer) -> dict[str, Tensor]:
    """Returns what the network of a training holds."""
    return {name: part.clone() for name, part in training.network.learning_state().items()}


def interrupted(design: str, folder: Path) -> dict[str, Any]:
    """Trains with a signal to the second process in between, and without; returns what both come to."""
    straight = trainer(design, None)
    straight.run()
    stopping = Stopping(6, 1, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    first, stopped = trainer(design, folder, stopping), 0
    try:
        first.run()
    except Interrupted:
        stopped = first.progress.step
    second = trainer(design, folder)
    second.resume()
    resumed = second.progress.step
    second.run()
    return {"stopped": stopped, "resumed": resumed, "straight": state(straight), "then": state(second)}


def stopped(folder: Path) -> dict[str, Any]:
    """Lets a callback of the second process stop the training; returns how far it came, and who wrote."""
    writing = Writing()
    training = trainer("plain", folder, Stopping(6, 1, Trainer.stop), writing, MetricsFile(folder / "metrics.jsonl"))
    training.run()
    kept = [callback for callback in training.callbacks if isinstance(callback, MetricsFile)]
    return {"step": training.progress.step, "wrote": writing.called, "metrics": len(kept)}


def refused(act: Callable[[Path], Trainer], folder: Path) -> str:
    """Returns what all processes say of a folder."""
    try:
        act(folder).run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"


def failed(folder: Path) -> tuple[str, list[str]]:
    """Lets a callback of the second process fail, which leaves the group as if it ended; returns what is said and kept.

    Nothing can be exchanged afterwards.
    """

    def fail(_: Trainer) -> None:
        distributed.destroy_process_group()
        raise ValueError("a callback failed")

    return refused(lambda folder: trainer("plain", folder, Stopping(6, 1, fail)), folder), checkpoint_names(folder)


def resumed(folder: Path) -> Trainer:
    """Returns a training that goes on."""
    training = trainer("plain", folder)
    training.resume()
    return training


def damaged(folder: Path) -> Trainer:
    """Returns a training that goes on from damaged tensors."""
    if distributed.get_rank() == 0:
        for path in folder.glob("*.safetensors"):
            path.write_bytes(path.read_bytes()[:-5])
    distributed.barrier()
    return resumed(folder)


def run(rank: int, folder: str) -> None:
    """What every process does: all cases, one after the other; writes what it found."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=COUNT)
    base = Path(folder)
    cases: dict[str, Callable[[], Any]] = {
        **{design: partial(interrupted, design, base / design) for design in DESIGNS},
        "stopped": lambda: stopped(base / "stopped"),
        "again": lambda: refused(partial(trainer, "plain"), base / "stopped"),
        "damaged": lambda: refused(damaged, base / "stopped"),
        "nothing there": lambda: refused(resumed, base / "nothing"),
        "failed": lambda: failed(base / "failed"),
    }
    found: dict[str, Any] = {}
    for name, case in cases.items():
        try:
            found[name] = case()
        except Exception as error:  # the test of this case fails
            found[name] = error
    if distributed.is_initialized():
        distributed.destroy_process_group()
    torch.save(found, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Callable[[str], list[Any]]:
    """What each of the processes found in a case; what they raised is raised."""
    folder = str(tmp_path_factory.mktemp("processes"))
    multiprocessing.spawn(run, (folder,), nprocs=COUNT)
    every = [torch.load(f"{folder}/{rank}.pt", weights_only=False) for rank in range(COUNT)]

    def of_all(name: str) -> list[Any]:
        for part in every:
            if isinstance(part[name], Exception):
                raise part[name]
        return [part[name] for part in every]

    return of_all


@pytest.mark.parametrize("design", DESIGNS)
def test_a_signal_to_one_process_stops_all_after_the_same_step_and_they_go_on_bit_for_bit(found, design):
    for of_process in found(design):
        assert of_process["stopped"] == of_process["resumed"] == 6
        for name, part in of_process["straight"].items():
            assert torch.equal(part, of_process["then"][name]), name


def test_what_a_callback_of_one_process_stops_ends_in_all(found):
    assert [of_process["step"] for of_process in found("stopped")] == [8, 8]  # the end of its epoch


def test_callbacks_that_write_are_called_in_the_first_process_alone(found):
    assert [(of_process["wrote"], of_process["metrics"]) for of_process in found("stopped")] == [(True, 1), (False, 0)]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("again", "BrodmannError: .*stopped holds checkpoints of an earlier run: continue it with resume"),
        ("damaged", "CheckpointError: Checkpoint '.*' is damaged.*No other checkpoint is good"),
        ("nothing there", "CheckpointError: .*nothing holds no checkpoint"),
    ],
)
def test_what_the_first_process_finds_in_the_folder_is_told_in_all(found, case, said):
    for of_process in found(case):
        assert re.match(said, of_process)


def test_if_one_process_fails_the_others_say_so_and_the_last_step_is_kept(found):
    (first, kept), (second, _) = found("failed")
    assert re.match("BrodmannError: The processes could not exchange data. If another one failed or ended, see", first)
    assert second == "ValueError: a callback failed"
    assert kept[-1].endswith("6")
