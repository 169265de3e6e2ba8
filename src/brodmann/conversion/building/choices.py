"""Choices: what the layers of a converted network have in common, and what single ones are given instead."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

from ...builders import Parts
from ...checks import check_settings
from ...errors import BrodmannError, unknown_name
from ...layer_names import closest, is_within

MODULE = "module"
"""The choice of ``routing`` by which all maps of a module follow one route."""
OF_NETWORK = frozenset({"in_features", "outputs"})
"""Attributes of `Parts` that no single layer has to itself."""


@dataclass(frozen=True)
class Choices:
    """The arguments of `from_torch` that layers follow.

    Attributes:
        common: What holds for all layers.
        layers: What holds instead for those of a name, see `from_torch`.
        inside: Name of the module, all of whose maps follow one route, that is being built. None for the whole model.
    """

    common: Parts
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    inside: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.layers, Mapping):
            raise BrodmannError(
                "Expected layers to be a dictionary of settings for layers by name, such as "
                f"{{'blocks.*.mlp': {{'areas': 16}}}}, got {self.layers!r}."
            )
        for name, settings in self.layers.items():
            if not isinstance(name, str):
                raise BrodmannError(f"Expected layers to be a dictionary whose keys are names, got the key {name!r}.")
            check_settings(f"layers['{name}']", settings, Parts, without=OF_NETWORK)

    @cached_property
    def by_name(self) -> dict[str, Parts]:
        """What holds for layers of a name, all of it.

        A layer with areas of its own number cannot follow the network's route: it routes its own rows, unless the
        settings say otherwise.
        """
        found = {}
        for name, settings in self.layers.items():
            areas = settings.get("areas", self.common.areas)
            own = {} if areas in (1, self.common.areas) else {"routing": "layer"}
            found[name] = replace(self.common, **(own | dict(settings)))
        return found

    def of(self, name: str) -> Parts:
        """Returns what a layer is made of, by the name that the model gives it."""
        part = closest(name, self.by_name)
        return self.common if part is None else self.by_name[part]

    def module_of(self, name: str) -> str | None:
        """Returns the outermost module, around a layer or the layer itself, whose maps follow one route.

        While such a module is being built, it is one inside of it, by other settings. None if there is none.
        """
        depth, around = 0, None
        if self.inside is not None:
            depth, around = self.inside.count(".") + 1, closest(self.inside, self.by_name)
        for module in [*accumulate(name.split("."), "{}.{}".format)][depth:]:
            part = closest(module, self.by_name)
            if part not in (None, around) and self.by_name[part].routing == MODULE and self.by_name[part].areas > 1:
                return module
        return None

    def within(self, module: str, *, of_rows: bool) -> Choices:
        """Returns the choices for the layers of a module whose maps follow one route, of rows or of whole samples.

        For samples, it is to them what the network's route is to others.
        """
        part = closest(module, self.by_name)
        assert part is not None
        routing = MODULE if of_rows else "network"
        return replace(self, layers={**self.layers, part: {**self.layers[part], "routing": routing}}, inside=module)

    def check(self, maps: Collection[str], weights: int) -> None:
        """Checks, before any layer is built, what no layer checks itself, and that every name stands for a layer.

        Args:
            maps: Names of the layers that may have areas.
            weights: Numbers in all layers, each with one area.

        Raises:
            BrodmannError: As `Parts.check`; or no layer has such a name, or it is to follow a route that is not there.
        """
        if self.common.routing == MODULE:
            raise BrodmannError(
                f'routing="{MODULE}" is a setting of single modules: name them, as in '
                f"layers={{'blocks.*.mlp': {{'areas': 16, 'routing': '{MODULE}'}}}}."
            )
        self.common.check(len(maps), weights)
        for name, parts in self.by_name.items():
            own = replace(parts, routing="layer") if parts.routing == MODULE else parts
            own.check(sum(is_within(one, name) for one in maps), weights=0)
            if parts.routed and not (self.common.routed and parts.areas == self.common.areas):
                route = f"has {self.common.areas}" if self.common.routed else "does not exist"
                raise BrodmannError(
                    f"layers['{name}'] asks for {parts.areas} areas that follow the network's route, which {route}: "
                    'these layers can route their own rows, by routing="layer".'
                )

    def check_names(self, known: Iterable[str]) -> None:
        """Raises if one of the names stands for none of the model's layers with parameters."""
        names = sorted(set(known))
        for part in self.layers:
            if not any(is_within(name, part) for name in names):
                raise unknown_name("layer of the model", part, names)

    @property
    def from_output(self) -> bool:
        """Whether some feedback brings errors from the network's output, see `brodmann.feedback.Feedback`."""
        return any(parts.from_output for parts in (self.common, *self.by_name.values()))
