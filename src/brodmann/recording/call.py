"""Call: one of the calls of which a recording consists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .memory import View


@dataclass
class Call:
    """A call to be made again.

    Attributes:
        function: What is called.
        arguments: With a `View` for each tensor that a recorded call made, and itself for every other one.
        keywords: Its keyword arguments, with views likewise.
        made: Views of the tensors that it returned, if it is an operation of PyTorch that makes new ones.
        answer: The whole number that it returned, or None.
        dropped: Whether another call does its work.
        moves: Whether it changes what was there before the recording.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)
    made: list[View] | None = None
    answer: int | None = None
    dropped: bool = False
    moves: bool = False
