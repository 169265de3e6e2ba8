"""Recording by autograd, which learning never uses: callers that ask for a graph get it from `forward` alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .recording import recorder_here

P = ParamSpec("P")
R = TypeVar("R")


def unrecorded(function: Callable[P, R]) -> Callable[P, R]:
    """As ``torch.no_grad()`` around a function, but at no cost where gradients are off already.

    A network calls its layers, and they the layers inside: each must hold when called alone, and switching gradients
    off in every one of them would take a tenth of a small step.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not torch.is_grad_enabled():
            return function(*args, **kwargs)
        with torch.no_grad():
            return function(*args, **kwargs)

    return call


def autocast_off(x: object) -> AbstractContextManager[None]:
    """Switches autocast off where it would change what is computed from a tensor: storage alone decides on numbers."""
    device = x.device.type if isinstance(x, Tensor) else ""
    if device in ("cpu", "cuda") and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def followed(*tensors: Tensor) -> bool:
    """Whether autograd, a transform, a compiler or a tracer follows, and so needs operations that it knows."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return True
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        or (dispatched() and recorder_here() is None)
        or transformed()
    )


def dispatched() -> bool:
    """Whether a mode of PyTorch is told of every operation in this thread; PyTorch's own question asks all threads."""
    return torch._C._len_torch_dispatch_stack() > 0


def transformed() -> bool:
    """Whether `torch.func` or forward-mode differentiation is at work, which cannot look into custom operations."""
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def ordinary(tensor: Tensor) -> Tensor:
    """Returns a tensor that autograd accepts: it refuses those made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def as_leaf(tensor: Tensor) -> Tensor:
    """Returns a tensor that autograd follows from here on, if it holds real numbers."""
    alone = ordinary(tensor).detach()
    return alone.requires_grad_(alone.is_floating_point())
