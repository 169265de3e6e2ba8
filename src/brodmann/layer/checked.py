"""Layers and what they return, checked, since users write layers too."""

from __future__ import annotations

from typing import Any

from ..checks import check_sent
from ..errors import BrodmannError
from ..origin import is_ours
from ..recording import replayed
from ..several import parts_in
from .context import Context
from .layer import Layer


def check_layer(part: Any, place: str) -> None:
    """Checks that a part of a network can learn; raises a `BrodmannError` that names its place."""
    if not isinstance(part, Layer):
        raise BrodmannError(
            f"{place} is a {type(part).__name__}, which cannot learn: wrap parameter-free operations in Local, use "
            "AreaLinear for linear maps, or convert a whole network with from_torch."
        )


def trace_of(layer: Any, x: Any, context: Context) -> tuple[Any, Any]:
    """Calls ``trace`` of a layer, which may be user-defined, and checks what it returns."""
    traced = layer.trace(x, context)
    if not isinstance(traced, tuple) or len(traced) != 2:
        raise BrodmannError(
            f"{type(layer).__name__}.trace should return the output and what `learn` must remember, (y, trace), got "
            f"{type(traced).__name__}."
        )
    return traced


def error_through(layer: Any, trace: Any, error: Any, context: Context) -> Any:
    """Calls ``learn`` of a layer; returns the error below it, which is checked if the layer is user-defined."""
    below = layer.learn(trace, error, context)
    if below is not None and not is_ours(layer):
        replayed(check_sent, f"{type(layer).__name__}.learn", parts_in(below), parts_in(error))
    return below
