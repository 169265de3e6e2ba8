"""Settings of a network that may be replaced between steps: loss, rates, clip, update rule, frozen and protected."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..checks import as_names, check_positive
from ..errors import BrodmannError, unknown_name
from ..held import Held
from ..layer import Layer, replace_rule_throughout, rule_throughout
from ..layer_names import is_within
from ..losses.builtin import Loss
from ..rates import Rates
from ..routing import Router
from ..updates import UpdateRule
from .body_with_loss import BodyWithLoss
from .learning_layers import check_names, learning_layers


class Adjustable(BodyWithLoss):
    """A body of layers, and settings that may be replaced between steps."""

    body = Held[Layer]()

    def __init__(self, body: Layer, loss: Loss | None, rates: Rates | None, clip: float | None) -> None:
        """Takes the layers and these settings, see `Network`."""
        super().__init__()
        self.body = body
        self.loss = loss  # type: ignore[assignment]
        self.rates, self.clip = Rates() if rates is None else rates, clip

    @property
    def rates(self) -> Rates:
        """Multiples of the learning rate. May be replaced between steps, for example to freeze a layer.

        A layer that is put in another's place has the rate of its name.

        Raises:
            BrodmannError: It names a layer that does not exist.
        """
        return self._rates

    @rates.setter
    def rates(self, rates: Rates) -> None:
        if not isinstance(rates, Rates):
            raise BrodmannError(f"Expected rates to be Rates(...), got {rates!r}.")
        layers = dict(learning_layers(self.body))
        if rates.layers and not layers:
            raise BrodmannError("No layer of this network learns (after merged(), none does): leave rates out.")
        check_names(rates.layers, layers)
        self._rates = rates
        self._layer_rates = {layer: rates.of_layer(name) for name, layer in layers.items()} if rates.layers else None

    @property
    def clip(self) -> float | None:
        """Largest norm of an error, or None. May be replaced between steps.

        Raises:
            BrodmannError: It is not above 0.
        """
        return self._clip

    @clip.setter
    def clip(self, clip: float | None) -> None:
        if clip is not None:
            check_positive(clip=clip)
        self._clip = clip

    @property
    def update_rule(self) -> UpdateRule | None:
        """Rule that all of it follows; None if layers or routers follow several, or none. May be replaced.

        All that follow a rule then follow the new one, see `Layer.update_rule`. The learning rate stays.

        Raises:
            BrodmannError: A layer cannot follow it, or none follows a rule. Nothing is replaced then.
        """
        return rule_throughout(self.body)

    @update_rule.setter
    def update_rule(self, rule: UpdateRule) -> None:
        replace_rule_throughout(self.body, rule)

    @property
    def frozen(self) -> bool:
        """Whether all of it stays as it is, see `Layer.frozen`. May be set between steps."""
        return self.body.frozen

    @frozen.setter
    def frozen(self, frozen: bool) -> None:
        self.body.frozen = frozen

    @property
    def frozen_layers(self) -> list[str]:
        """Names of all layers that are frozen, as `learning_layers` gives them. May be replaced between steps.

        What is set are names as `Rates` takes them, such as ``"body.layers.0"`` or ``"nodes.stage_1_*"``, each for all
        that it holds; all other layers are no longer frozen. What is returned is a list of its own:
        ``network.frozen_layers += ["layers.0"]`` freezes one more layer, ``append`` does not.

        Raises:
            BrodmannError: These are no names, or there is no such layer.
        """
        return [name for name, layer in learning_layers(self.body) if layer.frozen_here]

    @frozen_layers.setter
    def frozen_layers(self, names: Sequence[str]) -> None:
        self._freeze(as_names("frozen_layers", names), is_within)

    def freeze_exactly(self, names: Sequence[str]) -> None:
        """Freezes what `frozen_layers` once returned: layers of these names, and none inside them that is not named.

        Raises:
            BrodmannError: There is no such layer.
        """
        self._freeze(names, operator.eq)

    def _freeze(self, names: Sequence[str], covers: Callable[[str, str], bool]) -> None:
        """Freezes the layers whose name one of these covers, and no others."""
        layers = dict(learning_layers(self.body))
        check_names(names, layers)
        for name, layer in layers.items():
            layer.frozen_here = any(covers(name, part) for part in names)

    @property
    def protected_areas(self) -> dict[str, list[int]]:
        """Areas that stay as they are, see `Router.protected`, by the name of the layer whose router chooses them.

        Names are as `telemetry.area_choices` gives them: ``"router"`` for the one route of a routed body.
        May be replaced between steps, by such a dictionary, or by a list of areas for every router; no others are then
        protected.

        Raises:
            BrodmannError: There is no such layer or area, or nothing here has areas.
        """
        return {name: sorted(router.protected) for name, router in routers(self) if router.protected}

    @protected_areas.setter
    def protected_areas(self, areas: Mapping[str, Iterable[int]] | Iterable[int]) -> None:
        known = dict(routers(self))
        if not isinstance(areas, Mapping):
            areas = dict.fromkeys(known, list(areas) if isinstance(areas, Iterator) else areas)
            if not known:
                raise BrodmannError(
                    "Every layer of this network has one area: freeze layers instead, see frozen_layers."
                )
        areas = {name or "router": some for name, some in areas.items()}  # "" in files of earlier versions
        for name in areas:
            if name not in known:
                raise unknown_name("layer with a router", name, known)
        before = {name: router.protected for name, router in known.items()}
        try:
            for name, router in known.items():
                router.protected = areas.get(name, ())
        except BrodmannError:
            for name, router in known.items():
                router.protected = before[name]
            raise

    def adjustments(self) -> dict[str, Any]:
        """Returns all of these settings but the loss, in the form of files."""
        return {
            "rates": vars(self.rates),
            "clip": self.clip,
            "frozen": self.frozen_layers,
            "protected": self.protected_areas,
        }

    def adjust(self, adjustments: dict[str, Any]) -> None:
        """Restores what `adjustments` returned, also in earlier versions, which froze and protected nothing."""
        self.rates, self.clip = Rates(**adjustments["rates"]), adjustments["clip"]
        if "frozen" in adjustments:
            self.freeze_exactly(adjustments["frozen"])
        self.protected_areas = adjustments.get("protected", {})


def routers(network: Adjustable) -> list[tuple[str, Router]]:
    """Returns every router of a network by the name of the layer, or the `Routed`, that holds it as ``router``."""
    named = [(name, part) for name, part in network.body.named_modules() if isinstance(part, Router)]
    return [(name.removesuffix(".router"), router) for name, router in named]
