"""Served: the rows of a batch by the slot of weights that serves them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from .groups import Groups


class Served(NamedTuple):
    """The rows of a batch by area, and which slot of a weight (slots, out, in) serves each area.

    Attributes:
        groups: The rows of each area.
        slot: Slot of each area, (areas,) int64; None if area g has slot g.
    """

    groups: Groups
    slot: Tensor | None = None

    @property
    def slots(self) -> Tensor:
        """Slot of each group, (groups,) int64."""
        present = self.groups.present
        return present if self.slot is None else self.slot[present]

    def segments(self) -> Iterator[tuple[int, int, int]]:
        """Yields slot, start and stop of every group."""
        if self.slot is None:
            yield from self.groups.segments
            return
        slots = self.slots.tolist()
        for index, (_, start, stop) in zip(slots, self.groups.segments, strict=True):
            yield index, start, stop
