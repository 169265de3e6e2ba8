"""The report: rows are audited and summed up, then written as a page, as Markdown and as figures for a paper."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import BrodmannError
from ...files import write_bytes
from ..case import Row, is_score
from ..choices import Choices
from ..folder import ROWS, TRIAL_ROWS, read_choices, read_plan, read_rows
from ..journal import stored_journal
from ..recipes import PROTOCOL_OF, TEN
from ..tuner import at_edge
from .audit import audit, packaged, version_notes
from .damage import naming_damaged
from .page import VERSIONS, as_markdown, as_page
from .sections import section_of
from .tables import Table, grouped, spread

FORMATS = ("svg", "png", "pdf")


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        page: The HTML page.
        markdown: The same tables as Markdown.
        figures: Folder of the figures.
        problems: What the audit found.
        notes: What it found of versions of the code, which contradicts nothing.
    """

    page: Path
    markdown: Path
    figures: Path
    problems: list[str]
    notes: list[str]


def write_report(folder: str | Path) -> Report:
    """Writes ``report.html``, ``report.md`` and ``figures/`` into the folder of a benchmark.

    Raises:
        BrodmannError: The folder holds no rows, or cannot be written; matplotlib is missing.
    """
    folder = Path(folder)
    rows, trials = read_rows(folder, ROWS), read_rows(folder, TRIAL_ROWS)
    if not rows:
        raise BrodmannError(f"{folder} holds no rows: expected {folder / ROWS}, written by `brodmann bench`.")
    choices, plan = read_choices(folder), read_plan(folder)
    _sort(rows, plan)
    _sort(trials, ())  # those of a set stay as they came: the first of equals counts
    with naming_damaged(folder, [*rows, *trials]):
        problems, notes = audit(rows, trials, choices, plan), version_notes(rows, trials)
    sections = []
    for recipe, own in grouped([row for row in rows if is_score(row["test"])], "recipe").items():
        with naming_damaged(folder, own):
            sections.append(section_of(recipe, own))
    figures = folder / "figures"
    for part in sections:
        for plot in part.plots:
            for kind in FORMATS:
                plot.draw(figures / f"{plot.name}.{kind}")
    closing = [_what_ran(folder, rows, trials), *_edges(trials)]
    found = {_verdict(problems, notes, rows, trials, choices): problems} | ({VERSIONS: notes} if notes else {})
    write_bytes(folder / "report.md", as_markdown(sections, closing, found).encode())
    write_bytes(folder / "report.html", as_page(sections, closing, found, figures, rows).encode())
    return Report(folder / "report.html", folder / "report.md", figures, problems, notes)


def _sort(rows: list[Row], plan: Collection[str]) -> None:
    """Sorts rows as planned, not as jobs happened to end; within a recipe the ten sets come first, in their order."""
    order = {key: place for place, key in enumerate(plan)}
    rows.sort(key=lambda row: order.get(row["key"], len(order)))
    recipes = {name: place for place, name in enumerate(dict.fromkeys(row["recipe"] for row in rows))}
    sets = {name: place for place, name in enumerate(dict.fromkeys([*TEN, *(row["dataset"] for row in rows)]))}
    rows.sort(key=lambda row: (recipes[row["recipe"]], sets[row["dataset"]]))


def _what_ran(folder: Path, rows: Sequence[Row], trials: Sequence[Row]) -> Table:
    lines = [
        [
            recipe,
            ", ".join(dict.fromkeys(row["dataset"] for row in own)),
            str(len(own)),
            spread([len({row["seed"] for row in of_method}) for of_method in grouped(own, "method").values()]),
            f"{sum(row['wall_seconds'] for row in own) / 3600:.2f}",
            "\n".join(sorted({row["code"] for row in own})),
        ]
        for recipe, own in grouped([*rows, *trials], "recipe").items()
    ]
    columns = ["recipe", "data sets", "rows", "seeds", "core-hours", "code"]
    results, search = (stored_journal(folder / name).name for name in (ROWS, TRIAL_ROWS))
    where = f"Every row, with all its settings, is in {results}" + (f"; {search} has the search." if trials else ".")
    return Table("Rows and versions", columns, lines, where)


def _edges(trials: Sequence[Row]) -> list[Table]:
    """Says which searches found nothing worse on one side of their best; no table if there are none."""
    lines = [
        [str(search), f"{name} {value:g}", f"the {end} that was tried"] for search, name, value, end in at_edge(trials)
    ]
    note = "A better value may lie beyond the edge: to look there, use --search with more --trials and another --out."
    return [Table("Searches that ended at an edge", ["search", "chosen", ""], lines, note)] if lines else []


def _verdict(
    problems: Sequence[str], notes: Sequence[str], rows: Sequence[Row], trials: Sequence[Row], choices: Choices
) -> str:
    if problems:
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        return f"**The audit found {count}: these tables prove nothing until that is resolved.**"
    own = ", ".join(sorted({row["task"] for row in rows} - {task for by in PROTOCOL_OF.values() for task in by}))
    brought = packaged(trials, choices)
    said = [
        "searches on a set have as many trials each, and every choice is the best of its trial log" if trials else "",
        f"the settings of {brought} {'others' if trials else 'methods'} come with the package, searched earlier, and "
        "their trials are not in this folder"
        if brought
        else "",
        "every test part was read once" + (f", of which the tasks {own} keep their own count" if own else ""),
        "all results of a recipe on a set come from the same data"
        + ("" if notes else " and version of the code" + (", as do its trials" if trials else "")),
        "none is missing",
    ]
    return f"The audit found nothing: {'; '.join(text for text in said if text)}."
