"""Names of layers: which of several names stands for a layer, or for what it lies in; ``*`` stands for any text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_ROUTED = "body."


def closest(name: str, parts: Iterable[str]) -> str | None:
    """Returns which of several names says the most of a layer's, see `is_within`; None if none stands for it.

    That is the one with the most characters beside ``*``; of equals, one without ``*``, then the first in the alphabet.
    """
    return min((part for part in parts if is_within(name, part)), key=_rank, default=None)


def _rank(part: str) -> tuple[int, bool, str]:
    """Returns by what names are put in order, the one that wins first."""
    return -len(part.removeprefix(_ROUTED).replace("*", "")), "*" in part, part


def is_within(name: str, part: str) -> bool:
    """Whether a module is another one or lies in it, by their names; ``*`` in the other's stands for any part.

    The ``body.`` with which names begin if one route serves all layers may be left out: the same name then also serves
    with one area, when nothing routes.
    """
    pairs = ((name, part), (name.removeprefix(_ROUTED), part.removeprefix(_ROUTED)))
    return any(_pattern(outer).fullmatch(inner) for inner, outer in pairs)


@lru_cache
def _pattern(name: str) -> re.Pattern[str]:
    """Returns a pattern for a name and what lies in it; only ``*`` has a special meaning."""
    return re.compile(re.escape(name).replace(r"\*", ".*") + r"(\..*)?")
