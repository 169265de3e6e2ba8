"""Tables of text: numbers separated by commas, semicolons or tabs, one example a line."""

from __future__ import annotations

import contextlib
import math
import re
from array import array
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from ..errors import BrodmannError, MissingDataError, unknown_name
from .arrays import Array
from .csv_header import has_header, stripped
from .csv_lines import SEPARATORS, Line, Lines, lines_of
from .csv_targets import LARGEST, TASKS, TRUTH, column_targets, is_input, is_number
from .dataset import Dataset, with_fixed_test_part
from .npz import put_there

TABLES = (".csv", ".tsv")
"""Endings of their names; what separates values is seen in the file."""
NAMES_OF_AN_INDEX = ("", "Unnamed: 0")
"""The second is what pandas makes of the first."""


def load_csv(path: Path, name: str, target: str | None = None, task: str | None = None) -> Dataset:
    """Reads a data set from a ``.csv`` or ``.tsv`` table of one example a line.

    Values are separated by tabs or semicolons if these divide every line, else by commas. Beside semicolons, 1,5 is the
    number 1.5.

    A first line without numbers and without repeated names is a header, and so is one that counts columns, from 0 or
    from 1, beside words too if all below are numbers, or one of years above a line of other numbers. One that holds
    the name of the target, a word that does not occur below, is a header whatever else it holds. Other whole numbers
    above decimals are refused. Empty lines are skipped, but not lines of empty cells. Inputs are numbers, or true (1)
    and false (0). A fixed fifth (seed 0, with the class shares of the whole) is the test part: a table has none of its
    own.

    Args:
        path: The file.
        name: Name for messages and results.
        target: Name of the target's column. Default: the last one.
        task: ``"classification"`` or ``"regression"``. Default: targets of whole numbers or words are classes, all
            others (12.5, or 12.0) are real.

    Returns:
        The data set.

    Raises:
        MissingDataError: There is no such file.
        BrodmannError: The file is unreadable, has fewer than two columns or five examples, no column of that name,
            numbers with a comma that may divide thousands, an input is no finite number, the first column is an index
            without a name, some targets are numbers and some are not, a real target is no number, or the task is
            unknown. Or no task is named, targets look like classes, and there are more than 20 classes and fewer than
            four examples of each on average.
    """
    if task is not None and task not in TASKS:
        raise unknown_name("task", task, TASKS)
    if not path.is_file():
        raise MissingDataError(f"Data set '{name}' was expected at {path}; no file is there. Check the path.")
    names, lines = read_lines(path, target=target)
    if names and names[0] in NAMES_OF_AN_INDEX and _is_index([cells[0].strip() for _, cells in lines]):
        raise BrodmannError(
            f"The first column of {path} has no name and numbers the lines, as an index does, and the network would "
            "learn from it: leave it out (pandas: to_csv(..., index=False)), or give it a name."
        )
    width = lines.width
    if width < 2 or len([*islice(lines, 5)]) < 5:
        raise BrodmannError(
            f"{path} must hold at least five examples of two columns, the last of them the target, separated by "
            f"commas, semicolons or tabs, got {sum(1 for _ in lines)} of {width}. Add what is missing, or divide the "
            f"examples into parts yourself: {put_there(path.with_suffix('.npz'))}"
        )
    if target is None:
        learned, where = width - 1, f"the last column of {path}"
    else:
        learned, where = _column(target, names, path), f"column '{target}' of {path}"
    places = [place for place in range(width) if place != learned]
    hint = " If the target is not the last column, name it by --target." if names and target is None else ""
    x = numbers_of(lines, places, hint)
    # A line break inside a name would look like two answers in the lines of `predict`.
    y = column_targets(((line, " ".join(cells[learned].split())) for line, cells in lines), where, task)
    return replace(with_fixed_test_part(name, x, y), columns=names and tuple(names[place] for place in places))


