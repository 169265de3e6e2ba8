"""Section: what a report says about one recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from brodmann.bench.tables import Table


@dataclass(frozen=True)
class Plot:
    """A figure: drawn on demand by ``draw(path)``, whose suffix decides the format."""

    name: str
    caption: str
    draw: Callable[[Any], None]


@dataclass(frozen=True)
class Section:
    """One recipe's part of a report."""

    recipe: str
    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
