"""Muon: momentum whose singular values are made equal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..checks import check_positive, check_real, check_share
from .adam import Adam
from .rule import Factors, UpdateRule
from .settings import settings_by_name

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of ``p(s) = a s + b s^3 + c s^5``: five repetitions map [0.002, 1] into [0.68, 1.21]."""
_REPETITIONS = 5
_OF_BIASES = Adam()


@settings_by_name
@dataclass(frozen=True, kw_only=True)
class Muon(UpdateRule):
    """Muon, momentum with equal singular values (`torch.optim.Muon`), for each area by itself.

    ``m = momentum * m + (1 - momentum) g``, ``u = momentum * m + (1 - momentum) g`` (Nesterov's look ahead), and with
    the singular value decomposition ``u = U S V^T``

    ``w = (1 - lr * decay) w - lr * 0.2 sqrt(max(out, in)) * U V^T``.

    Adam divides each number of a gradient by its own size; Muon does the same to the directions of a matrix, so that
    inputs and errors which are rare move it as far as those that are common. The factor gives a step of Adam's size
    (Liu et al. 2025), so that the rates of Adam serve. ``U V^T`` is approximate: five repetitions of a polynomial leave
    singular values between 0.68 and 1.21, smaller if one was below 0.002 of the norm. w, g, m are (out, in); a
    weight of more dimensions counts as (first, all others). Biases, and all that has one dimension, follow `Adam` at
    the same rate.

    Costs about ``2 (2 m^2 n + 17 m^3)`` operations a step and area, m the smaller and n the larger of in and out, which
    in small batches is several times what the rest of the step costs, and half of Adam's memory. A map and its
    Kolen-Pollack feedback share that computation while their velocities are equal. No compiled kernel knows it: it runs
    in PyTorch's products.

    Source: Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks"; for each area, and for
    readouts too: our choice (docs/log.md).

    Attributes:
        decay: Decoupled weight decay per unit of learning rate. Default 0; the command line and estimators take 0.2,
            chosen on validation parts (docs/results.md).
        momentum: Momentum. Default 0.95, as in the source and in PyTorch.
        epsilon: Smallest norm by which u is divided. Default 1e-7.

    Raises:
        BrodmannError: The decay is negative, the momentum not in [0, 1), or epsilon not above 0.
    """

    momentum: float = 0.95
    epsilon: float = 1e-7
    scale_free: ClassVar[bool] = True
    usual_decay: ClassVar[float] = 0.2

    def __post_init__(self) -> None:
        check_real(decay=self.decay)
        check_share(momentum=self.momentum)
        check_positive(epsilon=self.epsilon)

    def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """One velocity per weight; for biases what `Adam` keeps."""
        return {"velocity": shape} if len(shape) > 1 else _OF_BIASES.state_shapes(shape)

    def apply(self, weight: Tensor, state: dict[str, Tensor], factors: Factors, lr: float, decay: float) -> None:
        """See `UpdateRule.apply`."""
        if weight.ndim < 2:
            _OF_BIASES.apply(weight, state, factors, lr, decay)
            return
        ahead = factors.dense()
        velocity = state["velocity"].lerp_(ahead, 1.0 - self.momentum)
        change = factors.once(self._orthogonal, ahead.lerp_(velocity, self.momentum).flatten(1))
        if decay:
            weight.mul_(1.0 - lr * decay)
        weight.add_(change.reshape(weight.shape), alpha=-lr * 0.2 * math.sqrt(max(change.shape)))

    def _orthogonal(self, matrix: Tensor) -> Tensor:
        return orthogonal(matrix, self.epsilon)


def orthogonal(matrix: Tensor, epsilon: float) -> Tensor:
    """Returns ``U p(p(...(S))) V^T`` of ``matrix = U S V^T``, (out, in), S divided by its norm first.

    ``p(X) = (a I + b G + c G^2) X`` with ``G = X X^T``: as every factor is a polynomial of the first G, all repetitions
    are taken on that smaller matrix, and X is multiplied once at the end.
    """
    wide: Tensor = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.t()  # (m, n), m <= n
    wide = wide / wide.norm().clamp_min(epsilon)
    gram = wide @ wide.t()  # (m, m), as all that follows but the last product
    once = whole = _quintic(gram)
    for _ in range(_REPETITIONS - 1):
        gram = once @ gram @ once
        once = _quintic(gram)
        whole = once @ whole
    equal = whole @ wide
    return equal if equal.shape == matrix.shape else equal.t()


def _quintic(gram: Tensor) -> Tensor:
    linear, cubic, quintic = _QUINTIC
    once = torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic)
    once.diagonal().add_(linear)
    return once
