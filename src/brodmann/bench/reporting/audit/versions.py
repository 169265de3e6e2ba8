"""Notes: which rows of one table come from several versions of the code.

That contradicts nothing, and may change nothing; only who knows what changed between the versions can tell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from ...case import Row
from ...choices import Search, search_of


def version_notes(rows: Sequence[Row], trials: Sequence[Row]) -> list[str]:
    """Returns a sentence for all sets of which the same is to be said."""
    return [*_of_results(rows), *_of_trials(rows, trials)]


def _of_results(rows: Sequence[Row]) -> list[str]:
    """Methods are compared on one set at a time, so all results of a recipe on a set should come from one version."""
    codes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        codes[row["recipe"], row["dataset"]].add(row["code"])
    alike: dict[tuple[str, int], list[str]] = defaultdict(list)
    for (recipe, dataset), found in codes.items():
        if len(found) > 1:
            alike[recipe, len(found)].append(dataset)
    return [
        f"{recipe}, {_sets(datasets)}: rows come from {count} versions of the code."
        for (recipe, count), datasets in alike.items()
    ]


def _of_trials(rows: Sequence[Row], trials: Sequence[Row]) -> list[str]:
    """Settings are chosen for the code that tried them, so trials of a set should come from the version of its rows."""
    tried: dict[str, dict[Search, set[str]]] = defaultdict(lambda: defaultdict(set))
    used: dict[Search, set[str]] = defaultdict(set)
    for row in trials:
        search = search_of(row)
        tried[search.dataset][search].add(row["code"])
    for row in rows:
        if row["protocol"] == "tuned":
            used[search_of(row)].add(row["code"])
    alike: dict[tuple[int, int], dict[str, int]] = defaultdict(dict)
    for dataset, searches in tried.items():
        versions = len(set().union(*searches.values()))
        others = sum(used.get(search, own) != own for search, own in searches.items())
        if others or versions > 1:
            alike[others, len(searches)][dataset] = versions
    return [
        f"search, {_sets(versions)}: trials come from {_range(versions.values())} of the code"
        + (f"; for {others} of {methods} methods they are not those of the results." if others else ".")
        for (others, methods), versions in alike.items()
    ]


def _sets(names: Iterable[str]) -> str:
    listed = list(names)
    return listed[0] if len(listed) == 1 else f"{len(listed)} sets ({', '.join(listed)})"


def _range(counts: Collection[int]) -> str:
    low, high = min(counts), max(counts)
    return "1 version" if high == 1 else f"{low} versions" if low == high else f"{low} to {high} versions"
