"""What an estimator keeps of each epoch of its training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import r2_score

from ..batches import outputs_of
from ..training import Callback, Trainer

if TYPE_CHECKING:
    from .base import SALEstimator

Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""Inputs (samples, features), targets, and weights (samples,) or None."""
SCORE = "validation_score"
"""Entry of an epoch's row: the score of the part held out where samples have weights, each of which counts there."""


class Epochs(Callback):
    """Keeps an estimator's account of its epochs: losses, and scores of a part that is held out."""

    def __init__(self, estimator: SALEstimator, held_out: Part | None) -> None:
        """Begins an account; without weights the scores are those that the row has anyway."""
        self.estimator, self.held_out = estimator, held_out
        self.scores: list[float] = []

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Notes loss and score, and prints the loss where that is asked for."""
        model = self.estimator
        model.loss_curve_ = [*model.loss_curve_, row["train_loss"]]
        model.n_iter_ += 1
        if self.held_out is not None:
            self._score(row)
        if model.verbose:
            print(f"epoch {model.n_iter_}: loss {row['train_loss']:.5f}")

    def _score(self, row: dict[str, Any]) -> None:
        inputs, targets, weight = self.held_out  # type: ignore[misc]
        if weight is None:
            scores = [row.get(f"validation_{name}") for name in ("accuracy", "label_accuracy", "r2")]
            self.scores.append(next((score for score in scores if score is not None), math.nan))
            return
        outputs = outputs_of(self.estimator.network_, inputs)
        name = next((name for name in ("accuracy", "label_accuracy") if f"validation_{name}" in row), "r2")
        self.scores.append(_weighted(name, outputs, targets, weight))
        row[SCORE] = self.scores[-1]


def _weighted(name: str, outputs: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor) -> float:
    """Returns the accuracy of classes or of single labels, or R^2, in which each sample counts by its weight.

    As without weights, R^2 is the mean over the targets that vary, NaN where none does.
    """
    if name == "r2":
        varies = targets.amin(0) < targets.amax(0)
        return (
            float(r2_score(targets[:, varies], outputs[:, varies], sample_weight=weight)) if varies.any() else math.nan
        )
    right = outputs.argmax(1) == targets if name == "accuracy" else ((outputs > 0) == (targets > 0.5)).double().mean(1)
    return float(np.average(right, weights=weight.double()))
