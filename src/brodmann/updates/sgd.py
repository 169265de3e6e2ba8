"""Stochastic gradient descent, with or without momentum."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..checks import check_real, check_share
from .rule import Factors, UpdateRule
from .settings import settings_by_name


@settings_by_name
@dataclass(frozen=True, kw_only=True)
class SGD(UpdateRule):
    """Stochastic gradient descent: ``m = momentum * m + g``, ``w = (1 - lr * decay) * w - lr * m``.

    Same as `torch.optim.SGD` (no dampening, no Nesterov), but for the decay, which is decoupled (Loshchilov and Hutter
    2019). g is the gradient of the loss as the feedback sees it; w and m are (out, in), or (out,) for biases.

    Attributes:
        decay: Decoupled weight decay per unit of learning rate. Default 0.
        momentum: Momentum. Default 0: plain descent keeps no state at all, the cheapest rule there is.

    Raises:
        BrodmannError: The decay is negative, or the momentum not in [0, 1).
    """

    momentum: float = 0.0

    def __post_init__(self) -> None:
        check_real(decay=self.decay)
        check_share(momentum=self.momentum)

    @property
    def default_lr(self) -> float:
        """``0.3 (1 - momentum)``, since momentum multiplies a step by ``1 / (1 - momentum)`` (docs/log.md)."""
        return 0.3 * (1.0 - self.momentum)

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
