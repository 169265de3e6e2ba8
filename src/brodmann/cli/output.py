"""Where commands print."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.segment import Segments
from rich.table import Table

from ..files import finite_or_none


class Output(Console):
    """A console that raises if nobody reads any more, instead of ending the program as rich does."""

    def on_broken_pipe(self) -> None:
        """See `rich.console.Console`."""
        raise BrokenPipeError


OUT = Output(markup=False)  # paths may hold brackets


def say_json(content: Any) -> None:
    """Prints data as one line of JSON, for programs: null if a number is not finite, which JSON cannot hold."""
    print(json.dumps(finite_or_none(content), allow_nan=False))


def say(line: str, style: str | None = None) -> None:
    """Prints a line without wrapping it: its reader may be a program."""
    OUT.print(line, soft_wrap=True, highlight=False, style=style)


def say_table(table: Table) -> None:
    """Prints a table as wide as it is, in a narrow terminal too: rich would cut numbers and leave out columns."""
    wide = OUT.options.update(width=10_000)
    whole = OUT.options.update(width=OUT.measure(table, options=wide).maximum)
    OUT.print(Segments(OUT.render(table, whole)), end="", soft_wrap=True)
