"""Tables of text: numbers separated by commas, one example a line."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brodmann.data.dataset import Dataset, with_fixed_test_part
from brodmann.data.directory import one_line
from brodmann.data.npz import put_there
from brodmann.errors import BrodmannError, MissingDataError

Array = NDArray[Any]
Line = tuple[int, list[str]]
"""Number of a line, and its cells."""


def load_csv(path: Path, name: str) -> Dataset:
    """Reads a data set from a ``.csv`` table whose last column is the target.

    Targets of whole numbers or words are classes, all others (12.5, or 12.0) are real. A first line without any
    number and without a name twice is a header. A fixed fifth (seed 0, with the class shares of the whole) is the test
    part: a table has none of its own.

    Args:
        path: The file.
        name: Name for messages and results.

    Returns:
        The data set.

    Raises:
        MissingDataError: If there is no such file.
        BrodmannError: If the file is unreadable, has fewer than two columns or five examples, an input is no number,
            or hardly a whole number among the targets comes twice.
    """
    if not path.is_file():
        raise MissingDataError(f"Data set '{name}' was expected at {path}; no file is there. Check the path.")
    lines = read_lines(path)
    width = len(lines[0][1])
    if width < 2 or len(lines) < 5:
        raise BrodmannError(
            f"{path} must hold at least five examples of two columns, the last of them the target, separated by "
            f"commas; {len(lines)} of {width} came. Add what is missing, or: {put_there(path.with_suffix('.npz'))}"
        )
    x = np.array([numbers(cells[:-1], width - 1, line, path) for line, cells in lines], dtype=np.float64)
    return with_fixed_test_part(name, x, _targets([cells[-1].strip() for _, cells in lines], path))


def read_lines(path: Path) -> list[Line]:
    """Returns the lines that are not empty, the header left out.

    Raises:
        BrodmannError: If the file cannot be read, or holds no example.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BrodmannError(
            f"{path} cannot be read as a table of text ({one_line(error)}). Save it as UTF-8."
        ) from error
    if lines and _is_header(lines[0][1]):
        lines = lines[1:]
    if not lines:
        raise BrodmannError(f"{path} must hold at least one example; it is empty. Add a row.")
    return lines


def numbers(cells: list[str], width: int, line: int, path: Path) -> list[float]:
    """Returns the cells of a line as numbers; raises a `BrodmannError` where they are not, or not so many."""
    if len(cells) != width:
        raise BrodmannError(
            f"{path} line {line} must have {width} values like the first; {len(cells)} came. Complete the line."
        )
    for column, cell in enumerate(cells, start=1):
        if not _is_number(cell):
            came = cell if len(cell) <= 40 else f"{cell[:37]}..."
            raise BrodmannError(
                f"{path} line {line} column {column} must be a number; '{came}' came. Write numbers only, separated by "
                "commas."
            )
    return [float(cell) for cell in cells]


def _targets(cells: list[str], path: Path) -> Array:
    if "" in cells:
        raise BrodmannError(f"{path} has examples without a target in the last column. Fill them or leave them out.")
    if not all(_is_number(cell) for cell in cells):
        return np.array(cells)
    if not all(re.fullmatch(r"[+-]?\d+", cell) for cell in cells):
        return np.array([float(cell) for cell in cells])
    distinct = len(set(cells))
    if distinct > 20 and 4 * distinct > len(cells):
        raise BrodmannError(
            f"The targets in the last column of {path} are whole numbers, and so classes, but there are {distinct} of "
            f"them in {len(cells)} examples. Write real targets with a decimal point, such as {cells[0]}.0."
        )
    return np.array([int(cell) for cell in cells])


def _is_header(cells: list[str]) -> bool:
    """Whether a first line names columns: no number, and no name twice, as what marks missing values would be."""
    parts = [part for cell in cells for part in re.split("[;\t]", cell)]  # tables that commas do not separate
    return not any(_is_number(part) for part in parts) and len(set(cells)) == len(cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python reads 1_0 as 10
