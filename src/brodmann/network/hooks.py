"""Hooks that watch a network compute: what parts of it take and return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from torch import nn

Part = TypeVar("Part", bound=nn.Module)


@contextmanager
def watched(parts: Iterable[tuple[str, Part]], see: Callable[[str, Part, Any, Any], Any]) -> Iterator[None]:
    """Calls ``see(name, part, input, output)`` after each call of a part; what it returns replaces the output.

    Args:
        parts: Modules by name.
        see: Takes a part's name, the part, its first input and its output; returns a new output, or None to keep it.
    """

    def hook(name: str) -> Callable[[Any, tuple[Any, ...], Any], Any]:
        return lambda part, inputs, output: see(name, part, inputs[0], output)

    with ExitStack() as hooks:
        for name, part in parts:
            hooks.enter_context(part.register_forward_hook(hook(name)))
        yield
