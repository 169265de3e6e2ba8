"""Autograd's graph, which learning never builds."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

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
