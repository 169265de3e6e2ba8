"""Cloning, recruiting and merging areas in every layer that follows one router."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from .areas import AreaMap
from .routing import Router


def clone_area(module: nn.Module, area: int, new: int) -> None:
    """Copies an area's maps, feedback and optimiser state, in every layer below a module that shares its router."""
    for part in _area_maps(module):
        part.clone(area, new)


def recruit_areas(router: Router, module: nn.Module, x: Tensor) -> None:
    """Recruits areas for those samples of x (rows, in) that are new; each starts as a copy of its parent."""
    for parent, new in router.recruit(x):
        if parent != new:
            clone_area(module, parent, new)


def merge_areas(module: nn.Module, kept: int, gone: int) -> float:
    """Merges two areas' maps, feedback and optimiser state; returns the largest relative distance that it removed."""
    return max((part.merge(kept, gone) for part in _area_maps(module)), default=0.0)


def _area_maps(module: nn.Module) -> Iterator[AreaMap]:
    """Yields the area maps that follow the router of `module`: not those of layers with a router of their own."""
    if isinstance(module, AreaMap):
        yield module
        return
    for child in module.children():
        if getattr(child, "router", None) is None:
            yield from _area_maps(child)
