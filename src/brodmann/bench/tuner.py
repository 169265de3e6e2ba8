"""The search for settings: the same trials for every method, judged on validation parts only."""

from __future__ import annotations

import itertools
import random
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from .case import Case, Row
from .choices import Choices, Search, search_of
from .rounding import significant

TRIALS = 12
"""Settings that each method may try on each data set."""
DRAWN = 8
"""How many of them are the same for all: the default and random draws. The others are steps from the best so far."""
TRIAL_SEEDS = (1000, 1001)
"""Seeds of a trial, kept apart from those of the results."""


class Settings(NamedTuple):
    """What a search chooses."""

    lr: float
    decay: float
    dropout: float

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Takes them from the options of a row."""
        return cls(*(values[name] for name in SEARCHED))


SEARCHED = Settings._fields
Tried = dict[Settings, list[float]]
"""Settings -> validation score of every seed."""


def candidates(count: int, *, stream: bool = False) -> list[Settings]:
    """Returns the settings that every search begins with: the same for every method and data set.

    The first is the package's default; the others are drawn once: the learning rate log-uniformly from 5e-4 to 2e-2,
    decay from 0, 0.1, 0.3, 1, dropout from 0, 0.2, 0.4. On streams rates begin at 2e-5: what one pass over changing
    tasks teaches is kept best at rates far below those that suit many passes over one (docs/log.md).
    """
    draw, lowest = random.Random(0), 2e-5 if stream else 5e-4
    found = [Settings(3e-3, 0.2, 0.0)]
    while len(found) < count:
        rate = significant(lowest * (2e-2 / lowest) ** draw.random(), 2)
        found.append(Settings(rate, draw.choice((0.0, 0.1, 0.3, 1.0)), draw.choice((0.0, 0.2, 0.4))))
    return found[:count]


def next_settings(tried: Tried, count: int, *, stream: bool = False) -> list[Settings]:
    """Returns what a search tries next, given the validation scores so far; nothing once it has tried ``count``.

    First all settings that are drawn (`candidates`), `DRAWN` of them; then one step at a time from the best so far: the
    first of its neighbours that was not tried. So a search whose best rate was the largest drawn goes on beyond it,
    every method has the same number of trials, and a longer search begins as a shorter one.
    """
    if left := [entry for entry in candidates(min(count, DRAWN), stream=stream) if entry not in tried]:
        return left
    if len(tried) >= count:
        return []
    steps = itertools.chain(_neighbours(_best(tried)), candidates(2 * count, stream=stream))
    return [next(entry for entry in steps if entry not in tried)]


def _neighbours(best: Settings) -> Iterator[Settings]:
    """Yields settings one step from the best: twice and half its rate, less decay, another dropout, more decay."""
    yield best._replace(lr=significant(2.0 * best.lr, 2))
    yield best._replace(lr=significant(0.5 * best.lr, 2))
    yield best._replace(decay=significant(best.decay / 3.0, 1))
    yield best._replace(dropout=round(abs(best.dropout - 0.1), 1))
    yield best._replace(decay=significant(3.0 * best.decay, 1))


def trials_of(case: Case, settings: Iterable[Settings]) -> list[Case]:
    """Returns the trials of some settings for a case."""
    detail = {name: value for name, value in case.detail.items() if name != "every"}
    trial = replace(case, recipe="search", searched=False, trial=True, detail=detail)
    return [
        replace(trial, options=replace(case.options, seed=seed, **values._asdict()))
        for values in settings
        for seed in TRIAL_SEEDS
    ]


def choose(rows: Iterable[Row]) -> Choices:
    """Chooses for each search the settings with the best mean validation score; the first of equals."""
    choices: Choices = {}
    for search, tried in sorted(scores_of(rows).items()):
        best = _best(tried)
        validation = round(statistics.mean(tried[best]), 6)
        choices[search] = {**best._asdict(), "trials": len(tried), "validation": validation}
    return choices


def scores_of(rows: Iterable[Row]) -> dict[Search, Tried]:
    """Returns the validation scores of every search, one a seed: the first in its log."""
    scores: dict[Search, dict[Settings, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        name = search_of(row)
        scores[name][Settings.of(row["options"])].setdefault(row["options"]["seed"], row["validation"])
    return {name: {entry: [*seeds.values()] for entry, seeds in tried.items()} for name, tried in scores.items()}


def at_edge(rows: Iterable[Row]) -> list[tuple[Search, str, float, str]]:
    """Returns the searches whose best rate or decay is the largest or the smallest of those that they tried.

    A better one may lie beyond; a decay of 0 has nothing below it. An entry is the search, the setting's name, its
    value, and which of the two it is.
    """
    found = []
    for search, tried in sorted(scores_of(rows).items()):
        for name in ("lr", "decay"):
            values, best = {getattr(entry, name) for entry in tried}, getattr(_best(tried), name)
            if len(values) > 1 and best and best in (min(values), max(values)):
                found.append((search, name, best, "smallest" if best == min(values) else "largest"))
    return found


def _best(tried: Tried) -> Settings:
    """Returns the settings of the best mean score; of equals the first in the order in which searches begin.

    Equal are means with the same bits: rounding in the last one can decide between as many right answers.
    """
    order = _order()
    return max(sorted(tried), key=lambda entry: (statistics.mean(tried[entry]), -order.get(entry, len(order))))


@cache
def _order() -> dict[Settings, int]:
    every = [*candidates(1000, stream=True), *candidates(1000)]
    return {entry: place % 1000 for place, entry in enumerate(every)}


def settled(case: Case, choices: Choices) -> Case:
    """Returns the case with its chosen settings, ready to run."""
    if not case.searched:
        return case
    chosen = choices[search_of(case)]
    return replace(case, options=replace(case.options, **{name: chosen[name] for name in SEARCHED}), searched=False)
