"""Targets of a table of text: which are classes, which are real, and which are neither."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BrodmannError

TASKS = ("classification", "regression")
MISSING = ("", "na", "n/a", "nan", "null", "?", "<na>", "#n/a", "#na", "nat", "none")
"""What stands for a missing target."""
LARGEST = float(np.finfo(np.float32).max)
"""Largest number that a table may hold: numbers become float32."""


def column_targets(lines: list[tuple[int, str]], where: str, task: str | None) -> NDArray[Any]:
    """Returns real targets, (n,) float64, or classes, (n,) int64 or text.

    Args:
        lines: Number of each line, and its target.
        where: Name of the column for messages.
        task: One of `TASKS`, or None: then whole numbers and words are classes, and numbers with a point are real.

    Raises:
        BrodmannError: One is missing, or they are not of one kind, or not of the task; or they seem to be classes, and
            there are too many, or the first looks like part of a header; or they may be either, as 0.0, 1.0, 2.0 may.
    """
    cells = [cell for _, cell in lines]
    for line, cell in lines:
        if cell.lower() in MISSING:
            raise BrodmannError(
                f"No target in line {line} of {where}, got '{cell}'. Leave out examples without a target; if this is "
                "the name of a class, rename the class."
            )
    words = [(line, cell) for line, cell in lines if not is_number(cell)]
    if words and task == "regression":
        line, cell = words[0]
        raise BrodmannError(f"Expected a number as target in line {line} of {where}, got '{cell}'.")
    if words and len(words) < len(cells) and task is None:
        line, cell = words[0]
        header = " Line 1 is not taken as a header, since it holds numbers: if it is one, name the target by --target."
        raise BrodmannError(
            f"The targets in {where} are numbers, except for '{cell}' in line {line}: write all of them as numbers or "
            f"all as words, or name the task.{header if line == 1 else ''}"
        )
    whole = all(re.fullmatch(r"[+-]?\d+", cell) for cell in cells)
    distinct = len(set(cells))
    numbers = task is None and not words and not whole
    if numbers and 2 * distinct <= len(cells) and all(float(cell).is_integer() for cell in cells):
        raise BrodmannError(
            f"The targets in {where} are whole numbers written with a point, such as {cells[0]}, and may be classes or "
            "real numbers: name the task, classification or regression."
        )
    if task == "regression" or numbers:
        values = np.array([float(cell) for cell in cells])
        if (np.abs(values) > LARGEST).any():
            line, cell = lines[int(np.argmax(np.abs(values) > LARGEST))]
            raise BrodmannError(f"Expected a target of at most 3.4e38 in line {line} of {where}, got '{cell}'.")
        return values
    if task == "classification" and 2 * distinct > len(cells):
        raise BrodmannError(
            f"The targets in {where} are to be classes, but there are {distinct} of them in {len(cells)} examples: too "
            "few of each to learn from."
        )
    if task is None and distinct > 20 and 4 * distinct > len(cells):
        raise BrodmannError(
            f"The targets in {where} are {'words' if words else 'whole numbers'}, and so classes, but there are "
            f"{distinct} of them in {len(cells)} examples: name the task, classification"
            f"{'' if words else ' or regression'}."
        )
    if words and cells.count(cells[0]) == 1 and lines[0][0] == 1 and distinct > 2:
        raise BrodmannError(
            f"Line 1 is not taken as a header, since it holds numbers, but its '{cells[0]}' occurs nowhere else in "
            f"{where}: use names that are not numbers, name the target by --target, or leave that line out."
        )
    # 0123 is a code, and another one than 123; int64 surely holds 18 digits.
    if not whole or any(len(cell) > 18 or re.fullmatch(r"[+-]?0\d+", cell) for cell in cells):
        return np.array(cells)
    return np.array([int(cell) for cell in cells])


def is_number(cell: str) -> bool:
    """Whether a cell is a number as people write it."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python reads 1_0 as 10
