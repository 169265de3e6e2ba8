"""JSON: written atomically, with NumPy's and PyTorch's numbers as Python's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ..errors import BrodmannError
from .atomic import write_bytes


def as_json(value: Any) -> Any:
    """Returns a value as a JSON file gives it back, NumPy's numbers as Python's, tuples as lists.

    Raises:
        TypeError: It holds what JSON cannot.
    """
    return json.loads(json.dumps(value, default=as_number))


def finite_or_none(content: Any) -> Any:
    """Returns dictionaries and lists of data with None if a number is not finite, which JSON cannot hold."""
    if isinstance(content, dict):
        return {name: finite_or_none(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite_or_none(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def entry_as_json(row: str, name: str, value: Any) -> Any:
    """Returns an entry of a row, as `as_json` does of any value.

    Raises:
        BrodmannError: It holds what JSON cannot; the message names the row and the entry.
    """
    try:
        return as_json(value)
    except (TypeError, ValueError) as error:
        raise BrodmannError(
            f"{row} cannot hold its '{name}' ({error}): expected numbers, strings, lists and dictionaries. Use .item() "
            "or .tolist() for what is computed with tensors or arrays."
        ) from None


def as_number(value: Any) -> Any:
    """Returns a number of NumPy's or PyTorch's as one of Python's, for JSON, which knows no others.

    Raises:
        TypeError: It is anything else, as `json.dumps` expects of what it calls.
    """
    if getattr(value, "ndim", None) != 0 or not hasattr(value, "item"):
        raise TypeError(f"expected data that JSON can hold, got {type(value).__name__}")
    return value.item()


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically, indented for people."""
    write_bytes(path, (json.dumps(content, indent=2, default=as_number) + "\n").encode())


def read_json(path: Path, remedy: str = "") -> Any:
    """Reads JSON.

    Args:
        path: The file.
        remedy: What to do if it is damaged, a sentence for the message. Default: none, as nothing can be done.

    Raises:
        BrodmannError: The file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BrodmannError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError):
        message = f"{path} is not valid JSON: it is damaged, or was not written by brodmann. {remedy}"
        raise BrodmannError(message.rstrip()) from None
