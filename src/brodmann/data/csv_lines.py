"""The lines of a table of text, read anew by every pass over them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ..errors import BrodmannError
from .directory import first_line

Line = tuple[int, list[str]]
"""Number of a line, and its cells."""


class Lines:
    """Lines of a table of text that are not empty.

    Each pass reads the file, so that memory holds what a pass keeps: all cells as text are 15 times the file.

    Args:
        path: The file.
        skipped: How many of the lines to leave out at the beginning. Default 0.

    Raises:
        BrodmannError: A pass comes to something that cannot be read, or to a quote that is never closed.
    """

    def __init__(self, path: Path, skipped: int = 0) -> None:
        self.path, self.skipped = path, skipped

    def __iter__(self) -> Iterator[Line]:
        try:
            yield from islice(_records(self.path), self.skipped, None)
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


def _records(path: Path) -> Iterator[Line]:
    """Yields lines. Only a strict reader tells of a quote that is never closed; it also stops at text beside one."""
    done = 0
    for strict in (True, False):
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=strict, skipinitialspace=True)  # or a quote after a blank quotes nothing
            try:
                for cells in islice(reader, done, None):
                    done += 1
                    if len(cells) > 1 or "".join(cells).strip():
                        yield reader.line_num, cells
                return
            except csv.Error as error:
                if not strict or "unexpected end" in str(error):
                    raise
