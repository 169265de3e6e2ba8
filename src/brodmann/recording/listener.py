"""How code that is recorded reports to the recorder, if one listens: such code needs to know only this file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from torch import Tensor

T = TypeVar("T", bound=int | None)


class Listener(Protocol):
    """What a step reports its calls to, besides PyTorch's operations, which report themselves."""

    thread: int

    @property
    def draws(self) -> int:
        """How many of the operations that it heard of drew random numbers."""

    def hear(self, function: Callable[..., Any], arguments: tuple[Any, ...], answer: Any, *, moves: bool) -> Any:
        """Takes note of a call that was made, with tensors for addresses; returns the answer for the caller.

        ``moves`` says whether it changed what the network holds.
        """

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...], *, moves: bool) -> Any:
        """Makes a call with plain numbers and takes note of it, but not of what goes on inside."""

    def ask(self, part: object, question: str) -> bool:
        """Asks what decides which calls are made, see `asked`."""

    def keep_from_operations(self, tensor: Tensor) -> None:
        """Takes note that how much of a tensor counts depends on an answer: only kernels may take it."""

    def refuse(self, why: str) -> None:
        """Takes note of something that cannot be recorded."""


_listener: Listener | None = None


def recorder_here() -> Listener | None:
    """Returns what records in this thread, if anything does."""
    listener = _listener
    return listener if listener is not None and listener.thread == threading.get_ident() else None


def listen(listener: Listener | None) -> None:
    """Lets something record from now on, or nothing."""
    global _listener
    _listener = listener


def replayed(function: Callable[..., T], *arguments: Any, moves: bool = False) -> T:
    """Calls a function that reads numbers in tensors; if a step is being recorded, every replay calls it again.

    Args:
        function: Returns a whole number or nothing. A number may only be passed to kernels, since it may differ each
            time.
        *arguments: Numbers, such as learning rates, are followed as arguments of their own, not inside of others.
        moves: Whether it changes what the network holds, other than by giving memory to areas.
    """
    listener = recorder_here()
    return function(*arguments) if listener is None else listener.run(function, arguments, moves=moves)


def asked(part: object, question: str) -> bool:
    """Asks what decides which calls are made, ``part.question``; another answer in a later step ends a recording.

    A step is recorded only if this is first asked before anything has moved. Within the step the answer stays the same.
    """
    listener = recorder_here()
    return getattr(part, question) if listener is None else listener.ask(part, question)
