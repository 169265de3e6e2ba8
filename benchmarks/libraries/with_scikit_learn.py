"""scikit-learn: `MLPClassifier`, a batch by `partial_fit`."""

from __future__ import annotations

import numpy as np
from learner import Task
from sklearn.neural_network import MLPClassifier

Batch = tuple[np.ndarray, np.ndarray]


class ClassifierLearner:
    def __init__(self, classifier: MLPClassifier, classes: int) -> None:
        self.classifier, self.classes = classifier, np.arange(classes)

    def batch(self, x: np.ndarray, y: np.ndarray) -> Batch:
        return x, y

    def step(self, batch: Batch) -> None:
        self.classifier.partial_fit(*batch, classes=self.classes)

    def finish(self) -> None:
        pass

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.classifier.predict(x)


def build(task: Task) -> ClassifierLearner:
    _, *hidden, outputs = task.sizes
    classifier = MLPClassifier(hidden, learning_rate_init=task.lr, alpha=0.0, random_state=task.seed)
    return ClassifierLearner(classifier, outputs)
