"""Looks for what makes a table a lie: choices not borne out by the trials, test parts read twice, other data, gaps.

An altered accuracy goes unnoticed if the answers to the samples, from which it is computed, were altered with it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ...runs import RunOptions
from ..case import LATER, Case, Row, is_score, row_name
from ..packing import unpack
from ..places import Place, Terms, differing, place_of, terms_of, terms_of_search
from ..tuner import SEARCHED, TRIAL_SEEDS, Choices, choose, search_of, stored_choices

TEST_FIELDS = ("test", "correct", "matrix")


def audit(rows: Sequence[Row], trials: Sequence[Row], choices: Choices, plan: dict[str, list[Any]]) -> list[str]:
    """Returns what is wrong, a sentence each; nothing if all is well.

    Args:
        rows: Results.
        trials: Trials of the search.
        choices: The settings that the results were to use.
        plan: Key -> recipe, protocol, data set, method, seed of every row that there must be.
    """
    return [
        *_not_there(rows, trials, choices, plan),
        *_choices_not_borne_out(trials, choices),
        *_searches_cut_short(trials),
        *_settings_not_chosen(rows, choices),
        *_not_alike(rows),
        *_trials_of_others(rows, trials),
        *_tests_read(rows, trials),
        *_altered(rows, trials),
        *_other_data([*rows, *trials]),
        *_gaps(rows, plan),
        *_versions(rows),
        *_versions_of_trials(rows, trials),
    ]


def _not_there(rows: Sequence[Row], trials: Sequence[Row], choices: Choices, plan: dict[str, list[Any]]) -> list[str]:
    """Says what cannot be checked since its evidence is gone; choices that come with the package need no trials."""
    tried, packaged = choose(trials), stored_choices()
    found = [
        f"{dataset}, {method}: this search has no trials, so nothing supports the choice {_settings(chosen)}."
        for dataset, methods in choices.items()
        for method, chosen in methods.items()
        if method not in tried.get(dataset, {}) and chosen != packaged.get(dataset, {}).get(method)
    ]
    # Streams have methods with nothing to search for: there are no searches for them.
    tuned = [
        row
        for row in rows
        if row["protocol"] == "tuned" and (row["task"] != "stream" or _chosen(row, tried) or _chosen(row, packaged))
    ]
    lacking = dict.fromkeys((row["dataset"], row["method"]) for row in tuned if not _chosen(row, choices))
    found += [
        f"{dataset}, {method}: no choice is stored, so its settings were not checked." for dataset, method in lacking
    ]
    if not plan:
        found.append("There is no plan, so missing rows cannot be detected.")
    return found


def _choices_not_borne_out(trials: Sequence[Row], choices: Choices) -> list[str]:
    found = []
    for dataset, methods in choose(trials).items():
        for method, best in methods.items():
            chosen = choices.get(dataset, {}).get(method)
            if chosen is not None and any(chosen[name] != best[name] for name in SEARCHED):
                found.append(
                    f"{dataset}, {method}: the stored choice {_settings(chosen)} is not the best of the trial log, "
                    f"which is {_settings(best)}."
                )
    return found


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
    found: dict[str, None] = {}
    for row in rows:
        chosen = _chosen(row, choices)
        if row["protocol"] == "tuned" and chosen and any(row["options"][name] != chosen[name] for name in SEARCHED):
            _, method = search_of(row)
            found[
                f"{row['dataset']}, {method}: a result used {_settings(row['options'])}, but {_settings(chosen)} was "
                "chosen."
            ] = None
    return list(found)


def _not_alike(rows: Sequence[Row]) -> list[str]:
    """Rows of one place in the tables become one mean: they must differ in nothing but their seeds."""
    places: dict[Place, list[Terms]] = defaultdict(list)
    for row in rows:
        if (terms := terms_of(row)) not in places[place_of(row)]:
            places[place_of(row)].append(terms)
    return [
        f"{', '.join(place)}: its rows differ in {_told(found)}, so their mean says nothing; did a quick and a full "
        "benchmark run in this folder?"
        for place, found in places.items()
        if any(differing(found[0], other) for other in found[1:])
    ]


def _trials_of_others(rows: Sequence[Row], trials: Sequence[Row]) -> list[str]:
    """Settings are chosen for what was tried: trials must differ from results in nothing but what they try."""
    used: dict[Place, Terms] = {
        search_of(row): terms_of_search(row) for row in reversed(rows) if row["protocol"] == "tuned"
    }
    tried: dict[Place, list[Terms]] = defaultdict(list)
    for row in trials:
        if (terms := terms_of_search(row)) not in tried[search_of(row)]:
            tried[search_of(row)].append(terms)
    found = []
    for search, every in tried.items():
        own = used.get(search, every[0])
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


def _chosen(row: Row, choices: Choices) -> dict[str, Any] | None:
    dataset, method = search_of(row)
    return choices.get(dataset, {}).get(method)


def _tests_read(rows: Sequence[Row], trials: Sequence[Row]) -> list[str]:
    found = [
        f"{row_name(row)}: the test part was read {row['test_reads']} times, expected once."
        for row in rows
        if row["test_reads"] != 1
    ]
    found += [
        f"{row_name(row)}: a trial read the test part."
        for row in trials
        if row["test_reads"] or any(name in row for name in TEST_FIELDS)
    ]
    found += [
        f"{row_name(row)}: there are {count} rows of the same case, so its test part was read {count} times."
        for row, count in _doubled(rows)
    ]
    return found + [
        f"{row_name(row)}: there are {count} rows of the same trial {_settings(row['options'])}; the first one counts."
        for row, count in _doubled(trials)
    ]


def _doubled(rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """Returns the first row of every case that has several, and how many."""
    counts = Counter(row["key"] for row in rows)
    first = {row["key"]: row for row in reversed(rows)}
    return [(first[key], count) for key, count in counts.items() if count > 1]


def _altered(rows: Sequence[Row], trials: Sequence[Row]) -> list[str]:
    """Finds rows whose parts do not match: score and answers, settings and key; and scores that are no numbers."""
    found = []
    for row in rows:
        if not is_score(row["test"]):
            found.append(
                f"{row_name(row)}: its test accuracy is {row['test']}, expected a number from 0 to 1; no table has it."
            )
        if "correct" in row and abs(unpack(row["correct"], row["tested"]).mean() - row["test"]) > 1e-9:
            found.append(f"{row_name(row)}: its test accuracy does not match its answers to the test samples.")
        if row["task"] == "stream" and abs(sum(row["matrix"][-1]) / len(row["matrix"][-1]) - row["test"]) > 1e-4:
            found.append(f"{row_name(row)}: its test accuracy does not match its matrix.")
        if row["trial"]:
            found.append(f"{row_name(row)}: a trial is among the results.")
    for row in trials:
        if not is_score(row["validation"]):
            found.append(
                f"{row_name(row)}: its validation accuracy is {row['validation']}, expected a number from 0 to 1."
            )
        if not row["trial"] or row["seed"] not in TRIAL_SEEDS:
            found.append(
                f"{row_name(row)}: this row is among the trials, but is not a trial or has a seed that trials do not "
                "use."
            )
    known = {field.name for field in fields(RunOptions)}
    older = Counter[tuple[str, str]]()
    for row in (*rows, *trials):
        if not known - set(LATER) <= set(row["options"]) <= known:
            older[row["recipe"], row["dataset"]] += 1
        elif not _is_of_its_key(row):
            found.append(f"{row_name(row)}: its settings differ from those that it was run with.")
    return found + [
        f"{recipe}, {dataset}: {count} rows were written by another version, so their settings cannot be checked."
        for (recipe, dataset), count in older.items()
    ]


def _is_of_its_key(row: Row) -> bool:
    same = (row["seed"], row["dataset"]) == (row["options"]["seed"], row["options"]["dataset"])
    return same and row["key"] in (Case.of_row(row, alone=alone).key for alone in (False, True))


def _other_data(rows: Sequence[Row]) -> list[str]:
    digests: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        digests["+".join([row["dataset"], *row["detail"].get("others", [])])][row["digest"]] += 1
    return [
        f"{dataset}: {counts.total() - max(counts.values())} rows come from different data than the rest (the digests "
        "differ)."
        for dataset, counts in digests.items()
        if len(counts) > 1
    ]


def _gaps(rows: Sequence[Row], plan: dict[str, list[Any]]) -> list[str]:
    there = {row["key"] for row in rows}
    missing: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for key, (*place, seed) in plan.items():
        if key not in there:
            missing[tuple(place)].append(seed)
    found = [
        f"{', '.join(place)}: rows of seeds {', '.join(map(str, sorted(seeds)))} are missing."
        for place, seeds in missing.items()
    ]
    # Without a plan, or with one that was cut: methods of one table must share their seeds.
    seeds: dict[tuple[str, str, str], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row["recipe"] == "ten":
            seeds[row["recipe"], row["protocol"], row["dataset"]][row["method"]].add(row["seed"])
    for table, methods in seeds.items():
        every = set().union(*methods.values())
        found += [
            f"{', '.join(table)}, {method}: seed {', '.join(map(str, sorted(every - own)))}, which other methods have, "
            "is missing."
            for method, own in methods.items()
            if own != every and (*table, method) not in missing
        ]
    return found


def _versions(rows: Sequence[Row]) -> list[str]:
    """Methods are compared on one set at a time, so all results of a recipe on a set must come from one version."""
    codes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        codes[row["recipe"], row["dataset"]].add(row["code"])
    return [
        f"{recipe}, {dataset}: rows come from {len(found)} versions of the code ({', '.join(sorted(found))})."
        for (recipe, dataset), found in codes.items()
        if len(found) > 1
    ]


def _versions_of_trials(rows: Sequence[Row], trials: Sequence[Row]) -> list[str]:
    """Settings are chosen for the code that tried them, so trials of a set must come from the version of its rows."""
    tried: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    used: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in trials:
        dataset, method = search_of(row)
        tried[dataset][method].add(row["code"])
    for row in rows:
        if row["protocol"] == "tuned":
            used[search_of(row)].add(row["code"])
    found = []
    for dataset, methods in tried.items():
        versions = sorted(set().union(*methods.values()))
        others = sum(used.get((dataset, method), own) != own for method, own in methods.items())
        if others or len(versions) > 1:
            found.append(
                f"search, {dataset}: trials come from the versions {', '.join(versions)} of the code; for {others} of "
                f"{len(methods)} methods they are not those of the results."
            )
    return found


def _settings(values: Any) -> str:
    return "(" + ", ".join(f"{name} {values[name]:g}" for name in SEARCHED) + ")"
