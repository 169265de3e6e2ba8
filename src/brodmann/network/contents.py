"""Objects that the parts of a network hold besides modules, such as cells and functions; which are a user's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from ..origin import is_foreign, is_ours

_OF_EVERY_MODULE = vars(nn.Module()).keys()
"""Attributes that every module has."""


def everything_in(network: nn.Module, *others: Any) -> Iterator[tuple[str, Any]]:
    """Yields all objects that a network and further ones, such as its loss, hold to any depth, each once.

    Each comes with the name of the part of the network in which it was found, or of the class of the further object.
    The search goes into modules, methods, partial functions, collections and objects of this package.
    """
    names = {id(part): name for name, part in network.named_modules()}
    seen: set[int] = set()
    waiting = [(type(given).__name__, given) for given in (network, *others)]
    while waiting:
        name, value = waiting.pop()
        if id(value) in seen or isinstance(value, Tensor | str | int | float | None):
            continue
        seen.add(id(value))
        name = names.get(id(value)) or name
        yield name, value
        waiting.extend((name, part) for part in _held_by(value))


def _held_by(value: Any) -> Iterable[Any]:
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if isinstance(value, partial):
        return value.func, *value.args, *value.keywords.values()
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, nn.Module):
        return *value._modules.values(), *(vars(value)[name] for name in attributes_of(value))
    return getattr(value, "__dict__", {}).values() if is_ours(value) else ()


def attributes_of(value: Any) -> set[str]:
    """Returns the names of an object's own attributes, without those that every module has."""
    return vars(value).keys() - _OF_EVERY_MODULE if isinstance(value, nn.Module) else set(vars(value))


def own_part(network: nn.Module, *others: Any) -> str | None:
    """Returns the place of a user-defined module, function or other object, which may do anything; None without one."""
    return next((name for name, value in everything_in(network, *others) if _is_own(value)), None)


def _is_own(value: Any) -> bool:
    if isinstance(value, MethodType):
        return False  # its function and its object are looked at
    return isinstance(value, torch.jit.ScriptModule | torch.jit.ScriptFunction) or is_foreign(value)
