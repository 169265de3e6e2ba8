"""Section: what a report says about one recipe."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..tables import Table


@dataclass(frozen=True)
class Plot:
    """A figure: drawn on demand by ``draw(path)``, whose suffix decides the format.

    Attributes:
        name: Name of its file; characters that file names should not hold, as in paths of data sets, are replaced.
        caption: Text below it.
        draw: Draws it.
    """

    name: str
    caption: str
    draw: Callable[[Any], None]

    def __post_init__(self) -> None:
        plain = re.sub(r"[^\w.-]+", "_", self.name)
        if plain != self.name:  # two of them may be alike otherwise
            plain += "-" + hashlib.sha256(self.name.encode()).hexdigest()[:6]
        object.__setattr__(self, "name", plain)


@dataclass(frozen=True)
class Section:
    """One recipe's part of a report."""

    recipe: str
    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
