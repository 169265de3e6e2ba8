"""Is every table whole: the rows that were planned and no others, the same seeds for every method."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from ...case import Planned, Row, row_name
from ...choices import Choices, search_of
from ...places import Place, place_of
from ...recipes import PROTOCOL_OF
from ...tuner import TRIAL_SEEDS

UNPAIRED = ("scale",)
"""Recipes whose methods are not compared seed by seed."""


def table_problems(rows: Sequence[Row], choices: Choices, plan: dict[str, Planned]) -> list[str]:
    """Returns which rows are missing, and which should not be there."""
    missing = _missing(rows, plan)
    return [
        *([] if plan else ["There is no plan, so missing rows cannot be detected."]),
        *(f"{', '.join(place)}: rows of seeds {_listed(seeds)} are missing." for place, seeds in missing.items()),
        *_not_planned(rows, plan),
        *_unequal_seeds(rows, missing),
        *_seeds_left_out(rows, plan),
        *_seeds_of_trials(rows, choices),
        *_other_protocols(rows),
    ]


def _missing(rows: Sequence[Row], plan: dict[str, Planned]) -> dict[Place, set[int]]:
    """Returns the seeds that are planned and not there, by recipe, protocol, data set and method."""
    there = {row["key"] for row in rows}
    missing: dict[Place, set[int]] = defaultdict(set)
    for key, row in plan.items():
        if key not in there:
            missing[row.recipe, row.protocol, row.dataset, row.method].add(row.seed)
    return missing


def _not_planned(rows: Sequence[Row], plan: dict[str, Planned]) -> list[str]:
    others: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows if plan else ():
        if row["key"] not in plan:
            others[row["recipe"], row["dataset"]].append(row)
    return [
        f"{recipe}, {dataset}: {len(own)} rows are in no plan, such as {own[0]['method']}, seed {own[0]['seed']}."
        for (recipe, dataset), own in others.items()
    ]


def _unequal_seeds(rows: Sequence[Row], missing: dict[Place, set[int]]) -> list[str]:
    """Methods of one table are compared seed by seed, so they must share their seeds, whatever a cut plan says."""
    tables: dict[Place, dict[Place, set[int]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row["recipe"] not in UNPAIRED:
            table = row["recipe"], row["protocol"], row["dataset"], row["detail"].get("stream", "")
            tables[table][place_of(row)].add(row["seed"])
    found = []
    for places in tables.values():
        every = set().union(*places.values())
        found += [
            f"{', '.join(place)}: rows of seeds {_listed(every - own)}, which other methods have, are missing."
            for place, own in places.items()
            if own != every and place[:4] not in missing
        ]
    return found


def _seeds_left_out(rows: Sequence[Row], plan: dict[str, Planned]) -> list[str]:
    """The package's recipes count their seeds from 0: a gap is a seed that somebody took from all methods."""
    seeds: dict[Place, set[int]] = defaultdict(set)
    for row in rows:
        seeds[row["recipe"], row["protocol"], row["dataset"]].add(row["seed"])
    for planned in plan.values():
        seeds[planned.recipe, planned.protocol, planned.dataset].add(planned.seed)
    return [
        f"{', '.join(table)}: its seeds are {_listed(own)}, expected those from 0 to {len(own) - 1}."
        for table, own in seeds.items()
        if table[0] in PROTOCOL_OF and own != set(range(len(own)))
    ]


def _seeds_of_trials(rows: Sequence[Row], choices: Choices) -> list[str]:
    return [
        f"{row_name(row)}: a result has the seed of a trial, on which its settings may have been chosen."
        for row in rows
        if row["seed"] in TRIAL_SEEDS and (row["protocol"] == "tuned" or search_of(row) in choices)
    ]


def _other_protocols(rows: Sequence[Row]) -> list[str]:
    """Settings are checked if the protocol is tuned: a recipe that searches has no results of another one."""
    counts = Counter(
        (row["recipe"], row["dataset"], row["task"], row["protocol"], PROTOCOL_OF[row["recipe"]].get(row["task"]))
        for row in rows
        if row["recipe"] in PROTOCOL_OF
    )
    return [
        f"{recipe}, {dataset}: {count} rows of the task {task} have the protocol {protocol}, expected "
        f"{expected or 'no such task'}."
        for (recipe, dataset, task, protocol, expected), count in counts.items()
        if protocol != expected
    ]


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
