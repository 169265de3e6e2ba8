"""Arguments of operations: what lists, tuples and dictionaries of them hold.

PyTorch's own `torch.utils._pytree` does the same for containers of any kind, which took half of the time of a
recording.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_HOLDING = {tuple, list, dict}


def leaves(values: Any) -> list[Any]:
    """Returns what lists, tuples and dictionaries hold, at any depth, in order; named tuples are leaves themselves."""
    if type(values) not in _HOLDING:
        return [values]
    found: list[Any] = []
    for value in values.values() if type(values) is dict else values:
        if type(value) in _HOLDING:
            found += leaves(value)
        else:
            found.append(value)
    return found


def replaced(kind: type, function: Callable[[Any], Any], values: Any) -> Any:
    """Returns equal lists, tuples and dictionaries with ``function(leaf)`` for every leaf of a kind."""
    if type(values) is dict:
        return {name: replaced(kind, function, value) for name, value in values.items()}
    if type(values) in _HOLDING:
        return type(values)([replaced(kind, function, value) for value in values])
    return function(values) if isinstance(values, kind) else values
