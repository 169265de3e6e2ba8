"""Signals: a training stops after a whole step and goes on later, alone and among processes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest
import torch

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


def test_a_signal_while_callbacks_end_is_not_lost() -> None:
    class Slow(Callback):
        def on_end(self, trainer: Trainer) -> None:
            signal.raise_signal(signal.SIGTERM)

    trainer = Trainer(network(), blobs(), None, Schedule(epochs=2), callbacks=[Slow()])
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        trainer.run()
    assert trainer.progress.epoch == 2


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
import multiprocessing, os, signal, sys, time
import torch
from brodmann import Network, mlp
from brodmann.training import Interrupted, Schedule, Trainer

class Stopping(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, row):
        if row == 5:
            os.killpg(0, getattr(signal, sys.argv[2]))  # training and workers get it
            time.sleep(0.5)  # the training notes it before it has the batch, even if another of its threads got it
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


def _said(script: str, folder: Path, *arguments: str) -> tuple[str, str, int]:
    """Runs a script in processes of its own, which may signal all of them; returns what it said, and how it ended."""
    (folder / "script.py").write_text(script, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, str(folder / "script.py"), str(folder / "run"), *arguments],
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
        check=False,
    )
    return run.stdout, run.stderr, run.returncode


@pytest.mark.parametrize(("name", "steps"), [("SIGINT", 1), ("SIGTERM", 0)])  # the second ends the workers
def test_a_signal_to_all_processes_is_the_trainings(tmp_path: Path, name: str, steps: int) -> None:
    assert _said(INTERRUPTED, tmp_path, name) == (f"interrupted after {steps}\n", "", 0)
    assert checkpoint_names(tmp_path / "run")


TERMINATED = """
import multiprocessing, os, signal, sys, time
import torch
from brodmann import Network, mlp
from brodmann.training import Callback, Interrupted, Schedule, Trainer

class Ahead(torch.utils.data.Dataset):
    made = 0

    def __len__(self):
        return 8

    def __getitem__(self, row):
        self.made += 1
        if self.made == 5:  # of the second batch, while the training is busy with the first
            time.sleep(1.0)
            os.killpg(0, signal.SIGTERM)
        return torch.randn(5), row % 3

class Busy(Callback):
    def on_step(self, trainer, loss):
        (worker,) = multiprocessing.active_children()
        worker.join(60)
        time.sleep(0.1)  # for the handler of SIGCHLD

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    network, schedule = Network(mlp(5, 3)), Schedule(batch_size=4)
    trainer = Trainer(network, Ahead(), None, schedule, folder=sys.argv[1], callbacks=[Busy()], workers=1)
    try:
        trainer.run()
    except Interrupted:
        print("interrupted after", trainer.progress.step)
"""


def test_a_worker_that_dies_while_a_step_is_made_does_not_fail_it(tmp_path: Path) -> None:
    assert _said(TERMINATED, tmp_path) == ("interrupted after 1\n", "", 0)
    assert checkpoint_names(tmp_path / "run") == ["checkpoint-000000001"]


def test_no_thread_that_sends_to_workers_outlives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the one that removes semaphores, and a process that ends meanwhile would leak them."""
    send = Queue._feed  # type: ignore[attr-defined]

    def send_and_linger(*args: object) -> None:
        send(*args)
        time.sleep(0.2)

    monkeypatch.setattr(Queue, "_feed", staticmethod(send_and_linger))
    before = threading.enumerate()
    Trainer(network(), torch.utils.data.TensorDataset(*blobs()), None, Schedule(epochs=1), workers=2).run()
    assert set(threading.enumerate()) <= set(before)


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
