"""Parts of a network that do not come from this package or PyTorch, and so may do anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType
from typing import Any

from torch import nn

_KNOWN = ("brodmann", "torch", "builtins")


def own_part(network: nn.Module, *others: Any) -> str | None:
    """Returns the name of a module, function or further object of a user's own, None where there are none."""
    for name, part in network.named_modules():
        if _is_own(type(part)) or any(map(_is_own, _functions(vars(part).values()))):
            return name or type(part).__name__
    for other in others:
        if _is_own(type(other)) or any(map(_is_own, _functions(getattr(other, "__dict__", {}).values()))):
            return type(other).__name__
    return None


def _functions(values: Any) -> Iterator[Callable[..., Any]]:
    for value in values:
        inner = value.func if isinstance(value, partial) else value
        if isinstance(inner, FunctionType):
            yield inner


def _is_own(kind: Callable[..., Any]) -> bool:
    return kind.__module__.partition(".")[0] not in _KNOWN
