"""Scaling of columns to mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from ..checks import all_finite
from ..errors import BrodmannError

ROWS = 1000
"""Rows that are scaled at a time: what is computed in float64 in between then takes little memory."""


class Scaler(StandardScaler):  # type: ignore[misc]
    """As scikit-learn's, which takes a column for constant that varies little beside its mean, such as time stamps.

    Here a column is constant only if its smallest and largest value are equal; where the variance underflows to 0, the
    range stands in for the deviation. All is computed in float64, also of rows in float32.
    """

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Takes mean and deviation of the columns of X, (samples, features)."""
        self._lowest, self._highest = np.inf, -np.inf
        return super().fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Adds further rows."""
        if X.dtype == np.float32:  # of which a copy in float64 would take more memory than they do
            for rows in _parts(len(X)):
                self.partial_fit(X[rows].astype(np.float64), y, None if sample_weight is None else sample_weight[rows])
            return self
        super().partial_fit(X, y, sample_weight)
        counted = X if sample_weight is None else np.asarray(X)[np.asarray(sample_weight) > 0]
        self._lowest = np.minimum(getattr(self, "_lowest", np.inf), np.min(counted, axis=0))
        self._highest = np.maximum(getattr(self, "_highest", -np.inf), np.max(counted, axis=0))
        deviation = np.where(self.var_ == 0, self._highest - self._lowest, np.sqrt(self.var_))
        self.scale_ = np.where(self._lowest < self._highest, deviation, 1.0)
        return self

    def with_scales_of(self, X: Any, sample_weight: Any = None) -> Scaler:
        """Returns one that keeps all it knows, and takes the scale of columns that were constant so far from X.

        It is their deviation there from that constant. Their mean stays: the rows before were zeros in these columns,
        and are so at any scale, so that whatever was learned from them keeps its value.
        """
        constant = np.equal(self._lowest, self._highest)
        if not constant.any():
            return self
        apart = np.abs(X - self._lowest)
        deviation = np.sqrt(np.average(np.square(apart), axis=0, weights=sample_weight))
        deviation = np.where(deviation == 0, apart.max(axis=0), deviation)
        scaler = copy(self)
        scaler.mean_ = np.where(constant, self._lowest, self.mean_)  # without the rounding of a mean
        scaler.scale_ = np.where(constant & (deviation > 0), deviation, self.scale_)
        scaler._lowest = np.minimum(self._lowest, np.min(X, axis=0))
        scaler._highest = np.maximum(self._highest, np.max(X, axis=0))
        return scaler


def scaled(x: NDArray[Any], scaler: Scaler | None) -> torch.Tensor:
    """Returns rows (samples, features) as the network takes them: scaled, where there is a scaler, and in float32.

    Raises:
        BrodmannError: Float32 cannot hold one.
    """
    inputs = np.empty(x.shape, dtype=np.float32)
    with np.errstate(over="ignore"):
        for rows in _parts(len(x)):
            inputs[rows] = x[rows] if scaler is None else scaler.transform(x[rows].astype(np.float64))
    tensor = torch.from_numpy(inputs)
    known = scaler is None or np.isfinite(scaler.scale_).all()
    if not known or not all_finite(tensor):
        raise BrodmannError("Expected inputs that float32 can hold, got larger ones: scale them down.")
    return tensor


def _parts(rows: int) -> Iterator[slice]:
    return (slice(begin, begin + ROWS) for begin in range(0, rows, ROWS))
