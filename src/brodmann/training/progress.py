"""Progress: where a training stands."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """Where a run stands; all of it goes into checkpoints.

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
