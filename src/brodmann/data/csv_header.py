"""The header of a table of text: whether its first line names the columns, or is an example."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from ..errors import BrodmannError
from .csv_lines import Lines
from .csv_targets import MISSING, is_input, is_number

MANY = 10
"""So many numbers in a row that match names, or lines of nothing but decimals, are no accident."""


def has_header(lines: Lines, expected: Sequence[str] | None, target: str | None = None) -> bool:
    """Whether the first line names columns.

    Words do, if none occurs twice, as a mark of missing values would. So do the names that are expected, in any
    order, and numbers that count columns, or are years above other numbers. If numbers may be a sample as well, what
    is below decides: whole numbers above decimals name columns. Numbers and words together do if all names that are
    expected, or the target's, are among them, or if the numbers count columns and the words stand above numbers.

    Args:
        lines: The lines of the table, at least one.
        expected: Names of the training data's columns, empty if they have none; None if this is that data. One
            example too few does no harm there, but among samples every answer would belong to another one.
        target: Name of the target's column, if it was given.

    Raises:
        BrodmannError: It holds other whole numbers above nothing but decimals, as a header does.
    """
    whole = stripped(next(iter(lines))[1])
    if _are_words(whole) or whole == [*(expected or ())]:
        return True
    begin = 0 if whole[0] else 1  # an index has no name
    first = whole[begin:]
    below = (cells[begin:] for _, cells in islice(lines, 1, None) if len(cells) == len(whole))
    is_expected = bool(expected) and set(expected or ()) <= set(first)
    if all(map(_is_whole, first)):
        return _whole_numbers_name(first, below, str(lines.path), is_expected, expected is None)
    if is_expected and not any(map(is_number, expected or ())):
        return True
    return _are_numbers_and_words(first, below, is_expected or target in first, expected is None)


def is_enumeration(names: Sequence[str]) -> bool:
    """Whether names only count, from 0 or from 1."""
    return _counts_from(0, names) or _counts_from(1, names)


def stripped(cells: Sequence[str]) -> list[str]:
    """Returns cells without the blanks around them."""
    return [cell.strip() for cell in cells]


def _counts_from(begin: int, cells: Sequence[str]) -> bool:
    return [*cells] == [str(number) for number in range(begin, begin + len(cells))]


def _are_words(cells: list[str]) -> bool:
    parts = [part for cell in cells for part in re.split("[;\t]", cell)]  # tables with several separators
    return not any(map(is_input, parts)) and len(set(cells)) == len(cells)


def _whole_numbers_name(
    named: list[str], below: Iterator[list[str]], where: str, is_expected: bool, is_training: bool
) -> bool:
    """Whether whole numbers name the columns below them."""
    top = [*islice(below, MANY)]
    if not top or len(set(named)) < max(2, len(named)):
        return False
    several = len(named) > 2
    from_one = several and _counts_from(1, named)
    years = named == sorted(named) and all(map(_is_year, named)) and not any(map(_is_year, top[0]))
    if (several and (years or _counts_from(0, named))) or (from_one and is_training):
        return True
    decimals = _columns_of_decimals(chain(top, below), len(named))
    if is_expected or from_one:
        return bool(decimals) or len(named) >= MANY
    inputs = {*range(len(named) - is_training)}  # targets may be classes
    if several and len(top) == MANY and inputs <= decimals:
        raise BrodmannError(
            f"Line 1 of {where} holds whole numbers above decimals, as a header does: use names that are not numbers. "
            f"If it is an example, write its numbers with a point, such as {named[0]}.0."
        )
    return False


def _columns_of_decimals(below: Iterator[list[str]], width: int) -> set[int]:
    """Returns the places of the columns that hold nothing but decimals."""
    places = {*range(width)}
    for cells in below:
        places = {place for place in places if _is_decimal(cells[place])}
        if not places:
            break
    return places


def _are_numbers_and_words(named: list[str], below: Iterator[list[str]], is_known: bool, is_training: bool) -> bool:
    """Whether numbers and words name columns together, as when pandas adds a target to columns without names."""
    numbers, words = ([name for name in named if is_number(name) == kind] for kind in (True, False))
    top = [*islice(below, 1)]
    if not top or not words or len(set(named)) < len(named) or any(word.lower() in MISSING for word in words):
        return False
    if is_known:  # without a header the table would be refused
        places = [named.index(word) for word in words]
        return not any(cells[place].strip() == named[place] for cells in chain(top, below) for place in places)
    counts = is_training and len(numbers) > 2 and is_enumeration(numbers)
    return counts and all(is_number(cell) for cells in chain(top, below) for cell in cells)


def _is_year(cell: str) -> bool:
    return re.fullmatch(r"(19|20)\d\d", cell.strip()) is not None


def _is_whole(cell: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", cell.strip()) is not None


def _is_decimal(cell: str) -> bool:
    return is_number(cell) and not _is_whole(cell)
