"""Raw inputs, of a file or in memory, for prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import BrodmannError, unknown_name
from ..files import expanded
from .arrays import Array, as_array, check_numeric, finite_tensor, is_too_wide
from .columns import in_order, places_of
from .csv_table import TABLES, numbers_of, read_lines
from .npz import open_archive, read_array, why_unreadable
from .preprocessing import Preprocessing


def load_inputs(path: str | Path, preprocessing: Preprocessing, columns: Sequence[str] | None = None) -> Tensor:
    """Reads raw inputs from a file and processes them as in training.

    Args:
        path: A ``.npz`` archive (array ``x``, else ``x_test``), a ``.npy`` array, or a ``.csv`` or ``.tsv``
            table of numbers, one example a line. A header is left out, see `load_csv`. Images may also come with the
            channels last and, for one channel, flattened or without the channel axis; a single example may come
            without the batch.
        preprocessing: What the training data went through.
        columns: Names of the training data's columns, if it had them. A table that names its own may have them in
            another order, and more of them.

    Returns:
        Processed inputs, float32 of shape ``(n, *preprocessing.output_shape)``.

    Raises:
        BrodmannError: The file is absent, of another kind, unreadable, empty, not numeric, not finite, its shape
            does not fit, images of several channels are flattened, or a column is missing.
    """
    path = expanded(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise unknown_name("kind of input file", path.suffix or path.name, _READERS)
    if not path.is_file():
        raise BrodmannError(f"A file with inputs was expected at {path}; no file is there. Check the path.")
    return _processed(reader(path, columns, math.prod(preprocessing.shape)), preprocessing, str(path))


def process_samples(samples: ArrayLike, preprocessing: Preprocessing, columns: Sequence[str] | None = None) -> Tensor:
    """Processes raw inputs in memory as in training, see `load_inputs`: numbers, tensors, a frame, or a row of one.

    Raises:
        BrodmannError: They are not such as the training data, or a frame lacks a column.
    """
    return _processed(as_array(in_order(samples, columns), "samples"), preprocessing)


def _processed(array: Array, preprocessing: Preprocessing, label: str = "x") -> Tensor:
    """Processes raw inputs, (n, *preprocessing.shape), as in training; ``label`` is what errors call them."""
    check_numeric(array, label)
    if array.size == 0:
        raise BrodmannError(f"{label} must hold at least one example; it is empty. Add a row.")
    rows = _arranged(array, preprocessing.shape, label)
    axes = (-1, *(1 for _ in preprocessing.shape[1:]))
    mean, scale = (np.array(values).reshape(axes) for values in (preprocessing.mean, preprocessing.scale))
    wide = is_too_wide(rows, scale)
    if wide:  # what was constant in training, whose scale is 1, may have been rounded there: it is 0 none the less
        with np.errstate(over="ignore"):  # what is not finite is refused below
            same = rows.astype(np.float32) == mean.astype(np.float32)
        rows = np.where((scale == 1) & same, mean, rows)
    return preprocessing(finite_tensor(rows, label, wide=wide))


def _arranged(array: Array, shape: tuple[int, ...], label: str) -> Array:
    """Brings the array to ``(n, *shape)`` in the first way that fits, as several examples or else as one."""
    for rows in (array, array[None]):
        given = rows.shape[1:]
        if given == shape:
            return rows
        if len(shape) == 1:
            continue
        channels, *plane = shape
        if given == (*plane, channels):
            return np.moveaxis(rows, 3, 1)
        flattened = given == (math.prod(shape),)
        if channels == 1 and (flattened or given == tuple(plane)):
            return rows.reshape(len(rows), *shape)
        if flattened:  # a guess of their order would be wrong in silence
            raise BrodmannError(
                f"{label} holds images of {channels} channels as flat rows, which do not tell whether channels come "
                f"first or last: give them as a .npy or .npz array, (n, {', '.join(map(str, shape))}) or "
                f"(n, {', '.join(map(str, (*plane, channels)))})."
            )
    raise BrodmannError(
        f"{label} must hold inputs of shape (n, {', '.join(map(str, shape))}), got {array.shape}. "
        "Use inputs like those of the training data, without the targets."
    )


def _read_npz(path: Path, *_: Any) -> Array:
    with open_archive(path) as archive:
        key = next((key for key in ("x", "x_test") if key in archive.files), None)
        if key is None:
            raise BrodmannError(
                f"{path} must hold the array x or x_test; it holds {', '.join(archive.files) or 'nothing'}. "
                "Save it with numpy.savez(file, x=inputs)."
            )
        return read_array(archive, key, path)


def _read_npy(path: Path, *_: Any) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # from whatever reads a damaged header, such as Python's own tokenizer
        raise BrodmannError(
            f"{path} cannot be read as a .npy array of numbers ({why_unreadable(error)}). Save it with numpy.save."
        ) from error
    if not isinstance(array, np.ndarray):
        raise BrodmannError(f"{path} holds an archive instead of a .npy array. Name it .npz.")
    return array


def _read_csv(path: Path, columns: Sequence[str] | None, features: int) -> Array:
    """Reads a table; if it and the training data name their columns, those of the training data in their order."""
    names, lines = read_lines(path, columns or ())
    width = lines.width
    places: Sequence[int] | None = places_of(columns, names, str(path))
    if places is None:
        places = range(width)
        if width == features + 1:
            raise BrodmannError(
                f"{path} has {width} columns, but the network learned from {features}: leave the targets out."
            )
    return numbers_of(lines, places)


_READERS: dict[str, Callable[[Path, Sequence[str] | None, int], Array]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    **dict.fromkeys(TABLES, _read_csv),
}
