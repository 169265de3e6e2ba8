"""Progress: where a training stands."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """The progress of a run; all of it goes into checkpoints.

    Attributes:
        epoch: Epochs done.
        batch: Batches done in the running epoch.
        step: Steps done in all.
        loss_sum: Sum of losses over the running epoch, each times what its batch counts for.
        counted: Sum of what batches count for: their samples, or the weights of these.
        score_sum: Targets in it that were right.
        scored: Targets in it that count: classes that the loss does not leave out, or labels, of a weight above 0.
        seconds: Training time so far, evaluation left out.
        best: Best score so far, see `Schedule`; negated if lower is better.
        best_loss: Validation loss there.
        best_epoch: Its epoch.
        history: A row per epoch.
        lr: Largest learning rate, if it was set while training, see `Trainer.lr`; else None.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    counted: float = 0.0
    score_sum: float = 0.0
    scored: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_loss: float = math.inf
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)
    lr: float | None = None

    def count(self, loss: float, batch_weight: float, right: int = 0, scored: int = 0) -> None:
        """Counts a batch: its loss, what it counts for, and how many of its targets were right, of how many."""
        self.batch += 1
        self.step += 1
        self.loss_sum += loss * batch_weight
        self.counted += batch_weight
        self.score_sum += right
        self.scored += scored

    def train_scores(self, name: str) -> dict[str, float]:
        """Returns the epoch's mean loss, and the score of that name, if targets have one."""
        scores = {"train_loss": self.loss_sum / self.counted}
        return scores | {f"train_{name}": self.score_sum / self.scored} if self.scored else scores

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Keeps the row of the epoch that ends, and begins to count anew."""
        self.history.append(row)
        self.epoch += 1
        self.batch = self.scored = 0
        self.loss_sum = self.counted = self.score_sum = 0.0
