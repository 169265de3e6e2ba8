"""Damage: which rows cannot be computed with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...errors import BrodmannError
from ..case import Row, row_name
from .audit import audit
from .sections import section_of

DAMAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""What computing with damaged rows raises."""


@contextmanager
def naming_damaged(folder: Path, rows: Sequence[Row]) -> Iterator[None]:
    """Reports errors from computing with rows as damaged rows, by the names of those that they may come from."""
    try:
        yield
    except DAMAGE as error:
        suspects = [f"{row_name(row)}, key {row['key']}" for row in _suspects(error, rows)]
        which = f": {'; '.join(suspects[:3])}{', and others' if len(suspects) > 3 else ''}" if suspects else ""
        raise BrodmannError(
            f"{folder} holds damaged rows ({type(error).__name__}: {error}){which}. Remove them, and run the same "
            "`brodmann bench` again."
        ) from None


def _suspects(error: Exception, rows: Sequence[Row]) -> list[Row]:
    """Returns the rows that raise when nothing else is there; if none does, those that lack the field of the error."""
    if alone := [row for row in rows if _raises(row)]:
        return alone
    name = error.args[0] if isinstance(error, KeyError) else None
    return [row for row in rows if name is not None and name not in row | row["options"] | row["detail"]]


def _raises(row: Row) -> bool:
    try:
        if row["trial"]:
            audit([], [row], {}, {})
        else:
            audit([row], [], {}, {})
            section_of(row["recipe"], [row])
    except DAMAGE:
        return True
    return False
