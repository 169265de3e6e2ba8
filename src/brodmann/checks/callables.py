"""Callables: which arguments a function, a class or a module takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from ..errors import BrodmannError, unknown_name


def unwrapped(model: Any) -> Any:
    """Returns the module that `torch.compile` or `nn.DataParallel` wraps, which computes the same; else the model."""
    while True:
        inside = model.module if isinstance(model, _PARALLEL) else getattr(model, "_orig_mod", model)
        if inside is model:
            return model
        model = inside


_PARALLEL = nn.DataParallel, nn.parallel.DistributedDataParallel


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """Returns what a function takes, or a module in its ``forward``; None for built-in functions that do not say."""
    try:
        return inspect.signature(unwrapped(function).forward if isinstance(function, nn.Module) else function)
    except ValueError:
        return None


def binds(signature: inspect.Signature, arguments: int) -> bool:
    """Whether what has this signature can be called with so many arguments, by their places."""
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return False
    return True


def check_settings(kind: str, settings: Any, maker: Callable[..., Any], *, without: Iterable[str] = ()) -> None:
    """Checks that settings are a dictionary of arguments that a class or function takes.

    Args:
        kind: What they are settings of, for the message.
        settings: Name -> value.
        maker: What takes them; one that takes any names is left to check them itself.
        without: Its arguments that are not settings.

    Raises:
        BrodmannError: It is no dictionary, or a name is unknown.
    """
    if not isinstance(settings, Mapping):
        raise BrodmannError(f"Expected {kind} to be a dictionary of settings, got {type(settings).__name__}.")
    arguments = inspect.signature(maker).parameters
    if any(argument.kind == inspect.Parameter.VAR_KEYWORD for argument in arguments.values()):
        return
    known = set(arguments) - set(without)
    for name in settings:
        if name not in known:
            raise unknown_name(f"setting of {kind}", str(name), known)


def check_registered(place: str, made: Any, kind: str, *given: str) -> None:
    """Checks that something registered can be called with the arguments that it will be given.

    Args:
        place: Where it is registered, for the message.
        made: What is registered.
        kind: What should be.
        *given: Names of the arguments, in order.

    Raises:
        BrodmannError: It cannot.
    """
    try:
        inspect.signature(made).bind(*given)
    except TypeError as error:
        raise BrodmannError(f"Expected {place} to be {kind}, got {made!r} ({error}).") from None
    except ValueError:  # of something built in, whose arguments nobody knows
        pass
