"""Adam beside Muon: what the rule changes, and what areas change under it."""

from __future__ import annotations

from ...case import Row
from ...recipes import MUON
from ..statistics import error_ratio
from ..tables import Table
from .comparisons import TWIN, differences, pairs_of
from .scores import accuracies
from .section import Section


def optimisers_section(rows: list[Row]) -> Section:
    """Returns the section of the recipe `optimisers`."""
    names = list(dict.fromkeys(row["method"] for row in rows))
    by_muon = [name for name in names if name.endswith(MUON)]
    pairs = [(name, name.removesuffix(MUON)) for name in by_muon]
    pairs += [(name, f"{TWIN}{MUON}") for name in by_muon if not name.startswith(TWIN)]
    sets = list(dict.fromkeys(row["dataset"] for row in rows))
    lines = []
    for ours, theirs in pairs:
        found = differences(rows, ours, theirs)
        if found:
            cells = (
                f"{found[name].mean:+.2f} [{found[name].low:+.2f}, {found[name].high:+.2f}]" if name in found else ""
                for name in sets
            )
            ratio, low, high = error_ratio(pairs_of(rows, ours, theirs))
            lines.append([f"{ours} minus {theirs}", *cells, f"{ratio:.3f} [{low:.3f}, {high:.3f}]"])
    title = "Test accuracy in %, mean ± standard deviation over seeds"
    compared = Table(
        "Differences in points of test accuracy, with 95 % intervals",
        ["methods", *sets, "error ratio [95 %]"],
        lines,
        "The ratio is the geometric mean over the sets of (error + 0.5); below 1 the first errs less.",
    )
    return Section("optimisers", "Adam beside Muon", tables=[accuracies(rows, title), compared])
