"""Layers and what they return, checked, since users write layers too."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..checks import Unmodified, check_sent, form_of, is_real
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


class Checked(NamedTuple):
    """What a user-defined layer remembers, and the form in which the error below it is due.

    Attributes:
        trace: What its ``trace`` returned for its ``learn``.
        forms: Shape and dtype of each tensor that came to it; None for whole numbers, which have no error.
    """

    trace: Any
    forms: list[str | None]


def trace_of(layer: Any, x: Any, context: Context) -> tuple[Any, Any]:
    """Calls ``trace`` of a layer, and returns the output and what `error_through` takes.

    Raises:
        BrodmannError: A user-defined layer returned something else, or changed in place what came to it.
    """
    if is_ours(layer):
        return layer.trace(x, context)
    name = f"{type(layer).__name__}.trace"
    with Unmodified(name, [x]):
        traced = layer.trace(x, context)
    if not isinstance(traced, tuple) or len(traced) != 2:
        raise BrodmannError(
            f"{name} should return the output and what `learn` must remember, (y, trace), got {type(traced).__name__}."
        )
    return traced[0], Checked(traced[1], [form_of(part) if is_real(part) else None for part in parts_in(x)])


def error_through(layer: Any, trace: Any, error: Any, context: Context) -> Any:
    """Calls ``learn`` of a layer with what `trace_of` returned; returns the error below it.

    Raises:
        BrodmannError: A user-defined layer returned an error that is not shaped as what came to it, or changed in place
            what others read after it.
        DivergenceError: It returned values that are not finite.
    """
    if not isinstance(trace, Checked):
        return layer.learn(trace, error, context)
    name = f"{type(layer).__name__}.learn"
    with Unmodified(name, [error, context.output_error, context.output, context.weight, context.target]):
        below = layer.learn(trace.trace, error, context)
    if below is not None:
        sent = parts_in(below) if len(trace.forms) > 1 else (below,)
        _check_forms(name, sent, trace.forms)
        replayed(check_sent, name, sent, parts_in(error))
    return below


def _check_forms(name: str, sent: tuple[Any, ...], forms: list[str | None]) -> None:
    """Raises unless there is an error for each tensor, of its form, or None: an activation would broadcast others."""
    found = [None if part is None else form_of(part) for part in sent]
    fits = len(found) == len(forms)
    if fits and all(form in (None, wanted) or wanted is None for form, wanted in zip(found, forms, strict=True)):
        return
    raise BrodmannError(
        f"{name} should return the error of what came to the layer, {', '.join(map(str, forms))}, or None, got "
        f"{', '.join(map(str, found))}."
    )
