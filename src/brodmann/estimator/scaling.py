"""Scaling of columns to mean 0 and variance 1."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.preprocessing import StandardScaler


class Scaler(StandardScaler):  # type: ignore[misc]
    """As scikit-learn's, which takes a column for constant that varies little beside its mean, such as time stamps.

    Here a column is constant only if its smallest and largest value are equal; where the variance underflows to 0, the
    range stands in for the deviation.
    """

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Takes mean and deviation of the columns of X, (samples, features)."""
        self._lowest, self._highest = np.inf, -np.inf
        return super().fit(X, y, sample_weight)  # type: ignore[no-any-return]

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Adds further rows."""
        super().partial_fit(X, y, sample_weight)
        counted = X if sample_weight is None else np.asarray(X)[np.asarray(sample_weight) > 0]
        self._lowest = np.minimum(getattr(self, "_lowest", np.inf), np.min(counted, axis=0))
        self._highest = np.maximum(getattr(self, "_highest", -np.inf), np.max(counted, axis=0))
        deviation = np.where(self.var_ == 0, self._highest - self._lowest, np.sqrt(self.var_))
        self.scale_ = np.where(self._lowest < self._highest, deviation, 1.0)
        return self
