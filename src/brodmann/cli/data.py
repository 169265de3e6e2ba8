"""`brodmann data list` and `brodmann data fetch`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.table import Table

from ..data import available, fetch
from .output import say, say_table


@dataclass(frozen=True)
class DataList:
    """Lists data sets and whether they are on this machine."""

    data_dir: str | None = None
    """Folder of the data."""

    def run(self) -> None:
        """Prints a table."""
        table = Table("name", "kind", "here", "where")
        for row in available(self.data_dir):
            table.add_row(row.name, row.kind, "yes" if row.present else "no", str(row.where))
        say_table(table)


@dataclass(frozen=True)
class DataFetch:
    """Downloads a data set. No other command ever downloads."""

    name: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DATASET")]]
    """Name of the data set."""
    data_dir: str | None = None
    """Folder to put it into."""

    def run(self) -> None:
        """Downloads."""
        say(f"{self.name} is in {fetch(self.name, self.data_dir)}")


DataCommand = Annotated[DataList, tyro.conf.subcommand("list")] | Annotated[DataFetch, tyro.conf.subcommand("fetch")]


@dataclass(frozen=True)
class Data:
    """Lists and fetches data sets."""

    command: tyro.conf.OmitSubcommandPrefixes[DataCommand]

    def run(self) -> None:
        """Runs the chosen command."""
        self.command.run()
