"""Container: a layer made of layers, and the rule that all of them follow."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ..updates import UpdateRule
from .layer import Layer


class Container(Layer):
    """Abstract: a layer made of layers, all of which the error passes."""

    traces_again: bool = False
    """Whether it traces its layers a second time when the error comes down."""

    def settle(self) -> None:
        """Checks, as when it was built, whether its layers go together, and tells them what they need to know.

        A `Network` calls it when a part was put in another's place. Default: nothing to check.

        Raises:
            BrodmannError: They do not go together.
        """

    @property
    def update_rule(self) -> UpdateRule | None:
        """Rule that all layers inside follow, at any depth, and its router; None if they follow several, or none.

        It may be replaced between steps: they all then follow the new one, see `Layer.update_rule`.

        Raises:
            BrodmannError: One of them cannot follow it, or none follows a rule. Nothing is replaced then.
        """
        return rule_throughout(self)

    @update_rule.setter
    def update_rule(self, rule: UpdateRule | None) -> None:
        replace_rule_throughout(self, rule)

    @property
    def sends_down(self) -> bool:
        """Whether all of its layers do: else the error below would be incomplete."""
        return all(layer.sends_down for layer in _inside(self))


def rule_throughout(layer: Layer) -> UpdateRule | None:
    """Returns the rule that a layer and all layers inside it follow, None if they follow several, or none."""
    first, *others = _rules_in(layer).values() or [None]
    return first if all(rule == first for rule in others) else None


def replace_rule_throughout(layer: Layer, rule: UpdateRule | None) -> None:
    """Replaces the rule of a layer and of all layers inside it that follow one; if one cannot follow, none does."""
    parts = list(_rules_in(layer)) or [layer]
    for part in parts:
        part._check_can_follow(rule)
    for part in parts:
        part._take_rule(rule)


def _rules_in(layer: Layer) -> dict[Layer, UpdateRule]:
    """Returns each layer, of this one and those inside it, that follows a rule itself, and that rule."""
    return {part: part._update_rule for part in layer._layers() if part._update_rule is not None}


def _inside(module: nn.Module) -> Iterator[Layer]:
    """Yields the layers inside a module, not those inside of them."""
    for child in module.children():
        if isinstance(child, Layer):
            yield child
        else:
            yield from _inside(child)
