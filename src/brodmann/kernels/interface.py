"""What an implementation of the grouped operations must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..recording import replayed
from ..updates import SGD, Adam, UpdateRule
from .served import Served


class Target(NamedTuple):
    """A weight that an update moves.

    Attributes:
        weight: (slots, out, in), or (slots, out) for a bias; moved in place.
        state: The rule's buffers, each with the slot as its first dimension; moved in place.
        lr: Learning rate.
        decay: Decoupled decay.
    """

    weight: Tensor
    state: dict[str, Tensor]
    lr: float
    decay: float


class Kind(IntEnum):
    """How a rule that kernels know moves a weight, by the numbers of ``moves.h``."""

    DESCENT = 0
    MOMENTUM = 1
    ADAM = 2


class KnownRule(NamedTuple):
    """What compiled kernels know of a rule.

    Attributes:
        kind: How it moves a weight.
        beta1: Decay of the first moment, or the momentum.
        beta2: Decay of the second moment.
        epsilon: Added to its root.
        state: Names of the rule's buffers.
    """

    kind: Kind
    beta1: float
    beta2: float
    epsilon: float
    state: frozenset[str]


def known_rule(rule: UpdateRule) -> KnownRule | None:
    """Returns what kernels need of a rule, None for one that they do not know, such as a user-defined one."""
    return _known(rule) if type(rule) in (Adam, SGD) else None


@lru_cache
def _known(rule: Any) -> KnownRule:
    state = frozenset(rule.state_shapes(()))
    if isinstance(rule, Adam):
        return KnownRule(Kind.ADAM, rule.beta1, rule.beta2, rule.epsilon, state)
    kind = Kind.MOMENTUM if rule.momentum > 0 else Kind.DESCENT
    return KnownRule(kind, rule.momentum, 0.0, 0.0, state)


def rounding_seed(weight: Tensor) -> int:
    """Draws the seed of stochastic rounding, whose bits are a hash of it and of the weight's place; 0 without any."""
    return replayed(_seed) if weight.dtype == torch.bfloat16 else 0


def _seed() -> int:
    return int(torch.randint(1 << 31, (), device="cpu"))


class Operations(ABC):
    """The grouped operations. In all of them s(n) is the slot that serves row n.

    They take what is computed with, then the rows by what serves them, then numbers of rows.
    """

    @abstractmethod
    def forward(
        self, weight: Tensor, bias: Tensor | None, served: Served, x: Tensor, *, beside: Tensor | None = None
    ) -> Tensor:
        """Computes ``y[n] = weight[s(n)] x[n] + bias[s(n)] + beside[n]``.

        Args:
            weight: (slots, out, in).
            bias: (slots, out), or None.
            served: The rows by the slots that serve them. None is left out, see `Groups.complete`; likewise below.
            x: (rows, in).
            beside: (rows, out), which stays as it is. Default None: nothing is added.

        Returns:
            (rows, out), in the batch's order.
        """

    @abstractmethod
    def add_error(self, weight: Tensor, served: Served, delta: Tensor, below: Tensor) -> None:
        """Adds ``delta[n] weight[s(n)]`` to ``below[n]`` in place: delta (rows, out), below (rows, in)."""

    @abstractmethod
    def update(
        self,
        rule: UpdateRule,
        targets: Sequence[Target],
        served: Served,
        delta: Tensor,
        x: Tensor,
        *,
        bias: Target | None = None,
    ) -> None:
        """Moves the slots of the areas that have rows by their gradient: the sum of ``delta[n] x[n]^T``.

        Args:
            rule: How a weight moves.
            targets: Weights of equal shape that receive the same factors; no other slot of them changes.
            served: The rows by the slots that serve them; some may be left out.
            delta: (rows, out).
            x: (rows, in).
            bias: Biases (slots, out) that move as well, by the sum of ``delta[n]``.
        """

    @abstractmethod
    def move(self, rule: UpdateRule, target: Target, gradient: Tensor) -> None:
        """Moves a target of one slot by its gradient, of the slot's shape, which `Slab.move` checks."""
