"""What is checked before anything is computed: settings, sizes and inputs."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from .errors import BrodmannError, DivergenceError, unknown_name
from .recording import told
from .storage import computing


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


def check_whole(least: int = 1, **settings: Any) -> None:
    """Checks that settings are whole numbers of at least ``least``, given by name; raises a `BrodmannError`."""
    # No larger than what the system can count to, with some room to spare.
    _check(
        f"a whole number of at least {least}",
        lambda value: isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) < 2**62,
        settings,
    )


def check_real(**settings: Any) -> None:
    """Checks that settings are finite numbers of at least 0, given by name; raises a `BrodmannError`."""
    # A step asks this of its learning rate: an abstract class such as Real is slow to ask, and `float` would take the
    # number out of a rate that is recorded.
    _check("a number of at least 0", _is_real, settings)


def _is_real(value: Any) -> bool:
    if type(value) is float:
        return 0.0 <= value < math.inf
    is_number: bool = isinstance(value, Real)
    return is_number and bool(value >= 0) and _is_finite(value)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)  # NumPy would compare with the largest float64 in its own precision, and warn
    except OverflowError:  # a whole number that no float holds
        return False


def check_positive(**settings: Any) -> None:
    """Checks that settings are finite numbers above 0, given by name; raises a `BrodmannError`."""
    _check(
        "a number above 0", lambda value: isinstance(value, Real) and _is_finite(value) and float(value) > 0, settings
    )


def check_finite(**settings: Any) -> None:
    """Checks that settings are finite numbers, given by name; raises a `BrodmannError`."""
    _check("a finite number", lambda value: isinstance(value, Real) and _is_finite(value), settings)


def check_share(**settings: Any) -> None:
    """Checks that settings are numbers in [0, 1), given by name; raises a `BrodmannError`."""
    _check("a number in [0, 1)", lambda value: isinstance(value, Real) and 0 <= float(value) < 1, settings)


def check_switch(**settings: Any) -> None:
    """Checks that settings are True or False, given by name: any text would count as True; raises a `BrodmannError`."""
    _check("True or False", lambda value: isinstance(value, bool | numpy.bool_), settings)


def _check(kind: str, fits: Callable[[Any], bool], settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if not fits(value):
            raise BrodmannError(f"Expected {name} to be {kind}, got {value!r}.")


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
    if not isinstance(settings, dict):
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


def check_tensors(**tensors: Any) -> None:
    """Checks that arguments are tensors, given by name; raises a `BrodmannError`."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise BrodmannError(f"Expected {name} to be a tensor, got {kind}: convert it with torch.as_tensor(...).")
        if value.layout is not torch.strided:
            raise BrodmannError(f"Expected {name} to be dense, got {value.layout}: convert it with .to_dense().")


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite; `torch.isfinite` takes fifteen times as long, and more memory than all."""
    if values.numel() == 0 or not values.is_floating_point():
        return True
    low, high = values.detach().aminmax()  # NaN where there is any
    return math.isfinite(low) and math.isfinite(high)


def check_sent(method: str, sent: Iterable[Any], given: Iterable[Any]) -> None:
    """Checks that what a method of a user's own returns for the error pass is finite, if what it got is; on the CPU.

    Raises:
        DivergenceError: It is not. Weights below would be lost by it.
    """
    lost = [part for part in sent if isinstance(part, Tensor) and part.is_cpu and not all_finite(part)]
    if lost and all(all_finite(part) for part in given):
        raise DivergenceError(
            f"{method} returned NaN or infinite values, of shape {tuple(lost[0].shape)}, for a finite error: look for "
            "divisions by 0 and for weights of its own that are not finite. Nothing below has moved."
        )


def changes_of(tensors: Iterable[Any]) -> list[int]:
    """Returns how often each tensor was changed in place, as PyTorch counts; what it does not count is left out."""
    return [part._version for part in tensors if isinstance(part, Tensor) and not part.is_inference()]


def check_unmodified(method: str, given: Iterable[Any], before: list[int]) -> None:
    """Checks that a method of a user's own has not changed what it was given since `changes_of` returned ``before``.

    Raises:
        BrodmannError: It has. The layer would learn from other numbers than came to it.
    """
    if changes_of(given) != before:
        raise BrodmannError(
            f"{method} changed in place what it was given, which others read after it: work on a copy, as in "
            "x = x - mean or x = x.clone()."
        )


def all_in(values: Tensor, least: float, most: float) -> bool:
    """Whether all values lie from ``least`` to ``most``: NaN does not."""
    if values.numel() == 0:
        return True
    low, high = values.detach().aminmax()
    return bool(low >= least) and bool(high <= most)


def rows_not_finite(values: Tensor) -> list[int]:
    """Returns the rows of values (rows, ...), counted from 0, in which one is NaN or infinite."""
    if all_finite(values):
        return []
    return (~values.isfinite().reshape(len(values), -1).all(1)).nonzero()[:, 0].tolist()


def check_weights(weight: Any, samples: int, *, on_cpu_alone: bool = False) -> None:
    """Checks that there is a weight for each sample, real, finite and at least 0.

    Args:
        weight: (samples, ...).
        samples: Number of samples.
        on_cpu_alone: Whether its numbers are looked at on the CPU alone: elsewhere every step would wait for the
            device.

    Raises:
        BrodmannError: There is not.
    """
    check_tensors(weight=weight)
    if weight.is_complex():
        raise BrodmannError(f"Expected sample weights to be real numbers, got {weight.dtype}.")
    if weight.shape[:1] != (samples,):
        raise BrodmannError(f"Expected a weight for each sample, got {length_of(weight)} for {samples} samples.")
    if weight.is_cpu or not on_cpu_alone:
        told(_check_values_of_weights, weight)


def _check_values_of_weights(weight: Tensor) -> None:
    if not bool((weight >= 0).all() & (weight.sum() < math.inf)):  # below 0 they would climb the loss
        raise BrodmannError(
            "Expected sample weights that are finite and at least 0: leave out samples with other weights."
        )


def length_of(values: Tensor) -> str:
    """Returns how many rows values have, for a message."""
    return str(len(values)) if values.ndim else "a single number"


def check_memory(needed: int) -> None:
    """Checks that the bytes that a network holds from the start fit into this machine.

    Raises:
        BrodmannError: They do not. The system would kill the process, or swap for hours.
    """
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise BrodmannError(
            f"This network needs at least {needed / 1e9:,.0f} GB of memory and this machine has {there / 1e9:,.0f} GB: "
            "use fewer areas, layers or units."
        )


class MisfitError(BrodmannError):
    """An input that does not fit a map, by its size.

    Attributes:
        weight: Weight of the map, by which a network finds the layer's name; None where the message holds it.
    """

    weight: Tensor | None = None


def check_input(x: Tensor, weight: Tensor) -> None:
    """Checks that a map can be applied to an input: x (..., in), weight (..., out, in).

    Raises:
        BrodmannError: The size or the dtype does not fit. Weights stored as bfloat16 take float32.
    """
    if not isinstance(x, Tensor) or x.layout is not torch.strided or x.ndim == 0 or x.shape[-1] != weight.shape[-1]:
        check_tensors(x=x)
        error = MisfitError(f"Expected an input of shape (..., {weight.shape[-1]}), got {tuple(x.shape)}.")
        error.weight = weight
        raise error
    expected = computing(weight.dtype)
    if x.dtype != expected:
        raise BrodmannError(
            f"Expected an input of {expected}, the dtype of the weights, got {x.dtype}: convert it with "
            f"x.to({expected}), or the network with .to(...)."
        )
