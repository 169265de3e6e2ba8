"""Is every row what it was when it was written: one reading of the test part, its own settings, the same data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import fields

from ....runs import RunOptions
from ....streams import continual_scores
from ...case import LATER, Case, Row, is_score, row_name
from ...packing import unpack
from ...tuner import TRIAL_SEEDS
from .evidence import settings_told

TEST_FIELDS = ("test", "correct", "matrix")


def row_problems(rows: Sequence[Row], trials: Sequence[Row]) -> list[str]:
    """Returns which rows cannot be what they say they are."""
    return [*_tests_read(rows, trials), *_altered(rows, trials), *_other_data([*rows, *trials])]


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
        f"{row_name(row)}: there are {count} rows of the same trial {settings_told(row['options'])}; the first one "
        "counts."
        for row, count in _doubled(trials)
    ]


def _doubled(rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """Returns the first row of every case that has several, and how many."""
    counts = Counter(row["key"] for row in rows)
    first = {row["key"]: row for row in reversed(rows)}
    return [(first[key], count) for key, count in counts.items() if count > 1]


def _altered(rows: Sequence[Row], trials: Sequence[Row]) -> list[str]:
    """Finds rows whose parts do not match: scores and answers, settings and key; and scores that are not numbers."""
    found = []
    for row in rows:
        if not is_score(row["test"]):
            found.append(
                f"{row_name(row)}: its test accuracy is {row['test']}, expected a number from 0 to 1; no table has it."
            )
        if "correct" in row and abs(unpack(row["correct"], row["tested"]).mean() - row["test"]) > 1e-9:
            found.append(f"{row_name(row)}: its test accuracy does not match its answers to the test samples.")
        if row["task"] == "stream":
            scores = continual_scores(row["matrix"])  # whose numbers are rounded
            told = row | {"average_accuracy": row["test"]}
            if any(abs(told[name] - score) > 1e-4 for name, score in scores.items()):
                found.append(f"{row_name(row)}: its test accuracy, forgetting or transfer does not match its matrix.")
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
