"""What learns in a body: its layers by the names that `Rates` takes, each of them in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from .errors import BrodmannError, unknown_name
from .layer import Layer, is_within
from .layers import BatchNorm, Routed
from .routing import Router


def learning_layers(body: Layer) -> list[tuple[str, Layer]]:
    """Returns name and layer of all that moves at a rate of its own, see `Network.learning_layers`."""
    found: list[tuple[str, Layer]] = []
    for name, part in body.named_modules():
        if isinstance(part, Routed):
            if part.router.learned and (part.body.learns or part.body.frozen):
                found.append((f"{name}.router".removeprefix("."), part))
        elif isinstance(part, Layer) and _has_rate(part):
            found.append((name, part))
    return found


def _has_rate(layer: Layer) -> bool:
    """Whether a layer moves at a rate of its own: one of the package's that learn, or one that holds parameters.

    Parameters of layers inside it belong to these; those of other modules inside it, such as an `nn.Linear`, are its
    own.
    """
    if not layer.learns and (not layer.frozen or getattr(layer, "merged", False)):
        return False
    inside = [part for part in layer.modules() if isinstance(part, Layer) and part is not layer]
    theirs = {parameter for part in inside for parameter in part.parameters()}
    return layer.update_rule is not None or isinstance(layer, BatchNorm) or not theirs.issuperset(layer.parameters())


def check_names(parts: Iterable[str], layers: Mapping[str, Layer]) -> None:
    """Raises where a name, which may stand for several layers, stands for none."""
    for part in parts:
        if not any(is_within(name, part) for name in layers):
            raise unknown_name("layer", part, layers)


def check_once(body: Layer) -> None:
    """Raises where a part that learns stands in two places of a body: it would move twice a step."""
    places: dict[nn.Module, str] = {}
    for name, part in body.named_modules(remove_duplicate=False):
        learns = part.learns if isinstance(part, Layer) else isinstance(part, Router)
        if learns and places.setdefault(part, name) != name:
            raise BrodmannError(
                f"'{name}' and '{places[part]}' are the same {type(part).__name__}, which would be updated twice per "
                "step: give each place its own, with copy.deepcopy."
            )
