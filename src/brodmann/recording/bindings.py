"""PyTorch's own bindings of its operations, which take half of the time of a small call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from .mode import Mode
from .nested import leaves
from .operations import written_by

_PLACES = (torch._C._VariableFunctions, torch._C._nn, torch._C.TensorBase)
_found: dict[Any, Callable[..., Any]] = {}


def quick(operation: Callable[..., Any], arguments: list[Any], keywords: dict[str, Any]) -> Callable[..., Any]:
    """Returns the quickest way to call an operation that writes into what it is given; any other function as it is.

    An operation such as ``torch.ops.aten.add.out`` matches its arguments with a schema anew in every call; a binding
    such as `torch.add` has that compiled. A binding chooses among several operations, so each is asked once which
    operation it calls, and with what.
    """
    if not isinstance(operation, OpOverload) or not operation._schema.is_mutable:
        return operation
    key = operation, *map(_kind, arguments), *keywords, *map(_kind, keywords.values())
    if key not in _found:
        _found[key] = _binding(operation, arguments, keywords) or operation._op
    return _found[key]


def _binding(operation: OpOverload, arguments: list[Any], keywords: dict[str, Any]) -> Callable[..., Any] | None:
    wanted = _heard(operation, arguments, keywords)
    for place in _PLACES:
        binding = getattr(place, operation.overloadpacket.__name__, None)
        if binding is not None and _equal(_heard(binding, arguments, keywords), wanted):
            return binding
    return None


def _kind(value: Any) -> Any:
    kind = type(value)
    if kind is list or kind is tuple:
        return kind, *map(_kind, value)
    return (kind, value.ndim > 0) if isinstance(value, Tensor) else kind  # a tensor of one number may be taken for it


def _heard(function: Callable[..., Any], arguments: list[Any], keywords: dict[str, Any]) -> list[Any] | None:
    """Returns the only operation that a function would call, and all that it would hand it; None for any other."""
    listening = _Listening()
    try:
        with listening:
            function(*arguments, **keywords)
    except Exception:  # a binding that takes no such arguments
        return None
    return listening.heard[0] if len(listening.heard) == 1 else None


def _equal(found: list[Any] | None, wanted: list[Any] | None) -> bool:
    if found is None or wanted is None:
        return False
    return len(found) == len(wanted) and all(map(_same, found, wanted))


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and not isinstance(one, Tensor) and bool(one == other))


class _Listening(Mode):  # type: ignore[no-untyped-call]
    """Hears of operations, and computes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[list[Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Is called in the place of every operation of PyTorch; returns what it would have written into."""
        kwargs = kwargs or {}
        self.heard.append([func, len(args), *kwargs, *leaves((args, kwargs))])
        written = written_by(func, args, kwargs)
        return written[0] if len(written) == 1 else tuple(written)
