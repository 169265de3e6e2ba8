"""The audit finds planted cheats and nothing else."""

from __future__ import annotations

import copy
import gzip
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brodmann.bench.case import Case
from brodmann.bench.folder import read_choices, read_plan, read_rows
from brodmann.bench.journal import read_journal
from brodmann.bench.packing import pack, unpack
from brodmann.bench.plan import Plan
from brodmann.bench.recipes import PROTOCOL_OF, RECIPES
from brodmann.bench.reporting import write_report
from brodmann.bench.reporting.audit import audit, version_notes
from brodmann.bench.reporting.sections.section import Plot
from brodmann.bench.runner import run_recipes
from brodmann.bench.selection import cases_of
from brodmann.bench.tuner import candidates
from brodmann.errors import BrodmannError
from brodmann.files import alone_in


def parts(folder: Path) -> tuple[list, list, dict, dict]:
    rows, trials = read_journal(folder / "rows.jsonl"), read_journal(folder / "trials.jsonl")
    return rows, trials, read_choices(folder), read_plan(folder)


def test_an_honest_benchmark_passes_the_audit(small_bench: Path) -> None:
    assert audit(*parts(small_bench)) == []


def cheat_choice(rows: list, trials: list, choices: dict, plan: dict) -> None:
    (chosen,) = (chosen for search, chosen in choices.items() if search.method == "SAL, 16 areas")
    other = next(c for c in candidates(2) if c.lr != chosen["lr"])._asdict()
    chosen.update(other)
    for row in rows:
        if row["method"] == "SAL, 16 areas" and row["protocol"] == "tuned":
            row["options"].update(other)


def cheat_settings(rows: list, trials: list, choices: dict, plan: dict) -> None:
    next(row for row in rows if row["protocol"] == "tuned")["options"]["lr"] = 0.123


