"""A user's data: a NumPy archive with four arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BrodmannError, MissingDataError
from .dataset import Dataset
from .directory import first_line

KEYS = ("x_train", "y_train", "x_test", "y_test")
"""The arrays that a data set's file holds."""


def load_npz(path: Path, name: str) -> Dataset:
    """Reads a data set from a ``.npz`` file, see `Dataset.from_arrays` for what the arrays may be.

    Args:
        path: The file. Pickled objects in it are refused, since reading them could run code.
        name: Name for messages and results.

    Returns:
        The data set.

    Raises:
        MissingDataError: There is no such file.
        BrodmannError: The file is not an archive, lacks an array or holds one that does not fit.
    """
    if not path.is_file():
        raise MissingDataError(f"Data set '{name}' was expected at {path}; no file is there. {put_there(path)}")
    x_train, y_train, x_test, y_test = read_arrays(path, KEYS)
    return Dataset.from_arrays(name, x_train, y_train, x_test, y_test)


def put_there(path: Path) -> str:
    """Says what to do for a file that only its owner can provide."""
    return f"Put a .npz file with {', '.join(KEYS)} at {path}."


def read_arrays(path: Path, keys: tuple[str, ...]) -> list[NDArray[Any]]:
    """Reads the named arrays of an archive; raises a `BrodmannError` if one is absent or unreadable."""
    with open_archive(path) as archive:
        absent = [key for key in keys if key not in archive.files]
        if absent:
            raise BrodmannError(
                f"{path} must hold the arrays {', '.join(keys)}; {', '.join(absent)} missing "
                f"(it holds {', '.join(archive.files) or 'nothing'}). Save it with numpy.savez."
            )
        return [read_array(archive, key, path) for key in keys]


def open_archive(path: Path) -> np.lib.npyio.NpzFile:
    """Opens an archive; raises a `BrodmannError` if the file is none."""
    try:
        archive = np.load(path, allow_pickle=False)
    except Exception as error:  # from whatever reads a damaged file
        raise BrodmannError(
            f"{path} cannot be read as a .npz archive ({why_unreadable(error)}). Save it with numpy.savez."
        ) from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise BrodmannError(f"{path} holds a single array instead of a .npz archive. Save it with numpy.savez.")
    return archive


def why_unreadable(error: Exception) -> str:
    """Says why NumPy cannot read a file: it takes every file that is none of its own for pickled objects."""
    return "it holds objects, or is not a NumPy file" if "pickle" in str(error) else first_line(error)


def read_array(archive: np.lib.npyio.NpzFile, key: str, path: Path) -> NDArray[Any]:
    """Reads one array; raises a `BrodmannError` for objects and damaged content."""
    try:
        array: NDArray[Any] = archive[key]
    except Exception as error:  # from zip, from what it is packed with, or from whatever reads a damaged header
        if "bject arrays" in str(error):
            raise BrodmannError(
                f"{key} in {path} must hold numbers or strings, got an object array. "
                "Convert it with astype before saving."
            ) from error
        raise BrodmannError(f"{key} in {path} cannot be read ({first_line(error)}). Save the file again.") from error
    if not isinstance(array, np.ndarray):
        raise BrodmannError(f"{key} in {path} is not an array. Save the file with numpy.savez.")
    return array
