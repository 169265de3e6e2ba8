"""Settings: numbers in range, switches, and sizes that fit into memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy

from ..errors import BrodmannError
from ..machine import memory


def check_whole(least: int = 1, **settings: Any) -> None:
    """Checks that settings are whole numbers of at least ``least``, given by name; raises a `BrodmannError`."""
    _check(
        f"a whole number of at least {least}",
        lambda value: isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value),
        settings,
    )
    # No larger than what the system can count to, with some room to spare.
    _check("a whole number below 2^62", lambda value: int(value) < 2**62, settings)


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


def check_memory(needed: int) -> None:
    """Checks that the bytes that a network holds from the start fit into this machine.

    Raises:
        BrodmannError: They do not. The system would kill the process, or swap for hours.
    """
    there = memory()
    if needed > there:
        raise BrodmannError(
            f"This network needs at least {needed / 1e9:,.0f} GB of memory and this machine has {there / 1e9:,.0f} GB: "
            "use fewer areas, layers or units."
        )
