"""Places: which cell of a table a row stands in, and what all rows of one place must have in common."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import BrodmannError
from ..files import as_json
from .case import Case, Row
from .choices import search_of
from .tuner import SEARCHED

Place = tuple[str, ...]
Terms = dict[str, Any]
"""What rows of one place have in common: options and details, all but the seed."""


def place_of(row: Row) -> Place:
    """Returns recipe, protocol, data set, method and, in words, what tables tell apart beside them."""
    kinds = (("stream", row["detail"].get("stream")), ("layers", row["options"].get("layers")))
    return row["recipe"], row["protocol"], row["dataset"], row["method"], *(f"{a} {b}" for a, b in kinds if b)


def terms_of(row: Row) -> Terms:
    """Returns what all rows of the place of a row share."""
    settings = row["options"] | {f"detail {name}": value for name, value in row["detail"].items()}
    return {name: value for name, value in settings.items() if name != "seed"}


def terms_of_search(row: Row) -> Terms:
    """Returns what all trials of a search share with each other and with its results: not what it tries."""
    apart = (*SEARCHED, "detail every")  # a curve, which trials do not draw
    return {name: value for name, value in terms_of(row).items() if name not in apart}


def terms_by_place(
    rows: Iterable[Row], place: Callable[[Row], Place], terms: Callable[[Row], Terms]
) -> dict[Place, list[Terms]]:
    """Returns the different terms that rows of each place have, in their order."""
    found: dict[Place, list[Terms]] = defaultdict(list)
    for row in rows:
        if (own := terms(row)) not in found[place(row)]:
            found[place(row)].append(own)
    return found


def differing(one: Terms, other: Terms) -> list[str]:
    """Returns the names of what differs. Options that one lacks do not count: rows of earlier versions have fewer."""
    names = (
        name for name in dict.fromkeys([*one, *other]) if name.startswith("detail ") or (name in one and name in other)
    )
    return [name for name in names if one.get(name) != other.get(name)]


def check_alike(folder: Path, rows: Sequence[Row], trials: Sequence[Row], cases: Iterable[Case]) -> None:
    """Raises if cases would stand in one place with rows, or share a search with trials, of other settings.

    Args:
        folder: Folder of the benchmark, for the message.
        rows: Results that are there.
        trials: Trials that are there.
        cases: What is to run, before its searches.

    Raises:
        BrodmannError: Such rows are there, as those of a quick benchmark beside a full one.
    """
    asked = [(as_json(case.row()), case.searched) for case in cases]
    settled = [row for row, searched in asked if not searched]
    open_ones = [row for row, searched in asked if searched]
    for present, wanted, place_by, terms_by in (
        (rows, settled, place_of, terms_of),
        (rows, open_ones, place_of, terms_of_search),
        (trials, open_ones, search_of, terms_of_search),
    ):
        asked_for = terms_by_place(wanted, place_by, terms_by)
        for place, every in terms_by_place(present, place_by, terms_by).items():
            for terms in every:
                _check_one(folder, place, terms, asked_for.get(place, []))


def _check_one(folder: Path, place: Place, present: Terms, asked_for: Sequence[Terms]) -> None:
    """Raises if all that is asked for in the place of a row has other terms than the row."""
    gaps = [(differing(present, terms), terms) for terms in asked_for]
    if not gaps or not all(names for names, _ in gaps):
        return
    names, nearest = min(gaps, key=lambda gap: len(gap[0]))
    told = ", ".join(f"{name} {present.get(name)} instead of {nearest.get(name)}" for name in names)
    raise BrodmannError(
        f"{folder} holds rows of {', '.join(place)} with other settings ({told}), as a quick benchmark and a full one "
        "have: a mean of both says nothing. Choose another folder with --out."
    )
