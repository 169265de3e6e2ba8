"""The audit finds planted cheats and nothing else."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from brodmann.bench.audit import audit
from brodmann.bench.journal import read_journal
from brodmann.bench.tuner import candidates


def parts(folder: Path) -> tuple[list, list, dict, dict]:
    rows, trials = read_journal(folder / "rows.jsonl"), read_journal(folder / "trials.jsonl")
    return (
        rows,
        trials,
        json.loads((folder / "choices.json").read_text()),
        json.loads((folder / "plan.json").read_text()),
    )


def test_an_honest_benchmark_passes_the_audit(small_bench: Path) -> None:
    assert audit(*parts(small_bench)) == []


def cheat_choice(rows: list, trials: list, choices: dict, plan: dict) -> None:
    (methods,) = choices.values()
    other = next(c for c in candidates(2) if c["lr"] != methods["SAL, 16 areas"]["lr"])
    methods["SAL, 16 areas"].update(other)
    for row in rows:
        if row["method"] == "SAL, 16 areas" and row["protocol"] == "tuned":
            row["options"].update(other)


def cheat_settings(rows: list, trials: list, choices: dict, plan: dict) -> None:
    next(row for row in rows if row["protocol"] == "tuned")["options"]["lr"] = 0.123


def cheat_twice(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[0]["test_reads"] = 2


def cheat_again(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows.append(copy.deepcopy(rows[0]))


def cheat_trial(rows: list, trials: list, choices: dict, plan: dict) -> None:
    trials[0]["test"] = 0.9


def cheat_data(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[3]["digest"] = "0" * 64


def cheat_seed(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows.pop()


def cheat_seed_and_plan(rows: list, trials: list, choices: dict, plan: dict) -> None:
    plan.pop(rows.pop()["key"])


def cheat_code(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[0]["code"] = "0.0.1+abc"


def cheat_no_trials(rows: list, trials: list, choices: dict, plan: dict) -> None:
    trials.clear()


def cheat_no_choices(rows: list, trials: list, choices: dict, plan: dict) -> None:
    choices.clear()


def cheat_one_choice_less(rows: list, trials: list, choices: dict, plan: dict) -> None:
    (methods,) = choices.values()
    methods.pop("SAL, 16 areas")


def cheat_no_plan(rows: list, trials: list, choices: dict, plan: dict) -> None:
    plan.clear()


@pytest.mark.parametrize(
    ("cheat", "message"),
    [
        (cheat_choice, r"SAL, 16 areas: the stored choice \(lr .*\) is not the best of the trial log"),
        (cheat_settings, r"a result used \(lr 0\.123, "),
        (cheat_twice, "the test part was read 2 times, expected once"),
        (cheat_again, "there are 2 rows of the same case"),
        (cheat_trial, "a trial read the test part"),
        (cheat_data, "1 rows come from other data than the rest"),
        (cheat_seed, "rows of seeds 1 are missing"),
        (cheat_seed_and_plan, "seed 1 is missing, which other methods have"),
        (cheat_code, "rows come from 2 versions of the code"),
        (cheat_no_trials, r"SAL, 16 areas: there are no trials of this search, so the choice \(lr .* is not borne out"),
        (cheat_no_choices, "SAL, 16 areas: there is no choice, so that its settings are not checked"),
        (cheat_one_choice_less, "SAL, 16 areas: there is no choice, so that its settings are not checked"),
        (cheat_no_plan, "There is no plan, so missing rows cannot be told"),
    ],
)
def test_planted_cheats_are_flagged(small_bench: Path, cheat, message: str) -> None:
    state = parts(small_bench)
    cheat(*state)
    assert any(re.search(message, problem) for problem in audit(*state)), audit(*state)


def test_settings_of_streams_and_searches_cut_short_are_flagged() -> None:
    bench = Path(__file__).parents[2] / "docs" / "bench" / "interference"
    rows, trials = read_journal(bench / "rows.jsonl.gz"), read_journal(bench / "trials.jsonl.gz")
    plan = json.loads((bench / "plan.json").read_text())
    problems = audit(rows, trials, {}, plan)
    assert "digits, SAL, pooled, 16 areas: there is no choice, so that its settings are not checked." in problems
    choices = json.loads((bench / "choices.json").read_text())
    assert audit(rows, trials, choices, plan) == []
    kept = [row for row in trials if row["method"] != "backpropagation" or row["options"]["seed"] == 1000]
    assert any(
        re.search("backpropagation: the search has 12 trials, that of other methods 24", problem)
        for problem in audit(rows, kept, choices, plan)
    )
