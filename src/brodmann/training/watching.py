"""Watching: in some steps of a training errors are looked at, and units that stay silent are reported."""

from __future__ import annotations

import math
from typing import Any

from ..errors import warn
from .error_norms import ErrorNorms
from .learner import Learner

WATCHED = 8
"""If epochs have fewer steps, about one step in eight is watched: it takes several times as long as a captured one."""


class Watching:
    """Which batch of an epoch is watched, and in how many watched ones in a row no error came down."""

    def __init__(self) -> None:
        """Has seen nothing."""
        self._watched: int | None = None
        self._silent = 0

    def begin(self, epoch: int, rows: int, size: int) -> None:
        """Chooses the batch of an epoch; after a silent one the next epoch is watched, whichever it is."""
        self._watched = watched_batch(rows, size, 0 if self._silent else epoch)

    def of_batch(self, number: int) -> ErrorNorms | None:
        """Returns what observes the errors of the batch of this number, None for most batches."""
        return ErrorNorms() if number == self._watched else None

    def judge(self, norms: ErrorNorms, network: Learner, output: Any) -> None:
        """Raises if an error has vanished or exploded; warns if units stay silent."""
        norms.check(network, output)
        self._silent = self._silent + 1 if norms.silent(output) else 0
        if self._silent == 2:
            warn(
                "No error has reached the layers below the top one for two epochs: their units are silent for all "
                "samples, and learn nothing. Lower the learning rate.",
            )


def watched_batch(rows: int, size: int, epoch: int) -> int | None:
    """Returns which batch of an epoch is watched for errors that vanish; None for none of an epoch that is left out.

    It is the last full one: for a few samples all units may be off. Short epochs are left out so that about one step of
    `WATCHED` is watched.
    """
    full = max(1, rows // size)
    return None if epoch % math.ceil(WATCHED / full) else full - 1
