"""Steering: a router and the maps that follow it, whose areas are split, recruited and merged together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from torch import Tensor, nn

from ..areas import AreaMap
from ..checks import TRUSTED, Unmodified
from ..errors import BrodmannError
from ..feedback import Feedback
from ..layer import Context, Layer
from ..origin import is_ours
from ..recording import asked, replayed
from ..routing import Conflict, Recruiting, Route, Router
from ..rows import weights_of_rows

Part = TypeVar("Part", bound=nn.Module)


class Steering(NamedTuple):
    """A router, and the layer that holds it together with all that follows it.

    Attributes:
        router: The router.
        layer: An `AreaLinear` with a router of its own, or a `Routed`.
    """

    router: Router
    layer: Layer

    def choose(self, x: Tensor, context: Context) -> Route:
        """Routes the samples of a step, x (rows, in); if it recruits, new ones first get areas, copies of others.

        Samples of weight 0 recruit none: they count as if they were not there.
        """
        router, weight = self.router, context.weight
        if isinstance(router, Recruiting) and context.lr_of(self.layer) > 0 and asked(router, "recruits"):
            replayed(self._recruit, router, x, weight, moves=True)
            for part in self._area_maps():
                part.stay_here()
        return router.route(x)

    def _recruit(self, router: Recruiting, x: Tensor, weight: Tensor | None) -> None:
        counting = x if weight is None else x[weights_of_rows(weight, len(x)) > 0]
        for parent, new in router.recruit(counting):
            self._clone(parent, new)

    def learn(self, routes: Iterable[Route], context: Context) -> None:
        """Lets the router learn from each of its routes, to which the layers that follow have added what they found.

        Then areas split whose samples were found to be in conflict, in most steps none.
        """
        router, rate = self.router, context.lr_of(self.layer, "projection")
        feedback_rate = rate * context.rates.feedback
        for route in routes:
            router.learn_feedback(route, feedback_rate, context.weight)
            given = route.x, context.weight
            with TRUSTED if is_ours(router) else Unmodified(f"{type(router).__name__}.learn", given):
                router.learn(route, rate, context.weight)
            if router.conflict is not None:
                replayed(self._split_where_in_conflict, router.conflict, moves=True)  # by the recording of a step, too

    def _split_where_in_conflict(self, conflict: Conflict) -> None:
        if conflict.window_is_full:
            router = self.router
            for area, cells in conflict.end_window(router.partition, len(router.free_areas()), router.protected):
                self.split(area, cells)

    def split(self, area: int, cells: Iterable[int] | None) -> int:
        """Splits an area by cloning its maps, feedback and optimiser state in all that follow; returns the new area."""
        leaving, new = self.router.planned(area, cells)
        self._clone(area, new)  # first, since memory may run out
        return self.router.split(area, leaving)

    def merge(self, kept: int, gone: int, *, changing: Sequence[Layer]) -> float:
        """Merges two areas' maps, feedback and optimiser state; returns how far apart they were in the layer of most.

        That is the distance of the layers' maps, which compute outputs; how far apart feedback maps were does not
        count.

        Raises:
            BrodmannError: The router cannot merge them, or one of the layers that are ``changing`` by it is frozen.
        """
        self.router.check_merge(kept, gone)
        if any(layer.moves and layer.frozen_here for layer in changing):
            raise BrodmannError(
                f"Cannot merge areas {kept} and {gone}: a layer that would change is frozen. Let it learn first, such "
                "as by `layer.frozen = False`, or by another choice of `Network.frozen_layers`."
            )
        of_feedback = {part for path in self._following(Feedback) for part in path.modules()}  # type: ignore[type-abstract]
        apart = {part: part.merge(kept, gone) for part in self._area_maps()}
        self.router.merge(kept, gone)
        return max((distance for part, distance in apart.items() if part not in of_feedback), default=0.0)

    def _clone(self, area: int, new: int) -> None:
        for part in self._area_maps():
            part.clone(area, new)

    def _area_maps(self) -> Iterator[AreaMap]:
        """Yields the maps that have areas to split: a layer with one area has none."""
        return (part for part in self._following(AreaMap) if len(part.slot) > 1)

    def _following(self, kind: type[Part]) -> Iterator[Part]:
        """Yields the parts of a kind that follow the router."""
        for child in self.layer.children():
            if child is not self.router:
                yield from followers(child, kind)


def followers(module: nn.Module, kind: type[Part]) -> Iterator[Part]:
    """Yields the parts of a kind, in and below a module, that follow a router outside: none below one of their own."""
    if isinstance(getattr(module, "router", None), Router):
        return
    if isinstance(module, kind):
        yield module
        return
    for child in module.children():
        yield from followers(child, kind)
