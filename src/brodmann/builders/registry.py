"""Builders by name, and the body that a design describes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..errors import BrodmannError, unknown_name
from ..layer import Layer
from ..updates import update_rule
from .bodies import convnet, mlp, residual_mlp, stream_mlp
from .designs import note

BUILDERS: dict[str, Callable[..., Layer]] = {
    "mlp": mlp,
    "residual_mlp": residual_mlp,
    "stream_mlp": stream_mlp,
    "convnet": convnet,
}


def build(description: dict[str, Any]) -> Layer:
    """Builds the body that `design` describes.

    Raises:
        BrodmannError: The builder, the rule or an argument is unknown.
    """
    if not isinstance(description, dict):
        raise BrodmannError(f"Expected a design such as {{'builder': 'mlp', ...}}, got {description!r}.")
    arguments = dict(description)
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
    builder = BUILDERS[name]
    try:
        inspect.signature(builder).bind(**arguments)
    except TypeError as error:
        unnamed = {"in_features", "outputs"} & set(arguments) - set(inspect.signature(builder).parameters)
        hint = " Call its arguments for the two sizes in_features and outputs." if unnamed else ""
        raise BrodmannError(f"The builder '{name}' cannot use this design: {error}.{hint}") from None
    body = builder(**arguments)
    if not isinstance(body, Layer):
        raise BrodmannError(f"Expected the builder '{name}' to return a layer, got {type(body).__name__}.")
    note(body, name, arguments)
    return body
