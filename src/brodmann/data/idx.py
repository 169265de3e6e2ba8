"""Reads the idx files of MNIST and its relatives."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BrodmannError

_UNSIGNED_BYTE = 8


def find_idx(path: Path) -> Path | None:
    """Returns an idx file, plain or with ``.gz`` added; the plain one comes first since it reads faster."""
    compressed = path.with_name(path.name + ".gz")
    return next((candidate for candidate in (path, compressed) if candidate.is_file()), None)


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Reads one idx file of unsigned bytes.

    Args:
        path: The file; a name that ends in ``.gz`` is decompressed.
        axes: How many axes the array must have: 3 for images, 1 for labels.

    Returns:
        The array, such as ``(n, height, width)``.

    Raises:
        BrodmannError: The content is not such a file or is cut short.
    """
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            content: bytes = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise BrodmannError(f"{path} cannot be read ({error}). Remove it and fetch the data set again.") from error
    header = 4 + 4 * axes
    if len(content) < header or content[:4] != bytes((0, 0, _UNSIGNED_BYTE, axes)):
        raise BrodmannError(
            f"{path} must be an idx file of unsigned bytes with {axes} axes; it begins with '{content[:4].hex()}'. "
            "Remove it and fetch the data set again."
        )
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=axes, offset=4))
    if len(content) - header != math.prod(shape):
        raise BrodmannError(
            f"{path} must hold {math.prod(shape)} values for shape {shape}, got {len(content) - header}. "
            "Remove it and fetch the data set again."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
