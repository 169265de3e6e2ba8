"""Rates: how fast the parts of a network learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .checks import check_real
from .errors import BrodmannError
from .layer_names import closest

BESIDE_SHARED = 0.1
"""Rate of areas beside a shared part that learns, under a rule whose steps do not shrink with the gradient."""


class _Unchanging(dict[str, float]):
    """A dictionary that nobody changes: a network reads the rates once, when it gets them.

    Called, the class makes an ordinary one: so does `dataclasses.asdict`, for writers of configurations.
    """

    def __new__(cls, *given: Any) -> dict[str, float]:  # type: ignore[misc]
        return dict(*given)

    @staticmethod
    def of(rates: Mapping[str, float]) -> _Unchanging:
        """Returns one that holds these rates."""
        made = dict.__new__(_Unchanging)
        dict.update(made, rates)
        return made

    def __setitem__(self, *change: object, **more: object) -> None:
        raise BrodmannError(
            "Rates do not change: assign new ones, as in network.rates = Rates(layers={**network.rates.layers, ...})."
        )

    __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = __setitem__  # type: ignore[assignment]

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Callable[..., _Unchanging], tuple[dict[str, float]]]:
        """Copies and pickles are built whole, not key by key."""
        return _Unchanging.of, (dict(self),)


@dataclass(frozen=True)
class Rates:
    """Learning rates of the parts, as multiples of the step's learning rate; 0 freezes a part.

    Attributes:
        shared: Rate of shared parts. Default 1.
        areas: Rate of the areas' own parts. Default None: 0.1 beside a shared part that learns, under a rule whose
            steps do not shrink with the gradient (Adam, Muon), else 1. Such a rule moves an area as far for a few
            samples as the shared part for all: full steps over-fit small sets and a tenth kept the gain on large ones
            (docs/log.md). Areas that grow by themselves (``partition="growing"``) have earned theirs and move at 1.
            With ``shared=0`` the shared part does not learn, so that areas move ten times as fast under such a rule,
            unless a rate is given.
        projection: Rate of the routers' projections. Default 1. At 0 they stay fixed; balance and growth go on.
        feedback: Rate of the feedback weights. Default 1; maps per area move at this rate times that of the areas, with
            which they are paired.
        layers: Multiples for single layers, for all that they hold, feedback and a router of their own included. Keys
            are names as `Network.learning_layers` gives them, or what those begin with, such as ``"layers.0"``, with or
            without the ``"body."`` of a routed body; ``*`` stands for any text, as in ``"nodes.stage_1_*"``. If several
            keys match, the one with the most characters beside ``*`` wins; of equals, one without ``*``, then the first
            in the alphabet. Default: no keys; every layer has rate 1. An error passes through a frozen layer as through
            any other.
    """

    shared: float = 1.0
    areas: float | None = None
    projection: float = 1.0
    feedback: float = 1.0
    layers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_real(shared=self.shared, projection=self.projection, feedback=self.feedback)
        if self.areas is not None:
            check_real(areas=self.areas)
        if not isinstance(self.layers, Mapping) or not all(isinstance(name, str) for name in self.layers):
            raise BrodmannError(f"Expected layers to be a dictionary of names and rates, got {self.layers!r}.")
        for name, rate in self.layers.items():
            check_real(**{f"the rate of '{name}'": rate})
        object.__setattr__(self, "layers", _Unchanging.of(self.layers))

    def of_areas(self, *, beside_learned: bool, scale_free: bool, grown: bool) -> float:
        """Returns the rate of the areas' own parts in a layer.

        Args:
            beside_learned: Whether the layer has a shared part that learns, unless its rate is 0.
            scale_free: Whether the steps of its rule do not shrink with the gradient.
            grown: Whether its areas grow by themselves.
        """
        if self.areas is not None:
            return self.areas
        return BESIDE_SHARED if beside_learned and self.shared > 0 and scale_free and not grown else 1.0

    def of_layer(self, name: str) -> float:
        """Returns the rate of a layer, by its name."""
        part = closest(name, self.layers)
        return 1.0 if part is None else self.layers[part]
