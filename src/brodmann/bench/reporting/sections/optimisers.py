"""Adam beside Muon: what the rule changes, and what areas change under it."""

from __future__ import annotations

from ...case import Row
from ...methods import MUON
from .comparisons import TWIN, pair_by_pair
from .scores import accuracies
from .section import Section


def optimisers_section(rows: list[Row]) -> Section:
    """Returns the section of the recipe `optimisers`."""
    names = list(dict.fromkeys(row["method"] for row in rows))
    by_muon = [name for name in names if name.endswith(MUON)]
    pairs = [(name, name.removesuffix(MUON)) for name in by_muon]
    ours = [name for name in by_muon if not name.startswith(TWIN)]
    pairs += [(name, rival) for rival in (f"{TWIN}{MUON}", TWIN) for name in ours]
    title = "Test accuracy in %, mean ± standard deviation over seeds"
    return Section("optimisers", "Adam beside Muon", tables=[accuracies(rows, title), pair_by_pair(rows, pairs)])
