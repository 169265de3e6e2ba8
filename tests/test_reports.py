"""Recipes of one's own: what their cases may be, and what the report says of their rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from brodmann import BrodmannError
from brodmann.bench import Case, write_report
from brodmann.bench.journal import read_journal
from brodmann.bench.tasks import run_case
from brodmann.runs import RunOptions

METHOD = "random, plain"


def report_of(folder: Path, **changes: object) -> tuple[str, str]:
    """Writes a report of rows that seem to come from a recipe of one's own; returns page and text."""
    rows = read_journal(Path(__file__).parents[1] / "docs" / "bench" / "depth" / "rows.jsonl.gz")
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


def test_cases_are_classifiers(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    np.savez(tmp_path / "real.npz", x_train=x, y_train=x[:, 0], x_test=x, y_test=x[:, 0])
    with pytest.raises(BrodmannError, match="Cases compare classifiers, and '.*real.npz' has real targets"):
        run_case(Case("mine", "method", RunOptions(str(tmp_path / "real.npz"))))
