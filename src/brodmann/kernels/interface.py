"""What an implementation of the grouped operations must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor

from ..updates import UpdateRule

if TYPE_CHECKING:
    from ..groups import Groups


class Operations(ABC):
    """The grouped operations. In all of them s(n) is ``slot[area of row n]``, or the area itself without a table."""

    @abstractmethod
    def forward(self, x: Tensor, groups: Groups, slot: Tensor | None, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Computes ``y[n] = weight[s(n)] x[n] + bias[s(n)]``.

        Args:
            x: (rows, in).
            groups: The rows of each area.
            slot: (areas,) int64, or None.
            weight: (slots, out, in).
            bias: (slots, out), or None.

        Returns:
            (rows, out), in the batch's order.
        """

    @abstractmethod
    def add_error(self, below: Tensor, delta: Tensor, groups: Groups, slot: Tensor | None, weight: Tensor) -> None:
        """Adds ``delta[n] weight[s(n)]`` to ``below[n]`` in place: delta (rows, out), below (rows, in)."""

    @abstractmethod
    def update(
        self,
        rule: UpdateRule,
        weight: Tensor,
        state: dict[str, Tensor],
        groups: Groups,
        slot: Tensor | None,
        delta: Tensor,
        x: Tensor | None,
        lr: float,
        decay: float,
    ) -> None:
        """Moves the slots of the areas that have rows by their gradient, the sum of ``delta[n] x[n]^T``.

        Args:
            rule: How a weight moves.
            weight: (slots, out, in), or (slots, out) for a bias; moved in place.
            state: The rule's buffers, each with the slot as its first dimension; moved in place.
            groups: The rows of each area.
            slot: (areas,) int64, or None.
            delta: (rows, out).
            x: (rows, in), or None for a bias, whose input is always one.
            lr: Learning rate.
            decay: Decoupled decay.
        """
