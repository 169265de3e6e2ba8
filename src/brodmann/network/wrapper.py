"""Wrapper: what makes the steps of a network in its place, by the same calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from ..layer import Observer
from ..several import Several
from .network import Network, check_network


class Wrapper(ABC):
    """Abstract: holds a network, and makes its steps in a way of its own.

    Attributes:
        network: The network.
    """

    def __init__(self, network: Network) -> None:
        """Takes the network; raises a `BrodmannError` if it is not a `Network`."""
        check_network(network)
        self.network = network

    def __call__(self, x: Several) -> Any:
        """Inference by the network itself, see `Network.forward`."""
        return self.network(x)

    def learn(
        self,
        x: Several,
        target: Several,
        weight: Tensor | None = None,
        *,
        lr: float | None = None,
        observe: Observer | None = None,
    ) -> Tensor:
        """Makes one step on one mini-batch, and returns the loss before it; arguments as for `Network.learn`."""
        loss, _ = self._step(x, target, weight, lr, observe, with_output=False)
        return loss

    def learn_with_output(
        self,
        x: Several,
        target: Several,
        weight: Tensor | None = None,
        *,
        lr: float | None = None,
        observe: Observer | None = None,
    ) -> tuple[Tensor, Any]:
        """As `learn`; returns the loss and the output, both from before the step."""
        return self._step(x, target, weight, lr, observe, with_output=True)

    @abstractmethod
    def _step(
        self,
        x: Several,
        target: Several,
        weight: Tensor | None,
        lr: float | None,
        observe: Observer | None,
        *,
        with_output: bool,
    ) -> tuple[Tensor, Any]:
        """Makes a step, see `learn`; returns the loss and, if asked ``with_output``, the output, else anything."""
