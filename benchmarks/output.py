"""Where a benchmark's result goes: printed as its table or as one JSON object, or into its place in a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

Result = dict[str, Any]


def markdown(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a Markdown table."""
    head = list(columns)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def show(result: Result, table: Callable[[Result], str], *, as_json: bool) -> None:
    """Prints a result on one line, or as the table that it makes."""
    if as_json:
        print(json.dumps(result))
    else:
        Console(width=140).print(Markdown(table(result)))


def put(page: str, name: str, text: str) -> str:
    """Returns the page with the text in its place."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        sys.exit(f"The page has no place for {name}: expected {begin.strip()} and {end.strip()} around it.")
    return before + begin + text + end + after
