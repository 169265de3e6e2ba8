"""Groups: the rows of a batch by area, so that an area's work is one dense product."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from ..errors import BrodmannError
from ..recording import recorder_here
from .library import active, call


@dataclass(frozen=True, eq=False)
class Groups:
    """The rows of a batch by area. Rows stay where they lie; the groups say which belong together.

    Attributes:
        present: Areas that have rows, ascending, (groups,) int64.
        bounds: Group k owns the positions ``bounds[k]`` to ``bounds[k + 1] - 1`` of the order, (groups + 1,) int64.
        order: Row at each position, (rows,) int64; rows that belong to no group come last. None if the order is that of
            the rows (one area).
        rows: Number of rows in all.
        areas: How many areas there are to choose from; `present` lie below.
        count: Number of groups.
        area: Area of each row, (rows,) int64; None if all rows are in area 0.
        apart: Areas whose rows belong to no group, see `without`.
    """

    present: Tensor
    bounds: Tensor
    order: Tensor | None
    rows: int
    areas: int
    count: int
    area: Tensor | None = None
    apart: frozenset[int] = frozenset()

    @staticmethod
    @lru_cache(maxsize=64)  # a training run has one size of batch, or two
    def single(rows: int, device: torch.device | None = None) -> Groups:
        """All rows in area 0."""
        numbers = torch.tensor([0, 0, rows], device=device)
        if not rows:
            return Groups(numbers[:0], numbers[:1], None, 0, 1, 0)
        return Groups(numbers[:1], numbers[1:], None, rows, 1, 1)

    @staticmethod
    def of(area: Tensor, areas: int, apart: frozenset[int] = frozenset()) -> Groups:
        """Groups rows by their area, (rows,) int64 with values in [0, areas); rows of an area keep their order.

        Those of areas in ``apart`` belong to no group.

        Raises:
            BrodmannError: They are of another kind, or one is no area, as a user-defined router may choose.
        """
        if area.ndim != 1 or area.dtype != torch.int64:
            raise BrodmannError(
                f"Expected the area of each row, (rows,) torch.int64, got {tuple(area.shape)} {area.dtype}: convert "
                "it with .long()."
            )
        if area.is_cpu and active():
            groups = _sorted(area.contiguous(), areas, apart)
            if groups is None:
                raise _no_areas(area, areas)
            return groups
        try:
            counts = torch.bincount(area, minlength=areas)
        except RuntimeError:  # some are negative
            raise _no_areas(area, areas) from None
        if len(counts) > areas:
            raise _no_areas(area, areas)
        place = torch.arange(areas, device=area.device)
        if apart:
            others = torch.tensor(sorted(apart), device=area.device)
            counts[others] = 0
            place[others] += areas  # behind all others
        present = counts.nonzero()[:, 0]
        bounds = torch.nn.functional.pad(counts[present].cumsum(0), (1, 0))
        order = torch.argsort(place[area], stable=True)
        return Groups(present, bounds, order, area.shape[0], areas, present.shape[0], area, apart)

    @staticmethod
    def joined(several: Sequence[Groups]) -> Groups:
        """Returns the rows of all, those of each behind those of the one before it.

        None may be left out: `without` comes after this and `of_all`, where a layer moves.
        """
        if len(several) == 1:
            return several[0]
        if several[0].areas == 1:
            return Groups.single(sum(groups.rows for groups in several), several[0].bounds.device)
        return Groups.of(torch.cat([groups.of_rows for groups in several]), several[0].areas)

    def of_all(self, area: Tensor) -> Groups:
        """Returns the groups of other rows that choose among the same areas: area (rows,) int64."""
        return Groups.single(len(area), area.device) if self.areas == 1 else Groups.of(area, self.areas)

    def without(self, areas: Collection[int]) -> Groups:
        """Returns the groups of all other areas: the rows of these stay where they lie, and belong to no group.

        Raises:
            BrodmannError: There is no such area.
        """
        if not all(0 <= area < self.areas for area in areas):
            raise BrodmannError(f"Expected areas from 0 to {self.areas - 1}, got {sorted(areas)}.")
        return Groups.of(self.of_rows, self.areas, self.apart.union(areas))

    @property
    def complete(self) -> Groups:
        """The groups of all areas, also of those that `without` left out: what computes needs every row."""
        return Groups.of(self.of_rows, self.areas) if self.apart else self

    @property
    def of_rows(self) -> Tensor:
        """Area of each row, (rows,) int64."""
        return self.bounds.new_zeros(self.rows) if self.area is None else self.area

    @property
    def whole(self) -> Groups:
        """The groups with all rows in area 0: for what every sample uses."""
        return self if self.order is None else Groups.single(self.rows, self.bounds.device)

    @cached_property
    def segments(self) -> tuple[tuple[int, int, int], ...]:
        """``(area, start, stop)`` of every group."""
        bounds = self.bounds.tolist()
        return tuple(zip(self.present.tolist(), bounds[:-1], bounds[1:], strict=True))

    def sort(self, rows: Tensor) -> Tensor:
        """Brings rows (rows, ...) together by group."""
        return rows if self.order is None else rows.index_select(0, self.order)

    def unsort(self, rows: Tensor) -> Tensor:
        """Brings rows (rows, ...) that lie by group back into the batch's order."""
        return rows if self.order is None else torch.empty_like(rows).index_copy_(0, self.order, rows)


def _no_areas(area: Tensor, areas: int) -> BrodmannError:
    return BrodmannError(f"Expected areas from 0 to {areas - 1}, got {int(area.min())} to {int(area.max())}.")


def _sorted(area: Tensor, areas: int, apart: frozenset[int]) -> Groups | None:
    """Groups rows by area, (rows,) int64 and contiguous, by a kernel; None if one is not in [0, areas)."""
    rows = area.shape[0]
    most = min(rows, areas)
    order, numbers = area.new_empty(rows), area.new_empty(2 * most + 1)
    present, bounds = numbers[:most], numbers[most:]
    others = torch.tensor(sorted(apart), device="cpu") if apart else None
    count = call("group", area, rows, areas, others, len(apart), order, present, bounds)
    if count < 0:
        return None
    if (recorder := recorder_here()) is not None:
        recorder.keep_from_operations(numbers)
    now = int(count)
    return Groups(present[:now], bounds[: now + 1], order, rows, areas, count, area, apart)
