"""What the report of a benchmark says of its rows."""

import json
from pathlib import Path

from brodmann.bench import write_report
from brodmann.bench.journal import read_journal


def test_a_report_tells_what_differs_from_the_defaults_in_any_row_of_a_method(tmp_path: Path) -> None:
    rows = read_journal(Path(__file__).parents[1] / "docs" / "bench" / "depth" / "rows.jsonl.gz")
    mine = [row | {"recipe": "mine"} for row in rows if (row["dataset"], row["method"]) == ("digits", "random, plain")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mine))
    page = write_report(tmp_path).page.read_text()
    settings = page.split("<dt>mine, fixed, digits, random, plain</dt><dd>")[1].split("</dd>")[0]
    assert settings.startswith("rule random, areas 1, layers 3 / 8 / 32, width 64, decay 0.0, epochs ")
    assert "activation" not in settings  # the default
