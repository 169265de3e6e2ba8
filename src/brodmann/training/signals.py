"""Signals that end a training wait for the end of its step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(Exception):  # noqa: N818
    """A signal stopped the training after a whole step; its checkpoint is written."""

    def __init__(self, number: int) -> None:
        """Holds the number of the signal."""
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        """Goes from process to process by its number."""
        return type(self), (self.number,)


class Waiting:
    """The signal that came last, ``number``, None before one."""

    def __init__(self) -> None:
        """Starts without one."""
        self.number: int | None = None

    def stop_if_any(self) -> None:
        """Raises `Interrupted` if a signal came."""
        if self.number is not None:
            raise Interrupted(self.number)


@contextmanager
def waiting_signals() -> Iterator[Waiting]:
    """Notes SIGINT and SIGTERM instead of letting them act, see `handled`."""
    waiting = Waiting()

    def note(number: int, _: FrameType | None) -> None:
        waiting.number = number

    with handled(note, signal.SIGINT, signal.SIGTERM):
        yield waiting


@contextmanager
def interrupting_sigterm() -> Iterator[None]:
    """Lets SIGTERM raise `Interrupted` at once, as SIGINT raises KeyboardInterrupt, see `handled`."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    with handled(stop, signal.SIGTERM):
        yield


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None], *numbers: int) -> Iterator[None]:
    """Lets signals call a handler, unless they are ignored. Only the main thread can; in others nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # None: not installed from Python, which could not put it back.
    minded = [number for number in numbers if signal.getsignal(number) not in (None, signal.SIG_IGN)]
    before = {number: signal.signal(number, handler) for number in minded}
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)
