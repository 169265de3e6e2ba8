"""Journal: rows that are appended one by one and survive a kill at any moment."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from pathlib import Path

from ..errors import BrodmannError, cannot_write
from ..files import write_bytes
from .case import Row


class Journal:
    """A file of one JSON object per line. A line that a kill cut short does not count and is cut off.

    If only a compressed one (``.gz``) is there, it is read as it is. With the first new row it is unpacked, and the
    compressed file goes: a damaged line is then in only one file, and can be removed.
    """

    def __init__(self, path: Path) -> None:
        """Opens it; the file appears with the first row.

        Raises:
            BrodmannError: It is compressed and cannot be read, or a line that was cut short cannot be cut off.
        """
        self.path = path
        self._packed = path.with_name(f"{path.name}.gz")
        self._mend()

    def rows(self) -> list[Row]:
        """Returns all rows, in the order of their arrival."""
        stored = stored_journal(self.path)
        return read_journal(stored) if stored.is_file() else []

    def append(self, row: Row) -> None:
        """Adds a row; it is on the disk when this returns.

        Raises:
            BrodmannError: The file cannot be written, or the compressed one cannot be read.
        """
        try:
            self._unpack()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write((json.dumps(row, sort_keys=True) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def _unpack(self) -> None:
        if not self._packed.is_file():
            return
        content = _content(self._packed)
        if not self.path.is_file():  # a new file would hide all rows: readers prefer the one that is not compressed
            write_bytes(self.path, content)
        if self.path.read_bytes().startswith(content):  # no row is only in the compressed file
            self._packed.unlink()

    def _mend(self) -> None:
        stored = stored_journal(self.path)
        if not stored.is_file():
            return
        content = _content(stored)
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            write_bytes(stored, gzip.compress(whole) if stored == self._packed else whole)


def stored_journal(path: Path) -> Path:
    """Returns the file that holds a journal: the compressed one if there is no other; there may be none."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.is_file() and not path.is_file() else path


def read_journal(path: Path) -> list[Row]:
    """Reads a journal, also a compressed one (``.gz``).

    Raises:
        BrodmannError: The file is missing or no journal.
    """
    lines = _content(path).splitlines(keepends=True)
    return [_row_of(path, number, line) for number, line in enumerate(lines, start=1)]


def _content(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise BrodmannError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from None


def _row_of(path: Path, number: int, line: bytes) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if isinstance(row, dict):
        return row
    remedy = "remove that line."
    if not line.endswith(b"\n"):
        remedy = "if the benchmark was killed while writing it, run the same `brodmann bench` again to repair the file."
    raise BrodmannError(f"{path} line {number} is not a row of a benchmark: {remedy}")
