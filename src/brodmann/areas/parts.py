"""What a shared part and the areas' own parts make together, either of which may be missing."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels import Groups
from .area_map import AreaMap
from .slab import Slab


def error_of_parts(
    shared: Slab | None, areas: AreaMap | None, delta: Tensor, part_delta: Tensor, groups: Groups
) -> Tensor:
    """Returns ``delta W0 + part_delta D[g]``, (rows, in): delta and part_delta (rows, out)."""
    known = shared if areas is None else areas.weight
    assert known is not None  # a layer has one or the other
    below = delta.new_zeros(len(delta), known.value.shape[2])
    if shared is not None:
        shared.add_error(below, delta, groups)
    if areas is not None:
        areas.add_error(below, part_delta, groups)
    return below


def map_of_parts(shared: Slab | None, areas: AreaMap | None, area: int, dtype: torch.dtype) -> Tensor:
    """Returns ``W0 + D[g]``, (out, in), of one area."""
    parts = [] if shared is None else [shared.value[0]]
    if areas is not None:
        parts.append(areas.weight.value[int(areas.slot[area])])
    first, *others = (part.to(dtype) for part in parts)
    return first + others[0] if others else first
