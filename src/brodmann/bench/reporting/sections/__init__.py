"""What a report says about each recipe: tables, figures and their reading, computed from the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from ...case import Row
from ..tables import grouped
from .comparisons import pair_by_pair
from .convergence import convergence_section
from .depth import depth_section
from .interference import interference_section
from .optimisers import optimisers_section
from .scale import scale_section
from .scores import accuracies, broken_down
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
    """Returns the part of a recipe, which also says which networks broke down.

    One without a part of its own gets its accuracies, and how far its other methods are from its first.
    """
    section = SECTIONS[recipe](list(rows)) if recipe in SECTIONS else _of_ones_own(recipe, rows)
    section.text.extend(broken_down(rows))
    return section


def _of_ones_own(recipe: str, rows: Sequence[Row]) -> Section:
    tables = [accuracies(rows, "Test accuracy in %, mean ± standard deviation over seeds")]
    first, *others = dict.fromkeys(row["method"] for row in rows)
    section = Section(recipe, recipe, tables=tables)
    if not others:
        return section
    if lacking := _why_unpaired(rows):
        section.text.append(f"Methods are not compared pair by pair: {lacking}.")
    else:
        tables.append(pair_by_pair(rows, [(other, first) for other in others]))
    return section


def _why_unpaired(rows: Sequence[Row]) -> str:
    """Returns why rows cannot be compared over seeds and test samples, nothing if they can."""
    if not all("correct" in row for row in rows):
        return "a row does not say which test samples were right (the task returns this as 'right')"
    places = Counter((row["dataset"], row["method"], row["seed"]) for row in rows)
    ((dataset, method, seed), most), *_ = places.most_common(1)
    if most > 1:
        return f"there are {most} rows of {dataset}, {method}, seed {seed}"
    for dataset, group in grouped(rows, "dataset").items():
        if len({row["tested"] for row in group}) > 1:
            return f"the rows of {dataset} are of different test samples"
    return ""


__all__ = ["SECTIONS", "Section", "section_of"]
