"""Targets of a table of text: which are classes, which are real, and which are neither."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BrodmannError

TASKS = ("classification", "regression")
MISSING = ("", "na", "n/a", "nan", "null", "?", "<na>", "#n/a", "#na", "nat", "none")
"""What stands for a missing target."""
TRUTH = {"true": 1.0, "false": 0.0}
"""Numbers of what pandas and R write in columns of yes and no; among targets these are words, and so classes."""
LARGEST = float(np.finfo(np.float32).max)
"""Largest number that a table may hold: numbers become float32."""


def column_targets(lines: Iterable[tuple[int, str]], where: str, task: str | None) -> NDArray[Any]:
    """Returns real targets, (n,) float64, or classes, (n,) int64 or text.

    Args:
        lines: Number of each line, and its target.
        where: Name of the column for messages.
        task: One of `TASKS`, or None: then whole numbers and words are classes, and numbers with a point are real.

    Raises:
        BrodmannError: One is missing, or they are not of one kind, or not of the task; or they seem to be classes, and
            there are too many, or the first looks like part of a header; or they may be either, as 0.0, 1.0, 2.0 may.
    """
    column = _Column(lines, where, task)
    column.check_filled()
    column.check_one_kind()
    if column.is_real:
        column.check_real()
        return column.as_real()
    column.check_classes()
    return column.as_classes()


class _Column:
    """Targets of a table, and what tells which kind they are.

    Attributes:
        first_lines: Line of each distinct target where it comes first, in the order of the lines.
        lines_of: For each example, that line of its target.
    """

    def __init__(self, lines: Iterable[tuple[int, str]], where: str, task: str | None) -> None:
        self.where, self.task = where, task
        self.first_lines: dict[str, int] = {}
        self.lines_of = array("q", (self.first_lines.setdefault(cell, line) for line, cell in lines))
        self.words = [cell for cell in self.first_lines if not is_number(cell)]
        self.whole = all(re.fullmatch(r"[+-]?\d+", cell) for cell in self.first_lines)

    @property
    def is_real(self) -> bool:
        return self.task == "regression" or (self.task is None and not self.words and not self.whole)

    def check_filled(self) -> None:
        for cell, line in self.first_lines.items():
            if cell.lower() in MISSING:
                raise BrodmannError(
                    f"No target in line {line} of {self.where}, got '{cell}'. Leave out examples without a target; if "
                    "this is the name of a class, rename the class."
                )

    def check_one_kind(self) -> None:
        """Refuses words among numbers, unless all are to be classes."""
        if not self.words:
            return
        cell, line = self.words[0], self.first_lines[self.words[0]]
        if self.task == "regression":
            raise BrodmannError(f"Expected a number as target in line {line} of {self.where}, got '{cell}'.")
        if self.task is None and len(self.words) < len(self.first_lines):
            header = (
                " Line 1 is not taken as a header, since it holds numbers: if it is one, name the target by --target."
            )
            raise BrodmannError(
                f"The targets in {self.where} are numbers, except for '{cell}' in line {line}: write all of them as "
                f"numbers or all as words, or name the task.{header if line == 1 else ''}"
            )

    def check_real(self) -> None:
        """Refuses what may be classes, unless the task is named."""
        repeated = self.task is None and 2 * len(self.first_lines) <= len(self.lines_of)
        if repeated and all(float(cell).is_integer() for cell in self.first_lines):
            raise BrodmannError(
                f"The targets in {self.where} are whole numbers written with a point, such as "
                f"{next(iter(self.first_lines))}, and may be classes or real numbers: name the task, classification or "
                "regression."
            )

    def as_real(self) -> NDArray[Any]:
        values = np.array([float(cell) for cell in self.first_lines])
        if (np.abs(values) > LARGEST).any():
            cell, line = [*self.first_lines.items()][int(np.argmax(np.abs(values) > LARGEST))]
            raise BrodmannError(f"Expected a target of at most 3.4e38 in line {line} of {self.where}, got '{cell}'.")
        return self._of_each(values)

    def check_classes(self) -> None:
        """Refuses too many classes to learn, and a name above them that is taken for one."""
        words, distinct, count = bool(self.words), len(self.first_lines), len(self.lines_of)
        if self.task == "classification" and 2 * distinct > count:
            raise BrodmannError(
                f"The targets in {self.where} are to be classes, but there are {distinct} of them in {count} examples: "
                "too few of each to learn from."
            )
        if self.task is None and distinct > 20 and 4 * distinct > count:
            raise BrodmannError(
                f"The targets in {self.where} are {'words' if words else 'whole numbers'}, and so classes, but there "
                f"are {distinct} of them in {count} examples: name the task, classification"
                f"{'' if words else ' or regression'}."
            )
        first, line = next(iter(self.first_lines.items()))
        if words and line == 1 and self.lines_of.count(1) == 1 and distinct > 2:
            raise BrodmannError(
                f"Line 1 is not taken as a header, since it holds numbers, but its '{first}' occurs nowhere else in "
                f"{self.where}: use names that are not numbers, name the target by --target, or leave that line out."
            )

    def as_classes(self) -> NDArray[Any]:
        # 0123 is a code, and another one than 123; int64 surely holds 18 digits.
        if not self.whole or any(len(cell) > 18 or re.fullmatch(r"[+-]?0\d+", cell) for cell in self.first_lines):
            return self._of_each(np.array([*self.first_lines]))
        return self._of_each(np.array([int(cell) for cell in self.first_lines]))

    def _of_each(self, values: NDArray[Any]) -> NDArray[Any]:
        """Returns the value of each example, given those of the distinct targets."""
        return values[np.searchsorted([*self.first_lines.values()], self.lines_of)]


def is_number(cell: str) -> bool:
    """Whether a cell is a number as people write it."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python reads 1_0 as 10


def is_input(cell: str) -> bool:
    """Whether a cell may be an input: a number, true or false."""
    return is_number(cell) or cell.strip().lower() in TRUTH
