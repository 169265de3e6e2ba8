"""Choices: the settings that were chosen for every search. Files hold them by data set, then by method."""

from __future__ import annotations

import json
from collections import defaultdict
from importlib import resources
from typing import Any, NamedTuple

from .case import Case, Row


class Search(NamedTuple):
    """What settings are chosen for: a method on a data set. On a stream, the stream's name comes before the method."""

    dataset: str
    method: str

    def __str__(self) -> str:
        """Shown in messages and tables."""
        return f"{self.dataset}, {self.method}"


Choices = dict[Search, dict[str, Any]]
"""Search -> the chosen settings, how many were tried, and the validation score."""
Stored = dict[str, dict[str, dict[str, Any]]]
"""Choices as a file holds them: data set -> method -> chosen settings."""


def search_of(case: Case | Row) -> Search:
    """Returns the search of a case or row, which all seeds and recipes of a method on a set or stream share."""
    row = case.row() if isinstance(case, Case) else case
    stream, method = row["detail"].get("stream"), row["method"]
    return Search(row["dataset"], method if stream is None else f"{stream}: {method}")


def to_stored(choices: Choices) -> Stored:
    """Returns choices as a file holds them."""
    stored: Stored = defaultdict(dict)
    for search, chosen in choices.items():
        stored[search.dataset][search.method] = chosen
    return dict(stored)


def from_stored(stored: Stored) -> Choices:
    """Returns the choices that a file holds."""
    return {Search(dataset, name): chosen for dataset, methods in stored.items() for name, chosen in methods.items()}


def packaged_choices() -> Choices:
    """Returns the settings that come with the package, from the search behind docs/results.md."""
    return from_stored(json.loads((resources.files(__package__) / "choices.json").read_text("utf-8")))
