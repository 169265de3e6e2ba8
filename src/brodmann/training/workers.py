"""Workers: processes that make batches ahead of the training; the death of one is told between two steps."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader

from .signals import handled


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
    made = iter(loader)  # the first one in a process sets PyTorch's handler
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
            del made  # ends its workers, whose deaths nobody needs to hear of
