"""BodyWithLoss: a body with a loss on top, and the calls that make a step: those of networks and of the baseline."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BrodmannError
from ..layer import Observer
from ..losses.adapters import as_loss
from ..losses.builtin import Loss
from ..several import Several, parts_in


class BodyWithLoss(nn.Module):
    """Abstract: a body with a loss on top. Who inherits it says how a step is made.

    Attributes:
        lr: Learning rate unless a call gives one.
        loss: The loss. It may be replaced between steps, by whatever `as_loss` takes.
    """

    lr: float
    loss: Loss

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute; a loss is converted by `as_loss` first, and the body stays.

        Raises:
            BrodmannError: The body is replaced. The learning rate, and what else is known of it, would be another's.
        """
        if name == "loss":
            value = as_loss(value)
        elif name == "body" and self._modules.get("body", value) is not value:
            kind = type(self).__name__
            raise BrodmannError(
                f"A {kind} keeps the body that it was built with, to which its learning rate and other settings "
                f"belong: build another {kind} for another body."
            )
        super().__setattr__(name, value)

    def learn(
        self,
        x: Several,
        target: Several,
        weight: Tensor | None = None,
        *,
        lr: float | None = None,
        observe: Observer | None = None,
    ) -> Tensor:
        """Makes one step on one mini-batch; takes any DataLoader batch as ``network.learn(*batch)``.

        Args:
            x: (batch, ..., in), or several such tensors, see `Network.forward`.
            target: What the loss compares with: classes (batch, ...) int64 for `CrossEntropy`, real values shaped like
                the output for `MeanSquaredError`, either for `SumOfSquares`. A loss of your own may ask for several
                tensors (batch, ...), as a tuple or a dictionary.
            weight: Weight of each sample, or of each target if a sample has several, (batch, ...); or None. A sample
                of weight 0 contributes no gradient and recruits no area. Its area still counts as chosen, so decay, and
                what else a rule does without a gradient, applies there, and routers count the sample for their balance
                and as evidence of conflict.
            lr: Learning rate of this step. Default the network's own. At 0 nothing moves, not even a partition.
            observe: Called by every `AreaLinear`, `Product` and `TiedProduct` with itself and the error that arrives,
                see `Context`. Under autograd nothing is observed.

        Returns:
            The loss before the step, a scalar tensor without a graph.

        Raises:
            BrodmannError: The batch is empty, a shape or a target does not fit, the learning rate is negative, or
                autograd waits for an error of x, which `learn_with_error` returns.
            DivergenceError: The loss or its derivative is not finite, for example because a sample holds NaN. Nothing
                has moved then. This is checked only on the CPU: elsewhere it would make every step wait for the device.
                Inputs that the loss never sees, such as pixels that no patch holds, are not looked at. With `RLS` it is
                also raised if the inputs of a layer are too large to be distinguished: layers above it have moved then.
        """
        loss, _ = self.learn_with_output(x, target, weight, lr=lr, observe=observe)
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
        """As `learn`; returns the loss and the output that it was computed from, both from before the step."""
        check_alone(x)
        loss, output, _ = self._step(x, target, weight, lr, observe, with_error=False)
        return loss, output

    def learn_with_error(
        self,
        x: Tensor,
        target: Several,
        weight: Tensor | None = None,
        *,
        lr: float | None = None,
        observe: Observer | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `learn`; returns the loss and ``dL/dx`` as the feedback sees it, shaped like x, from before the step.

        ``x.backward(error)`` passes it to autograd, which then trains what x comes from. Gates are part of it only if
        their router has feedback.

        Raises:
            BrodmannError: As `learn`, or the body computes no error of its input, for example because its lowest layer
                has no feedback. Nothing has moved then, unless a layer of your own returns none and does not say so.
        """
        loss, _, error = self._step(x, target, weight, lr, observe, with_error=True)
        return loss, error

    @abstractmethod
    def _step(
        self,
        x: Several,
        target: Several,
        weight: Tensor | None,
        lr: float | None,
        observe: Observer | None,
        *,
        with_error: bool,
    ) -> tuple[Tensor, Any, Any]:
        """Makes a step, see `learn`; returns loss, output, and the error of x, perhaps None if nobody asks for it."""


def check_alone(x: Several) -> None:
    """Raises if autograd waits for an error of samples, which a step would not return."""
    if torch.is_grad_enabled() and any(getattr(part, "requires_grad", False) for part in parts_in(x)):
        raise BrodmannError(
            "x requires a gradient, which this call would not compute: to train what x comes from, write "
            "`loss, error = network.learn_with_error(x, target)` and `x.backward(error)`; otherwise give it "
            "x.detach()."
        )
