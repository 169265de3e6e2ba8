"""Learner: what the training loop trains."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import BrodmannError
from ..layer import Observer
from ..network import Captured, Network, Parallel


class Learner(Protocol):
    """What the loop trains: a module such as `Network`, or the baseline `Backpropagation`."""

    def __call__(self, x: Any) -> Any:
        """Inference: takes one tensor (batch, ...), or several as a tuple or a dictionary."""

    def learn_with_output(
        self, x: Any, target: Any, weight: Tensor | None = None, *, lr: float, observe: Observer | None = None
    ) -> tuple[Tensor, Any]:
        """One step; returns loss and output from before it."""

    def learning_state(self) -> dict[str, Tensor]:
        """Returns everything that a checkpoint must hold."""

    def load_learning_state(self, state: dict[str, Tensor]) -> None:
        """Takes back what `learning_state` returned."""

    @property
    def lr(self) -> float:
        """Learning rate if a schedule names none."""

    @property
    def loss(self) -> Any:
        """The loss at the top."""

    @property
    def recursive(self) -> bool:
        """Whether it learns by recursive least squares, which needs a single pass."""

    def named_modules(self) -> Any:
        """Its parts by name, as for every ``nn.Module``: those with areas are watched for errors that vanish."""


MEMBERS = ("__call__", *(name for name in vars(Learner) if not name.startswith("_")))


def learner_of(network: Any) -> Learner:
    """Returns what is trained: a `Learner`, such as a `Network`, or the network of a `Captured` or `Parallel`.

    Raises:
        BrodmannError: It is something else, such as the body of a network.
    """
    if isinstance(network, Parallel) and not network.shares_batches:
        raise BrodmannError(
            "Expected a Parallel that shares whole batches, since a training decides by them: leave batches='own' out, "
            "and give all processes the same data and seed."
        )
    network = network.network if isinstance(network, Captured | Parallel) else network
    missing = [name for name in MEMBERS if not hasattr(network, name)]
    if "learn_with_output" in missing:
        raise BrodmannError(f"Expected a Network, got {type(network).__name__}: put the body into one.")
    if missing:
        raise BrodmannError(
            f"Expected a learner with everything that brodmann.training.Learner names, but {type(network).__name__} "
            f"lacks {', '.join(missing)}."
        )
    return network


class Steps:
    """Makes the steps of what is trained: captured steps for a `Network`, ordinary ones while somebody observes.

    Attributes:
        learner: What learns by them.
    """

    def __init__(self, given: Any) -> None:
        """Takes a learner, or the `Captured` or `Parallel` of a network.

        A `Captured` keeps what it has recorded from one training to the next.

        Raises:
            BrodmannError: It is something else, see `learner_of`.
        """
        self.learner = learner_of(given)
        self._make = (Captured(given) if type(given) is Network else given).learn_with_output
        self._observed = (given if isinstance(given, Parallel) else self.learner).learn_with_output

    def __call__(
        self, x: Any, target: Any, weight: Tensor | None = None, *, lr: float, observe: Observer | None = None
    ) -> tuple[Tensor, Any]:
        """One step; returns loss and output from before it, see `Learner`."""
        if observe is None:
            return self._make(x, target, weight, lr=lr)
        return self._observed(x, target, weight, lr=lr, observe=observe)


def device_of(network: Learner) -> torch.device:
    """Returns the device on which a learner computes: that of its first parameter."""
    devices = (parameter.device for _, part in network.named_modules() for parameter in part.parameters())
    return next(devices, torch.device("cpu"))
