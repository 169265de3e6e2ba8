"""How code that is recorded reports to the recorder, if one listens: such code needs to know only this file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .recorder import Recorder

T = TypeVar("T", bound=int | None)

_recorder: Recorder | None = None


def recorder_here() -> Recorder | None:
    """Returns what records in this thread, if anything does."""
    recorder = _recorder
    return recorder if recorder is not None and recorder.thread == threading.get_ident() else None


def report_to(recorder: Recorder | None) -> None:
    """Lets code report to a recorder from now on, or to none."""
    global _recorder
    _recorder = recorder


def replayed(function: Callable[..., T], *arguments: Any, moves: bool = False) -> T:
    """Calls a function that reads numbers in tensors; if a step is being recorded, every replay calls it again.

    Args:
        function: Returns a whole number or nothing. A number may only be passed to kernels, since it may differ each
            time.
        *arguments: Numbers, such as learning rates, are followed as arguments of their own, not inside of others.
        moves: Whether it changes what the network holds, other than by giving memory to areas.
    """
    recorder = recorder_here()
    return function(*arguments) if recorder is None else recorder.run(function, arguments, moves=moves)


def asked(part: object, question: str) -> bool:
    """Asks what decides which calls are made, ``part.question``; another answer in a later step ends a recording.

    A step is recorded only if this is first asked before anything has moved. Within the step the answer stays the same.
    """
    recorder = recorder_here()
    return getattr(part, question) if recorder is None else recorder.ask(part, question)
