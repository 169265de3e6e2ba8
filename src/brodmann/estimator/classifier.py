"""`SALClassifier`."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import column_or_1d

from ..errors import BrodmannError
from ..losses import BinaryCrossEntropy, CrossEntropy, Loss
from .base import SALEstimator, all_or_nothing
from .modules import Probabilities
from .weights import Array, Samples


class SALClassifier(ClassifierMixin, SALEstimator):  # type: ignore[misc]
    """scikit-learn classifier: a network with areas, trained without backpropagation. See `SALEstimator`.

    Samples have one class each, or any number of labels at once: those of an indicator matrix.

    Attributes:
        classes_: Class labels; the columns' indices if targets are an indicator matrix.
        multilabel_: Whether targets are an indicator matrix.
        network_: The trained `Network`. It takes scaled inputs; `as_module` returns one that takes them as they are.
        loss_curve_: Mean loss of every epoch.
        n_iter_: Number of epochs.
        best_validation_score_: With early stopping, the accuracy on the held-out part at the epoch whose weights were
            kept; samples count by their own weights; for an indicator matrix the accuracy of single labels.
        validation_scores_: With early stopping, that score after every epoch.
        n_features_in_: Number of features.
    """

    @all_or_nothing
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Trains from scratch.

        Args:
            X: (samples, features), dense.
            y: (samples,) labels of any kind, or an indicator matrix (samples, labels) of 0 and 1, dense or sparse.
            sample_weight: (samples,), not negative, or None. Weights count within a batch and from batch to batch; with
                ``"rls"`` a sample of weight w counts as w samples.

        Raises:
            BrodmannError: A setting is out of range or unknown, there is only one class, or a matrix holds other
                numbers than 0 and 1.
        """
        x, targets = self._validated(X, y, multi_output=True)
        targets = _classes_or_indicators(targets)
        self._know(targets, None)
        if len(self.classes_) < 2:
            raise BrodmannError(f"Expected at least 2 classes, got one class: {self.classes_[0]}.")
        self._start(x.shape[1], len(self.classes_), self._loss())
        samples = Samples.of(x, targets, sample_weight, counts=self._recursive)
        self._train(samples, self._as_tensor(samples.y), None if self.multilabel_ else samples.y)
        return self

    @all_or_nothing
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Makes one pass over the given samples at a constant rate, starting from the network as it is.

        Args:
            X: (samples, features), dense.
            y: (samples,) labels, or an indicator matrix, as for `fit`.
            classes: All labels that will ever come; needed at the first call unless ``y`` holds them all, as an
                indicator matrix does.
            sample_weight: As for `fit`; weighed against those of all calls so far.

        Raises:
            BrodmannError: A label is not among the classes of the first call, or only one of the two calls got an
                indicator matrix, or one with other columns. Nothing has changed then.
        """
        self._check_partial()
        first = not hasattr(self, "network_")
        x, targets = self._validated(X, y, reset=first, multi_output=True)
        targets = _classes_or_indicators(targets)
        schedule = self._schedule()
        if first:
            self._know(targets, classes)
        self._check_fits(targets, classes, first=first)
        if first:
            self._start(x.shape[1], len(self.classes_), self._loss())
        samples = Samples.of(x, targets, sample_weight, counts=self._recursive)
        self._train_on(samples, self._as_tensor(samples.y), schedule)
        return self

    def predict_proba(self, X: ArrayLike) -> Array:
        """Returns the probability of each class, (samples, classes); every row sums to one, but for labels.

        The softmax of the outputs; with ``"rls"``, whose outputs estimate probabilities, their positive part. For the
        labels of an indicator matrix the sigmoid of each output; with ``"rls"`` the output, cut to (0, 1).
        """
        outputs = torch.from_numpy(self._outputs(X))
        probabilities: Array = self._answer()(outputs).numpy()
        return probabilities

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Returns the logarithm of `predict_proba`, (samples, classes)."""
        with np.errstate(divide="ignore"):  # of impossible classes: minus infinity
            logarithms: Array = np.log(self.predict_proba(X))
        return logarithms

    def predict(self, X: ArrayLike) -> Array:
        """Returns the most probable label of each sample, (samples,); or an indicator matrix, (samples, labels).

        That has a 1 for each label of a probability above one half.
        """
        outputs = self._outputs(X)
        if self.multilabel_:
            indicators: Array = (outputs > (0.5 if self._recursive else 0.0)).astype(np.int64)
            return indicators
        labels: Array = self.classes_[outputs.argmax(axis=1)]
        return labels

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _know(self, targets: Array, classes: ArrayLike | None) -> None:
        """Notes of which kind targets are, and their classes."""
        self.multilabel_ = targets.ndim == 2
        if self.multilabel_:
            self.classes_ = np.arange(targets.shape[1])
        elif classes is None:
            check_classification_targets(targets)  # also warns of many classes: they may be real values
            self.classes_ = unique_labels(targets)
        else:
            self.classes_ = unique_labels(classes)

    def _check_fits(self, targets: Array, classes: ArrayLike | None, *, first: bool) -> None:
        """Raises unless targets of a call of `partial_fit`, and the classes that it names, are those of the first."""
        known = self.classes_
        if len(known) < 2:
            raise BrodmannError("Expected at least 2 classes: name all of them with classes=... at the first call.")
        if classes is not None and not np.array_equal(unique_labels(classes), known):
            expected = "one class for each column" if first else "the classes of the first call"
            raise BrodmannError(f"Expected {expected}, {known.tolist()}: leave classes out.")
        if (targets.ndim == 2) != self.multilabel_ or targets.shape[1:] not in ((), (len(known),)):
            form = f"(samples, {len(known)})" if self.multilabel_ else "(samples,)"
            raise BrodmannError(f"Expected y of shape {form}, as in the first call, got {targets.shape}.")
        names = set(known.tolist())
        unknown = [] if self.multilabel_ else [label for label in targets.tolist() if label not in names]
        if unknown:
            raise BrodmannError(f"Unknown class {unknown[0]}: name all classes with classes=... at the first call.")

    def _answer(self) -> Probabilities:
        return Probabilities(labels=self.multilabel_, recursive=self._recursive)

    def _loss(self) -> Loss:
        return BinaryCrossEntropy(normalised=False) if self.multilabel_ else CrossEntropy(normalised=False)

    def _as_tensor(self, targets: Array) -> torch.Tensor:
        """Returns targets as the loss takes them: float32 for labels, else the classes' indices."""
        if self.multilabel_:
            return torch.from_numpy(targets.astype(np.float32))
        return torch.from_numpy(np.searchsorted(self.classes_, targets).astype(np.int64))


def _classes_or_indicators(y: Any) -> Array:
    """Returns classes (samples,), or an indicator matrix (samples, labels); a single column is one of classes."""
    if y.ndim == 2 and y.shape[1] == 1 and not hasattr(y, "toarray"):
        y = column_or_1d(y, warn=True)
    targets: Array = y.toarray() if hasattr(y, "toarray") else y
    if targets.ndim == 2 and not np.isin(targets, (0, 1)).all():
        raise BrodmannError(
            "Expected an indicator matrix y of 0 and 1, a column for each label, got other numbers: for several "
            "choices among classes, fit a classifier for each column."
        )
    return targets
