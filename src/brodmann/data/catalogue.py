"""All data sets: what there is, loading and fetching by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BrodmannError, unknown_name
from ..files import expanded
from .csv_table import TABLES, load_csv
from .dataset import Dataset, with_fixed_test_part
from .directory import data_directory
from .images import IMAGE_SETS, fetch_images, image_place, images_present, load_images
from .npz import load_npz, put_there
from .tables import PREFIX, cached_tables, fetch_table, load_table, table_place

BUNDLED = "digits"
"""The one data set that is always there."""
TEXT = (".txt", ".tab", ".data", ".dat", ".gz")
"""File endings of what is mostly a table of text."""


@dataclass(frozen=True)
class DatasetRow:
    """One line of the list of data sets.

    Attributes:
        name: What `load` takes.
        kind: ``"bundled"``, ``"images"``, ``"npz"``, ``"csv"``, ``"tsv"`` or ``"openml"``.
        where: Path of its first file, even if that is still to come; ``"scikit-learn"`` for the bundled one.
        present: Whether it can be loaded without fetching.
    """

    name: str
    kind: str
    where: str
    present: bool


def load(
    name: str | Path, data_dir: str | Path | None = None, *, target: str | None = None, task: str | None = None
) -> Dataset:
    """Loads a data set that is on this machine; downloads nothing.

    The names, in the order in which they are looked up:

    - ``digits``: 1797 images of 8x8 pixels that come with scikit-learn, values 0 to 16. It has no official test part;
      a fixed stratified fifth (seed 0) serves.
    - ``path/to/file.npz``: a file of your own, looked up as given, then inside the data directory.
    - ``path/to/file.csv``, ``path/to/file.tsv``: a table, looked up likewise, see `load_csv`.
    - ``openml:NAME`` or ``openml:ID``: a table in scikit-learn's OpenML cache, the folder ``openml`` of the data
      directory.
    - ``NAME``: the file ``NAME.npz`` in the data directory; it comes before an image set of the same name.
    - ``mnist``, ``fashion-mnist``, ``kmnist``, ``emnist`` (balanced), ``usps``, ``semeion``, ``svhn``, ``cifar10``,
      ``cifar100``, ``stl10``: image sets in torchvision's layout in the data directory. The first four do without
      torchvision.

    Args:
        name: The name or path.
        data_dir: The data directory. Default ``None``: see `data_directory`.
        target: Name of the target's column in a table of text. Default: the last one.
        task: Task of a table of text, ``"classification"`` or ``"regression"``. Default: what its targets look like.

    Returns:
        The data set with raw values.

    Raises:
        MissingDataError: The data is not there; the message has the expected path and what to do.
        BrodmannError: The name is unknown, a file is damaged, torchvision is needed and absent, or something other
            than a table is given a target or a task.
    """
    name = _as_name(name)
    if name.lower().endswith(TABLES):
        return load_csv(file_of(name, data_dir), name, target, task)
    if target is not None or task is not None:
        raise BrodmannError(f"A target and a task apply only to tables of text (.csv, .tsv), and '{name}' is not one.")
    if name == BUNDLED:
        return _load_digits()
    if name.lower().endswith(".npz"):
        return load_npz(file_of(name, data_dir), name)
    directory = data_directory(data_dir)
    if name.startswith(PREFIX):
        return load_table(name, directory)
    own = _own_file(name, directory)
    if own is not None:
        return load_npz(own, name)
    if name in IMAGE_SETS:
        return load_images(name, directory)
    raise _unknown(name, directory)


def fetch(name: str | Path, data_dir: str | Path | None = None) -> Path:
    """Downloads a data set into the data directory; the only function that uses the network.

    Does nothing if the data set is there already.

    Args:
        name: An image set or ``openml:NAME`` or ``openml:ID``.
        data_dir: The data directory, created if absent. Default ``None``: see `data_directory`.

    Returns:
        Path of the first file of the data set.

    Raises:
        BrodmannError: There is nothing to fetch for this name (the message says why), the name is unknown,
            torchvision is needed and absent, or the download fails.
    """
    name, directory = _as_name(name), data_directory(data_dir)
    if name == BUNDLED:
        raise BrodmannError(f"Nothing to fetch for '{name}': it comes with scikit-learn. Use it as it is.")
    if is_own_file(name):
        if (there := file_of(name, data_dir)).is_file():
            raise BrodmannError(f"Nothing to fetch for '{name}': it is a file of your own, {there}. Use it as it is.")
        where = directory / expanded(name)
        hint = put_there(where) if name.lower().endswith(".npz") else f"Put it at {where}."
        raise BrodmannError(f"Nothing to fetch for '{name}': it is a file of your own. {hint}")
    if name.startswith(PREFIX):
        fetch_table(name, directory)
        return table_place(name, directory)
    own = _own_file(name, directory)
    if own is not None:
        raise BrodmannError(f"Nothing to fetch for '{name}': {own} is there and takes precedence. Use it as it is.")
    if name not in IMAGE_SETS:
        raise _unknown(name, directory)
    if not images_present(name, directory):
        fetch_images(name, directory)
    return image_place(name, directory)


def available(data_dir: str | Path | None = None) -> list[DatasetRow]:
    """Lists the data sets: bundled, image sets, and what lies in the data directory; reads no data.

    Args:
        data_dir: The data directory. Default ``None``: see `data_directory`.

    Returns:
        One row per data set. Tables of OpenML are listed once they are in the cache.
    """
    directory = data_directory(data_dir)
    own = _own_files(directory)
    rows = [DatasetRow(BUNDLED, "bundled", "scikit-learn", True)]
    rows += [
        DatasetRow(name, "images", str(image_place(name, directory)), images_present(name, directory))
        for name in IMAGE_SETS
        if name not in own
    ]
    rows += [DatasetRow(name, "npz", str(path), True) for name, path in own.items()]
    rows += [
        DatasetRow(path.name, ending[1:], str(path), True) for ending in TABLES for path in _files(directory, ending)
    ]
    rows += [DatasetRow(name, "openml", str(table_place(name, directory)), True) for name in cached_tables(directory)]
    return rows


def is_own_file(name: str) -> bool:
    """Whether a name is the path of a user's file, there or not."""
    return name.lower().endswith((".npz", *TABLES))


