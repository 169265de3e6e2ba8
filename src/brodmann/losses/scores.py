"""Scores: what says beside the loss how good outputs are, larger is better, and how it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .facts import facts_of

SCORES = ("accuracy", "label_accuracy", "r2")
"""Names of scores: the share of right classes or of single right labels, and the coefficient of determination."""


def name_of_score(loss: Any) -> str:
    """Returns what the share of right targets is called."""
    return "label_accuracy" if facts_of(loss).takes_labels else "accuracy"


def score_in(row: Mapping[str, Any], part: str) -> tuple[str, Any] | None:
    """Returns the name of a part's score in a row, and the score; None if the row has none.

    Args:
        row: Of an epoch, or of what came of a run.
        part: Such as ``"validation"``, whose score may be in the row as ``validation_accuracy``.
    """
    return next(((name, row[f"{part}_{name}"]) for name in SCORES if f"{part}_{name}" in row), None)
