"""Checks of names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import BrodmannError


def as_names(kind: str, names: Any) -> list[str]:
    """Returns names as a list; raises a `BrodmannError` if they are anything else, such as a single name."""
    found = None if isinstance(names, str | Mapping) or not isinstance(names, Iterable) else list(names)
    if found is None or not all(isinstance(name, str) for name in found):
        raise BrodmannError(f"Expected {kind} to be a list of names, got {names!r}.")
    return found
