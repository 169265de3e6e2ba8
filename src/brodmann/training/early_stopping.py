"""Early stopping: which score of an epoch counts, and when no better one is waited for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..errors import BrodmannError
from ..losses import Loss
from ..losses.facts import facts_of
from .keeper import Keeper
from .schedule import Schedule

if TYPE_CHECKING:
    from .trainer import Trainer

Row = dict[str, Any]
"""Metrics of an epoch."""
Standing = tuple[float, float]
"""A score, larger is better, and minus the validation loss, which decides ties, as ten samples often give."""


def standing(schedule: Schedule, row: Row, loss: Loss) -> Standing | None:
    """Returns the standing of an epoch by the schedule's `metric`, None if there is no metric to follow.

    Raises:
        BrodmannError: What the schedule asks to follow is not in the row, or not finite.
    """
    name = schedule.metric
    if name is None:
        if "validation_loss" not in row:
            return None
        classes = "validation_accuracy" in row and facts_of(loss).known
        name = "validation_accuracy" if classes else "validation_loss"
    if not isinstance(row.get(name), int | float):
        raise BrodmannError(
            f"Expected a number '{name}' for early stopping to follow in the row of an epoch. The row has: "
            f"{', '.join(row)}."
        )
    if not math.isfinite(row[name]):
        if schedule.metric is None and schedule.patience is None:
            return None  # nobody asked for it
        raise BrodmannError(
            f"Early stopping follows '{name}', which is {row[name]} in epoch {row['epoch']}: lower the learning rate, "
            "or name another metric."
        )
    return -row[name] if name.endswith("loss") else row[name], -row.get("validation_loss", 0.0)


class EarlyStopping:
    """Follows the scores of a training: its best epoch, and with patience its end and the weights that it ends with."""

    def __init__(self, trainer: Trainer, keeper: Keeper) -> None:
        """Has seen no epoch.

        Raises:
            BrodmannError: There is patience, but no score to follow.
        """
        if trainer.schedule.patience is not None and trainer.held_out is None and trainer.schedule.metric is None:
            raise BrodmannError("Early stopping needs a validation part: set its share above 0, or leave patience out.")
        self._trainer, self._keeper = trainer, keeper

    @property
    def is_due(self) -> bool:
        """Whether patience is over."""
        patience, progress = self._trainer.schedule.patience, self._trainer.progress
        return patience is not None and progress.epoch - 1 - progress.best_epoch >= patience

    def see(self, row: Row) -> None:
        """Notes an epoch that is better than all before it, and with patience keeps its weights."""
        trainer, progress = self._trainer, self._trainer.progress
        score = standing(trainer.schedule, row, trainer.network.loss)
        if score is not None and score > (progress.best, -progress.best_loss):
            if trainer.schedule.patience is not None:
                self._keeper.keep_best(progress.epoch)
            progress.best, progress.best_loss, progress.best_epoch = score[0], -score[1], progress.epoch

    def end(self) -> None:
        """Puts the best weights in their place, if there is patience."""
        trainer, progress = self._trainer, self._trainer.progress
        if trainer.schedule.patience is not None and progress.best_epoch >= 0:
            goes_on = progress.epoch < trainer.pace.epochs and not self.is_due
            self._keeper.put_best_back(progress.best_epoch, goes_on=goes_on)
