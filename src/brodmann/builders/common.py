"""Common: the arguments of a builder that all layers of its network share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, ParamSpec, TypedDict, TypeVar

import torch

from ..routing.router import Router
from ..updates import UpdateRule
from .parts import Parts

P = ParamSpec("P")
R = TypeVar("R")


class Common(TypedDict, total=False):
    """Settings that all layers of a network share, by name: builders and `from_torch` pass them on to `Parts`."""

    update: UpdateRule | None
    """Rule of every weight. Default Adam without decay: its steps need no tuning to the width. The command line and the
    estimators take ``Adam(decay=0.2)``."""
    routing: str
    """``"network"``: one route for all layers, found from the input of the lowest (default: as accurate as a route per
    layer, at a fraction of a router's cost); ``"layer"``: every layer routes its own input, and in convolutions every
    patch."""
    shared: str
    """``"learned"`` (default), ``"frozen"`` or ``"off"``: the map beside the areas, see `AreaLinear`."""
    gated: bool | str
    """Whether the gate multiplies the area's part. ``"last"``: only in the last of the layers that follow one router,
    so that a part with one route is scaled once, as an expert of a mixture is. Default False, see `AreaLinear`."""
    pooling: float
    """Extra decay on the areas' own parts. Default 0, see `AreaLinear`."""
    router: dict[str, Any] | Callable[..., Router] | None
    """Further arguments of every `Router`; or a function that builds your own, as for `AreaLinear`. Default None."""
    storage: str | torch.dtype | None
    """Dtype in which weights are stored, or its name: ``"bfloat16"`` halves a step's bytes. Default None: that of the
    computation. See `AreaLinear`."""


def spelled_out(builder: Callable[P, R]) -> Callable[P, R]:
    """Lets a builder list the arguments of `Common` one by one, with their defaults, and name unknown arguments.

    Raises:
        TypeError: On a call, if an argument is unknown or missing.
    """
    plain = inspect.signature(builder)
    *own, common = plain.parameters.values()
    assert common.kind is common.VAR_KEYWORD
    named = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(Parts)
        if field.name in Common.__annotations__
    ]
    signature = plain.replace(parameters=[*own, *named])

    @wraps(builder)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{builder.__name__}() {error}") from None
        return builder(*args, **kwargs)

    call.__signature__ = signature  # type: ignore[attr-defined]
    return call
