"""Where commands print."""

from __future__ import annotations

from rich.console import Console


class Output(Console):
    """A console that tells who called it when nobody reads any more, where rich would leave the program."""

    def on_broken_pipe(self) -> None:
        """See `rich.console.Console`."""
        raise BrokenPipeError


OUT = Output(markup=False)  # paths may hold brackets


def say(line: str, style: str | None = None) -> None:
    """Prints a line, never broken: who reads it may be a program."""
    OUT.print(line, soft_wrap=True, highlight=False, style=style)
