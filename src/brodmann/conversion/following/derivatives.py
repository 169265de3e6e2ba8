"""How errors go down through functions with a derivative of their own, and through blocks without any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, fx, nn
from torch.autograd import Function
from torch.utils.checkpoint import CheckpointFunction

from ...errors import BrodmannError
from ..nodes import parts_of

WITHOUT_ERROR = "without_error"
"""Marks nodes that were followed under ``torch.no_grad()``: no error goes down through them."""


class OwnDerivative(nn.Module):
    """A `torch.autograd.Function`, whose derivative is the one that it defines, not that of its operations."""

    def __init__(self, function: type[Function]) -> None:
        """Takes the class of the function."""
        super().__init__()
        self.function = function
        # As torch.fx asks of functions.
        self.__name__, self.__module__ = function.__name__, function.__module__

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Applies the function."""
        return self.function.apply(*args, **kwargs)  # type: ignore[no-untyped-call]


class WithoutError(nn.Module):
    """Passes on a value, and sends no error down."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns the value."""
        return x.detach()


@contextmanager
def whole_functions() -> Iterator[None]:
    """Keeps functions with a derivative of their own whole while torch.fx, which sees inside, follows a network.

    The function of `torch.utils.checkpoint`, which computes a block twice to save memory, is replaced by the block.
    """
    base: Any = Function.__base__  # to which `apply` passes the call, also one that was taken from its class before
    before = vars(base).get("apply")

    def called(function: type[Function], *args: Any, **kwargs: Any) -> Any:
        came = next((part for part in parts_of((args, kwargs)) if isinstance(part, fx.Proxy)), None)
        if came is None:
            return super(base, function).apply(*args, **kwargs)
        if function is CheckpointFunction:
            block, _, *inputs = args
            return block(*inputs)
        return came.tracer.create_proxy("call_function", OwnDerivative(function), args, kwargs)

    base.apply = classmethod(called)
    try:
        yield
    finally:
        del base.apply
        if before is not None:
            base.apply = before


def mark(node: fx.Node, module: nn.Module | None) -> None:
    """Marks a node that was followed under ``torch.no_grad()``: no error goes down through it.

    Args:
        node: The node.
        module: What it calls, if that is a module.

    Raises:
        BrodmannError: The module learns, and would do so although ``torch.no_grad()`` keeps it from learning.
    """
    if module is not None and any(parameter.requires_grad for parameter in module.parameters()):
        raise BrodmannError(
            f"{type(module).__name__} cannot be converted: the network calls it under torch.no_grad(), but after "
            "conversion it would learn all the same. Freeze its parameters with requires_grad_(False), or leave "
            "torch.no_grad() out and detach what it returns."
        )
    node.meta[WITHOUT_ERROR] = True