def read_lines(
    path: Path, expected: Sequence[str] | None = None, target: str | None = None
) -> tuple[tuple[str, ...] | None, Lines]:
    """Returns the names of the columns, None if they have none, and the lines below.

    Args:
        path: The file.
        expected: Names of the columns of the training data, see `has_header`; default None: this is that data.
        target: Name of the target's column, if it was given.

    Raises:
        BrodmannError: The file cannot be read, holds no example, its header has another length, or its first line may
            be one.
    """
    lines = lines_of(path)
    names = None
    if lines.width and has_header(lines, expected, target):
        names = tuple(stripped(next(iter(lines))[1]))
        lines = lines.below()
    line, cells = next(iter(lines), (0, []))
    if not cells:
        raise BrodmannError(f"{path} must hold at least one example; it is empty. Add a row.")
    if names and len(cells) != len(names):
        raise BrodmannError(
            f"The header of {path} has {len(names)} names, but line {line} has {len(cells)} values: name every column, "
            "or none."
        )
    return names, lines


def numbers_of(lines: Lines, places: Sequence[int], hint: str = "") -> Array:
    """Returns the cells of lines at some places as numbers, (lines, places) float64: 1 for true, 0 for false.

    Args:
        lines: At least one line.
        places: Which cells of each.
        hint: What messages about a line end with. Default: nothing.

    Raises:
        BrodmannError: A line is not as long as the first, or one of the cells is not a number that is finite in
            float32.
    """
    width, numbers = lines.width, array("d")
    for line in lines:
        try:
            numbers.extend(_numbers_of_line(line, lines, width, places))
        except BrodmannError as error:
            raise BrodmannError(f"{error}{hint}") from None
    table = np.frombuffer(numbers).reshape(-1, len(places))
    if not (table.min() >= -LARGEST and table.max() <= LARGEST):  # NaN is neither
        row, place = np.argwhere(~(np.abs(table) <= LARGEST))[0]
        line = next(islice(lines, row, None))
        raise BrodmannError(f"{_no_number(line, lines, places[place])}{hint}")
    return table


def _numbers_of_line(line: Line, lines: Lines, width: int, places: Sequence[int]) -> list[float]:
    number, cells = line
    if len(cells) != width:
        raise BrodmannError(
            f"{lines.path} line {number} must have {width} values like the first, got {len(cells)}. Complete the line."
        )
    row = [cells[place] for place in places]
    if "_" not in "".join(row):  # Python reads 1_0 as 10
        try:
            return [*map(float, row)]
        except ValueError:
            with contextlib.suppress(ValueError):
                return [float(TRUTH.get(cell.strip().lower(), cell)) for cell in row]
    raise _no_number(line, lines, next(place for place in places if not is_input(cells[place])))


def _no_number(line: Line, lines: Lines, place: int) -> BrodmannError:
    number, cells = line
    cell = cells[place]
    kind = "number of at most 3.4e38" if is_number(cell) and math.isfinite(float(cell)) else "finite number"
    got = f"'{cell}'" if len(cell) <= 40 else f"'{cell[:37]}...'"
    if not cell.strip():
        got = "nothing: fill gaps first"
    header = " A header must not hold a number, or a name twice." if number == 1 else ""
    return BrodmannError(
        f"{lines.path} line {number} column {place + 1} must be a {kind}, got {got}. Write numbers only, separated "
        f"by {SEPARATORS[lines.separator]}.{header}"
    )


def _column(target: str, names: tuple[str, ...] | None, path: Path) -> int:
    """Returns the place of the target's column."""
    if names is None:
        raise BrodmannError(
            f"{path} has no header, so no column is named '{target}': give it a header, or leave the target out to use "
            "the last column."
        )
    if target not in names:
        raise unknown_name("column", target, names)
    return names.index(target)


def _is_index(cells: Sequence[str]) -> bool:
    """Whether cells are several whole numbers, each occurring once."""
    return 1 < len(set(cells)) == len(cells) and all(re.fullmatch(r"\d+", cell) for cell in cells)
