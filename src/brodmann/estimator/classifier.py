"""`SALClassifier`."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils.extmath import softmax
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import validate_data

from ..errors import BrodmannError
from ..losses import CrossEntropy
from .base import Array, SALEstimator, all_or_nothing, without_weightless


class SALClassifier(ClassifierMixin, SALEstimator):  # type: ignore[misc]
    """Classifier of areas, trained without backpropagation. See `SALEstimator` for the settings.

    Attributes:
        classes_: Class labels.
        network_: The trained `Network`.
        loss_curve_: Mean loss of every epoch.
        n_iter_: Number of epochs.
        best_validation_score_: With early stopping, the accuracy on the held-out part where the weights were kept.
        n_features_in_: Number of features.
    """

    @all_or_nothing
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Trains from scratch.

        Args:
            X: (samples, features).
            y: (samples,) labels of any kind.
            sample_weight: (samples,), not negative, or None. Weights count within a batch and from batch to batch; with
                ``"rls"`` a sample of weight w counts as w samples.

        Raises:
            BrodmannError: A setting is out of range or unknown, or there is one class alone.
        """
        x, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, indices = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise BrodmannError(f"Expected at least 2 classes, got one class: {self.classes_[0]}.")
        weight = self._weights(sample_weight, x)
        x, indices, weight = without_weightless(weight, x, indices, weight)
        self._start(x.shape[1], len(self.classes_), CrossEntropy(normalised=False))
        self._train(x, torch.from_numpy(indices.astype(np.int64)), weight, indices)
        return self

    @all_or_nothing
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Makes one pass over the given samples at a constant rate, going on from where the network stands.

        Args:
            X: (samples, features).
            y: (samples,) labels.
            classes: All labels that will ever come; needed at the first call unless ``y`` holds them all.
            sample_weight: As for `fit`; weighed against those of all calls so far.

        Raises:
            BrodmannError: A label is not among the classes of the first call. Nothing has changed then.
        """
        self._check_partial()
        first = not hasattr(self, "network_")
        x, labels = validate_data(self, X, y, dtype=np.float64, reset=first)
        check_classification_targets(labels)
        weight = self._weights(sample_weight, x)
        schedule = self._schedule()
        known = unique_labels(labels if classes is None else classes) if first else self.classes_
        if len(known) < 2:
            raise BrodmannError("Expected at least 2 classes: name all of them with classes=... at the first call.")
        if classes is not None and not np.array_equal(unique_labels(classes), known):
            raise BrodmannError(f"Expected the classes of the first call, {known.tolist()}: leave classes out.")
        unknown = np.setdiff1d(labels, known)
        if len(unknown):
            raise BrodmannError(f"Unknown class {unknown[0]}: name all classes with classes=... at the first call.")
        if first:
            self._start(x.shape[1], len(known), CrossEntropy(normalised=False))
            self.classes_ = known
        x, labels, weight = without_weightless(weight, x, labels, weight)
        indices = torch.from_numpy(np.searchsorted(self.classes_, labels).astype(np.int64))
        self._train_on(x, indices, weight, schedule)
        return self

    def predict_proba(self, X: ArrayLike) -> Array:
        """Returns the probability of each class, (samples, classes); every row sums to one.

        The softmax of the outputs; with ``"rls"``, whose outputs estimate probabilities, their positive part.
        """
        outputs = self._outputs(X)
        if self._recursive:
            positive = np.clip(outputs, 1e-6, None)
            shares: Array = positive / positive.sum(axis=1, keepdims=True)
            return shares
        return softmax(outputs)  # type: ignore[no-any-return]

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Returns the logarithm of `predict_proba`, (samples, classes)."""
        with np.errstate(divide="ignore"):  # of impossible classes: minus infinity
            logarithms: Array = np.log(self.predict_proba(X))
        return logarithms

    def predict(self, X: ArrayLike) -> Array:
        """Returns the most probable label of each sample, (samples,)."""
        best = self._outputs(X).argmax(axis=1)
        labels: Array = self.classes_[best]
        return labels
