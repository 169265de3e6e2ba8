"""Do the settings of the results come from the search: its trials, the choices, and what the results used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from ...case import Row
from ...choices import Choices, packaged_choices, search_of
from ...places import Terms, differing, place_of, terms_by_place, terms_of, terms_of_search
from ...tuner import SEARCHED, choose


def evidence_problems(rows: Sequence[Row], trials: Sequence[Row], choices: Choices) -> list[str]:
    """Returns contradictions between results, choices and trials, and which of them are missing."""
    return [
        *_not_there(rows, trials, choices),
        *_choices_not_borne_out(trials, choices),
        *_searches_cut_short(trials),
        *_settings_not_chosen(rows, choices),
        *_not_alike(rows),
        *_trials_of_others(rows, trials),
    ]


def packaged(trials: Sequence[Row], choices: Choices) -> int:
    """Counts the choices that come with the package and have no trials here."""
    tried, ours = choose(trials), packaged_choices()
    return sum(search not in tried and chosen == ours.get(search) for search, chosen in choices.items())


def _not_there(rows: Sequence[Row], trials: Sequence[Row], choices: Choices) -> list[str]:
    """Says what cannot be checked since its evidence is gone; choices that come with the package need no trials."""
    tried, ours = choose(trials), packaged_choices()
    found = [
        f"{search}: this search has no trials, so nothing supports the choice {settings_told(chosen)}."
        for search, chosen in choices.items()
        if search not in tried and chosen != ours.get(search)
    ]
    # Streams have methods with nothing to search for: there are no searches for them.
    searched = {*tried, *ours}
    tuned = [
        row for row in rows if row["protocol"] == "tuned" and (row["task"] != "stream" or search_of(row) in searched)
    ]
    lacking = dict.fromkeys((row["dataset"], row["method"]) for row in tuned if search_of(row) not in choices)
    found += [
        f"{dataset}, {method}: no choice is stored, so its settings were not checked." for dataset, method in lacking
    ]
    return found


def _choices_not_borne_out(trials: Sequence[Row], choices: Choices) -> list[str]:
    return [
        f"{search}: the stored choice {settings_told(chosen)} is not the best of the trial log, which is "
        f"{settings_told(best)}."
        for search, best in choose(trials).items()
        if (chosen := choices.get(search)) and any(chosen[name] != best[name] for name in SEARCHED)
    ]


def _searches_cut_short(trials: Sequence[Row]) -> list[str]:
    """Every method has the same trials: one that has fewer than others on its set was not searched to the end."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in {row["key"]: row for row in trials}.values():
        dataset, method = search_of(row)
        counts[dataset][method] += 1
    return [
        f"{dataset}, {method}: its search has {count} trials, those of other methods up to {max(methods.values())}."
        for dataset, methods in counts.items()
        for method, count in methods.items()
        if count < max(methods.values())
    ]


def _settings_not_chosen(rows: Sequence[Row], choices: Choices) -> list[str]:
    found = (
        f"{search_of(row)}: a result used {settings_told(row['options'])}, but {settings_told(chosen)} was chosen."
        for row in rows
        if row["protocol"] == "tuned"
        and (chosen := choices.get(search_of(row)))
        and any(row["options"][name] != chosen[name] for name in SEARCHED)
    )
    return [*dict.fromkeys(found)]


def _not_alike(rows: Sequence[Row]) -> list[str]:
    """Rows of one place in the tables become one mean: they must differ in nothing but their seeds."""
    return [
        f"{', '.join(place)}: its rows differ in {_told(found)}, so their mean says nothing; did a quick and a full "
        "benchmark run in this folder?"
        for place, found in terms_by_place(rows, place_of, terms_of).items()
        if any(differing(found[0], other) for other in found[1:])
    ]


def _trials_of_others(rows: Sequence[Row], trials: Sequence[Row]) -> list[str]:
    """Settings are chosen for what was tried: trials must differ from results in nothing but what they try."""
    used = terms_by_place((row for row in rows if row["protocol"] == "tuned"), search_of, terms_of_search)
    found = []
    for search, every in terms_by_place(trials, search_of, terms_of_search).items():
        own = used.get(search, every)[0]
        others = [terms for terms in every if differing(terms, own)]
        if others:
            found.append(
                f"search, {', '.join(search)}: trials and results differ in {_told([*others, own])}, so the choice is "
                "that of another method; did a quick and a full benchmark run in this folder?"
            )
    return found


def _told(every: list[Terms]) -> str:
    """Returns in what settings differ, with their values."""
    names = dict.fromkeys(name for other in every[1:] for name in differing(every[0], other))
    values = {name: dict.fromkeys(str(terms.get(name)) for terms in every) for name in names}
    return ", ".join(f"{name} ({', '.join(values[name])})" for name in names)


def settings_told(values: Any) -> str:
    """Returns the settings that a search chooses, in words."""
    return "(" + ", ".join(f"{name} {values[name]:g}" for name in SEARCHED) + ")"
