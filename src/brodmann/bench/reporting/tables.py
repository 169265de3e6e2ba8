"""Tables, as Markdown and HTML."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..case import Row


@dataclass(frozen=True)
class Table:
    """A table of text; a cell may have several lines.

    Attributes:
        title: What it shows.
        columns: Heads.
        rows: Cells, as many per row as there are columns.
        note: How to read it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """Returns it as a Markdown table under its title."""
        lines = [f"**{self.title}**", "", _line(self.columns), _line(["---"] * len(self.columns))]
        lines += [_line(row) for row in self.rows]
        return "\n".join([*lines, "", self.note] if self.note else lines)

    def html(self) -> str:
        """Returns it as an HTML table; a click or Enter on a head sorts."""
        head = "".join(f'<th tabindex="0">{html.escape(cell)}</th>' for cell in self.columns)
        rows = ("".join(f"<td>{_lines(html.escape(str(cell)))}</td>" for cell in row) for row in self.rows)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        note = f'<p class="note">{html.escape(self.note)}</p>' if self.note else ""
        title = html.escape(self.title)
        return (
            f'<h3>{title}</h3><div class="wide"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>{note}"
        )


def grouped(rows: Iterable[Row], *names: str) -> dict[Any, list[Row]]:
    """Returns the rows under each value of a field, or each combination of several, in order of appearance."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        values = tuple(row[name] for name in names)
        groups[values if len(names) > 1 else values[0]].append(row)
    return dict(groups)


def spread(numbers: Sequence[int]) -> str:
    """Returns the smallest and the largest number; one number if they are equal."""
    return " to ".join(dict.fromkeys(str(end(numbers)) for end in (min, max)))


def crossed(
    title: str, rows: Sequence[Row], down: str, across: str, cell: Callable[[list[Row]], str], note: str = ""
) -> Table:
    """Returns a table with a row per value of one field and a column per value of another.

    Args:
        title: Title of the table.
        rows: Results.
        down: Field of the rows.
        across: Field of the columns.
        cell: Text of a cell from its results; a dash if there are none.
        note: How to read the table.
    """
    groups = grouped(rows, down, across)
    columns = list(dict.fromkeys(row[across] for row in rows))
    lines = [
        [str(name), *(cell(groups[name, column]) if (name, column) in groups else "-" for column in columns)]
        for name in dict.fromkeys(row[down] for row in rows)
    ]
    return Table(title, ["", *map(str, columns)], lines, note)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_lines(str(cell).replace("|", "/")) for cell in cells) + " |"


def _lines(text: str) -> str:
    return text.replace("\n", "<br>")
