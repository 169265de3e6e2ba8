"""User-defined methods: whether they return finite numbers, and leave what they are given unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
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


def changes_of(given: Iterable[Any]) -> list[int]:
    """Returns how often each tensor was changed in place, as PyTorch counts; what it does not count is left out.

    Tensors may lie in lists, tuples and mappings of any kind.
    """
    return [tensor._version for tensor in _tensors_in(given) if not tensor.is_inference()]


def _tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors_in(value)
        elif isinstance(value, Mapping):
            yield from _tensors_in(value.values())


class Unmodified:
    """Checks that a user-defined method, which is called inside the block, changes nothing in place that it is given.

    Raises:
        BrodmannError: It does. The layer would learn from other numbers than came to it.
    """

    def __init__(self, method: str, given: Iterable[Any]) -> None:
        """Takes the name of the method, and what others read after it, as for `changes_of`."""
        self._method, self._given, self._before = method, given, changes_of(given)

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, failure: object, *_: object) -> None:
        """Looks again, unless the method failed."""
        if failure is None and changes_of(self._given) != self._before:
            raise BrodmannError(
                f"{self._method} changed in place what it was given, which others read after it: work on a copy, as in "
                "x = x - mean or x = x.clone()."
            )


TRUSTED = nullcontext()
"""In the place of `Unmodified` around methods of this package."""
