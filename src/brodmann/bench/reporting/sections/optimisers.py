"""Adam beside Muon: what the rule changes, and what areas change under it."""

from __future__ import annotations

from ...case import Row
from ...recipes import MUON
from .comparisons import TWIN, pair_by_pair
from .scores import accuracies
from .section import Section


def optimisers_section(rows: list[Row]) -> Section:
    """Returns the section of the recipe `optimisers`."""
    names = list(dict.fromkeys(row["method"] for row in rows))
    by_muon = [name for name in names if name.endswith(MUON)]
    pairs = [(name, name.removesuffix(MUON)) for name in by_muon]
    pairs += [(name, f"{TWIN}{MUON}") for name in by_muon if not name.startswith(TWIN)]
    title = "Test accuracy in %, mean ± standard deviation over seeds"
    return Section("optimisers", "Adam beside Muon", tables=[accuracies(rows, title), pair_by_pair(rows, pairs)])
