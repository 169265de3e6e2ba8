"""Errors about sizes name the layer that they come from."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from torch import nn

from ..checks import MisfitError
from ..layer import Layer
from ..routing import Router

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=nn.Module)


def naming_misfits(method: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Lets a method name the layer whose size does not fit what comes to it."""

    @wraps(method)
    def call(self: M, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except MisfitError as error:
            parts = [(name, part) for name, part in self.named_modules() if isinstance(part, Layer | Router)]
            holders = [name for name, part in parts if any(own is error.weight for own in part.parameters())]
            if holders:  # the innermost comes last
                error.args = (f"{str(error).removesuffix('.')} at layer '{holders[-1]}'.",)
                error.weight = None
            raise

    return call
