"""Update rules: how a weight moves, given the factors of its gradient.

A rule is stateless. What it remembers (momentum, moments, step counts) lies in buffers beside the weight, so that
moving,
saving, splitting and merging carry it along.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import BrodmannError, unknown_name


@dataclass(frozen=True)
class Factors:
    """A gradient as its factors: ``delta^T x`` for a weight, ``sum over rows of delta`` for a bias.

    Attributes:
        delta: Gradient with respect to what the weight computes, (rows, out).
        x: What the weight was applied to, (rows, in); None for a bias.
    """

    delta: Tensor
    x: Tensor | None = None

    def dense(self) -> Tensor:
        """Returns the gradient itself, (out, in) or (out,): the scratch of one weight."""
        return self.delta.sum(0) if self.x is None else self.delta.t() @ self.x

    def add_to(self, target: Tensor, *, keep: float, scale: float) -> None:
        """Computes ``target = keep * target + scale * gradient`` in place; a weight's gradient is never stored."""
        if self.x is not None:
            target.addmm_(self.delta.t(), self.x, beta=keep, alpha=scale)
            return
        if keep != 1.0:
            target.mul_(keep)
        target.add_(self.delta.sum(0), alpha=scale)


@dataclass(frozen=True)
class UpdateRule(ABC):
    """How one weight moves in place.

    Attributes:
        decay: Decoupled weight decay (per unit of learning rate): every step first multiplies the weight by
            ``1 - lr * decay``. Biases never decay. Default 0.
    """

    decay: float = 0.0

    @abstractmethod
    def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Returns name and shape of every buffer that the rule keeps for a weight of this shape; all start at zero."""

    @abstractmethod
    def apply(self, weight: Tensor, state: dict[str, Tensor], factors: Factors, lr: float, decay: float) -> None:
        """Moves ``weight`` in place.

        Args:
            weight: (out, in) or (out,).
            state: The buffers named by `state_shapes`, moved in place as well.
            factors: The gradient.
            lr: Learning rate of this step.
            decay: Decoupled decay of this weight.
        """


def _require(condition: bool, what: str, got: float) -> None:
    if not (condition and math.isfinite(got)):
        raise BrodmannError(f"Expected {what}, got {got}.")


@dataclass(frozen=True)
class SGD(UpdateRule):
    """Stochastic gradient descent: ``m = momentum * m + g``, ``w = (1 - lr * decay) * w - lr * m``.

    Same as `torch.optim.SGD` (no dampening, no Nesterov), but for the decay, which is decoupled.

    Attributes:
        momentum: Default 0: plain descent keeps no state at all, the cheapest rule there is.
    """

    momentum: float = 0.0

    def __post_init__(self) -> None:
        _require(self.decay >= 0, "a decay of at least 0", self.decay)
        _require(0 <= self.momentum < 1, "a momentum in [0, 1)", self.momentum)

    def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """One velocity per weight, none without momentum."""
        return {"velocity": shape} if self.momentum else {}

    def apply(self, weight: Tensor, state: dict[str, Tensor], factors: Factors, lr: float, decay: float) -> None:
        """See `UpdateRule.apply`."""
        keep = 1.0 - lr * decay
        if not self.momentum:
            factors.add_to(weight, keep=keep, scale=-lr)
            return
        velocity = state["velocity"]
        factors.add_to(velocity, keep=self.momentum, scale=1.0)
        if keep != 1.0:
            weight.mul_(keep)
        weight.add_(velocity, alpha=-lr)


@dataclass(frozen=True)
class Adam(UpdateRule):
    """Adam with decoupled decay (`torch.optim.AdamW`), its step count kept per area.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``, ``w = (1 - lr * decay) w - lr * m^ / (sqrt(v^) +
    epsilon)`` with
    the bias-corrected ``m^ = m / (1 - b1^t)`` and ``v^ = v / (1 - b2^t)``, where ``t`` counts the steps of this very
    area: an area chosen for the first time late in training is corrected like one at its start.

    Attributes:
        beta1: Default 0.9, as everywhere.
        beta2: Default 0.999, as everywhere.
        epsilon: Default 1e-8, as everywhere.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _require(self.decay >= 0, "a decay of at least 0", self.decay)
        _require(0 <= self.beta1 < 1, "a beta1 in [0, 1)", self.beta1)
        _require(0 <= self.beta2 < 1, "a beta2 in [0, 1)", self.beta2)
        _require(self.epsilon > 0, "an epsilon above 0", self.epsilon)

    def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """First and second moment and the number of steps."""
        return {"first": shape, "second": shape, "steps": ()}

    def apply(self, weight: Tensor, state: dict[str, Tensor], factors: Factors, lr: float, decay: float) -> None:
        """See `UpdateRule.apply`. One scratch of the weight's size."""
        steps = int(state["steps"].add_(1))
        scratch = factors.dense()
        state["first"].lerp_(scratch, 1.0 - self.beta1)
        state["second"].mul_(self.beta2).addcmul_(scratch, scratch, value=1.0 - self.beta2)
        torch.sqrt(state["second"], out=scratch)
        scratch.div_(math.sqrt(1.0 - self.beta2**steps)).add_(self.epsilon)
        if decay:
            weight.mul_(1.0 - lr * decay)
        weight.addcdiv_(state["first"], scratch, value=-lr / (1.0 - self.beta1**steps))


UPDATES: dict[str, type[UpdateRule]] = {"sgd": SGD, "adam": Adam}


def update_rule(name: str, **options: float) -> UpdateRule:
    """Builds an update rule by name (``"sgd"`` or ``"adam"``) for command lines and configurations."""
    if name not in UPDATES:
        raise unknown_name("update rule", name, UPDATES)
    return UPDATES[name](**options)
