"""What is checked before anything is computed: settings, sizes and inputs."""

from __future__ import annotations

import math
import os
from numbers import Integral, Real
from typing import Any

import numpy
import torch
from torch import Tensor

from .errors import BrodmannError


def check_whole(least: int = 1, **settings: Any) -> None:
    """Checks that settings are whole numbers, given by name.

    Raises:
        BrodmannError: One is no whole number, or below ``least``.
    """
    for name, value in settings.items():
        if not isinstance(value, Integral) or not least <= int(value) < 2**62:  # what the system can count to, and room
            raise BrodmannError(f"Expected {name} to be a whole number of at least {least}, got {value!r}.")


def check_real(**settings: Any) -> None:
    """Checks that settings are finite numbers of at least 0, given by name.

    Raises:
        BrodmannError: One is not.
    """
    for name, value in settings.items():
        if not isinstance(value, Real) or not 0 <= float(value) < math.inf:
            raise BrodmannError(f"Expected {name} to be a number of at least 0, got {value!r}.")


def check_positive(**settings: Any) -> None:
    """Checks that settings are finite numbers above 0, given by name.

    Raises:
        BrodmannError: One is not.
    """
    for name, value in settings.items():
        if not isinstance(value, Real) or not 0 < float(value) < math.inf:
            raise BrodmannError(f"Expected {name} to be a number above 0, got {value!r}.")


def check_share(**settings: Any) -> None:
    """Checks that settings are numbers in [0, 1), given by name.

    Raises:
        BrodmannError: One is not.
    """
    for name, value in settings.items():
        if not isinstance(value, Real) or not 0 <= float(value) < 1:
            raise BrodmannError(f"Expected {name} to be a number in [0, 1), got {value!r}.")


def check_switch(**settings: Any) -> None:
    """Checks that settings are True or False, given by name: any other text would count as True.

    Raises:
        BrodmannError: One is neither.
    """
    for name, value in settings.items():
        if not isinstance(value, bool | numpy.bool_):
            raise BrodmannError(f"Expected {name} to be True or False, got {value!r}.")


def check_tensors(**tensors: Any) -> None:
    """Checks that arguments are tensors, given by name.

    Raises:
        BrodmannError: One is not.
    """
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise BrodmannError(f"Expected {name} to be a tensor, got {kind}: convert it with torch.as_tensor(...).")


def check_memory(needed: int) -> None:
    """Checks that the bytes that a network holds from the start fit into this machine.

    Raises:
        BrodmannError: It does not. The system would kill the process, or swap for hours.
    """
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise BrodmannError(
            f"This network needs at least {needed / 1e9:,.0f} GB of memory and this machine has {there / 1e9:,.0f} GB: "
            "use fewer areas, layers or units."
        )


def check_input(x: Tensor, weight: Tensor) -> None:
    """Checks that a map can be applied to an input: x (..., in), weight (..., out, in).

    Raises:
        BrodmannError: The size or the kind of number does not fit. Weights stored as bfloat16 take float32.
    """
    if x.shape[-1] != weight.shape[-1]:
        raise BrodmannError(f"Expected an input of shape (..., {weight.shape[-1]}), got {tuple(x.shape)}.")
    expected = torch.float32 if weight.dtype == torch.bfloat16 else weight.dtype
    check_tensors(x=x)
    if x.dtype != expected:
        raise BrodmannError(
            f"Expected an input of {expected}, as the weights are, got {x.dtype}: convert it with x.to({expected}), or "
            "the network with .to(...)."
        )
