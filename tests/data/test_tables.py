"""Tables of OpenML from scikit-learn's cache."""

from __future__ import annotations

import shutil
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brodmann.data import fetch, load
from brodmann.errors import BrodmannError

from .sources import MIXED, MIXED_ROWS, write_table


def test_table_columns_are_filled_and_one_hot(tmp_path: Path) -> None:
    write_table(tmp_path, MIXED, "kind", MIXED_ROWS)
    dataset = load("openml:small", tmp_path)
    assert dataset.classes == ("no", "yes")
    assert (dataset.x_train.shape, dataset.x_test.shape) == ((16, 6), (4, 6))
    assert Counter(dataset.y_test.tolist()) == {0: 2, 1: 2}
    median = np.median([100 + i for i in dataset.x_train[:, 0].int().tolist() if i % 5])
    for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)):
        for (row, *values), label in zip(x.tolist(), y.tolist(), strict=True):
            size = median if row % 5 == 0 else 100 + row
            colour = [0, 0, 0] if row == 3 else [[1, 0, 0], [0, 1, 0]][int(row) % 2]
            assert (values, label) == ([size, *colour, 0], row % 2)
    assert load("openml:7", tmp_path).digest == dataset.digest


def test_numeric_target_is_regression(tmp_path: Path) -> None:
    write_table(tmp_path, [("a", "REAL"), ("b", "REAL")], "b", [f"{i},{i / 2}" for i in range(10)])
    dataset = load("openml:7", tmp_path)
    assert (dataset.classes, dataset.outputs, len(dataset.x_test)) == (None, 1, 2)
    assert torch.equal(dataset.y_train, dataset.x_train / 2)


@pytest.mark.parametrize(
    ("columns", "target", "rows", "message"),
    [
        ([("a", "REAL"), ("b", "REAL")], "none", ["1,2"] * 10, "has no target column"),
        ([("a", "STRING"), ("b", "REAL")], "b", ["x,2"] * 10, "cannot be used .STRING attributes"),
        ([("a", "REAL"), ("b", "{x,y}")], "b", ["1,x"] * 10, "fewer than two classes"),
    ],
)
def test_tables_that_cannot_be_used(
    tmp_path: Path, columns: list[tuple[str, str]], target: str, rows: list[str], message: str
) -> None:
    write_table(tmp_path, columns, target, rows)
    with pytest.raises(BrodmannError, match=message):
        load("openml:7", tmp_path)


@pytest.mark.parametrize("absent", ["api/v1/json/data/features/7.gz", "data/v1/download/7*"])
def test_half_cached_table_is_missing_and_not_downloaded(tmp_path: Path, absent: str) -> None:
    write_table(tmp_path, MIXED, "kind", MIXED_ROWS)
    for path in (tmp_path / "openml/openml/openml.org").glob(absent):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    opener = urllib.request.build_opener()
    urllib.request.install_opener(opener)
    try:
        with pytest.raises(BrodmannError, match="incomplete or damaged.* brodmann data fetch openml:7 --data-dir"):
            load("openml:7", tmp_path)
        # The program around us keeps its own way to the network.
        assert urllib.request._opener is opener  # type: ignore[attr-defined]
    finally:
        urllib.request._opener = None  # type: ignore[attr-defined]


def test_fetch_of_a_table_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", refuse)
    with pytest.raises(BrodmannError, match=r"'openml:iris' could not be fetched \(no route\)"):
        fetch("openml:iris", tmp_path)


@pytest.mark.parametrize("name", ["openml:", "openml:..", "openml:../x", "openml:a b"])
def test_table_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(BrodmannError, match="Expected a table as openml:NAME or openml:ID"):
        load(name, tmp_path)
