"""Layers of a body that learn, by the names that `Rates` takes; each may stand in one place only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from ..errors import BrodmannError, unknown_name
from ..layer import Layer
from ..layer_names import is_within
from ..layers import Routed
from ..routing import Router


def learning_layers(body: Layer) -> list[tuple[str, Layer]]:
    """Returns name and layer of all that has its own learning rate, see `Network.learning_layers`."""
    layers = [(name, part) for name, part in body.named_modules() if isinstance(part, Layer) and part.moves]
    return [(f"{name}.router".removeprefix(".") if isinstance(part, Routed) else name, part) for name, part in layers]


def check_names(parts: Iterable[str], layers: Mapping[str, Layer]) -> None:
    """Raises if a name, which may stand for several layers, stands for none."""
    for part in parts:
        if not any(is_within(name, part) for name in layers):
            raise unknown_name("layer", part, layers)


def check_once(body: Layer) -> None:
    """Raises if a part that learns stands in two places of a body: it would move twice a step."""
    places: dict[nn.Module, str] = {}
    for name, part in body.named_modules(remove_duplicate=False):
        moves = part.can_learn if isinstance(part, Layer) else isinstance(part, Router)
        if moves and places.setdefault(part, name) != name:
            raise BrodmannError(
                f"'{name}' and '{places[part]}' are the same {type(part).__name__}, which would be updated twice per "
                "step: give each place its own, with copy.deepcopy."
            )
