"""What an update rule is: how a weight moves, given the factors of its gradient.

A rule is stateless. What it remembers (momentum, moments, step counts) lies in buffers beside the weight, so that
moving, saving, splitting and merging carry it along.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)  # equality of tensors is not one truth value
class Factors:
    """A gradient as its factors: ``delta^T x`` for a weight, ``sum over rows of delta`` for a bias.

    Weights that move together, such as a map and its Kolen-Pollack feedback, receive the same object.

    Attributes:
        delta: Gradient with respect to what the weight computes, (rows, out).
        x: What the weight was applied to, (rows, in); None for a bias, and if ``delta`` is the gradient itself,
            (1, ...), as for a `Product`.
    """

    delta: Tensor
    x: Tensor | None = None
    _last: list[tuple[object, Tensor, Tensor]] = field(default_factory=list, init=False, repr=False, compare=False)

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

    def once(self, function: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
        """Returns ``function(given)``, computed once for weights that move together and come to equal numbers here.

        For what takes long, as in `Muon`: the buffers of a map and of its feedback are equal if they started and
        learned alike.

        Args:
            function: The same one for each of the weights; draws and changes nothing.
            given: What it takes; must not be changed afterwards, nor what is returned.
        """
        for known, before, result in self._last:
            if known == function and before.dtype == given.dtype and torch.equal(before, given):
                return result
        result = function(given)
        self._last[:] = [(function, given, result)]
        return result


LEARNING_RATE = 3e-3
"""Used if neither caller nor rule gives a rate: better than 1e-3 with Adam on validation parts, docs/results.md."""


@dataclass(frozen=True)
class UpdateRule(ABC):
    """Abstract base of update rules (optimisers): updates one weight tensor in place from the factors of its gradient.

    Attributes:
        decay: Decoupled weight decay (per unit of learning rate): every step first multiplies the weight by
            ``1 - lr * decay``. Biases never decay. Default 0.
        repeats: Class attribute: True if weight w means that the sample is seen w times, as for rules that remember
            inputs; otherwise its error is multiplied by w.
        scale_free: Class attribute: True if the size of a step does not depend on that of the gradient, as for Adam and
            sign rules. Areas beside a learning shared part then move at a tenth of its rate, see `Rates`.
        recursive: Class attribute: True if it needs only one pass over single samples, as `RLS`: networks
            then have `SumOfSquares` for their loss, and schedules one epoch of small batches at a constant rate.
        needs_inputs: Class attribute: True if it moves nothing without ``Factors.x``, as `RLS`: the weights of a
            `Product` then stay as they are, and autograd, which has only gradients, cannot use it.
        usual_decay: Class attribute: the decay that the command line and estimators take if none is given.
    """

    decay: float = field(default=0.0, kw_only=True)
    repeats: ClassVar[bool] = False
    scale_free: ClassVar[bool] = False
    recursive: ClassVar[bool] = False
    needs_inputs: ClassVar[bool] = False
    usual_decay: ClassVar[float] = 0.0

    @property
    def default_lr(self) -> float:
        """Learning rate of a network that follows the rule, if none is given."""
        return LEARNING_RATE

    def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Returns name and shape of every buffer that the rule keeps for a weight of this shape; by default none.

        All start at zero, in the weight's dtype (float32 beside bfloat16), one for each area. The name ``steps`` stands
        for an int64 count, of shape ``()``. A shape is (out, in), or (out,) for a bias.

        Raises:
            BrodmannError: When the weight is built: a name is no identifier, or is taken by the weight itself.
        """
        return {}

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

    def merge(
        self,
        weight: Tensor,
        state: dict[str, Tensor],
        other: Tensor,
        other_state: dict[str, Tensor],
        origin: Tensor,
    ) -> None:
        """Makes ``weight`` and its state what both areas become when they merge, in place; by default the mean.

        The step count becomes the larger of the two, so that Adam's moments are never corrected too strongly.

        Args:
            weight: (out, in) or (out,).
            state: Its buffers, as `apply` gets them.
            other: The weight of the other area, which stays as it is.
            other_state: Its buffers, which stay as well.
            origin: What both started from.
        """
        weight.lerp_(other, 0.5)
        for name, tensor in state.items():
            if name == "steps":
                torch.maximum(tensor, other_state[name], out=tensor)
            else:
                tensor.lerp_(other_state[name], 0.5)
