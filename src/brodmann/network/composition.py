"""Composition: which modules a network is made of, to notice when one was put in another's place."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


class Composition:
    """What modules hold at one time: the modules inside each of them."""

    __slots__ = ("_before", "_tables")

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        """Looks at each of them, not at what is inside those."""
        self._tables = [part._modules for part in modules if part._modules]
        self._before = self._now()

    def is_same(self) -> bool:
        """Whether each module still holds the very same ones. It is asked in every step."""
        return self._now() == self._before

    def _now(self) -> list[tuple[nn.Module | None, ...]]:
        return [tuple(table.values()) for table in self._tables]
