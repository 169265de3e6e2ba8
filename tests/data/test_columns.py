"""Tables of thousands of columns, such as those of genes."""

from __future__ import annotations

from pathlib import Path

import pytest

from brodmann.data import load
from brodmann.data.columns import places_of
from brodmann.errors import BrodmannError


class Name(str):
    """Counts how often names are compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_the_work_grows_with_the_number_of_columns_and_not_with_its_square() -> None:
    columns, names = ([Name(f"gene {number}") for number in range(500)] for _ in range(2))
    assert places_of(columns, names[::-1], "The frame") == [*range(499, -1, -1)]
    assert Name.compared < 20 * len(columns)


def test_messages_name_some_of_many_columns(tmp_path: Path) -> None:
    names = [f"gene {number:04}" for number in range(2000)]
    with pytest.raises(BrodmannError, match="has no column 'age', .* only gene 0000, .*, gene 0049 and 1950 others: "):
        places_of(["age"], names, "The frame")
    path = tmp_path / "t.csv"
    path.write_text("\n".join([",".join(names), *[",".join(["1"] * 2000)] * 5]))
    with pytest.raises(BrodmannError, match="Did you mean .*Choose one of: .*, gene 0049 and 1950 others.$"):
        load(path, target="gene 1")
