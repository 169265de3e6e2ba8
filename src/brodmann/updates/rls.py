"""Recursive least squares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..checks import check_positive, check_real
from ..errors import DivergenceError
from .rule import Factors, UpdateRule
from .settings import settings_by_name

UNEXPLAINED = 1e-7
"""The least of a direction that counts as unexplained when areas merge: float32 cannot distinguish less from 0."""


@settings_by_name
@dataclass(frozen=True, kw_only=True)
class RLS(UpdateRule):
    """Recursive least squares: the gradient times the inverse covariance of every input the weight has ever seen.

    ``C = (ridge I + sum over all rows so far of x x^T)^-1``, this step's rows included, and ``W = (1 - lr * decay) W -
    lr * (delta^T x) C``. What a direction of the input has already determined is hardly moved by later samples, so
    that a stream that changes does not overwrite it: little is forgotten, and task boundaries need not be known.

    With an output layer, `SumOfSquares` and ``lr = 1``, every step leaves exactly the ridge regression on all samples
    that ever chose the area, whatever the batches. For hidden layers the target moves, and the rule is a
    Gauss-Newton step on the side of the inputs. Biases do not move, since the weights have already removed the
    error: give the layer a constant input instead, as `stream_mlp` does.

    ``C = R R^T`` is carried by its root, ``R = (I - N) / sqrt(ridge)``, which no rounding makes negative: about 3 rows
    in^2 multiplications a step and in^2 numbers an area. A sample of weight w counts as w samples. Source: Plackett
    (1950), the root by Andrews (1968); in hidden layers Shah, Palmieri and Datum (1992); to hold what was learned Zeng
    et al. (2019), who are told when tasks end. Per area: our choice.

    Attributes:
        decay: Decoupled weight decay. Default 0. With a decay, old samples lose weight and the regression is not exact.
        ridge: Sum of squares, in units of the input squared, below which a direction counts as never seen. Default 10:
            for inputs of variance 1 the first ten samples count half.

    Raises:
        BrodmannError: The decay is negative, or the ridge not above 0.
        DivergenceError: While learning: inputs are so large that they cannot be distinguished.
    """

    ridge: float = 10.0
    repeats: ClassVar[bool] = True
    recursive: ClassVar[bool] = True
    needs_inputs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_real(decay=self.decay)
        check_positive(ridge=self.ridge)

    @property
    def default_lr(self) -> float:
        """1: a whole step, which is exact."""
        return 1.0

    def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """``N``: what of each input direction is explained, 0 (nothing) to I (everything). None for a bias."""
        return {"explained": (shape[1], shape[1])} if len(shape) == 2 else {}

    def apply(self, weight: Tensor, state: dict[str, Tensor], factors: Factors, lr: float, decay: float) -> None:
        """See `UpdateRule.apply`."""
        if factors.x is None:
            return
        x, explained, root_ridge = factors.x, state["explained"], math.sqrt(self.ridge)
        most = max(64, x.shape[1])
        if len(x) <= most:
            gain = self._see(x, explained, root_ridge)
        else:  # such as patches: what a step costs would grow with the square of its rows
            for part in torch.split(x, most):
                self._see(part, explained, root_ridge)
            seen = _times_root(x, explained, root_ridge)
            gain = torch.addmm(seen, seen, explained.t(), alpha=-1.0).div_(root_ridge)
        weight.addmm_(factors.delta.t(), gain, beta=1.0 - lr * decay, alpha=-lr)

    def merge(
        self,
        weight: Tensor,
        state: dict[str, Tensor],
        other: Tensor,
        other_state: dict[str, Tensor],
        origin: Tensor,
    ) -> None:
        """Makes them the regression on the samples of both, exact if both were; their start is pulled to only once.

        ``C^-1 = C1^-1 + C2^-1 - ridge I`` and ``W = (W1 C1^-1 + W2 C2^-1 - ridge W_start) C``. Samples that an area saw
        before the other became its copy count in both, and so twice. See `UpdateRule.merge`.
        """
        if not state:  # a bias, which never moves
            return
        one, two = _information(state["explained"]), _information(other_state["explained"])
        identity = torch.eye(len(one), dtype=one.dtype, device=one.device)
        lower = torch.linalg.cholesky(one + two - identity)
        moments = weight.to(one) @ one + other.to(one) @ two - origin.to(one)
        weight.copy_(torch.cholesky_solve(moments.t(), lower).t())
        state["explained"].copy_(identity - torch.linalg.solve_triangular(lower.t(), identity, upper=True))

    def _see(self, x: Tensor, explained: Tensor, root_ridge: float) -> Tensor:
        """Takes rows (rows, in) into ``N``, in place; returns ``X C`` with the new C, (rows, in)."""
        seen = _times_root(x, explained, root_ridge)  # F = X R, (rows, in)
        back = torch.addmm(seen, seen, explained.t(), alpha=-1.0)  # sqrt(ridge) X C, (rows, in)
        identity = torch.eye(len(x), dtype=x.dtype, device=x.device)
        try:
            lower = torch.linalg.cholesky(torch.addmm(identity, seen, seen.t()))  # K, of I + F F^T, (rows, rows)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            raise DivergenceError(
                "Recursive least squares cannot go on: its inputs are too large. Standardise them (an estimator takes "
                "the scale of each feature from the first call in which it varies), or raise the ridge of the rule."
            ) from None
        # R - R F^T K^-T (K + I)^-1 F is a root of the new C.
        part = torch.linalg.solve_triangular(lower + identity, seen, upper=False)
        explained.addmm_(back.t(), torch.linalg.solve_triangular(lower.t(), part, upper=True))
        return torch.cholesky_solve(back, lower).div_(root_ridge)


def _times_root(x: Tensor, explained: Tensor, root_ridge: float) -> Tensor:
    """Returns ``F = X R = X (I - N) / sqrt(ridge)``, (rows, in)."""
    return torch.addmm(x, x, explained, alpha=-1.0).div_(root_ridge)


def _information(explained: Tensor) -> Tensor:
    """Returns ``C^-1 / ridge``, (in, in) in float64: the identity for directions without samples, never below it."""
    root = torch.eye(len(explained), dtype=torch.float64, device=explained.device) - explained
    axes, lengths, _ = torch.linalg.svd(root)
    inverse: Tensor = axes / lengths.clamp(UNEXPLAINED, 1.0)
    return inverse @ inverse.t()
