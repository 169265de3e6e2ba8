"""Packing: which test samples were right, a bit each, as text that a row can hold."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

Correct = NDArray[np.bool_]


def pack(correct: Correct) -> str:
    """Packs which test samples were right into text: a bit each."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode()


def unpack(text: str, count: int) -> Correct:
    """Returns what `pack` was given, for ``count`` samples.

    Raises:
        ValueError: The text does not come from `pack`, or is of another number of samples.
    """
    bits = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    if len(bits) != -(-count // 8):
        raise ValueError(f"expected a bit for each of {count} samples, got {len(bits)} bytes")
    return np.unpackbits(bits, count=count).astype(bool)
