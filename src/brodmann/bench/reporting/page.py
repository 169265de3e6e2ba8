"""The report: one HTML page that opens from disk, Markdown tables, and figures for a paper."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from ...errors import BrodmannError
from ...files import write_bytes
from ...runs import RunOptions
from ..case import Row, is_score, row_name
from ..choices import Choices
from ..folder import ROWS, TRIAL_ROWS, read_choices, read_plan, read_rows
from ..journal import stored_journal
from ..recipes import PROTOCOL_OF, TEN
from ..stream_learners import READ_BY
from ..tuner import at_edge
from .audit import audit, packaged, version_notes
from .sections import Section, section_of
from .tables import Table, grouped, spread

FORMATS = ("svg", "png", "pdf")
DAMAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""What computing with damaged rows raises."""
VERSIONS = (
    "Rows of several versions of the code stand side by side. That contradicts nothing; whether they would be the same "
    "by one version, only what changed between them can tell. Which versions they are stands under What ran."
)
Found = dict[str, list[str]]
"""What the top of the page says -> the findings below it: of the audit, then of versions of the code."""


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
    with _said_of(folder, [*rows, *trials]):
        problems, notes = audit(rows, trials, choices, plan), version_notes(rows, trials)
    sections = []
    for recipe, own in grouped([row for row in rows if is_score(row["test"])], "recipe").items():
        with _said_of(folder, own):
            sections.append(section_of(recipe, own))
    figures = folder / "figures"
    for part in sections:
        for plot in part.plots:
            for kind in FORMATS:
                plot.draw(figures / f"{plot.name}.{kind}")
    closing = [_what_ran(folder, rows, trials), *_edges(trials)]
    found = {_verdict(problems, notes, rows, trials, choices): problems} | ({VERSIONS: notes} if notes else {})
    write_bytes(folder / "report.md", _markdown(sections, closing, found).encode())
    write_bytes(folder / "report.html", _page(sections, closing, found, figures, rows).encode())
    return Report(folder / "report.html", folder / "report.md", figures, problems, notes)


def _sort(rows: list[Row], plan: Collection[str]) -> None:
    """Sorts rows as planned, not as jobs happened to end; within a recipe the ten sets come first, in their order."""
    order = {key: place for place, key in enumerate(plan)}
    rows.sort(key=lambda row: order.get(row["key"], len(order)))
    recipes = {name: place for place, name in enumerate(dict.fromkeys(row["recipe"] for row in rows))}
    sets = {name: place for place, name in enumerate(dict.fromkeys([*TEN, *(row["dataset"] for row in rows)]))}
    rows.sort(key=lambda row: (recipes[row["recipe"]], sets[row["dataset"]]))


@contextmanager
def _said_of(folder: Path, rows: Sequence[Row]) -> Iterator[None]:
    """Reports errors from computing with rows as damaged rows, by the names of those that they may come from."""
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, BrodmannError):
            raise
        suspects = [f"{row_name(row)}, key {row['key']}" for row in _suspects(error, rows)]
        which = f": {'; '.join(suspects[:3])}{', and others' if len(suspects) > 3 else ''}" if suspects else ""
        raise BrodmannError(
            f"{folder} holds damaged rows ({type(error).__name__}: {error}){which}. Remove them, and run the same "
            "`brodmann bench` again."
        ) from None


def _suspects(error: Exception, rows: Sequence[Row]) -> list[Row]:
    """Returns the rows that raise when nothing else is there; if none does, those that lack the field of the error."""
    if alone := [row for row in rows if _raises(row)]:
        return alone
    name = error.args[0] if isinstance(error, KeyError) else None
    return [row for row in rows if name is not None and name not in row | row["options"] | row["detail"]]


def _raises(row: Row) -> bool:
    try:
        if row["trial"]:
            audit([], [row], {}, {})
        else:
            audit([row], [], {}, {})
            section_of(row["recipe"], [row])
    except DAMAGE:
        return True
    return False


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


def _markdown(sections: Sequence[Section], closing: Sequence[Table], found: Found) -> str:
    parts = ["# Benchmark"]
    for said, findings in found.items():
        parts += [said, *(f"- {finding}" for finding in findings)]
    for part in sections:
        parts.append(f"## {part.title}")
        parts += part.text
        parts += [table.markdown() for table in part.tables]
        parts += [f"![{plot.caption}](figures/{plot.name}.png)" for plot in part.plots]
    return "\n\n".join([*parts, "## What ran", *(table.markdown() for table in closing)]) + "\n"


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


def _page(
    sections: Sequence[Section],
    closing: Sequence[Table],
    found: Found,
    figures: Path,
    rows: Sequence[Row],
) -> str:
    links = "".join(f'<a href="#{part.recipe}">{html.escape(part.title)}</a>' for part in sections)
    body = [_findings(said, findings) for said, findings in found.items()]
    for part in sections:
        body.append(f'<section id="{part.recipe}"><h2>{html.escape(part.title)}</h2>')
        body += [f"<p>{html.escape(text)}</p>" for text in part.text]
        body += [_drawing(figures / f"{plot.name}.svg", plot.name, plot.caption) for plot in part.plots]
        body += [table.html() for table in part.tables]
        body.append("</section>")
    tables = "".join(table.html() for table in closing)
    body.append(f"<section><h2>What ran</h2>{tables}{_settings(rows)}</section>")
    page = (resources.files(__package__) / "page.html").read_text(encoding="utf-8")
    return page.replace("{links}", links).replace("{body}", "\n".join(body))


def _findings(said: str, findings: Sequence[str]) -> str:
    kind = "aside" if said == VERSIONS else "bad" if findings else "good"
    items = "".join(f"<li>{html.escape(finding)}</li>" for finding in findings)
    return f'<div class="{kind}"><p>{html.escape(said.strip("*"))}</p>{f"<ul>{items}</ul>" if items else ""}</div>'


def _drawing(path: Path, name: str, caption: str) -> str:
    """Returns a figure as part of the page; a click shows it large."""
    drawing = path.read_text()
    drawing = drawing[drawing.index("<svg") :]
    # Names inside a drawing are common to all drawings of a page: make them its own.
    drawing = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", drawing)
    return (
        f'<figure tabindex="0" role="img" aria-label="{html.escape(caption)}">{drawing}'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _settings(rows: Sequence[Row]) -> str:
    """Returns what every method sets, folded away: the options that it reads and that are not the defaults, details.

    All values are told where rows of a method differ, as in the number of layers; of learners that read few options,
    all options are.
    """
    defaults, items = asdict(RunOptions()), []
    for (recipe, protocol, dataset, method), own in grouped(rows, "recipe", "protocol", "dataset", "method").items():
        read, usual = READ_BY.get(own[0]["detail"].get("learner")), {"dataset": dataset}
        if read is None:
            read, usual = tuple(defaults), defaults | usual
        settings = [{name: row["options"].get(name) for name in read} | row["detail"] for row in own]
        names = dict.fromkeys(name for one in settings for name in one)
        told = {name: [*dict.fromkeys(str(one[name]) for one in settings if name in one)] for name in names}
        given = {name: values for name, values in told.items() if values not in (["None"], [str(usual.get(name))])}
        text = ", ".join(f"{name} {' / '.join(values)}" for name, values in given.items() if name != "seed")
        name = f"{recipe}, {protocol}, {dataset}, {method}"
        items.append(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>")
    note = "<p>Settings that are not listed have the package's defaults.</p>"
    return f"<details><summary>Settings of every method</summary>{note}<dl>{''.join(items)}</dl></details>"
