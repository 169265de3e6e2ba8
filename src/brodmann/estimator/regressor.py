"""`SALRegressor`."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.utils import column_or_1d

from ..errors import BrodmannError, warn
from ..losses import MeanSquaredError
from .base import SALEstimator, all_or_nothing
from .modules import Targets
from .scaling import Scaler, not_held
from .weights import Array, Samples


class SALRegressor(RegressorMixin, SALEstimator):  # type: ignore[misc]
    """Regressor of areas, trained without backpropagation; targets are standardised inside. See `SALEstimator`.

    Attributes:
        network_: The trained `Network`, of scaled inputs and targets; `as_module` returns one of both as they are.
        loss_curve_: Mean loss of every epoch, of standardised targets.
        n_iter_: Number of epochs.
        best_validation_score_: With early stopping, R^2 on the held-out part at the epoch whose weights were kept
            (that of the least squared error); samples count by their own weights; NaN if it is not defined, as for one
            sample.
        validation_scores_: With early stopping, that score after every epoch.
        n_features_in_: Number of features.
    """

    @all_or_nothing
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Trains from scratch.

        Args:
            X: (samples, features), dense.
            y: (samples,) or (samples, targets), dense.
            sample_weight: (samples,), not negative, or None. Weights count within a batch and from batch to batch; with
                ``"rls"`` a sample of weight w counts as w samples.

        Raises:
            BrodmannError: A setting is out of range or unknown, or the targets are sparse.
        """
        x, y = self._validated(X, y, multi_output=True, y_numeric=True)
        samples = Samples.of(x, self._begin(x, y), sample_weight, counts=self._recursive)
        self._target_scaler.fit(samples.y, sample_weight=samples.weight)
        self._train(samples, self._target_tensor(samples.y), None)
        return self

    @all_or_nothing
    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Makes one pass over the given samples at a constant rate; the targets' scale is that of the first call."""
        self._check_partial()
        first = not hasattr(self, "network_")
        x, y = self._validated(X, y, reset=first, multi_output=True, y_numeric=True)
        schedule = self._schedule()
        targets = self._begin(x, y) if first else _real(y).reshape(len(x), -1)
        samples = Samples.of(x, targets, sample_weight, counts=self._recursive)
        if first:
            self._target_scaler.fit(samples.y, sample_weight=samples.weight)
            if (samples.y == samples.y[:1]).all(axis=0).any():
                warn(
                    "partial_fit takes the scale of targets from its first call, but in this one a target is the same "
                    "for all samples: begin with more samples, or scale the targets yourself.",
                )
        elif targets.shape[1] != self._target_scaler.n_features_in_:
            expected = self._target_scaler.n_features_in_
            raise BrodmannError(
                f"Expected {expected} targets per sample, as in the first call, got {targets.shape[1]}."
            )
        self._train_on(samples, self._target_tensor(samples.y), schedule)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def predict(self, X: ArrayLike) -> Array:
        """Returns the predicted target of each sample, (samples,) or (samples, targets)."""
        outputs = torch.from_numpy(self._outputs(X))
        values: Array = self._answer()(outputs).numpy()
        return values

    def _answer(self) -> Targets:
        return Targets(self._target_scaler, single=self._one_target)

    def _begin(self, x: Array, y: Any) -> Array:
        targets = _real(y)
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = column_or_1d(targets, warn=True)
        self._one_target = targets.ndim == 1
        targets = targets.reshape(len(x), -1)
        self._target_scaler = Scaler()
        self._start(x.shape[1], targets.shape[1], MeanSquaredError(normalised=False))
        return targets

    def _target_tensor(self, targets: Array) -> torch.Tensor:
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = torch.from_numpy(self._target_scaler.transform(targets).astype(np.float32))
        if not (np.isfinite(self._target_scaler.scale_).all() and torch.isfinite(scaled).all()):
            raise not_held("targets", targets)
        return scaled


def _real(y: Any) -> Array:
    """Returns targets in float64, (samples,) or (samples, targets)."""
    if hasattr(y, "toarray"):
        raise BrodmannError("Expected a dense y, got a sparse matrix: make it dense with .toarray().")
    targets: Array = np.asarray(y, dtype=np.float64)
    return targets
