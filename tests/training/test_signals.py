"""Signals: a training stops after a whole step and goes on later, alone and among processes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from brodmann.generators import Draws
from brodmann.training import Callback, Interrupted, Trainer
from brodmann.training.checkpoints import checkpoint_names
from brodmann.training.schedule import Schedule

from .parts import blobs, network


def test_a_signal_after_the_last_step_still_stops(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
            if row["epoch"] == 2:
                signal.raise_signal(signal.SIGINT)

    trainer = Trainer(network(), blobs(), None, Schedule(epochs=2), folder=tmp_path, callbacks=[Stop()])
    with pytest.raises(Interrupted, match="stopped by SIGINT"):
        trainer.run()
    again = Trainer(network(), blobs(), None, Schedule(epochs=2), folder=tmp_path)
    again.resume()
    assert again.run().epoch == 2


def test_an_interruption_goes_from_process_to_process() -> None:
    again = pickle.loads(pickle.dumps(Interrupted(signal.SIGINT)))
    assert (again.number, str(again)) == (signal.SIGINT, "stopped by SIGINT")


def test_a_run_goes_on_after_a_signal() -> None:
    class Once(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.progress.step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    trainer = Trainer(network(), blobs(), None, Schedule(epochs=3, batch_size=30), callbacks=[Once()])
    with pytest.raises(Interrupted):
        trainer.run()
    assert trainer.run().step == 9


INTERRUPTED = """
import multiprocessing, os, signal, sys
import torch
from brodmann import Network, mlp
from brodmann.training import Interrupted, Schedule, Trainer

class Stopping(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, row):
        if row == 5:
            os.killpg(0, getattr(signal, sys.argv[2]))  # training and workers get it
        return torch.randn(5), row % 3

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")  # by a fork workers would have the handlers of the training
    schedule = Schedule(epochs=9, batch_size=8)
    trainer = Trainer(Network(mlp(5, 3)), Stopping(), None, schedule, folder=sys.argv[1], workers=1)
    try:
        trainer.run()
    except Interrupted:
        print("interrupted after", trainer.progress.step)
"""


@pytest.mark.parametrize(("name", "steps"), [("SIGINT", 1), ("SIGTERM", 0)])  # the second ends the workers
def test_a_signal_to_all_processes_is_the_trainings(tmp_path: Path, name: str, steps: int) -> None:
    (tmp_path / "script.py").write_text(INTERRUPTED, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "run"), name],
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
        check=False,
    )
    assert (run.stdout, run.stderr, run.returncode) == (f"interrupted after {steps}\n", "", 0)
    assert checkpoint_names(tmp_path / "run")


def test_a_training_that_waits_for_another_can_be_interrupted() -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with Draws(0).going_on():
            held.set()
            done.wait(30)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(30)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            Trainer(network(), blobs(), None, Schedule(epochs=1)).run()
        assert other.is_alive()
    finally:
        done.set()
        other.join()
