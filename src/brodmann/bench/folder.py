"""What the folder of a benchmark holds, checked as it is read: rows, trials, choices and the plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import BrodmannError
from ..files import read_json
from .case import Planned, Row
from .choices import Choices, from_stored
from .journal import read_journal, stored_journal
from .tuner import SEARCHED

ROWS, TRIAL_ROWS, CHOICES, PLAN = "rows.jsonl", "trials.jsonl", "choices.json", "plan.json"
SCORES = {ROWS: "test", TRIAL_ROWS: "validation"}
"""Journal -> the score that its rows hold."""
REMEDY = "Remove it: `brodmann bench` writes it again, and until then the report says what cannot be checked."
TEXTS = ("recipe", "protocol", "dataset", "method", "task", "key", "digest", "code")
NEEDED: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(TEXTS, str),
    **dict.fromkeys(("detail", "options"), dict),
    **dict.fromkeys(("seed", "test_reads", "jobs"), int),
    "trial": bool,
    "wall_seconds": (int, float),
}
"""Fields of every row, and their types."""


def read_rows(folder: Path, name: str) -> list[Row]:
    """Returns the rows of a journal, ``ROWS`` or ``TRIAL_ROWS``, also of a compressed one; none if there is no file.

    Raises:
        BrodmannError: The file is no journal, a line is not a row of a benchmark, or the file hides rows of a
            compressed one, as those did that earlier versions began beside it.
    """
    needed = NEEDED | {SCORES[name]: (int, float)}
    path = stored_journal(folder / name)
    rows = read_journal(path) if path.is_file() else []
    for line, row in enumerate(rows, start=1):
        if not all(isinstance(row.get(key), kind) for key, kind in needed.items()):
            raise BrodmannError(f"{path} line {line} is not a row of a benchmark: remove that line.")
    packed = folder / f"{name}.gz"
    if packed.is_file() and path != packed:
        hidden = len({row.get("key") for row in read_journal(packed)} - {row["key"] for row in rows})
        if hidden:
            raise BrodmannError(
                f"{path} hides {hidden} rows that only {packed} holds: move one of the two files to another folder."
            )
    return rows


def read_choices(folder: Path) -> Choices:
    """Returns the chosen settings; none if there is no file.

    Raises:
        BrodmannError: The file is damaged.
    """
    return from_stored(_stored(folder / CHOICES, _are_choices))


def read_plan(folder: Path) -> dict[str, Planned]:
    """Returns every row that there must be, by its key.

    Raises:
        BrodmannError: The file is damaged.
    """
    return {key: Planned(*fields) for key, fields in _stored(folder / PLAN, _is_plan).items()}


def _stored(path: Path, fits: Callable[[Any], bool]) -> Any:
    """Returns what a file of the folder holds, an empty dictionary if there is no file."""
    if not path.is_file():
        return {}
    content = read_json(path, REMEDY)
    try:
        whole = fits(content)
    except (AttributeError, TypeError):
        whole = False
    if not whole:
        raise BrodmannError(f"{path} is damaged. {REMEDY}")
    return content


def _are_choices(content: Any) -> bool:
    choices = from_stored(content)
    return all(isinstance(chosen.get(name), int | float) for chosen in choices.values() for name in SEARCHED)


def _is_plan(content: Any) -> bool:
    return all(isinstance(fields, list) and len(fields) == len(Planned._fields) for fields in content.values())
