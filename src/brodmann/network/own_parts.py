"""Parts of a network that do not come from this package or PyTorch, and so may do anything."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn

from ..origin import is_foreign
from .contents import everything_in


def own_part(network: nn.Module, *others: Any) -> str | None:
    """Returns the place of a user-defined module, function or other object, None if there is none."""
    return next((name for name, value in everything_in(network, *others) if _is_own(value)), None)


def _is_own(value: Any) -> bool:
    if isinstance(value, MethodType):
        return False  # its function and its object are looked at
    if isinstance(value, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        return True
    return is_foreign(value)
