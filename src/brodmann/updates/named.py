"""Update rules by name, for command lines, configurations and files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..checks import check_settings
from ..errors import BrodmannError, unknown_name
from .adam import Adam
from .muon import Muon
from .rls import RLS
from .rule import UpdateRule
from .sgd import SGD

UPDATES: dict[str, Callable[..., UpdateRule]] = {"sgd": SGD, "adam": Adam, "muon": Muon, "rls": RLS}


def check_rule(update: Any) -> None:
    """Checks that an update is a rule, not its name or its class; raises a `BrodmannError`."""
    if not isinstance(update, UpdateRule):
        raise BrodmannError(f"Expected update to be a rule such as Adam(), got {update!r}.")


def update_rule(name: str, **options: float) -> UpdateRule:
    """Builds an update rule by its name in `UPDATES`, for command lines and configurations."""
    if not isinstance(name, str) or name not in UPDATES:
        raise unknown_name("update rule", name, UPDATES, "brodmann.updates.UPDATES")
    if not callable(UPDATES[name]):
        raise BrodmannError(
            f"Expected brodmann.updates.UPDATES['{name}'] to be what makes a rule: its class, or a functools.partial "
            f"of that for settings of its own, got {UPDATES[name]!r}."
        )
    check_settings(name, options, UPDATES[name])
    return UPDATES[name](**options)


def usual_rule(name: str | UpdateRule, decay: float | None = None, **options: float) -> UpdateRule:
    """Builds a rule as the command line and the estimators do: without a decay, with that of the rule or its usual one.

    A rule that is built already keeps its own decay unless one is given, and has its other settings.
    """
    if isinstance(name, UpdateRule):
        if options:
            raise BrodmannError(f"{name!r} has its settings already: leave {', '.join(options)} out.")
        return name if decay is None else replace(name, decay=decay)
    if decay is None:
        rule = update_rule(name, **options)
        decay = rule.decay or rule.usual_decay
    return update_rule(name, decay=decay, **options)
