"""Designs: a body as data, the builder that made it and its arguments, so that a file can hold it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from typing import Any, NamedTuple, ParamSpec, TypeVar

from ..areas import Slab
from ..errors import BrodmannError
from ..files import as_json
from ..layer import Layer
from ..storage import storage_name
from ..updates import UPDATES, UpdateRule, check_rule
from .sizes import as_ints

P = ParamSpec("P")
B = TypeVar("B", bound=Layer)
NOTE = "_built"
"""Attribute of a body that holds what `note` noted; copies of the body have it too."""


class _Built(NamedTuple):
    """What a builder made.

    Attributes:
        design: The builder and its arguments, see `design`.
        look: How the body looked then.
        rule: The rule that all of it followed; None if there were several, or the builder takes none.
    """

    design: dict[str, Any]
    look: str
    rule: UpdateRule | None


def design(builder: str, update: UpdateRule | None, **arguments: Any) -> dict[str, Any]:
    """Describes a body in JSON-safe data: the builder's name, its arguments and the update rule, None for its default.

    Raises:
        BrodmannError: The update is no rule, is not registered in `brodmann.updates.UPDATES`, or has settings that are
            no fields; or an argument cannot be written as data, such as a feedback path that is not given by its name.
    """
    given = dict(arguments)
    if "storage" in given:
        given["storage"] = storage_name(given["storage"])
    if update is not None:
        check_rule(update)
        name = next((name for name, rule in UPDATES.items() if rule is type(update)), None)
        if name is None:
            kind = type(update).__name__
            raise BrodmannError(
                "A design refers to its rule by name: register yours first, with "
                f"brodmann.updates.UPDATES['{kind.lower()}'] = {kind}."
            )
        given["update"] = {"name": name, **asdict(update)}
    other = [f"{name}={value!r}" for name, value in given.items() if not _is_data(value)]
    if other:
        raise BrodmannError(
            f"A design holds only numbers, strings, lists and dictionaries, got {', '.join(other)}. Register a "
            "feedback path or an activation of your own in brodmann.builders.FEEDBACKS or ACTIVATIONS, and give its "
            "name; or register a builder that uses what you give here, in BUILDERS."
        )
    if update is not None and not _comes_back(update):
        raise BrodmannError(
            f"{type(update).__name__} has settings that are no fields, which a design cannot hold: write "
            "@dataclass(frozen=True) above the class, and its settings as in `momentum: float = 0.9`, in place of an "
            "__init__."
        )
    description: dict[str, Any] = as_json({"builder": builder, **given})
    return description


def _comes_back(update: UpdateRule) -> bool:
    """Whether the fields of a rule are all that it was made from."""
    try:
        return vars(type(update)(**asdict(update))) == vars(update)
    except (TypeError, RuntimeError):  # an __init__ that takes no fields; tensors, which do not compare
        return False


def _is_data(value: Any) -> bool:
    try:
        as_json(value)
    except TypeError:
        return False
    return True


def described(builder: Callable[P, B]) -> Callable[P, B]:
    """Records on each body how the builder made it, see `design`; None if that cannot be written as data.

    The builder gets whole numbers of NumPy's, with which sizes may be given, as Python's, and arrays of them as lists.
    """

    @functools.wraps(builder)
    def call(*args: P.args, **kwargs: P.kwargs) -> B:
        args, kwargs = as_ints(args), as_ints(kwargs)
        body = builder(*args, **kwargs)
        note(body, builder, builder.__name__, inspect.signature(builder).bind(*args, **kwargs).arguments)
        return body

    return call


def note(body: Layer, builder: Callable[..., Layer], name: str, arguments: dict[str, Any]) -> None:
    """Records on a body the builder, its name and the arguments that made it, and how it looks now."""
    given = dict(arguments)
    takes_rule = "update" in inspect.signature(builder).parameters
    try:
        description = design(name, given.pop("update", None), **given)
    except BrodmannError:  # it cannot be written as data
        forget(body)
    else:
        vars(body)[NOTE] = _Built(description, repr(body), _only_rule(body) if takes_rule else None)


def forget(body: Layer) -> None:
    """Makes a body count as composed by hand: it cannot be built again from a design."""
    vars(body).pop(NOTE, None)


def built_from(body: Layer) -> dict[str, Any] | None:
    """Returns the design that a body was built from, with the update rule that all of it follows now.

    None if it was composed, or if anything else, or the rule of only some layers, was replaced since.
    """
    built: _Built | None = vars(body).get(NOTE)
    if built is None:
        return None
    look = repr(body)
    if look == built.look:
        return deepcopy(built.design)
    rule = _only_rule(body)
    if rule is None or built.rule is None or look != built.look.replace(str(built.rule), str(rule)):
        return None
    arguments = {name: value for name, value in built.design.items() if name not in ("builder", "update")}
    try:
        return design(built.design["builder"], rule, **arguments)
    except BrodmannError:  # the rule cannot be written as data
        return None


def _only_rule(body: Layer) -> UpdateRule | None:
    """Returns the rule that all weights of a body follow, routers and feedback included; None if there are several."""
    rules = [part.update_rule for part in body.modules() if isinstance(part, Slab)]
    return rules[0] if rules and all(rule == rules[0] for rule in rules) else None
