"""Names of columns: by them, samples are brought into the order of the training data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import BrodmannError, listed
from .csv_header import is_enumeration


def names_of(samples: Any) -> tuple[str, ...] | None:
    """Returns the names of a data frame's columns; None for what has none."""
    if not hasattr(samples, "columns"):
        return None
    return tuple(map(str, getattr(samples, "column_names", samples.columns)))  # the columns of pyarrow are their values


def in_order(samples: Any, columns: Sequence[str] | None) -> Any:
    """Returns a data frame, or a row of one, with the columns of the training data in their order, if named."""
    if not hasattr(samples, "columns") and hasattr(samples, "index") and getattr(samples, "ndim", 0) == 1:
        labels = [str(label) for label in samples.index]
        row = not set(labels).isdisjoint(columns or ())
        places = places_of(columns, labels, "The row") if row else None
    else:
        places = places_of(columns, names_of(samples), "The frame")
    return samples if places is None else np.asarray(samples)[..., places]


def places_of(columns: Sequence[str] | None, names: Sequence[str] | None, where: str) -> list[int] | None:
    """Returns the places of the training data's columns among others; None if either has no names.

    Numbers that only count columns are names if all of them are there.

    Args:
        columns: Names of the training data's columns, if it had them.
        names: Names of the columns at hand, if they have any.
        where: What messages call these.

    Raises:
        BrodmannError: One is absent, or is there twice.
    """
    if not columns or not names:
        return None
    if not set(columns) <= set(names) and (is_enumeration(columns) or is_enumeration(names)):
        return None  # numbers that count columns are no names
    counts, places = Counter(names), {name: place for place, name in enumerate(names)}
    for column in columns:
        if column not in counts:
            raise BrodmannError(
                f"{where} has no column '{column}', which the training data has, only {listed(names)}: add it, or "
                "leave the names out if all columns are in the order of the training data."
            )
        if counts[column] > 1:
            raise BrodmannError(f"{where} has the column '{column}' {counts[column]} times: keep only one.")
    return [places[column] for column in columns]
