"""Builders by name, and the body that a design describes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from ..errors import BrodmannError, unknown_name
from ..layer import Layer
from ..origin import is_ours
from ..updates import update_rule
from .bodies import convnet, mlp, residual_mlp, stream_mlp
from .designs import note
from .parts import Parts
from .sizes import as_ints

BUILDERS: dict[str, Callable[..., Layer]] = {
    "mlp": mlp,
    "residual_mlp": residual_mlp,
    "stream_mlp": stream_mlp,
    "convnet": convnet,
}


def build(description: Mapping[str, Any]) -> Layer:
    """Builds the body that `design` describes.

    Raises:
        BrodmannError: The builder, the rule or an argument is unknown.
    """
    if not isinstance(description, Mapping):
        raise BrodmannError(f"Expected a design such as {{'builder': 'mlp', ...}}, got {description!r}.")
    arguments = as_ints(description)
    name = str(arguments.pop("builder", None))
    if name not in BUILDERS:
        raise unknown_name("builder", name, BUILDERS, "brodmann.builders.BUILDERS")
    rule = arguments.get("update")
    if isinstance(rule, str):
        rule = {"name": rule}
    if isinstance(rule, dict):
        if "name" not in rule:
            raise BrodmannError(f"Expected an update such as {{'name': 'adam', ...}} in a design, got {rule!r}.")
        arguments["update"] = update_rule(**rule)
    body = built_by(BUILDERS[name], arguments, name)
    note(body, BUILDERS[name], name, arguments)
    return body


def built_by(builder: Callable[..., Layer], arguments: dict[str, Any], name: str | None = None) -> Layer:
    """Builds the body that a builder makes of arguments.

    Args:
        builder: A function, registered or not.
        arguments: Its arguments by name.
        name: What messages call it. Default its own name.

    Raises:
        BrodmannError: It does not take these arguments, does not return a layer, or is a layer itself.
    """
    name = label_of(builder) if name is None else name
    if isinstance(builder, nn.Module):
        raise BrodmannError(
            f"Expected a function that builds a body, got a {name}, which is built already: give a function of "
            "in_features, outputs and **common that returns it."
        )
    try:
        inspect.signature(builder).bind(**arguments)
    except TypeError as error:
        hint = _hint(set(arguments) - set(inspect.signature(builder).parameters))
        raise BrodmannError(f"The builder '{name}' cannot use this design: {error}.{hint}") from None
    body = builder(**arguments)
    if not isinstance(body, Layer):
        hint = ": convert it with from_torch." if isinstance(body, nn.Module) and not is_ours(body) else "."
        raise BrodmannError(f"Expected the builder '{name}' to return a layer, got {type(body).__name__}{hint}")
    return body


def label_of(builder: Any) -> str:
    """Returns what messages call a builder, given by its name or itself."""
    return builder if isinstance(builder, str) else getattr(builder, "__name__", type(builder).__name__)


def _hint(refused: set[str]) -> str:
    """Returns a hint for a builder that does not take some arguments by their names."""
    if refused & {"in_features", "outputs"}:
        return " Call its arguments for the two sizes in_features and outputs."
    common = refused & {part.name for part in fields(Parts)}
    return " Let its arguments end with **common, and pass them on." if common else ""
