"""Splitting, recruiting and merging areas: the router and every layer that follows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from torch import Tensor, nn

from ..areas import AreaMap
from ..errors import BrodmannError
from ..feedback import Feedback
from ..layer import Layer
from ..routing import Recruiting, Route, Router, weights_of_rows

Part = TypeVar("Part", bound=nn.Module)


def split_area(router: Router, modules: Iterable[nn.Module], area: int, cells: Iterable[int] | None) -> int:
    """Splits an area by cloning its maps, feedback and optimiser state in all that follow; returns the new area."""
    leaving, new = router.planned(area, cells)
    for part in _area_maps(modules):  # first, since memory may run out
        part.clone(area, new)
    return router.split(area, leaving)


def choose_areas(
    router: Router, modules: Iterable[nn.Module], x: Tensor, weight: Tensor | None, *, recruits: bool
) -> Route:
    """Routes the samples of a step, x (rows, in); where it ``recruits``, new ones first get areas, copies of others.

    Samples of weight 0, where there are weights (batch, ...), recruit none: they count as if they were not there.
    """
    if recruits and isinstance(router, Recruiting) and router.recruits:
        counting = x if weight is None else x[weights_of_rows(weight, len(x)) > 0]
        pairs = router.recruit(counting)
        parts = list(_area_maps(modules)) if pairs else []
        for parent, new in pairs:
            for part in parts:
                part.clone(parent, new)
    return router.route(x)


def learn_choice(
    router: Router, modules: Iterable[nn.Module], route: Route, lr: float, weight: Tensor | None = None
) -> None:
    """Lets a router learn from a step; splits areas whose samples were found to be in conflict, in most steps none.

    Args:
        router: What chose the areas.
        modules: What follows it.
        route: Its choice, to which the layers have added what they found.
        lr: Learning rate of its projection.
        weight: Weights of the samples, (batch, ...), or None.
    """
    router.learn(route, lr, weight)
    if router.conflict is not None:
        modules = list(modules)
        for area, cells in router.conflict.end_window(router.partition, len(router.free_areas()), router.protected):
            split_area(router, modules, area, cells)


def merge_areas(
    router: Router, modules: Iterable[nn.Module], kept: int, gone: int, *, changing: Iterable[Layer]
) -> float:
    """Merges two areas' maps, feedback and optimiser state; returns how far apart they were in the layer of most.

    That is the distance of the layers' maps, which compute outputs; how far apart feedback maps were does not count.

    Raises:
        BrodmannError: The router cannot merge them, or one of the layers that are ``changing`` by it is frozen.
    """
    router.check_merge(kept, gone)
    if any(layer.moves and layer.frozen_itself for layer in changing):
        raise BrodmannError(
            f"Cannot merge areas {kept} and {gone}: a layer that would change is frozen. Let it learn first, such as "
            "by `layer.frozen = False`, or by another choice of `Network.frozen_layers`."
        )
    modules = list(modules)
    paths = (path for module in modules for path in followers(module, Feedback))  # type: ignore[type-abstract]
    of_feedback = {part for path in paths for part in path.modules()}
    apart = {part: part.merge(kept, gone) for part in _area_maps(modules)}
    router.merge(kept, gone)
    return max((distance for part, distance in apart.items() if part not in of_feedback), default=0.0)


def followers(module: nn.Module, kind: type[Part]) -> Iterator[Part]:
    """Yields the parts of a kind, in and below a module, that follow a router outside: none below one of their own."""
    if isinstance(getattr(module, "router", None), Router):
        return
    if isinstance(module, kind):
        yield module
        return
    for child in module.children():
        yield from followers(child, kind)


def _area_maps(modules: Iterable[nn.Module]) -> Iterator[AreaMap]:
    """Yields the maps that have areas to split: a layer with one area has none."""
    for module in modules:
        yield from (part for part in followers(module, AreaMap) if len(part.slot) > 1)
