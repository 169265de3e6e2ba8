"""What a report says about each recipe: tables, figures and their reading, computed from the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...case import Row
from .convergence import convergence_section
from .depth import depth_section
from .interference import interference_section
from .optimisers import optimisers_section
from .scale import scale_section
from .scores import accuracies
from .section import Section
from .ten import ten_section

SECTIONS: dict[str, Callable[[list[Row]], Section]] = {
    "ten": ten_section,
    "optimisers": optimisers_section,
    "depth": depth_section,
    "scale": scale_section,
    "convergence": convergence_section,
    "interference": interference_section,
}


def section_of(recipe: str, rows: Sequence[Row]) -> Section:
    """Returns the part of a recipe; one without a part of its own gets its accuracies as a table."""
    if recipe in SECTIONS:
        return SECTIONS[recipe](list(rows))
    return Section(
        recipe, recipe, tables=[accuracies(rows, "Test accuracy in %, mean ± standard deviation over seeds")]
    )


__all__ = ["SECTIONS", "Section", "section_of"]
