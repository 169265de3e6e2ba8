"""Whether a network is still as it was: its parts, their settings, and the addresses of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as modules_of_torch

from ..origin import is_ours
from .composition import Composition
from .contents import attributes_of, everything_in


class Unchanged:
    """The state of a network at one time: everything but the numbers in its tensors."""

    def __init__(self, network: nn.Module, *others: Any) -> None:
        """Looks at a network, and at further objects with settings, such as its loss."""
        found = [value for _, value in everything_in(network, *others)]
        parts = [value for value in found if isinstance(value, nn.Module)]
        settings = [known for known in map(_settings_of, found) if known is not None]
        for table, names in settings:
            if table is vars(network):
                names.discard("lr")  # steps may be made at any rate
        self._threads = torch.get_num_threads()
        self._settings = [_read(table, names) for table, names in settings]
        self._composition = Composition(parts)
        self._hooks = [table for part in parts for table in _hooks_of(part)]
        tables: list[dict[str, Any]] = [table for part in parts for table in (part._parameters, part._buffers)]
        self._tensors = [(table, name) for table in tables for name in table if table[name] is not None]
        self._places = self._now()

    def holds(self) -> bool:
        """Whether all is as it was, and nobody watches what the parts return. It is asked in every step."""
        if any(self._hooks) or _watched() or torch.get_num_threads() != self._threads:
            return False
        try:
            for table, count, get, values in self._settings:
                if len(table) != count or get(table) != values:
                    return False
            return self._composition.is_same() and self._now() == self._places
        except (KeyError, RuntimeError, ValueError):  # something is gone, or cannot be compared
            return False

    def _now(self) -> list[tuple[int, tuple[int, ...]]]:
        """Returns addresses and layouts of the tensors."""
        tensors = [table[name] for table, name in self._tensors]
        return [(tensor.data_ptr(), tensor.stride()) for tensor in tensors]


def _hooks_of(part: nn.Module) -> tuple[dict[int, Any], ...]:
    return part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks


def _watched() -> bool:
    return bool(modules_of_torch._has_any_global_hook())  # type: ignore[no-untyped-call]


def _settings_of(value: Any) -> tuple[dict[str, Any], set[str]] | None:
    """Returns the table that holds the settings of an object, with their names in it; None if it has none."""
    if isinstance(value, nn.Module):
        return vars(value), attributes_of(value) | {"training"}
    if isinstance(value, partial):
        return value.keywords, set(value.keywords)
    return (vars(value), attributes_of(value)) if is_ours(value) and hasattr(value, "__dict__") else None


def _read(table: dict[str, Any], names: Iterable[str]) -> tuple[dict[str, Any], int, Callable[[Any], Any], Any]:
    """Returns a table, its size, what reads these of its values, and what they are."""
    of_each = tuple(names)
    if len(of_each) == 1:  # twice, for a tuple: it asks for identity first, and tensors cannot be compared
        of_each *= 2
    get = itemgetter(*of_each) if of_each else len
    return table, len(table), get, get(table)
