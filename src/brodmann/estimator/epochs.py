"""What an estimator keeps of each epoch of its training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import r2_score

from ..losses.scores import score_in
from ..network.batches import outputs_of
from ..training import Callback, Trainer

if TYPE_CHECKING:
    from .base import SALEstimator

Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""Inputs (samples, features), targets, and weights (samples,) or None."""
SCORE = "validation_score"
"""Entry of an epoch's row: the score of the held-out part by weights of samples, if there are weights."""


def metric_of(held_out: Part) -> str | None:
    """Returns the entry of a row that early stopping follows; None for the usual one, which counts samples alike."""
    _, targets, weight = held_out
    return SCORE if weight is not None and targets.dtype == torch.int64 else None


class Epochs(Callback):
    """Keeps an estimator's account of its epochs: losses, and scores of a part that is held out."""

    def __init__(self, estimator: SALEstimator, held_out: Part | None) -> None:
        """Begins an account; without weights the scores are those that the row has anyway."""
        self.estimator, self.held_out = estimator, held_out
        if held_out is not None:
            estimator.validation_scores_ = []

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Notes loss and score, and prints them if asked to."""
        model = self.estimator
        model.loss_curve_ = [*model.loss_curve_, row["train_loss"]]
        model.n_iter_ += 1
        line = f"epoch {model.n_iter_}: loss {row['train_loss']:.5f}"
        if self.held_out is not None:
            score = self._score(self.held_out, row)
            model.validation_scores_ = [*model.validation_scores_, score]
            line += f", validation score {score:.5f}"
        if model.verbose:
            print(line)

    def _score(self, held_out: Part, row: dict[str, Any]) -> float:
        """Returns the score of the held-out part; if samples have weights, also puts it into the row."""
        inputs, targets, weight = held_out
        name, value = score_in(row, "validation") or ("r2", math.nan)  # which is not defined for equal targets
        if weight is None:
            return float(value)
        outputs = outputs_of(self.estimator.network_, inputs)
        row[SCORE] = _weighted(name, outputs, targets, weight)
        return float(row[SCORE])


def _weighted(name: str, outputs: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor) -> float:
    """Returns the accuracy of classes or of single labels, or R^2, in which each sample counts by its weight.

    As without weights, R^2 is the mean over the targets that vary, NaN if none does.
    """
    if name == "r2":
        varies = targets.amin(0) < targets.amax(0)
        return (
            float(r2_score(targets[:, varies], outputs[:, varies], sample_weight=weight)) if varies.any() else math.nan
        )
    right = outputs.argmax(1) == targets if name == "accuracy" else ((outputs > 0) == (targets > 0.5)).double().mean(1)
    return float(np.average(right, weights=weight.double()))
