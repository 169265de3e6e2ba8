"""What a benchmark prints: its table, or its result as one JSON object."""

from __future__ import annotations

import json
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
