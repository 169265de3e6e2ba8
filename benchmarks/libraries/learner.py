"""What the benchmark asks of a library. Its adapter, `with_NAME.py`, has a function `build` that makes a `Learner`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Task:
    """A network to build.

    Attributes:
        sizes: Of inputs, hidden layers and outputs: ``(784, 256, 256, 10)``.
        lr: Learning rate of the weights.
        seed: Of the initial weights.
        range: Lowest and highest value of a training input.
        settings: What is special about the method: names and values that its adapter knows.
    """

    sizes: tuple[int, ...]
    lr: float
    seed: int
    range: tuple[float, float]
    settings: dict[str, Any]


class Learner(Protocol):
    """A network of some library, in training."""

    def batch(self, x: np.ndarray, y: np.ndarray) -> Any:
        """Returns samples (float32) and their classes in the form in which the library takes them."""

    def step(self, batch: Any) -> None:
        """Makes one training step, or hands it to a queue."""

    def finish(self) -> None:
        """Waits until all steps are made."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the predicted classes."""
