"""What a recording must know of PyTorch's operations: names, what they write, and whether numbers decide on sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .nested import leaves

UNWRITTEN = {"empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided"}
"""Operations that return memory whose numbers are not set."""
_LOOKING = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


def name_of(function: Callable[..., Any]) -> str:
    """Returns the name of an operation; empty for any other function, such as a kernel."""
    packet = getattr(function, "overloadpacket", None)
    return "" if packet is None else str(packet.__name__)


def depends_on_numbers(operation: Any, arguments: tuple[Any, ...]) -> bool:
    """Whether the size of what an operation returns, or more, depends on the numbers in its tensors."""
    if name_of(operation) == "index":  # by masks, not by whole numbers
        indices = [part for part in leaves(arguments[1]) if isinstance(part, Tensor)]
        return any(part.dtype in (torch.bool, torch.uint8) for part in indices)
    return any(tag in operation.tags for tag in _LOOKING)


def written_by(operation: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> list[Any]:
    """Returns what an operation writes into, of what it is given."""
    return [
        arguments[place] if place < len(arguments) else keywords.get(argument.name)
        for place, argument in enumerate(operation._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
