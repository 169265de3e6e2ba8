"""Parts of a network that do not come from this package or PyTorch, and so may do anything."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

_KNOWN = {"brodmann", "torch", "numpy", *sys.stdlib_module_names}
_OF_EVERY_MODULE = vars(nn.Module()).keys()


def own_part(network: nn.Module, *others: Any) -> str | None:
    """Returns the name of a module, function or further object of a user's own, None where there are none.

    Objects are looked for wherever parts hold them: the loss that another one wraps, the cell of a recurrent layer,
    what a function is a method of.
    """
    seen: set[int] = set()
    for name, part in reversed(list(network.named_modules())):  # what is inside has the more telling name
        if _is_own(part, seen):
            return name or type(part).__name__
    return next((type(other).__name__ for other in others if _is_own(other, seen)), None)


def _is_own(value: Any, seen: set[int]) -> bool:
    """Whether something is a user's own, or holds what is."""
    if id(value) in seen or isinstance(value, Tensor | str | int | float | None):
        return False
    seen.add(id(value))
    if isinstance(value, FunctionType | type):
        return _is_foreign(value)
    if isinstance(value, MethodType):
        return _is_foreign(value.__func__) or _is_own(value.__self__, seen)
    if isinstance(value, partial):
        return any(_is_own(part, seen) for part in (value.func, *value.args, *value.keywords.values()))
    if isinstance(value, Mapping):
        return any(_is_own(part, seen) for part in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return any(_is_own(part, seen) for part in value)
    if _is_foreign(type(value)) or isinstance(value, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        return True
    held = getattr(value, "__dict__", {})
    if isinstance(value, nn.Module):
        held = {**value._modules, **{name: part for name, part in held.items() if name not in _OF_EVERY_MODULE}}
    elif not type(value).__module__.startswith("brodmann."):
        return False
    return any(_is_own(part, seen) for part in held.values())


def _is_foreign(kind: Any) -> bool:
    return (getattr(kind, "__module__", None) or "builtins").partition(".")[0] not in _KNOWN
