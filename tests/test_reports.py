"""Recipes of one's own: what their cases may be, and what the report says of their rows."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brodmann import BrodmannError
from brodmann.bench import Case, write_report
from brodmann.bench.journal import read_journal
from brodmann.bench.reporting.plots import _apart, critical_difference
from brodmann.bench.reporting.report import _sort
from brodmann.bench.reporting.sections.optimisers import optimisers_section
from brodmann.bench.reporting.sections.scale import scale_section
from brodmann.bench.reporting.sections.ten import ten_section
from brodmann.bench.tasks import run_case
from brodmann.runs import RunOptions

BENCH = Path(__file__).parents[1] / "docs" / "bench"
METHOD = "random, plain"


def report_of(folder: Path, **changes: object) -> tuple[str, str]:
    """Writes a report of rows that seem to come from a recipe of one's own; returns page and text."""
    rows = read_journal(BENCH / "depth" / "rows.jsonl.gz")
    mine = [row | {"recipe": "mine"} for row in rows if (row["dataset"], row["method"]) == ("digits", METHOD)]
    mine[-1] |= changes
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mine))
    report = write_report(folder)
    return report.page.read_text(), report.markdown.read_text()


def test_a_report_tells_what_differs_from_the_defaults_in_any_row_of_a_method(tmp_path: Path) -> None:
    page, text = report_of(tmp_path)
    settings = page.split(f"<dt>mine, fixed, digits, {METHOD}</dt><dd>")[1].split("</dd>")[0]
    assert settings.startswith("rule random, areas 1, layers 3 / 8 / 32, width 64, decay 0.0, epochs ")
    assert "activation" not in settings  # the default
    assert "stopped" not in text


def test_a_report_tells_which_trainings_broke_down(tmp_path: Path) -> None:
    _, text = report_of(tmp_path, stopped="Step 3: The loss is inf.")
    assert f"digits: training stopped because errors vanished or exploded: {METHOD} at 32." in text


def test_a_report_says_which_test_parts_are_counted_by_tasks_of_ones_own(tmp_path: Path) -> None:
    row = Case("mine", "guesses", RunOptions("digits"), task="guess").row()
    row |= {"test": 0.1, "test_reads": 1, "digest": "1", "code": "1", "jobs": 1, "wall_seconds": 1.0}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "plan.json").write_text(json.dumps({row["key"]: ["mine", "fixed", "digits", "guesses", 0]}))
    text = write_report(tmp_path).markdown.read_text()
    assert "every test part was read once, of which the tasks guess keep their own count; " in text
    assert "Every row, with all its settings, is in rows.jsonl." in text


def test_a_report_without_trials_says_that_settings_come_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brodmann.bench.reporting.report.FORMATS", ("svg",))
    shutil.copytree(BENCH / "interference-permuted", tmp_path / "out")
    text = write_report(tmp_path / "out").markdown.read_text()
    assert "The audit found nothing: the settings of 8 methods come with the package, searched earlier, and " in text
    assert "is in rows.jsonl.gz." in text


def test_table_and_figure_of_scale_tell_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_journal(BENCH / "scale" / "rows.jsonl.gz")
    rows = [row for row in rows if row["options"]["rule"] != "backprop"]
    for place, row in enumerate(rows):  # one of three seeds is far off
        row["step_seconds"], row["peak_rss_mb"] = 1e-3 * (1 + 20 * (place % 3 == 0)), 500 + 300 * (place % 3)
    figures: list[Any] = []
    monkeypatch.setattr("brodmann.bench.reporting.plots.write_figure", lambda _, figure: figures.append(figure))
    section = scale_section(rows)
    section.plots[0].draw(Path("scale.png"))
    table = [dict(zip(section.tables[0].columns, line, strict=True)) for line in section.tables[0].rows]
    names = ("test accuracy in %, mean (lowest)", "step (us, one thread), median", "peak memory (MiB), largest")
    for panel, name in zip(figures[0].axes, names, strict=True):
        drawn = sorted(float(value) for line in panel.get_lines() for value in line.get_ydata())
        told = sorted(float(line[name].split(" ")[0].replace(",", "")) for line in table)
        assert drawn == pytest.approx(told, abs=0.5 if "accuracy" not in name else 0.005)


def test_sets_stand_in_one_order_whatever_ran_first() -> None:
    places = [("own", "mnist"), ("own", "mine.npz"), ("own", "digits"), ("ten", "letter"), ("ten", "digits")]
    rows = [{"key": f"{place}", "recipe": recipe, "dataset": name} for place, (recipe, name) in enumerate(places)]
    _sort(rows, [row["key"] for row in rows])
    assert [row["dataset"] for row in rows] == ["digits", "mnist", "mine.npz", "digits", "letter"]


def test_muon_is_compared_with_backpropagation_by_either_rule_and_over_as_many_seeds_as_both_have() -> None:
    rows = [row for row in read_journal(BENCH / "optimisers" / "rows.jsonl.gz") if row["dataset"] == "digits"]
    short = [row for row in rows if row["method"] != "SAL, 1 area, Muon" or row["seed"] < 4]
    table = optimisers_section(short).tables[1]
    pairs = {line[0]: line[-1] for line in table.rows}
    assert table.columns[-1] == "seeds"
    assert pairs["SAL, 1 area, Muon minus backpropagation, equal active"] == "4"
    assert pairs["backpropagation, equal active, Muon minus backpropagation, equal active"] == "10"


@pytest.mark.parametrize("count", [3, 14])
def test_names_of_ranked_methods_do_not_touch_their_lines(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    monkeypatch.setattr("brodmann.bench.reporting.plots.write_figure", lambda _, figure: figures.append(figure))
    critical_difference(Path("ranks.png"), [f"method {i}" for i in range(count)], np.arange(count) + 1.0, 2.0)
    figures[0].draw_without_rendering()
    (panel,) = figures[0].axes
    lines = [line.get_transform().transform(line.get_xydata())[-1] for line in panel.lines]  # their last points
    names = [text.get_window_extent() for text in panel.texts if " " in text.get_text()]
    assert len(names) == count + 1
    for name in names:
        beside = [x for x, y in lines if name.y0 < y < name.y1]
        assert min(abs(x - edge) for x in beside for edge in (name.x0, name.x1)) > 0.25 * name.height


def test_labels_of_depths_do_not_touch() -> None:
    assert _apart([3, 8, 32, 128, 512, 1024]) == ["3", "8", "32", "128", "", "1024"]
    assert _apart([8, 16, 32, 64]) == ["8", "16", "32", "64"]


def test_cases_are_classifiers(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    np.savez(tmp_path / "real.npz", x_train=x, y_train=x[:, 0], x_test=x, y_test=x[:, 0])
    with pytest.raises(BrodmannError, match="Cases compare classifiers, and '.*real.npz' has real targets"):
        run_case(Case("mine", "method", RunOptions(str(tmp_path / "real.npz"))))


@pytest.mark.parametrize(("epochs", "said"), [([3, 3], " 3 epochs,"), ([25, 3], " 3 or 25 epochs,")])
def test_the_note_of_the_published_setting_tells_how_long_its_rows_trained(epochs: list[int], said: str) -> None:
    rows = [
        {"protocol": "paper", "dataset": "digits", "method": "SAL, 1 area", "test": 0.5, "options": {"epochs": number}}
        for number in epochs
    ]
    assert said in ten_section(rows).tables[0].note
