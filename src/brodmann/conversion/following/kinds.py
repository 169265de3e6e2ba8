"""Questions about kinds: what `isinstance` answers while a network is followed."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...origin import package_of_code
from ..nodes import STANDS_FOR


@contextmanager
def asking_for_kinds(is_tensor: Callable[[fx.Node], bool], is_followed: Callable[[], bool]) -> Iterator[None]:
    """Lets a network ask by `isinstance` whether the value of a proxy is a tensor, and what a twin stands for.

    PyTorch itself gets the usual answer: else it would take a proxy for a tensor.

    Args:
        is_tensor: Answers whether the value of a node is one.
        is_followed: Answers a network that asks whether a value is a proxy, to do something else while it is followed.
    """
    before = isinstance

    def by_network() -> bool:
        return package_of_code(sys._getframe(2)) not in ("torch", "brodmann")

    def asked(value: Any, kinds: Any) -> bool:
        found = before(value, kinds)
        if not before(value, (nn.Module, fx.Proxy)):  # asked very often
            return found
        module = before(value, nn.Module)
        if (found and module) or not by_network():
            return found
        if found:
            return is_followed()
        if module:
            return issubclass(getattr(value, STANDS_FOR, type(value)), kinds)
        return issubclass(Tensor, kinds) and is_tensor(value.node)

    def asked_for_tensor(value: Any) -> bool:
        return before(value, Tensor) or (before(value, fx.Proxy) and by_network() and is_tensor(value.node))

    with replaced(builtins, {"isinstance": asked}), replaced(torch, {"is_tensor": asked_for_tensor}):
        yield


@contextmanager
def replaced(owner: Any, others: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Replaces functions of an owner inside the block."""
    before = {name: getattr(owner, name) for name in others}
    for name, other in others.items():
        setattr(owner, name, other)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(owner, name, function)
