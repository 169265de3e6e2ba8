"""Tables from OpenML through scikit-learn's loader."""

from __future__ import annotations

import http.client
import re
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from ..errors import BrodmannError
from .arrays import Array
from .dataset import TEST_FRACTION, Dataset, random_rows
from .directory import damaged, first_line, missing

PREFIX = "openml:"
"""What names of OpenML tables begin with."""


class _DownloadRefusedError(Exception):
    """The loader reached for the network while only the cache was allowed."""


class _NoNetwork(urllib.request.OpenerDirector):
    def open(self, fullurl: Any, data: Any = None, timeout: Any = None) -> NoReturn:
        raise _DownloadRefusedError("one of its files is not in the cache")


def table_place(name: str, directory: Path) -> Path:
    """Returns the first file that scikit-learn's cache needs for a table.

    Args:
        name: ``openml:NAME`` or ``openml:ID``.
        directory: The data directory; the cache is its folder ``openml``.

    Returns:
        The path of that file.

    Raises:
        BrodmannError: Nothing usable follows the prefix.
    """
    key = _key(name)
    listing = _cache(directory)
    return listing / f"{key}.gz" if key.isdigit() else listing / "list/data_name" / key / "limit/2/status/active/.gz"


def cached_tables(directory: Path) -> list[str]:
    """Lists the names and identifiers of tables in the cache."""
    listing = _cache(directory)
    names = sorted(path.parents[4].name for path in listing.glob("list/data_name/*/limit/2/status/active/.gz"))
    identifiers = sorted(
        (path.stem for path in listing.glob("*.gz") if path.stem.isdigit()), key=lambda number: int(number)
    )
    return [PREFIX + key for key in (*names, *identifiers)]


def load_table(name: str, directory: Path) -> Dataset:
    """Loads a table from scikit-learn's cache in the data directory, never from the network.

    Numeric columns stay raw, and missing values in them become the median of the training part (0 if that part has
    none). Categorical columns become one column of 0 and 1 per category that the file declares; a missing category is
    all zeros. Categorical targets are classes, numeric targets regression. The test part is a fixed fifth (seed 0),
    stratified for classes. pandas is not needed.

    Args:
        name: ``openml:NAME`` (the oldest active version) or ``openml:ID``.
        directory: The data directory.

    Returns:
        The data set, inputs ``(n, features)``.

    Raises:
        MissingDataError: The table is not in the cache.
        BrodmannError: It is incomplete, has no target, or has columns of free text.
    """
    place = table_place(name, directory)
    if not place.is_file():
        raise missing(name, place, directory)
    try:
        with _offline():
            table = _fetch(name, directory)
    except _DownloadRefusedError as error:
        raise damaged(name, place, directory, error) from error
    return _dataset(name, table)


def fetch_table(name: str, directory: Path) -> None:
    """Downloads a table into the cache.

    Raises:
        BrodmannError: The download fails or the table cannot be used.
    """
    home = directory / "openml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        _dataset(name, _fetch(name, directory))
    except (OSError, http.client.HTTPException) as error:
        raise BrodmannError(
            f"Data set '{name}' could not be fetched ({first_line(error)}). Check the network connection and that "
            f"{home} can be written."
        ) from error


def _key(name: str) -> str:
    key = name.removeprefix(PREFIX).lower()
    # The key becomes a part of a path and of an address.
    if not re.fullmatch(r"[\w.()+-]*\w[\w.()+-]*", key):
        raise BrodmannError(
            f"Expected a table as openml:NAME or openml:ID, such as openml:iris or openml:61, got '{name}'. Use the "
            "number if the name has other characters."
        )
    return key


def _cache(directory: Path) -> Path:
    return directory / "openml/openml/openml.org/api/v1/json/data"


def _fetch(name: str, directory: Path) -> Any:
    from sklearn.datasets import fetch_openml  # which takes a second

    key = _key(name)
    which: dict[str, Any] = {"data_id": int(key)} if key.isdigit() else {"name": key}
    try:
        with warnings.catch_warnings():
            # Warnings about retries and several versions; what matters about them is in our errors.
            warnings.simplefilter("ignore")
            # The pure Python parser: slower, but it does without pandas, and with or without pandas the arrays and so
            # the digest are the same.
            return fetch_openml(**which, data_home=str(directory / "openml"), as_frame=False, parser="liac-arff")
    except (ValueError, KeyError, TypeError) as error:
        raise BrodmannError(
            f"Data set '{name}' cannot be used ({first_line(error)}). "
            "Store it as .npz with x_train, y_train, x_test, y_test instead."
        ) from error


@contextmanager
def _offline() -> Iterator[None]:
    """Refuses every download inside: the loader has no switch for it, and a look at its cache is only a guess."""
    previous = getattr(urllib.request, "_opener", None)
    urllib.request.install_opener(_NoNetwork())
    try:
        yield
    except OSError as error:  # such as a cache that can only be read, with a file absent
        raise _DownloadRefusedError(error) from error
    finally:
        urllib.request.install_opener(cast(Any, previous))


def _dataset(name: str, table: Any) -> Dataset:
    if table.target is None:
        raise BrodmannError(f"Data set '{name}' has no target column at OpenML. Choose another version by its number.")
    x = np.asarray(table.data.toarray() if hasattr(table.data, "toarray") else table.data, dtype=np.float64)
    y, classes = _targets(name, np.asarray(table.target))
    train, test = random_rows(len(x), TEST_FRACTION, 0, None if classes is None else y)
    x = _encode(x, list(table.feature_names), dict(table.categories or {}), train)
    return Dataset.from_arrays(name, x[train], y[train], x[test], y[test], classes)


def _targets(name: str, target: Array) -> tuple[Array, tuple[str, ...] | None]:
    if target.dtype.kind == "f":
        return target, None
    if target.ndim != 1:
        raise BrodmannError(
            f"Data set '{name}' has {target.shape[1]} categorical targets; one was expected. Store it as .npz instead."
        )
    known, indices = np.unique(target.astype(str), return_inverse=True)
    if len(known) < 2:
        raise BrodmannError(f"Data set '{name}' has fewer than two classes. Choose another version by its number.")
    return indices.astype(np.int64), tuple(str(label) for label in known)


def _encode(x: Array, features: list[str], categories: dict[str, list[Any]], train: Array) -> Array:
    columns = [
        _one_hot(column, len(categories[feature])) if feature in categories else _fill(column, train)
        for feature, column in zip(features, x.T, strict=True)
    ]
    return np.concatenate(columns, axis=1) if columns else x


def _one_hot(column: Array, count: int) -> Array:
    chosen: Array = column[:, None] == np.arange(count)
    return chosen.astype(np.float32)


def _fill(column: Array, train: Array) -> Array:
    known = column[train][~np.isnan(column[train])]
    median = float(np.median(known)) if len(known) else 0.0
    return np.where(np.isnan(column), median, column)[:, None]
