"""Looks for what makes a table a lie: choices not borne out by the trials, test parts read twice, other data, gaps.

An altered accuracy goes unnoticed if the answers to the samples, from which it is computed, were altered with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...case import Planned, Row
from ...choices import Choices
from .evidence import evidence_problems, packaged
from .rows import row_problems
from .tables import table_problems
from .versions import version_notes


def audit(rows: Sequence[Row], trials: Sequence[Row], choices: Choices, plan: dict[str, Planned]) -> list[str]:
    """Returns what is wrong, a sentence each; nothing if all is well. What `version_notes` says is apart from it.

    Args:
        rows: Results.
        trials: Trials of the search.
        choices: The settings that the results were to use.
        plan: Every row that there must be, by its key.
    """
    return [
        *evidence_problems(rows, trials, choices),
        *row_problems(rows, trials),
        *table_problems(rows, choices, plan),
    ]


__all__ = ["audit", "packaged", "version_notes"]
