"""The search for settings: the same trials for every method, judged on validation parts alone."""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from importlib import resources
from typing import Any

from brodmann.bench.case import Case, Row
from brodmann.files import read_json

TRIALS = 8
"""Settings that each method may try on each data set."""
TRIAL_SEEDS = (1000, 1001)
"""Seeds of a trial, kept apart from those of the results."""
SEARCHED = ("lr", "decay", "dropout")
Choices = dict[str, dict[str, dict[str, Any]]]
"""Data set -> method -> chosen settings."""


def candidates(count: int, *, stream: bool = False) -> list[dict[str, Any]]:
    """Returns the settings to try: the same for every method and data set.

    The first is the package's default; the others are drawn once: the learning rate log-uniformly from 5e-4 to 2e-2,
    decay from 0, 0.1, 0.3, 1, dropout from 0, 0.2, 0.4. On streams rates begin at 2e-5: what one pass over changing
    tasks teaches is kept best at rates far below those that suit many passes over one (docs/log.md).
    """
    draw, lowest = random.Random(0), 2e-5 if stream else 5e-4
    found: list[dict[str, Any]] = [{"lr": 3e-3, "decay": 0.2, "dropout": 0.0}]
    while len(found) < count:
        found.append(
            {
                "lr": float(f"{lowest * (2e-2 / lowest) ** draw.random():.2g}"),
                "decay": draw.choice((0.0, 0.1, 0.3, 1.0)),
                "dropout": draw.choice((0.0, 0.2, 0.4)),
            }
        )
    return found[:count]


def trials_of(case: Case, count: int) -> list[Case]:
    """Returns the trials that choose the settings of a case."""
    detail = {name: value for name, value in case.detail.items() if name != "every"}
    trial = replace(case, recipe="search", searched=False, trial=True, detail=detail)
    return [
        replace(trial, options=replace(case.options, seed=seed, **settings))
        for settings in candidates(count, stream="stream" in case.detail)
        for seed in TRIAL_SEEDS
    ]


def search_name(dataset: str, method: str, detail: dict[str, Any]) -> tuple[str, str]:
    """Identifies a search: every seed and every recipe of a method on a data set, or on a stream of it, share one."""
    return dataset, f"{detail['stream']}: {method}" if "stream" in detail else method


def choose(rows: Iterable[Row]) -> Choices:
    """Chooses for each data set and method the settings with the best mean validation score; the first of equals."""
    scores: dict[tuple[str, str], dict[tuple[float, ...], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        settings = tuple(row["options"][name] for name in SEARCHED)
        scores[search_name(row["dataset"], row["method"], row["detail"])][settings].append(row["validation"])
    order = {
        tuple(entry[name] for name in SEARCHED): place
        for stream in (True, False)
        for place, entry in enumerate(candidates(1000, stream=stream))
    }
    choices: Choices = {}
    for (dataset, method), tried in sorted(scores.items()):
        best = max(tried, key=lambda entry: (statistics.mean(tried[entry]), -order.get(entry, 1000)))
        choices.setdefault(dataset, {})[method] = {
            **dict(zip(SEARCHED, best, strict=True)),
            "trials": len(tried),
            "validation": round(statistics.mean(tried[best]), 6),
        }
    return choices


def stored_choices() -> Choices:
    """Returns the settings that come with the package, from the search behind docs/results.md."""
    path = resources.files("brodmann.bench") / "choices.json"
    with resources.as_file(path) as file:
        return read_json(file) if file.is_file() else {}


def settled(case: Case, choices: Choices) -> Case:
    """Returns the case with its chosen settings, ready to run."""
    if not case.searched:
        return case
    dataset, method = search_name(case.options.dataset, case.method, case.detail)
    chosen = {name: choices[dataset][method][name] for name in SEARCHED}
    return replace(case, options=replace(case.options, **chosen), searched=False)
