"""The report: one HTML page that opens from disk, Markdown tables, and figures for a paper."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ...errors import BrodmannError
from ...files import read_json, write_bytes
from ...runs import RunOptions
from ..case import Row, is_score
from ..journal import read_journal
from ..runner import CHOICES, PLAN, ROWS, TRIAL_ROWS
from ..stream_learners import READ_BY
from ..tuner import SEARCHED, at_edge
from .audit import audit
from .sections import Section, section_of
from .tables import Table, grouped

FORMATS = ("svg", "png", "pdf")
TEXTS = ("recipe", "protocol", "dataset", "method", "task", "key", "digest", "code")
NEEDED: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(TEXTS, str),
    **dict.fromkeys(("detail", "options"), dict),
    **dict.fromkeys(("seed", "test_reads", "jobs"), int),
    "trial": bool,
    "wall_seconds": (int, float),
}
"""Fields of every row, and their types."""


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        page: The HTML page.
        markdown: The same tables as Markdown.
        figures: Folder of the figures.
        problems: What the audit found.
    """

    page: Path
    markdown: Path
    figures: Path
    problems: list[str]


def write_report(folder: str | Path) -> Report:
    """Writes ``report.html``, ``report.md`` and ``figures/`` into the folder of a benchmark.

    Raises:
        BrodmannError: The folder holds no rows, or cannot be written; matplotlib is missing.
    """
    folder = Path(folder)
    rows, trials = _rows(folder, ROWS, "test"), _rows(folder, TRIAL_ROWS, "validation")
    if not rows:
        raise BrodmannError(f"{folder} holds no rows: expected {folder / ROWS}, written by `brodmann bench`.")
    choices, plan = _stored(folder / CHOICES, _are_choices), _stored(folder / PLAN, _is_plan)
    order = {key: place for place, key in enumerate(plan)}  # not the order in which jobs happened to end
    rows.sort(key=lambda row: order.get(row["key"], len(order)))
    with _said_of(folder):
        problems = audit(rows, trials, choices, plan)
        scored = [row for row in rows if is_score(row["test"])]
        sections = [section_of(recipe, own) for recipe, own in grouped(scored, "recipe").items()]
    figures = folder / "figures"
    for part in sections:
        for plot in part.plots:
            for kind in FORMATS:
                plot.draw(figures / f"{plot.name}.{kind}")
    closing = [_what_ran(rows, trials), *_edges(trials)]
    verdict = _verdict(problems, trials)
    write_bytes(folder / "report.md", _markdown(sections, closing, problems, verdict).encode())
    write_bytes(folder / "report.html", _page(sections, closing, problems, verdict, figures, rows).encode())
    return Report(folder / "report.html", folder / "report.md", figures, problems)


def _rows(folder: Path, name: str, score: str) -> list[Row]:
    needed = NEEDED | {score: (int, float)}
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            rows = read_journal(path)
            for line, row in enumerate(rows, start=1):
                if not isinstance(row, dict) or not all(isinstance(row.get(key), kind) for key, kind in needed.items()):
                    raise BrodmannError(f"{path} line {line} is not a row of a benchmark: remove that line.")
            return rows
    return []


def _stored(path: Path, fits: Callable[[Any], bool]) -> Any:
    """Returns what a file of the folder holds, an empty dictionary where there is no file."""
    if not path.is_file():
        return {}
    content = read_json(path)
    try:
        whole = fits(content)
    except (AttributeError, TypeError):
        whole = False
    if not whole:
        raise BrodmannError(f"{path} is damaged: remove it, and the report will say what cannot be checked.")
    return content


def _are_choices(content: Any) -> bool:
    chosen = [chosen for methods in content.values() for chosen in methods.values()]
    return all(isinstance(one.get(name), int | float) for one in chosen for name in SEARCHED)


def _is_plan(content: Any) -> bool:
    return all(isinstance(place, list) and len(place) == 5 for place in content.values())


@contextmanager
def _said_of(folder: Path) -> Iterator[None]:
    """Reports errors from computing with rows as damaged rows."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, BrodmannError):
            raise
        raise BrodmannError(
            f"{folder} holds damaged rows ({type(error).__name__}: {error}): remove them, and run the same `brodmann "
            "bench` again."
        ) from None


def _what_ran(rows: Sequence[Row], trials: Sequence[Row]) -> Table:
    lines = [
        [
            recipe,
            ", ".join(dict.fromkeys(row["dataset"] for row in own)),
            str(len(own)),
            _counts([len({row["seed"] for row in of_method}) for of_method in grouped(own, "method").values()]),
            f"{sum(row['wall_seconds'] for row in own) / 3600:.2f}",
            ", ".join(sorted({row["code"] for row in own})),
        ]
        for recipe, own in grouped([*rows, *trials], "recipe").items()
    ]
    columns = ["recipe", "data sets", "rows", "seeds", "core-hours", "code"]
    where = "Every row, with all its settings, is in rows.jsonl" + ("; trials.jsonl has the search." if trials else ".")
    return Table("What ran", columns, lines, where)


def _counts(numbers: Sequence[int]) -> str:
    """Returns the smallest and the largest number; one where they are equal."""
    return " to ".join(dict.fromkeys(str(end(numbers)) for end in (min, max)))


def _edges(trials: Sequence[Row]) -> list[Table]:
    """Says which searches found nothing worse on one side of their best; no table if there are none."""
    lines = [
        [f"{dataset}, {method}", f"{name} {value:g}", f"the {end} that was tried"]
        for dataset, method, name, value, end in at_edge(trials)
    ]
    note = "A better value may lie beyond the edge: to look there, use --search with more --trials and another --out."
    return [Table("Searches that ended at an edge", ["search", "chosen", ""], lines, note)] if lines else []


def _markdown(sections: Sequence[Section], closing: Sequence[Table], problems: Sequence[str], verdict: str) -> str:
    parts = ["# Benchmark", verdict]
    parts += [f"- {problem}" for problem in problems]
    for part in sections:
        parts.append(f"## {part.title}")
        parts += part.text
        parts += [table.markdown() for table in part.tables]
        parts += [f"![{plot.caption}](figures/{plot.name}.png)" for plot in part.plots]
    return "\n\n".join([*parts, *(table.markdown() for table in closing)]) + "\n"


def _verdict(problems: Sequence[str], trials: Sequence[Row]) -> str:
    if problems:
        return f"**The audit found {len(problems)} problems: these tables prove nothing until they are resolved.**"
    searched = "every choice of a search is the best of its trial log, " if trials else ""
    theirs = ", as do its trials" if trials else ""
    return (
        f"The audit found nothing: {searched}every test part was read once, all results of a recipe on a set come from "
        f"the same data and version of the code{theirs}, and none is missing."
    )


def _page(
    sections: Sequence[Section],
    closing: Sequence[Table],
    problems: Sequence[str],
    verdict: str,
    figures: Path,
    rows: Sequence[Row],
) -> str:
    links = "".join(f'<a href="#{part.recipe}">{html.escape(part.title)}</a>' for part in sections)
    kind = "bad" if problems else "good"
    found = "".join(f"<li>{html.escape(problem)}</li>" for problem in problems)
    body = [f'<div class="{kind}"><p>{html.escape(verdict.strip("*"))}</p><ul>{found}</ul></div>']
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
