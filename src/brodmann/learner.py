"""Learner: what the training loop trains."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from .errors import BrodmannError


class Learner(Protocol):
    """What the loop trains: `Network`, or the baseline `Backpropagation`."""

    def __call__(self, x: Tensor) -> Tensor:
        """Inference."""

    def learn_with_output(
        self, x: Tensor, target: Tensor, weight: Tensor | None = None, *, lr: float, observe: Any = None
    ) -> tuple[Tensor, Tensor]:
        """One step; returns loss and output from before it."""

    def learning_state(self) -> dict[str, Tensor]:
        """Returns everything that a checkpoint must hold."""

    def load_learning_state(self, state: dict[str, Tensor]) -> None:
        """Takes it back."""

    @property
    def lr(self) -> float:
        """Learning rate where a schedule names none."""

    @property
    def loss(self) -> Any:
        """The loss at the top."""


def check_learner(network: Any) -> None:
    """Checks that something is a network with a loss on top, not its body; raises a `BrodmannError`."""
    if not hasattr(network, "learn_with_output"):
        raise BrodmannError(f"Expected a Network, got {type(network).__name__}: put the body into one.")
