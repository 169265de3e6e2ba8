"""Workers: processes that make batches ahead of the training; the death of one is told between two steps."""

from __future__ import annotations

import signal
import sys
import threading
import weakref
from collections.abc import Generator
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader

from .signals import handled

_FEEDER = "QueueFeederThread"
"""Python's name of the thread that sends through a queue what is put into it, here to a worker.

If it is the last to hold the semaphores of the queue, it also removes them. Where the process ends meanwhile, nobody
tells Python's tracker, which then speaks of a leak. PyTorch does not wait for it.
"""
_PATIENCE = 10.0
"""Seconds to wait for one that has been told to end."""


def made_by(loader: DataLoader[Any]) -> Generator[Any]:
    """Yields what a loader makes, by worker processes if it has some.

    If a worker dies, PyTorch's handler of SIGCHLD raises in whatever the main thread is doing, such as a step, which
    would be left half made. Here the error waits until the next batch is asked for. (On Windows it does so anyway.)

    Raises:
        RuntimeError: A worker died.
    """
    if not loader.num_workers or sys.platform == "win32":
        yield from loader
        return
    before = threading.enumerate()
    made = iter(loader)  # the first one in a process sets PyTorch's handler
    feeders = [thread for thread in threading.enumerate() if thread not in before and thread.name == _FEEDER]
    told = signal.getsignal(signal.SIGCHLD)
    asked, death = False, None

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal death
        try:
            if callable(told):
                told(number, frame)
        except RuntimeError as error:
            if asked:
                raise
            death = error

    with handled(note, signal.SIGCHLD):
        try:
            while True:
                asked = True
                if death is not None:
                    raise death
                try:
                    batch = next(made)
                except StopIteration:
                    return
                finally:
                    asked = False
                yield batch
        finally:
            ended = weakref.ref(made)
            del made  # ends its workers, whose deaths nobody needs to hear of
            if ended() is None:  # no traceback holds it
                for feeder in feeders:
                    feeder.join(_PATIENCE)
