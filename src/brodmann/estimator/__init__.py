"""Scikit-learn estimators: `SALClassifier` and `SALRegressor`."""

from .classifier import SALClassifier
from .regressor import SALRegressor

__all__ = ["SALClassifier", "SALRegressor"]
