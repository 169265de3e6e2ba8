"""The page: what a report says, as one HTML page that opens from disk, and as Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path

from ...runs import RunOptions
from ..case import Row
from ..stream_learners import READ_BY
from .sections import Section
from .tables import Table, grouped

VERSIONS = (
    "Rows of several versions of the code stand side by side. That contradicts nothing; whether they would be the same "
    "by one version, only what changed between them can tell. Which versions they are stands under What ran."
)
Found = dict[str, list[str]]
"""What the top of the page says -> the findings below it: of the audit, then of versions of the code."""


def as_markdown(sections: Sequence[Section], closing: Sequence[Table], found: Found) -> str:
    """Returns the report as Markdown, whose figures are files beside it."""
    parts = ["# Benchmark"]
    for said, findings in found.items():
        parts += [said, *(f"- {finding}" for finding in findings)]
    for part in sections:
        parts.append(f"## {part.title}")
        parts += part.text
        parts += [table.markdown() for table in part.tables]
        parts += [f"![{plot.caption}](figures/{plot.name}.png)" for plot in part.plots]
    return "\n\n".join([*parts, "## What ran", *(table.markdown() for table in closing)]) + "\n"


def as_page(
    sections: Sequence[Section],
    closing: Sequence[Table],
    found: Found,
    figures: Path,
    rows: Sequence[Row],
) -> str:
    """Returns the report as an HTML page, which holds its figures.

    Args:
        sections: What is said about each recipe.
        closing: Tables of what ran.
        found: What the audit found.
        figures: Folder of the figures.
        rows: Results, for the settings of every method.
    """
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
    drawing = path.read_text("utf-8")
    drawing = drawing[drawing.index("<svg") :]
    # Names inside a drawing are common to all drawings of a page: make them its own.
    drawing = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", drawing)
    return (
        f'<figure tabindex="0" role="img" aria-label="{html.escape(caption)}">{drawing}'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _settings(rows: Sequence[Row]) -> str:
    """Returns what every method sets, folded away: the options that it reads and that are not the defaults, details.

    All values are listed if rows of a method differ, as in the number of layers; of learners that read few options,
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
