"""Partition: the area to which each cell of a router belongs, and how areas split and merge."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index

import torch
from torch import Tensor, nn

from ..errors import BrodmannError, unknown_name, warn
from ..held import HeldBuffer

PARTITIONS = ("fixed", "manual", "growing")
"""What decides the areas of cells, see `Router`."""


class Partitioned(nn.Module):
    """Abstract: cells that belong to areas. Splits and merges change the table, and protected areas keep their cells.

    Attributes:
        areas: Budget of areas.
        partition: Area of each cell, (cells,) int64.
    """

    areas: int
    partition = HeldBuffer[Tensor]()
    _protected: frozenset[int] = frozenset()

    @property
    def protected(self) -> frozenset[int]:
        """Areas whose maps, own feedback and optimiser state stay as they are, whatever their samples are.

        They go on computing, their errors go down, and what they share with others learns from their samples: a shared
        part, shared feedback, the projection. They are not merged and do not split by themselves. One that has no cells
        gets none, neither by a split nor by a new sample. May be replaced between steps, by any collection of areas; a
        ``state_dict`` does not hold them. Default none.

        Raises:
            BrodmannError: There is no such area.

        Warns:
            UserWarning: No other area has samples, nor can recruit any: none learns.
        """
        return self._protected

    @protected.setter
    def protected(self, areas: Iterable[int]) -> None:
        try:
            wanted = frozenset(map(index, areas))
        except TypeError:  # no numbers, or none that are whole
            wanted = frozenset((-1,))
        if not all(0 <= area < self.areas for area in wanted):
            raise BrodmannError(f"Expected areas from 0 to {self.areas - 1}, such as [0, 1], got {areas!r}.")
        self._protected = wanted
        reached = set(self.partition.tolist())
        if wanted >= reached:
            warn(
                f"Every area that samples can go to is protected, {sorted(reached)}, so that none learns: "
                "protect fewer, or give the router more areas.",
            )

    def split(self, area: int, cells: Iterable[int] | None = None) -> int:
        """Gives part of an area's cells to an area that has none.

        Changes only the partition; `AreaLinear.split` and `Routed.split` copy the maps too, so that no output changes.

        Args:
            area: The area to split.
            cells: The cells that the new area takes. Default: the second half of the area's cells.

        Returns:
            The new area.

        Raises:
            BrodmannError: The budget is used up, or the area has no cells to give away.
        """
        taken, new = self.planned(area, cells)
        self.partition[taken] = new
        return new

    def free_areas(self) -> list[int]:
        """Returns the areas that have no cells, and are not protected, which a split may fill."""
        used = self.protected.union(self.partition.tolist())
        return [area for area in range(self.areas) if area not in used]

    def planned(self, area: int, cells: Iterable[int] | None) -> tuple[list[int], int]:
        """Returns the cells that `split` would move and the area that would take them; raises as it does."""
        own = self._cells_of(area)
        taken = own[len(own) // 2 :] if cells is None else sorted({int(cell) for cell in cells})
        if len(own) < 2 or not taken or len(taken) >= len(own) or not set(taken) <= set(own):
            raise BrodmannError(
                f"Cannot split area {area}, whose cells are {own}: the new area must take some of "
                f"them and leave some, got {taken}."
            )
        free = self.free_areas()
        if not free:
            raise BrodmannError(f"All {self.areas} areas are in use: merge two first, or give the router more areas.")
        return taken, free[0]

    def merge(self, kept: int, gone: int) -> None:
        """Gives all cells of area ``gone`` to ``kept``. Changes only the partition, see `split`.

        Raises:
            BrodmannError: Both are the same area, or one has no cells.
        """
        self.check_merge(kept, gone)
        self.partition[self.partition == gone] = kept

    def check_merge(self, kept: int, gone: int) -> None:
        """Raises if `merge` would."""
        if kept == gone or not self._cells_of(kept) or not self._cells_of(gone):
            raise BrodmannError(f"Cannot merge areas {kept} and {gone}: expected two different areas that hold cells.")
        if not self.protected.isdisjoint((kept, gone)):
            raise BrodmannError(f"Cannot merge areas {kept} and {gone}: one of them is protected.")

    def _cells_of(self, area: int) -> list[int]:
        if not 0 <= area < self.areas:
            raise BrodmannError(f"Area {area} does not exist: expected 0 to {self.areas - 1}.")
        return (self.partition == area).nonzero()[:, 0].tolist()


def initial_partition(kind: str, areas: int, cells: int) -> Tensor:
    """Returns the area of each cell at the start, (cells,) int64; ``kind`` is one of `PARTITIONS`, see `Router`."""
    every = torch.arange(cells)
    return every % areas if kind == "fixed" else torch.zeros_like(every)


def cell_count(areas: int, partition: str, cells: int | None) -> int:
    """Returns how many cells a `Router` has: those asked for, else one for each area, or four if areas split."""
    if cells is not None:
        return cells
    return areas if partition == "fixed" else 4 * int(areas)  # NumPy's small numbers overflow


def check_partition(name: str) -> None:
    """Checks that a partition works without splits by hand: a manual one would stay a single area.

    Raises:
        BrodmannError: It is unknown, or manual.
    """
    known = tuple(partition for partition in PARTITIONS if partition != "manual")
    if name not in known:
        raise unknown_name("partition", name, known)
