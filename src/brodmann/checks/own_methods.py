"""User-defined methods: whether they return finite numbers, and leave what they are given unchanged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from ..errors import BrodmannError, DivergenceError
from .tensors import all_finite


def check_sent(method: str, sent: Iterable[Any], given: Iterable[Any]) -> None:
    """Checks that what a user-defined method returns for the error pass is finite, if what it got is; only on the CPU.

    Raises:
        DivergenceError: It is not, and would destroy the weights below.
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
    """Checks that a user-defined method has not changed what it was given since `changes_of` returned ``before``.

    Raises:
        BrodmannError: It has. The layer would learn from other numbers than came to it.
    """
    if changes_of(given) != before:
        raise BrodmannError(
            f"{method} changed in place what it was given, which others read after it: work on a copy, as in "
            "x = x - mean or x = x.clone()."
        )
