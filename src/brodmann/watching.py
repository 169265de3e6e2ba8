"""Watching a network compute: what parts of it take and return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from torch import nn

Part = TypeVar("Part", bound=nn.Module)


@contextmanager
def watched(parts: Iterable[tuple[str, Part]], see: Callable[[str, Part, Any, Any], Any]) -> Iterator[None]:
    """Calls ``see(name, part, input, output)`` when one of the parts was called; what it returns replaces the output.

    Args:
        parts: Modules by name.
        see: Of a part its name, itself, what came first, and what it returned; returns None to leave that as it is.
    """

    def hook(name: str) -> Callable[[Any, tuple[Any, ...], Any], Any]:
        return lambda part, came, output: see(name, part, came[0], output)

    with ExitStack() as hooks:
        for name, part in parts:
            hooks.enter_context(part.register_forward_hook(hook(name)))
        yield
