"""Journals, trials and choices: the same terms for every method."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from brodmann.bench import write_report
from brodmann.bench.case import Case
from brodmann.bench.choices import Choices, Search, packaged_choices
from brodmann.bench.folder import read_choices, read_plan
from brodmann.bench.journal import Journal, read_journal
from brodmann.bench.plan import Plan
from brodmann.bench.recipes import ten
from brodmann.bench.reporting.audit import audit
from brodmann.bench.runner import run_recipes, searches, settle
from brodmann.bench.tasks import run_case
from brodmann.bench.tuner import (
    Settings,
    at_edge,
    candidates,
    choose,
    next_settings,
    settled,
    trials_of,
)
from brodmann.bench.workers import Workers
from brodmann.builders.sizes import dense_size
from brodmann.errors import BrodmannError
from brodmann.runs import RunOptions
from brodmann.runs.version import code_version


def test_a_journal_forgets_a_line_that_a_kill_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Journal(path).append({"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2, "b"')
    journal = Journal(path)
    journal.append({"a": 3})
    assert [row["a"] for row in journal.rows()] == [1, 3]


def test_a_compressed_journal_goes_on(tmp_path: Path) -> None:
    path, packed = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"a": 1}\n{"a": 2}\n{"a":'))  # packed after a kill
    journal = Journal(path)
    assert [row["a"] for row in journal.rows()] == [row["a"] for row in read_journal(packed)] == [1, 2]
    assert not path.exists()  # before there is a new row
    journal.append({"a": 3})
    assert [row["a"] for row in Journal(path).rows()] == [1, 2, 3]
    assert not packed.exists()  # a row that is damaged later can be removed from one file


@pytest.mark.parametrize("plain", [b'{"a": 1}\n{"a": 2}\n', b'{"a": 2}\n'])
def test_a_compressed_journal_beside_another_stays_while_it_alone_holds_a_row(tmp_path: Path, plain: bytes) -> None:
    """As where a kill came between unpacking it and removing it."""
    path, packed = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.gz"
    path.write_bytes(plain)
    packed.write_bytes(gzip.compress(b'{"a": 1}\n'))
    Journal(path).append({"a": 3})
    assert path.read_bytes() == plain + b'{"a": 3}\n'
    assert packed.exists() == (not plain.startswith(b'{"a": 1}'))


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("no json\n")
    with pytest.raises(BrodmannError, match=r"rows\.jsonl line 1 is not a row of a benchmark: remove that line"):
        read_journal(path)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b"{}\n")[:-6])
    with pytest.raises(BrodmannError, match=r"Cannot read .*rows\.jsonl\.gz: Compressed file ended"):
        read_journal(tmp_path / "rows.jsonl.gz")


def test_equal_cases_have_equal_keys_and_others_do_not() -> None:
    case = Case("ten", "SAL", RunOptions("digits"))
    assert case.key == Case("ten", "SAL", RunOptions("digits")).key
    others = [
        replace(case, options=replace(case.options, seed=1)),
        replace(case, trial=True),
        replace(case, detail={"every": 5}),
        replace(case, options=replace(case.options, clip=1.0)),
    ]
    assert len({case.key, *(other.key for other in others)}) == 5


@pytest.mark.parametrize("name", ["ten", "interference"])
def test_new_options_leave_the_keys_of_older_rows_valid(name: str) -> None:
    for row in read_journal(Path(__file__).parents[2] / "docs" / "bench" / name / "trials.jsonl.gz")[::40]:
        options = RunOptions(**row["options"])
        place = (row["recipe"], row["method"], options, row["protocol"], row["task"])
        assert Case(*place, trial=True, detail=row["detail"]).key == row["key"]
        assert Case(*place[:2], replace(options, task="regression"), *place[3:], trial=True).key != row["key"]


def test_every_method_tries_the_same_settings_and_trials_leave_the_test_part_closed(blobs: str) -> None:
    one = Case("ten", "a", RunOptions(blobs, width=8, areas=2, epochs=1), searched=True)
    other = replace(one, method="b", options=replace(one.options, rule="backprop"))
    tried = [
        [(t.options.lr, t.options.decay, t.options.dropout) for t in trials_of(case, candidates(5))]
        for case in (one, other)
    ]
    assert tried[0] == tried[1]
    assert len(set(tried[0])) == 5
    assert candidates(3) == candidates(9)[:3]
    assert candidates(3, stream=True) == candidates(9, stream=True)[:3]
    assert min(each.lr for each in candidates(8, stream=True)) < 1e-4 < min(each.lr for each in candidates(8))
    row = run_case(trials_of(one, candidates(1))[0])
    assert row["test_reads"] == 0
    assert not {"test", "correct"} & row.keys()
    assert run_case(settled(one, {Search(blobs, "a"): candidates(1)[0]._asdict()}))["test_reads"] == 1


def test_the_best_mean_validation_score_is_chosen_and_the_first_of_equals() -> None:
    def trial(place: int, seed: int, score: float) -> dict:
        options = {**candidates(3)[place]._asdict(), "seed": seed}
        return {"dataset": "d", "method": "m", "detail": {}, "options": options, "validation": score}

    rows = [trial(0, 0, 0.9), trial(0, 1, 0.5), trial(2, 0, 0.8), trial(2, 1, 0.8), trial(1, 0, 0.8), trial(1, 1, 0.8)]
    chosen = choose(rows)[Search("d", "m")]
    assert Settings.of(chosen) == candidates(3)[1]
    assert (chosen["trials"], chosen["validation"]) == (3, 0.8)
    assert choose([*rows, trial(0, 0, 1.0)]) == choose(rows)  # the first row of a trial counts


def test_a_search_ends_where_its_journal_holds_a_trial_twice(
    blobs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, journal = Case("ten", "a", RunOptions(blobs), searched=True), Journal(tmp_path / "trials.jsonl")
    rows = [trial.row() | {"validation": 0.5, "code": code_version()} for trial in trials_of(case, candidates(1))]
    for row in (*rows, rows[0] | {"validation": 0.9}):
        journal.append(row)
    monkeypatch.setattr("brodmann.bench.runner._run", lambda *_: pytest.fail("asked for trials that are there"))
    assert settle([case], {}, journal, 1, Workers(1))[Search(blobs, "a")]["validation"] == 0.5


def scored(entries: list[Settings], best_rate: float) -> dict[Settings, list[float]]:
    """Scores of settings: the nearer the rate to the best one, the better; dropout 0.1 is a little better than none."""
    return {entry: [-abs(math.log(entry.lr / best_rate)) + 0.01 * (entry.dropout == 0.1)] for entry in entries}


@pytest.mark.parametrize(("best_rate", "expected"), [(0.08, 0.076), (1e-4, 0.00011), (0.004, 0.0038)])
def test_a_search_goes_on_from_its_best_beyond_the_rates_that_are_drawn(best_rate: float, expected: float) -> None:
    tried: list[Settings] = []
    while more := next_settings(scored(tried, best_rate), 15):
        assert len(tried) in (0, *range(8, 15))
        tried += more
    assert len(set(tried)) == len(tried) == 15
    assert tried[:8] == candidates(8)
    best = max(scored(tried, best_rate).items(), key=lambda entry: entry[1])[0]
    assert best.lr == pytest.approx(expected, rel=0.3)


def test_a_search_on_a_plateau_tries_all_neighbours_then_what_would_be_drawn_next() -> None:
    tried: list[Settings] = []
    while more := next_settings({entry: [1.0] for entry in tried}, 15):
        tried += more
    first = candidates(1)[0]
    changes = [{"lr": 0.006}, {"lr": 0.0015}, {"decay": 0.07}, {"dropout": 0.1}, {"decay": 0.6}]
    assert tried[8:13] == [first._replace(**change) for change in changes]
    assert tried[13:] == candidates(10)[8:]


def test_searches_that_end_at_an_edge_are_named() -> None:
    def trials(best_rate: float) -> list[dict[str, Any]]:
        return [
            {
                "dataset": "d",
                "method": "m",
                "detail": {},
                "options": {**entry._asdict(), "seed": 0},
                "validation": score[0],
            }
            for entry, score in zip(candidates(8), scored(candidates(8), best_rate).values(), strict=True)
        ]

    search = Search("d", "m")
    smallest_decay = (search, "decay", 0.1, "smallest")
    assert at_edge(trials(0.5)) == [(search, "lr", 0.019, "largest"), smallest_decay]
    assert at_edge(trials(1e-5)) == [(search, "lr", 0.00084, "smallest"), smallest_decay]
    assert at_edge(trials(0.011)) == [(search, "decay", 1.0, "largest")]
    assert at_edge(trials(0.005)) == []


SEARCHES = (
    "optimisers",
    "ten",
    "ten-wide",
    "convergence",
    "interference",
    "interference-mnist",
    "interference-split",
    "interference-mixture",
)
"""Folders of docs/bench whose searches chose the settings that come with the package; the last one counts."""


def test_choices_that_come_with_the_package_save_the_search_and_pass_their_own_audit() -> None:
    packaged = packaged_choices()
    cases = ten(Plan(seeds=1, protocols=("tuned",), sets=("digits",)))
    wanted, known = searches(cases, packaged)
    assert wanted == {}
    assert known.keys() == {Search("digits", case.method) for case in cases}
    newest: Choices = {}
    for name in SEARCHES:
        bench = Path(__file__).parents[2] / "docs" / "bench" / name
        rows, trials = read_journal(bench / "rows.jsonl.gz"), read_journal(bench / "trials.jsonl.gz")
        choices, plan = read_choices(bench), read_plan(bench)
        assert audit(rows, trials, choices, plan) == []
        newest |= choices
    assert newest == packaged


@pytest.mark.usefixtures("in_this_process")
def test_a_later_call_keeps_the_choices_of_earlier_ones(blobs: str, tmp_path: Path) -> None:
    for method in ("SAL, 1 area", "Kolen-Pollack"):
        plan = Plan(quick=True, seeds=1, protocols=("tuned",), sets=(blobs,), methods=(method,))
        run_recipes(["ten"], plan, tmp_path, trials=1, search=True)
    choices, planned = read_choices(tmp_path), read_plan(tmp_path)
    assert set(choices) == {Search(blobs, "SAL, 1 area"), Search(blobs, "Kolen-Pollack")}
    rows, trials = read_journal(tmp_path / "rows.jsonl"), read_journal(tmp_path / "trials.jsonl")
    assert audit(rows, trials, choices, planned) == []
    next(row for row in rows if row["method"] == "SAL, 1 area")["options"]["lr"] = 0.5
    assert any("a result used (lr 0.5" in problem for problem in audit(rows, trials, choices, planned))


def test_settings_chosen_in_the_folder_come_before_those_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Case] = []
    monkeypatch.setattr("brodmann.bench.runner.carry_out", lambda cases, *_: ran.extend(cases))
    own = candidates(1)[0]._asdict() | {"lr": 0.0123}
    (tmp_path / "choices.json").write_text(json.dumps({"digits": {"SAL, 1 area": own}}))
    methods = ("SAL, 1 area", "Kolen-Pollack")
    run_recipes(["ten"], Plan(seeds=1, protocols=("tuned",), sets=("digits",), methods=methods), tmp_path)
    packaged = packaged_choices()[Search("digits", "Kolen-Pollack")]
    assert {case.method: case.options.lr for case in ran} == dict(zip(methods, (0.0123, packaged["lr"]), strict=True))
    assert json.loads((tmp_path / "choices.json").read_text())["digits"]["SAL, 1 area"] == own


@pytest.mark.usefixtures("in_this_process")
def test_muon_is_compared_with_adam_and_with_backpropagation_by_muon(blobs: str, tmp_path: Path) -> None:
    methods = "SAL, 1 area", "SAL, 1 area, Muon", "backpropagation, equal active, Muon"
    plan = Plan(quick=True, seeds=2, sets=(blobs,), methods=methods)
    run_recipes(["optimisers"], plan, str(tmp_path), trials=1, search=True)  # folders may be texts
    rows = read_journal(tmp_path / "rows.jsonl")
    assert {row["method"]: row["options"]["optimiser"] for row in rows} == dict(
        zip(methods, ("adam", "muon", "muon"), strict=True)
    )
    report = write_report(str(tmp_path))
    assert report.problems == []
    text = report.markdown.read_text()
    assert "| SAL, 1 area, Muon minus SAL, 1 area |" in text
    assert "| SAL, 1 area, Muon minus backpropagation, equal active, Muon |" in text


def test_wide_areas_take_a_quarter_of_the_computation_of_the_net_of_their_total_size() -> None:
    cases = ten(Plan(seeds=1, protocols=("tuned",), sets=("digits",)))
    options = {case.method: case.options for case in cases}
    areas, dense = options["SAL, growing to 4 areas, equal total"], options["backpropagation, equal total"]
    assert (areas.areas, areas.shared, areas.layers) == (4, "off", dense.layers)
    one, whole = (dense_size(64, 10, of.layers, of.width) for of in (areas, dense))
    assert 4 * one == pytest.approx(whole, rel=1e-3)
