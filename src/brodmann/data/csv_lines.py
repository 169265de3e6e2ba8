"""The lines of a table of text, and what separates their cells; every pass reads them anew."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ..errors import BrodmannError
from .csv_targets import is_number
from .directory import first_line

Line = tuple[int, list[str]]
"""Number of a line, and its cells."""
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What may separate cells, and its name in messages."""


def lines_of(path: Path) -> Lines:
    """Returns the lines of a table: separated by tabs or semicolons if these divide every line, else by commas.

    Beside semicolons, 1,5 is a decimal: so spreadsheets write it where a comma is no separator, and R reads it
    (``read.csv2``).

    Raises:
        BrodmannError: The file cannot be read, or has numbers with a comma that may not be decimals.
    """
    for separator in ("\t", ";"):  # a word holds a tab more seldom than a semicolon
        lines = Lines(path, separator)
        if lines.width and all(len(cells) > 1 for _, cells in lines):
            return Lines(path, separator, decimal_commas=_has_decimal_commas(lines))
    return Lines(path)


def _has_decimal_commas(lines: Lines) -> bool:
    """Whether numbers are written with commas. Beside tabs, or if some have points, these may divide thousands."""
    point, comma = (
        next((cell for _, cells in lines for cell in cells if mark in cell and is_number(_with_point(cell))), None)
        for mark in ".,"
    )
    if comma and (point or lines.separator == "\t"):
        beside = f", and with a point, such as '{point}'" if point else ""
        raise BrodmannError(
            f"{lines.path} holds numbers with a comma, such as '{comma}'{beside}: that may divide decimals or "
            "thousands. Write decimals with points, and nothing between thousands."
        )
    return comma is not None


class Lines:
    """Lines of a table of text that are not empty.

    Each pass reads the file, so that memory holds what a pass keeps: all cells as text are 15 times the file.

    Args:
        path: The file.
        separator: What separates cells. Default: a comma.
        decimal_commas: Whether a number such as 1,5 becomes 1.5. Default: no.
        skipped: How many of the lines to leave out at the beginning. Default 0.

    Raises:
        BrodmannError: A pass comes to something that cannot be read, or to a quote that is never closed.
    """

    def __init__(self, path: Path, separator: str = ",", *, decimal_commas: bool = False, skipped: int = 0) -> None:
        self.path, self.separator, self.decimal_commas, self.skipped = path, separator, decimal_commas, skipped

    def __iter__(self) -> Iterator[Line]:
        try:
            for line, cells in islice(_records(self.path, self.separator), self.skipped, None):
                yield line, [*map(_with_point, cells)] if self.decimal_commas else cells
        except (OSError, UnicodeDecodeError) as error:
            raise BrodmannError(
                f"{self.path} cannot be read as a table of text ({first_line(error)}). Save it as UTF-8."
            ) from error
        except csv.Error as error:
            raise BrodmannError(
                f"{self.path} cannot be read as a table ({first_line(error)}). Look for a stray quote."
            ) from error

    @property
    def width(self) -> int:
        """Number of cells of the first line, 0 without lines."""
        return next((len(cells) for _, cells in self), 0)

    def below(self) -> Lines:
        """Returns the lines without the first."""
        return Lines(self.path, self.separator, decimal_commas=self.decimal_commas, skipped=self.skipped + 1)


def _with_point(cell: str) -> str:
    """Returns a number with a decimal comma as one with a point, and any other cell as it is."""
    number = cell.replace(",", ".")
    return number if number != cell and is_number(number) else cell


def _records(path: Path, separator: str) -> Iterator[Line]:
    """Yields lines. Only a strict reader tells of a quote that is never closed; it also stops at text beside one."""
    done = 0
    for strict in (True, False):
        with path.open(newline="", encoding="utf-8-sig") as file:
            # Unless blanks are skipped, a quote after one quotes nothing.
            reader = csv.reader(file, delimiter=separator, strict=strict, skipinitialspace=True)
            try:
                for cells in islice(reader, done, None):
                    done += 1
                    if len(cells) > 1 or "".join(cells).strip():
                        yield reader.line_num, cells
                return
            except csv.Error as error:
                if not strict or "unexpected end" in str(error):
                    raise
