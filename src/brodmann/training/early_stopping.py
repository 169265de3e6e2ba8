"""Early stopping: which score of an epoch counts, and the weights of the best epoch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import BrodmannError
from ..files import read_tensors, write_tensors
from ..losses import Loss
from ..losses.adapters import is_known
from .learner import Learner
from .schedule import Schedule

Row = dict[str, Any]
"""Metrics of an epoch."""
Standing = tuple[float, float]
"""A score, larger is better, and minus the validation loss, which decides between equal scores, as of ten samples."""


def standing(schedule: Schedule, row: Row, loss: Loss) -> Standing | None:
    """Returns where an epoch stands by the schedule's `metric`, None where nothing tells.

    Raises:
        BrodmannError: What the schedule asks to follow is not in the row, or not finite.
    """
    name = schedule.metric
    if name is None:
        if "validation_loss" not in row:
            return None
        classes = "validation_accuracy" in row and is_known(loss)
        name = "validation_accuracy" if classes else "validation_loss"
    if not isinstance(row.get(name), int | float):
        raise BrodmannError(
            f"Expected a number '{name}' in the row of an epoch, which early stopping follows. It has: "
            f"{', '.join(row)}."
        )
    if not math.isfinite(row[name]):
        if schedule.metric is None and schedule.patience is None:
            return None  # nobody asked
        raise BrodmannError(
            f"Early stopping follows '{name}', which is {row[name]} in epoch {row['epoch']}: lower the learning rate, "
            "or name another metric."
        )
    return -row[name] if name.endswith("loss") else row[name], -row.get("validation_loss", 0.0)


class BestWeights:
    """The weights of the best epoch so far: in a file where there is a folder, else in memory."""

    def __init__(self, learner: Learner, folder: Path | None) -> None:
        """Holds none yet."""
        self.learner = learner
        self.path = None if folder is None else folder / "best.safetensors"
        self._best: dict[str, Tensor] = {}
        self._last: dict[str, Tensor] | None = None

    def keep(self) -> None:
        """Keeps the weights as they are now."""
        if self.path is None:
            self._best = self._now()
        else:
            write_tensors(self.path, self.learner.learning_state(), {})

    def put_back(self, *, goes_on: bool) -> None:
        """Puts the best weights into the learner; keeps the last ones too where the training may go on."""
        if goes_on:
            self._last = self._now()
        self.learner.load_learning_state(self._best if self.path is None else read_tensors(self.path)[0])

    def go_on(self) -> None:
        """Puts the last weights into the learner, in whose place the best ones are, if they are."""
        if self._last is not None:
            self.learner.load_learning_state(self._last)
        self.drop_last()

    def drop_last(self) -> None:
        """Lets go of the last weights: the learner has others now."""
        self._last = None

    def _now(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.learner.learning_state().items()}