def file_of(name: str, data_dir: str | Path | None) -> Path:
    """Returns the path of a user's file: as given, else inside the data directory, if it is there."""
    path = expanded(name)
    if path.is_file():
        return path
    there = data_directory(data_dir) / path
    return there if there.is_file() else path


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits  # which takes a second

    bunch = load_digits()
    classes = tuple(str(label) for label in bunch.target_names)
    return with_fixed_test_part(BUNDLED, np.asarray(bunch.images), np.asarray(bunch.target), classes)


def _as_name(name: Any) -> str:
    """Returns a name, or a path, as text."""
    if not isinstance(name, str | Path):
        raise BrodmannError(f"Expected the name of a data set, or the path of a file, got {name!r}.")
    return str(name)


def _own_files(directory: Path) -> dict[str, Path]:
    """Returns the .npz files by the name that loads them; ``digits`` is taken, so that file keeps its ending."""
    return {path.name if path.stem == BUNDLED else path.stem: path for path in _files(directory, ".npz")}


def _files(directory: Path, ending: str) -> list[Path]:
    """Returns the files in a folder that have an ending, in small or capital letters, by name."""
    return sorted(path for path in directory.glob("*") if path.name.lower().endswith(ending) and path.is_file())


def _own_file(name: str, directory: Path) -> Path | None:
    return _own_files(directory).get(name)


def _unknown(name: str, directory: Path) -> BrodmannError:
    if Path(name).suffix and Path(name).is_file():
        table = "Save it as a .csv table, values separated by commas. " if Path(name).suffix in TEXT else ""
        return BrodmannError(f"{name} is not a data set: {table}{put_there(Path(name).with_suffix('.npz'))}")
    known = unknown_name("data set", name, {row.name for row in available(directory)})
    nowhere = "" if directory.is_dir() else f" The folder of the data, {directory}, does not exist."
    own = "or an .npz, .csv or .tsv file by its path"
    return BrodmannError(f"{known} Or name a table as {PREFIX}NAME, {own}.{nowhere}")
