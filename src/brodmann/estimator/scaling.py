"""Scaling of columns to mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ..checks import all_finite
from ..errors import BrodmannError

ROWS = 1000
"""Rows that are scaled at a time: intermediate results in float64 then take little memory."""


class Scaler:
    """As scikit-learn's `StandardScaler`, but exact for large numbers that vary little, such as time stamps.

    A column is constant only if its smallest and largest value are equal; its rows become exactly 0, and its scale
    is 1. If the variance underflows to 0, the range takes the place of the deviation. Everything is computed in
    float64, also for rows in float32.

    Attributes:
        mean_: Mean of each column.
        scale_: Deviation of each column, 1 if it is constant.
        n_features_in_: Number of columns.
    """

    mean_: NDArray[Any]
    scale_: NDArray[Any]
    var_: NDArray[Any]
    _lowest: NDArray[Any]
    _highest: NDArray[Any]

    def __init__(self) -> None:
        """Knows no rows."""
        self.n_features_in_, self.n_samples_seen_ = 0, 0.0

    def fit(self, X: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> Self:
        """Takes mean and deviation of the columns of X, (samples, features)."""
        self.__init__()  # type: ignore[misc]
        return self.partial_fit(X, sample_weight)

    def partial_fit(self, X: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> Self:
        """Adds further rows, of weights above 0."""
        for part in _parts(len(X)):
            weight = None if sample_weight is None else sample_weight[part]
            with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused in `scaled`
                self._add(X[part].astype(np.float64), weight)
        deviation = np.where(self.var_ == 0, self._highest - self._lowest, np.sqrt(self.var_))
        self.scale_ = np.where(self._lowest < self._highest, deviation, 1.0)
        return self

    def _add(self, rows: NDArray[Any], weight: NDArray[Any] | None) -> None:
        """Adds some rows, by differences: in sums, large numbers lose what tells them apart."""
        lowest, highest = rows.min(0), rows.max(0)
        apart = rows - rows[0]
        middle = np.average(apart, axis=0, weights=weight)
        mean, variance = rows[0] + middle, np.average(np.square(apart - middle), axis=0, weights=weight)
        count = float(len(rows) if weight is None else weight.sum())
        if self.n_samples_seen_:
            share = count / (self.n_samples_seen_ + count)
            between = mean - self.mean_
            mean = self.mean_ + share * between
            variance = (1 - share) * self.var_ + share * variance + share * (1 - share) * np.square(between)
            lowest, highest = np.minimum(self._lowest, lowest), np.maximum(self._highest, highest)
        self.mean_, self.var_, self._lowest, self._highest = mean, variance, lowest, highest
        self.n_features_in_, self.n_samples_seen_ = rows.shape[1], self.n_samples_seen_ + count

    def transform(self, X: NDArray[Any]) -> NDArray[Any]:
        """Returns rows, (samples, features), at mean 0 and variance 1, in float64."""
        return (X - self.mean_) / self.scale_

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
        scaler.scale_ = np.where(constant & (deviation > 0), deviation, self.scale_)
        scaler._lowest = np.minimum(self._lowest, np.min(X, axis=0))
        scaler._highest = np.maximum(self._highest, np.max(X, axis=0))
        return scaler


def scaled(x: NDArray[Any], scaler: Scaler | None) -> torch.Tensor:
    """Returns rows (samples, features) as the network takes them: scaled, if there is a scaler, and in float32.

    Raises:
        BrodmannError: One is not finite, or float32 cannot hold it.
    """
    inputs = np.empty(x.shape, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in _parts(len(x)):
            inputs[rows] = x[rows] if scaler is None else scaler.transform(x[rows].astype(np.float64))
    tensor = torch.from_numpy(inputs)
    known = scaler is None or np.isfinite(scaler.scale_).all()
    if not known or not all_finite(tensor):
        raise not_held("inputs", x)
    return tensor


def not_held(kind: str, values: NDArray[Any]) -> BrodmannError:
    """Builds the error for inputs or targets that are no finite numbers in float32.

    scikit-learn finds what is not finite, unless it is told to assume the contrary.
    """
    if np.isfinite(values).all():
        return BrodmannError(f"Expected {kind} that float32 can hold, got larger ones: scale them down.")
    return BrodmannError(f"Expected finite {kind}, got NaN or infinity: fill in what is missing, or leave it out.")


def _parts(rows: int) -> Iterator[slice]:
    return (slice(begin, begin + ROWS) for begin in range(0, rows, ROWS))
