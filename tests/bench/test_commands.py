"""Benchmarks end to end: the report, kills at random moments, bad commands."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brodmann import Network, mlp
from brodmann.bench import RECIPES, Case, write_report
from brodmann.bench.estimate import core_hours
from brodmann.bench.journal import Journal, read_journal
from brodmann.bench.methods import PAPER_METHODS
from brodmann.bench.plan import Plan
from brodmann.bench.recipes import ten
from brodmann.bench.reporting import page
from brodmann.bench.reporting.sections.ten import ten_section
from brodmann.bench.reporting.tables import Table
from brodmann.bench.runner import carry_out, run_recipes
from brodmann.bench.selection import cases_of
from brodmann.bench.tasks import TASKS
from brodmann.bench.workers import Workers
from brodmann.cli import main
from brodmann.errors import BrodmannError
from brodmann.runs import RunOptions
from brodmann.runs.version import code_version

PAGE = Path(page.__file__).with_name("page.html")
TIMES = ("seconds", "step_seconds", "wall_seconds", "peak_rss_mb")


def without_times(row: dict) -> dict:
    row = {name: value for name, value in row.items() if name not in TIMES}
    row["curve"] = [[step, accuracy] for step, _, accuracy in row["curve"]]
    return row


def test_the_report_holds_tables_figures_and_nothing_from_the_network(
    small_bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["report", str(small_bench)])
    html, text = (small_bench / "report.html").read_text(), (small_bench / "report.md").read_text()
    assert "The audit found nothing" in html
    assert not re.search(r'(src|href)="https?:', html)
    for name in ("SAL, 16 areas", "scikit-learn MLP", "Chosen settings", "Effective areas"):
        assert name in html
        assert name in text
    assert html.count("<figure") == text.count("![")
    assert {path.suffix for path in (small_bench / "figures").iterdir()} == {".png", ".svg", ".pdf"}
    assert str(small_bench / "report.html") in capsys.readouterr().out.replace("\n", "")


def test_a_report_of_methods_without_areas_has_no_table_of_them(small_bench: Path) -> None:
    rows = read_journal(small_bench / "rows.jsonl")
    for kept, there in ((rows, True), ([row for row in rows if not row.get("effective_areas")], False)):
        assert kept
        titles = [table.title for table in ten_section(kept).tables]
        assert any(title.startswith("Effective areas") for title in titles) == there


def test_a_report_of_one_method_has_no_table_without_rows(small_bench: Path) -> None:
    rows = [row for row in read_journal(small_bench / "rows.jsonl") if row["method"] == "SAL, 16 areas"]
    assert {row["protocol"] for row in rows} == {"tuned", "paper"}
    tables = ten_section(rows).tables
    assert len(tables) > 2
    assert all(table.rows for table in tables)


def test_a_recipe_of_ones_own_is_compared_with_its_first_method_whoever_ended_first(
    small_bench: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_bench, tmp_path / "out")
    rows = [
        row | {"recipe": "mine"} for row in read_journal(tmp_path / "out" / "rows.jsonl") if row["protocol"] == "tuned"
    ]
    first = next(iter(json.loads((tmp_path / "out" / "plan.json").read_text()).values()))[3]
    tables = []
    for shuffled in (rows, rows[::-1]):
        (tmp_path / "out" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shuffled))
        text = write_report(tmp_path / "out").markdown.read_text()
        tables.append(text.split("Differences in points")[1].split("\n\n")[1])
    assert tables[0] == tables[1]
    assert tables[0].count(f" minus {first} |") == tables[0].count(" minus ") > 3


def test_settings_are_those_that_a_method_reads(tmp_path: Path) -> None:
    rows = read_journal(Path(__file__).parents[2] / "docs" / "bench" / "interference" / "rows.jsonl.gz")
    methods = "SAL, recursive, 16 areas", "nearest class mean", "replay of 200 samples"
    streams = [row for row in rows if row["task"] == "stream" and row["detail"]["stream"] == "split"]
    some = [row for row in streams if row["method"] in methods and row["dataset"] == "digits" and row["seed"] < 2]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    page = write_report(tmp_path).page.read_text()

    def settings(method: str) -> str:
        return page.split(f"<dt>interference, tuned, digits, {method}</dt><dd>")[1].split("</dd>")[0]

    assert settings("SAL, recursive, 16 areas").startswith("rule kolen-pollack, layers 2, width 256, areas 16, batch_")
    assert "optimiser" not in settings("SAL, recursive, 16 areas")
    assert settings("nearest class mean").startswith("batch_size 16, ")
    assert "memory 200" in settings("replay of 200 samples")
    assert "None" not in settings("replay of 200 samples")


def test_rows_that_are_there_are_not_run_again(small_bench: Path) -> None:
    before = (small_bench / "rows.jsonl").read_bytes()
    (dataset,) = {row["dataset"] for row in read_journal(small_bench / "rows.jsonl")}
    run_recipes(["ten"], Plan(quick=True, sets=(dataset,)), small_bench, jobs=1, trials=2, search=True)
    assert (small_bench / "rows.jsonl").read_bytes() == before


@pytest.mark.usefixtures("in_this_process")
def test_rows_of_another_version_of_the_code_are_told_of_before_more_are_added(blobs: str, tmp_path: Path) -> None:
    plan = Plan(quick=True, sets=(blobs,), seeds=1, methods=("last layer only",))
    journal = tmp_path / "rows.jsonl"
    Journal(journal).append({"key": "other", "code": "0.0.1+abc"})
    cases = [replace(case, searched=False) for case in cases_of(["ten"], plan)][:1]
    with pytest.warns(UserWarning, match="^1 of the 1 rows in .*rows.jsonl come from another version of the code"):
        carry_out(cases, Journal(journal), Workers(1), "ten")
    assert [row["code"] for row in read_journal(journal)] == ["0.0.1+abc", code_version()]


def test_rows_and_trials_of_another_version_of_the_code_are_told_of_where_no_more_are_needed(
    small_bench: Path, tmp_path: Path
) -> None:
    (dataset,) = {row["dataset"] for row in read_journal(small_bench / "rows.jsonl")}
    for name in ("rows.jsonl", "trials.jsonl"):
        for row in read_journal(small_bench / name):
            Journal(tmp_path / name).append(row | {"code": "0.0.1+abc"})
    with pytest.warns(UserWarning, match="come from another version of the code") as told:
        run_recipes(["ten"], Plan(quick=True, sets=(dataset,)), tmp_path, jobs=1, trials=2, search=True)
    assert {name for name in ("rows.jsonl", "trials.jsonl") for one in told if name in str(one.message)} == {
        "rows.jsonl",
        "trials.jsonl",
    }


@pytest.mark.usefixtures("in_this_process")
def test_a_bench_killed_at_random_moments_has_the_rows_of_an_undisturbed_one(blobs: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "brodmann",
        "bench",
        "ten",
        "--protocols",
        "paper",
        "--sets",
        blobs,
        "--seeds",
        "1",
    ]

    def run(folder: str, seconds: float | None = None) -> int:
        process = subprocess.Popen(
            [*command, "--jobs", "2", "--out", str(tmp_path / folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)  # its workers must notice on their own
            process.wait()
        return process.returncode

    run_recipes(["ten"], Plan(protocols=("paper",), sets=(blobs,), seeds=1), tmp_path / "whole", jobs=2)
    draw = random.Random(os.getpid())
    for _ in range(3):
        run("killed", 3.0 + 3.0 * draw.random())
    assert run("killed") == 0
    whole, killed = (
        {row["key"]: without_times(row) for row in read_journal(tmp_path / name / "rows.jsonl")}
        for name in ("whole", "killed")
    )
    assert len(whole) == len(PAPER_METHODS)
    assert killed == whole


def test_a_bench_that_is_asked_to_stop_does_not_wait_for_its_workers(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(100_000, 20)).astype(np.float32), np.arange(100_000) % 4
    data = tmp_path / "large.npz"
    np.savez(data, x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])  # one training takes half a minute
    command = [sys.executable, "-m", "brodmann", "bench", "ten", "--protocols", "paper", "--sets", str(data)]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # who runs the tests may ignore it
    )
    try:
        deadline = time.monotonic() + 60
        while len(living(process.pid)) < 3:  # itself, a tracker of resources, a worker
            assert time.monotonic() < deadline, "no worker came"
            time.sleep(0.2)
        time.sleep(4.0)  # it loads, or trains already
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, message = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 128 + signal.SIGINT
    assert "stopped; run the same command again to go on from here." in message
    assert time.monotonic() - began < 20


def test_workers_of_a_killed_bench_go_away(blobs: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "brodmann", "bench", "ten", "--sets", blobs, "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(4.0)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while left := living(process.pid):
        assert time.monotonic() < deadline, f"workers outlived their parent: {left}"
        time.sleep(0.2)


def living(group: int) -> list[str]:
    """Returns the processes of a group that run; one that ended and waits to be collected does not."""
    listing = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 2) for line in listing.splitlines()]
    return [line[-1] for line in lines if line[0] == str(group) and not line[1].startswith("Z")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "tne"], "Unknown recipe 'tne'. Did you mean 'ten'"),
        (["bench", "ten", "--jobs", "0"], "Expected --jobs, --trials and --seeds to be from 1 to 10,000"),
        (["bench", "ten", "--protocols", "papper"], "Unknown protocol 'papper'. Did you mean 'paper'"),
        (["bench", "interference", "--streams", "spilt"], "Unknown stream 'spilt'. Did you mean 'split'"),
        (["bench", "ten", "--sets", "digit"], "Unknown data set 'digit'. Did you mean 'digits'"),
        (["report", "nowhere"], "nowhere holds no rows: expected nowhere/rows.jsonl, written by `brodmann bench`"),
    ],
)
def test_bad_commands_say_what_to_do(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1}\n', "line 2 is not a row of a benchmark: remove that line."),
        ("5\n", "line 2 is not a row of a benchmark: remove that line."),
        (
            '{"a"',
            "line 2 is not a row of a benchmark: if the benchmark was killed while writing it, run the same `brodmann "
            "bench` again to repair the file.",
        ),
    ],
)
def test_a_report_of_damaged_rows_says_which(
    small_bench: Path, tmp_path: Path, line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (small_bench / "rows.jsonl").read_text().splitlines(keepends=True)[0]
    (tmp_path / "rows.jsonl").write_text(whole + line)
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(tmp_path)])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("recipe", ["ten", "interference"])
def test_an_estimate_names_every_recipe(capsys: pytest.CaptureFixture[str], recipe: str) -> None:
    main(["bench", recipe, "--quick", "--sets", "digits", "--seeds", "1", "--estimate"])
    out = capsys.readouterr().out
    for name in (recipe, "search", "in all"):
        assert re.search(rf"{name} +\d+\.\d\d core-(hours|minutes)", out)


def test_an_estimate_leaves_out_what_is_done(small_bench: Path, tmp_path: Path) -> None:
    (dataset,) = {row["dataset"] for row in read_journal(small_bench / "rows.jsonl")}
    cases = cases_of(["ten"], Plan(quick=True, sets=(dataset,)))
    assert core_hours(cases, 2, search=True, folder=small_bench) == {"ten": 0.0}
    assert core_hours(cases, 3, search=True, folder=small_bench)["search"] > 0
    for name in ("rows.jsonl", "trials.jsonl", "choices.json"):
        shutil.copy(small_bench / name, tmp_path)
    *rows, _ = (small_bench / "rows.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    one = core_hours(cases, 2, search=True, folder=tmp_path)["ten"]
    assert 0 < one < core_hours(cases, 2, search=True)["ten"] / 3


def test_how_long_a_task_of_ones_own_takes_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [Case("own", "mine", RunOptions("digits"), task="mine"), Case("own", "usual", RunOptions("digits"))]
    monkeypatch.setitem(TASKS, "mine", lambda case: {})
    monkeypatch.setitem(RECIPES, "own", lambda plan: cases)
    main(["bench", "own", "--estimate", "--out", str(tmp_path)])
    assert re.search(r"own +unknown: steps of tasks of your own .*\nin all .*, without what", capsys.readouterr().out)
    hours = core_hours([*cases, Case("other", "usual", RunOptions("digits"))], 1)
    assert math.isnan(hours["own"])
    assert hours["other"] > 0


@pytest.mark.parametrize(
    ("hours", "text"), [(0.002, "    0.12 core-minutes"), (0.1, "    0.10 core-hours"), (12.34, "   12.34 core-hours")]
)
def test_an_estimate_of_a_short_recipe_is_in_minutes(
    hours: float, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("brodmann.cli.bench.core_hours", lambda *_, **__: {"scale": hours})
    main(["bench", "scale", "--quick", "--estimate"])
    out = capsys.readouterr().out
    for name in ("scale", "in all"):
        assert f"{name:14} {text}" in out


def test_dense_methods_are_widened_to_the_active_parameters_of_sal(blobs: str) -> None:
    rows = {case.method: case.options for case in ten(Plan(quick=True, seeds=1, protocols=("tuned",), sets=(blobs,)))}
    active = Network(mlp(9, 4, areas=16)).active_parameters()
    for name in ("backpropagation, equal active", "Kolen-Pollack", "fixed random feedback", "scikit-learn MLP"):
        assert abs((9 + 1 + 4) * rows[name].width + 4 - active) <= 14
    assert rows["SAL, 16 areas"].width == 256


@pytest.mark.parametrize("name", ["depth", "scale", "convergence", "interference"])
def test_recipes_without_data_say_where_to_get_some(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BRODMANN_DATA", str(tmp_path))
    assert {case.options.dataset for case in cases_of([name], Plan(quick=True))} <= {"digits"}


def test_a_table_is_markdown_and_html_and_keeps_its_bars() -> None:
    table = Table("T", ["a", "b"], [["x|y", "<1>"]], "Note.")
    assert "| x/y | <1> |" in table.markdown()
    assert "<td>&lt;1&gt;</td>" in table.html()


def test_heads_sort_by_keyboard_and_wide_tables_are_whole_on_paper() -> None:
    source = PAGE.read_text()
    assert '<th tabindex="0">a</th>' in Table("T", ["a"], [["1"]]).html()
    assert "aria-sort" in source
    paper = source.split("@media print {")[1].split("</style>")[0]
    assert ".wide { overflow: visible; }" in paper
    assert "white-space: normal" in paper


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which runs the page's script")
@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("[-1.13, +0.04]", -1.13),
        ("1,850 steps, 1.86 s", 1850),
        ("0.003, 1, 0", 0.003),
        ("97.78 ± 0.29", 97.78),
        ("< 0.001", 0.001),
        ("1 of 3 seeds", None),
        ("-", None),
        ("undecided", None),
    ],
)
def test_cells_sort_by_the_number_that_they_begin_with(cell: str, number: float | None) -> None:
    script = re.search(r"const numberIn = .*?\n};", PAGE.read_text(), re.DOTALL)
    assert script is not None
    program = f"{script[0]} process.stdout.write(JSON.stringify(numberIn({json.dumps(cell)})))"
    run = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == number


def test_recipes_compare_classifiers(tmp_path: Path) -> None:
    path = tmp_path / "real.npz"
    x = np.random.default_rng(0).normal(size=(40, 3))
    np.savez(path, x_train=x, y_train=x[:, 0], x_test=x, y_test=x[:, 0])
    with pytest.raises(BrodmannError, match="compare classifiers, and '.*real.npz' has real targets: leave it out"):
        cases_of(["ten"], Plan(sets=(str(path),)))
