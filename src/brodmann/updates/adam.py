"""Adam with decoupled decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..checks import check_positive, check_real, check_share
from .rule import Factors, UpdateRule
from .settings import settings_by_name


@settings_by_name
@dataclass(frozen=True, kw_only=True)
class Adam(UpdateRule):
    """Adam with decoupled decay (`torch.optim.AdamW`), its step count kept per area.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``,
    ``w = (1 - lr * decay) w - lr * m^ / (sqrt(v^) + epsilon)`` with the bias-corrected ``m^ = m / (1 - b1^t)`` and
    ``v^ = v / (1 - b2^t)``, where ``t`` counts the steps of this area: an area chosen for the first time late in
    training is corrected like one at its start. m and v are shaped like w, (out, in) or (out,), and count only steps in
    which the area was chosen.

    Source: Kingma and Ba (2015), decay by Loshchilov and Hutter (2019); counts per area: our choice.

    Attributes:
        decay: Decoupled weight decay per unit of learning rate. Default 0; the command line and estimators take 0.2,
            chosen on validation parts (docs/results.md).
        beta1: Decay of the first moment. Default 0.9, as in the paper and in PyTorch.
        beta2: Decay of the second moment. Default 0.999, likewise.
        epsilon: Added to the root of the second moment. Default 1e-8, likewise.

    Raises:
        BrodmannError: The decay is negative, a beta not in [0, 1), or epsilon not above 0.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    scale_free: ClassVar[bool] = True
    usual_decay: ClassVar[float] = 0.2

    def __post_init__(self) -> None:
        check_real(decay=self.decay)
        check_share(beta1=self.beta1, beta2=self.beta2)
        check_positive(epsilon=self.epsilon)

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