def cheat_twice(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[0]["test_reads"] = 2


def cheat_nothing(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[0]["test"] = math.nan


def cheat_trial_nothing(rows: list, trials: list, choices: dict, plan: dict) -> None:
    trials[0]["validation"] = math.inf


def cheat_again(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows.append(copy.deepcopy(rows[0]))


def cheat_trial_again(rows: list, trials: list, choices: dict, plan: dict) -> None:
    trials.append(trials[0] | {"validation": 1.0})


def cheat_trial_hidden(rows: list, trials: list, choices: dict, plan: dict) -> None:
    trials[0] = copy.deepcopy(trials[1])


def cheat_trial(rows: list, trials: list, choices: dict, plan: dict) -> None:
    trials[0]["test"] = 0.9


def cheat_data(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[3]["digest"] = "0" * 64


def cheat_seed(rows: list, trials: list, choices: dict, plan: dict) -> None:
    last_of_seed_1(rows)


def cheat_seed_and_plan(rows: list, trials: list, choices: dict, plan: dict) -> None:
    plan.pop(last_of_seed_1(rows)["key"])


def last_of_seed_1(rows: list) -> dict[str, Any]:
    """Takes a row away; they stand in the order in which they were finished."""
    return rows.pop(max(place for place, row in enumerate(rows) if row["seed"] == 1))


def cheat_code(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[0]["code"] = "0.0.1+abc"


def cheat_code_of_a_trial(rows: list, trials: list, choices: dict, plan: dict) -> None:
    trials[0]["code"] = "0.0.1+abc"


def cheat_code_of_all_trials(rows: list, trials: list, choices: dict, plan: dict) -> None:
    for row in trials:
        row["code"] = "0.0.1+abc"


def cheat_no_trials(rows: list, trials: list, choices: dict, plan: dict) -> None:
    trials.clear()


def cheat_no_choices(rows: list, trials: list, choices: dict, plan: dict) -> None:
    choices.clear()


def cheat_one_choice_less(rows: list, trials: list, choices: dict, plan: dict) -> None:
    del choices[next(search for search in choices if search.method == "SAL, 16 areas")]


def cheat_no_plan(rows: list, trials: list, choices: dict, plan: dict) -> None:
    plan.clear()


def cheat_accuracy(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[0]["test"] = 0.999


def cheat_answers(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[0]["tested"] -= 1


def cheat_epochs(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[0]["options"]["epochs"] = 400


def cheat_name(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[0]["seed"] = 9


def cheat_kind(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[0]["trial"] = True


def cheat_trial_seed(rows: list, trials: list, choices: dict, plan: dict) -> None:
    trials[0]["seed"] = trials[0]["options"]["seed"] = 0


def run_otherwise(rows: list, plan: dict, **changes: Any) -> None:
    """Rows as they are when they were run with other settings."""
    for row in rows:
        place = plan.pop(row["key"], None)
        row["options"].update(changes)
        row["seed"], row["key"] = row["options"]["seed"], Case.of_row(row, alone=False).key
        if place is not None:
            plan[row["key"]] = place._replace(seed=row["seed"])


def of(rows: list, method: str) -> list:
    return [row for row in rows if row["method"] == method and row["protocol"] == "tuned"]


def cheat_full_beside_quick(rows: list, trials: list, choices: dict, plan: dict) -> None:
    run_otherwise(of(rows, "SAL, 16 areas")[1:], plan, epochs=30)


def cheat_trials_of_quick(rows: list, trials: list, choices: dict, plan: dict) -> None:
    run_otherwise(of(trials, "SAL, 16 areas"), plan, epochs=1)


def cheat_seed_of_all(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[:] = [row for row in rows if row["seed"] != 0]
    for key in [key for key, place in plan.items() if place[-1] == 0]:
        del plan[key]


def cheat_seed_of_trials(rows: list, trials: list, choices: dict, plan: dict) -> None:
    for row in rows:
        run_otherwise([row], plan, seed=1000 + row["seed"])


def cheat_invented(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows.append(copy.deepcopy(of(rows, "SAL, 16 areas")[0]))
    run_otherwise(rows[-1:], {}, seed=2)


def cheat_protocol(rows: list, trials: list, choices: dict, plan: dict) -> None:
    for row in rows:
        row["protocol"] = "fixed"
        run_otherwise([row], plan)
    plan.update({key: place._replace(protocol="fixed") for key, place in plan.items()})


def older_row(rows: list, trials: list, choices: dict, plan: dict) -> None:
    del rows[0]["options"]["partition"]


@pytest.mark.parametrize(
    ("cheat", "message"),
    [
        (cheat_accuracy, "its test accuracy does not match its answers to the test samples"),
        (cheat_answers, "its test accuracy does not match its answers to the test samples"),
        (cheat_epochs, "its settings differ from those that it was run with"),
        (cheat_name, "its settings differ from those that it was run with"),
        (cheat_kind, "a trial is among the results"),
        (cheat_trial_seed, "this row is among the trials, but is not a trial or has a seed that trials do not use"),
        (cheat_seed_of_all, r"ten, tuned, .*: its seeds are 1, expected those from 0 to 0"),
        (cheat_seed_of_trials, r"seed 1000: a result has the seed of a trial"),
        (cheat_invented, r"ten, .*: 1 rows are in no plan, such as SAL, 16 areas, seed 2"),
        (cheat_protocol, r"ten, .*: \d+ rows of the task train have the protocol fixed, expected tuned"),
        (cheat_full_beside_quick, r"ten, tuned, .*, SAL, 16 areas, layers 2: its rows differ in epochs \(4, 30\)"),
        (cheat_trials_of_quick, r"search, .*, SAL, 16 areas: trials and results differ in epochs \(1, 4\)"),
        (older_row, "1 rows were written by another version, so their settings cannot be checked"),
        (cheat_choice, r"SAL, 16 areas: the stored choice \(lr .*\) is not the best of the trial log"),
        (cheat_settings, r"a result used \(lr 0\.123, "),
        (cheat_twice, "the test part was read 2 times, expected once"),
        (cheat_nothing, "its test accuracy is nan, expected a number from 0 to 1; no table has it"),
        (cheat_trial_nothing, "its validation accuracy is inf, expected a number from 0 to 1"),
        (cheat_again, "there are 2 rows of the same case"),
        (cheat_trial_again, r"seed \d+: there are 2 rows of the same trial \(lr .*\); the first one counts"),
        (cheat_trial_hidden, "its search has 3 trials, those of other methods up to 4"),
        (cheat_trial, "a trial read the test part"),
        (cheat_data, "1 rows come from different data than the rest"),
        (cheat_seed, "rows of seeds 1 are missing"),
        (cheat_seed_and_plan, "rows of seeds 1, which other methods have, are missing"),
        (cheat_no_trials, r"SAL, 16 areas: this search has no trials, so nothing supports the choice \(lr .*\)\."),
        (cheat_no_choices, "SAL, 16 areas: no choice is stored, so its settings were not checked"),
        (cheat_one_choice_less, "SAL, 16 areas: no choice is stored, so its settings were not checked"),
        (cheat_no_plan, "There is no plan, so missing rows cannot be detected"),
    ],
)
def test_planted_cheats_are_flagged(small_bench: Path, cheat, message: str) -> None:
    state = parts(small_bench)
    cheat(*state)
    assert any(re.search(message, problem) for problem in audit(*state)), audit(*state)


@pytest.mark.parametrize(
    ("cheat", "message"),
    [
        (cheat_code, r"ten, .*: rows come from 2 versions of the code\."),
        (cheat_code_of_a_trial, r"search, .*: trials come from 2 versions of the code; for 1 of \d+ methods"),
        (cheat_code_of_all_trials, r"search, .*: trials come from 1 version of the code; for (\d+) of \1 methods"),
    ],
)
def test_rows_of_several_versions_are_noted_and_are_no_contradiction(small_bench: Path, cheat, message: str) -> None:
    state = parts(small_bench)
    assert version_notes(*state[:2]) == []
    cheat(*state)
    assert audit(*state) == []
    notes = version_notes(*state[:2])
    assert any(re.match(message, note) for note in notes), notes


def test_one_note_tells_of_all_sets_of_which_the_same_is_to_be_said() -> None:
    rows = [
        {"recipe": "ten", "dataset": name, "protocol": "paper", "code": code}
        for name in ("a", "b")
        for code in ("1", "2")
    ]
    assert version_notes(rows, []) == ["ten, 2 sets (a, b): rows come from 2 versions of the code."]


def test_methods_of_every_recipe_share_their_seeds() -> None:
    bench = Path(__file__).parents[2] / "docs" / "bench" / "convergence"
    rows, plan = read_journal(bench / "rows.jsonl.gz"), read_plan(bench)
    choices, trials = read_choices(bench), read_journal(bench / "trials.jsonl.gz")
    worst = next(row for row in rows if row["method"] == "SAL, 1 area" and row["seed"] == 2)
    left = {key: place for key, place in plan.items() if key != worst["key"]}
    (problem,) = audit([row for row in rows if row is not worst], trials, choices, left)
    assert problem.startswith(
        f"convergence, tuned, {worst['dataset']}, SAL, 1 area, layers 2: rows of seeds 2, which other"
    )


def test_cases_have_the_protocols_that_the_audit_expects() -> None:
    names = list(PROTOCOL_OF)
    assert names == [name for name in RECIPES if name in names]
    for quick in (True, False):
        cases = cases_of(names, Plan(quick=quick, seeds=1, sets=("digits",)))
        assert {(case.recipe, case.task, case.protocol) for case in cases} == {
            (recipe, task, protocol) for recipe, tasks in PROTOCOL_OF.items() for task, protocol in tasks.items()
        }


@pytest.mark.parametrize("file", ["rows.jsonl", "trials.jsonl"])
def test_a_full_benchmark_does_not_go_on_in_the_folder_of_a_quick_one(
    small_bench: Path, tmp_path: Path, file: str
) -> None:
    shutil.copy(small_bench / file, tmp_path)
    sets = (read_journal(tmp_path / file)[0]["dataset"],)
    before = (tmp_path / file).read_bytes()
    message = r"holds rows of .* with other settings \(epochs [34] instead of \d+\), .* Choose another folder"
    with pytest.raises(BrodmannError, match=message):
        run_recipes(["ten"], Plan(sets=sets), tmp_path, search=True)
    assert (tmp_path / file).read_bytes() == before
    (tmp_path / file).unlink()
    (tmp_path / f"{file}.gz").write_bytes(gzip.compress(before))
    with pytest.raises(BrodmannError, match=message):
        run_recipes(["ten"], Plan(sets=sets), tmp_path, search=True)
    assert not (tmp_path / file).exists()  # what is refused unpacks nothing


def test_settings_of_streams_and_searches_cut_short_are_flagged() -> None:
    bench = Path(__file__).parents[2] / "docs" / "bench" / "interference"
    rows, trials = read_journal(bench / "rows.jsonl.gz"), read_journal(bench / "trials.jsonl.gz")
    plan = read_plan(bench)
    problems = audit(rows, trials, {}, plan)
    assert "digits, SAL, pooled, 16 areas: no choice is stored, so its settings were not checked." in problems
    choices = read_choices(bench)
    assert audit(rows, trials, choices, plan) == []
    kept = [row for row in trials if row["method"] != "backpropagation" or row["options"]["seed"] == 1000]
    assert any(
        re.search("backpropagation: its search has 12 trials, those of other methods up to 24", problem)
        for problem in audit(rows, kept, choices, plan)
    )


@pytest.mark.parametrize("score", ["test", "forgetting", "backward_transfer"])
def test_a_score_of_a_stream_is_that_of_its_matrix(score: str) -> None:
    bench = Path(__file__).parents[2] / "docs" / "bench" / "interference"
    row = next(row for row in read_journal(bench / "rows.jsonl.gz") if row["task"] == "stream")
    row[score] += 0.01
    assert any("does not match its matrix" in problem for problem in audit([row], [], {}, {}))


@pytest.mark.parametrize(
    "name",
    [
        "convergence",
        "depth",
        "depth-mnist",
        "interference-mixture",
        "interference-mnist",
        "interference-permuted",
        "interference-split",
        "optimisers",
        "paper",
        "scale",
        "ten",
        "ten-wide",
    ],
)
def test_the_rows_of_the_documentation_pass_the_audit(name: str) -> None:
    bench = Path(__file__).parents[2] / "docs" / "bench" / name
    rows = read_journal(bench / "rows.jsonl.gz")
    trials = read_journal(bench / "trials.jsonl.gz") if (bench / "trials.jsonl.gz").is_file() else []
    assert audit(rows, trials, read_choices(bench), read_plan(bench)) == []


def test_figures_stay_in_their_folder_whatever_sets_are_called() -> None:
    names = [Plot(f"depth-{name}", "", print).name for name in ("digits", "../a b.npz", "../a c.npz", "../../x/a.npz")]
    assert names[0] == "depth-digits"
    assert len({*names}) == 4
    assert not any("/" in name or " " in name for name in names)


def test_two_processes_do_not_run_in_one_folder(tmp_path: Path) -> None:
    with alone_in(tmp_path / "a"), pytest.raises(BrodmannError, match="Another process is working in"):
        run_recipes(["ten"], Plan(quick=True, sets=("digits",)), tmp_path / "a")
    with alone_in(tmp_path / "a"):
        pass


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("rows.jsonl", lambda row: row.pop("wall_seconds")),
        ("rows.jsonl", lambda row: row.pop("test")),
        ("rows.jsonl", lambda row: row.update(test=None)),
        ("rows.jsonl", lambda row: row.update(correct="AAAA")),
        ("rows.jsonl", lambda row: row.update(correct="!")),
        ("rows.jsonl", lambda row: row.pop("tested")),
        ("rows.jsonl", lambda row: row["options"].pop("lr")),
        ("trials.jsonl", lambda row: row["options"].pop("lr")),
        ("rows.jsonl", lambda row: row.pop("task")),
        ("rows.jsonl", lambda row: row.update(options=3)),
        ("trials.jsonl", lambda row: row.pop("validation")),
    ],
)
def test_damaged_rows_are_refused(small_bench: Path, tmp_path: Path, file: str, change: Callable[[Any], Any]) -> None:
    shutil.copytree(small_bench, tmp_path / "out")
    rows = read_journal(tmp_path / "out" / file)
    change(rows[0])
    (tmp_path / "out" / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    row = rows[0]
    place = rf"{row['recipe']}, .*, {re.escape(row['method'])}, seed {row['seed']}, key {row['key']}\. Remove them"
    message = rf"{re.escape(file)} line 1 is not a row of a benchmark|holds damaged rows \(.*\): {place}"
    with pytest.raises(BrodmannError, match=message):
        write_report(tmp_path / "out")


def test_a_set_that_changed_between_two_calls_is_a_problem_and_not_damage(small_bench: Path, tmp_path: Path) -> None:
    shutil.copytree(small_bench, tmp_path / "out")
    rows = read_journal(tmp_path / "out" / "rows.jsonl")
    for row in rows:
        if row["seed"] == 1:
            right = unpack(row["correct"], row["tested"])[:-9]
            row |= {"digest": "0" * 64, "test": right.mean(), "tested": len(right), "correct": pack(right)}
    (tmp_path / "out" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = write_report(tmp_path / "out")
    (problem,) = report.problems
    assert problem.endswith(f"{len(rows) // 2} rows come from different data than the rest (the digests differ).")
    table = report.markdown.read_text().split("**SAL, 16 areas against backpropagation, equal active**")[1]
    assert table.split("\n")[4].split(" | ")[4] == "1"  # seed, of the data that most rows have


@pytest.mark.parametrize("matrix", [[], [[0.9, 0.8], [0.9]], [["a"]]])
def test_rows_with_a_damaged_matrix_are_named(tmp_path: Path, matrix: list) -> None:
    rows = read_journal(Path(__file__).parents[2] / "docs" / "bench" / "interference" / "rows.jsonl.gz")
    row = next(row for row in rows if row["task"] == "stream") | {"matrix": matrix}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(BrodmannError, match=rf"holds damaged rows \(.*\): .*, key {row['key']}\. Remove them"):
        write_report(tmp_path)


def test_a_journal_that_hides_rows_of_a_compressed_one_is_refused(small_bench: Path, tmp_path: Path) -> None:
    first, *others = (small_bench / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_bytes(first)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(first))
    assert len(read_rows(tmp_path, "rows.jsonl")) == 1
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b"".join([first, *others])))
    with pytest.raises(BrodmannError, match=rf"rows.jsonl hides {len(others)} rows that only .*rows.jsonl.gz holds"):
        write_report(tmp_path)


@pytest.mark.parametrize("every", [False, True])
def test_a_report_of_scores_that_are_no_numbers_says_so(small_bench: Path, tmp_path: Path, every: bool) -> None:
    shutil.copytree(small_bench, tmp_path / "out")
    rows = read_journal(tmp_path / "out" / "rows.jsonl")
    for row in rows if every else rows[:1]:
        row["test"] = math.nan
    (tmp_path / "out" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = write_report(tmp_path / "out").problems
    assert sum("its test accuracy is nan" in problem for problem in problems) == (len(rows) if every else 1)


@pytest.mark.parametrize("file", ["choices.json", "plan.json"])
@pytest.mark.parametrize("content", ["[]", "null", '{"a": 1}', '{"a": {"b": {"lr": 1}}}', '{"a": {"b'])
def test_damaged_choices_and_plans_are_refused(small_bench: Path, tmp_path: Path, file: str, content: str) -> None:
    shutil.copytree(small_bench, tmp_path / "out")
    (tmp_path / "out" / file).write_text(content)
    message = rf"{file} is .*damaged.*\. Remove it: `brodmann bench` writes it again, and until then the report says"
    with pytest.raises(BrodmannError, match=message):
        write_report(tmp_path / "out")
    with pytest.raises(BrodmannError, match=message):
        run_recipes(["ten"], Plan(quick=True, sets=("digits",)), tmp_path / "out")


@pytest.mark.parametrize("file", ["rows.jsonl", "trials.jsonl"])
@pytest.mark.parametrize("line", ['{"recipe": "te\n', "5\n", "{}\n"])
def test_a_damaged_line_in_the_middle_is_named_before_anything_runs(
    small_bench: Path, tmp_path: Path, file: str, line: str
) -> None:
    shutil.copytree(small_bench, tmp_path / "out")
    first, *others = (tmp_path / "out" / file).read_text().splitlines(keepends=True)
    (tmp_path / "out" / file).write_text("".join([first, line, *others]))
    for act in (write_report, lambda out: run_recipes(["ten"], Plan(quick=True, sets=("digits",)), out)):
        with pytest.raises(BrodmannError, match=rf"{file} line 2 is not a row of a benchmark: remove that line"):
            act(tmp_path / "out")
