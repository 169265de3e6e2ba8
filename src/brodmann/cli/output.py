"""Where commands print."""

from __future__ import annotations

from rich.console import Console

OUT = Console(markup=False)  # paths may hold brackets


def say(line: str, style: str | None = None) -> None:
    """Prints a line, never broken: who reads it may be a program."""
    OUT.print(line, soft_wrap=True, highlight=False, style=style)
