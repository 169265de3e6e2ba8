"""Update rules: how a weight moves, given the factors of its gradient.

A rule is stateless. What it remembers (momentum, moments, step counts) lies in buffers beside the weight, so that
moving, saving, splitting and merging carry it along.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from .checks import check_positive, check_real, check_settings, check_share
from .errors import BrodmannError, DivergenceError, unknown_name


@dataclass(frozen=True)
class Factors:
    """A gradient as its factors: ``delta^T x`` for a weight, ``sum over rows of delta`` for a bias.

    Attributes:
        delta: Gradient with respect to what the weight computes, (rows, out).
        x: What the weight was applied to, (rows, in); None for a bias, and where ``delta`` is the gradient itself,
            (1, ...), as of a `Product`.
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


LEARNING_RATE = 3e-3
"""Where neither a caller nor a rule says otherwise: with Adam better than 1e-3 on validation parts, docs/results.md."""


@dataclass(frozen=True)
class UpdateRule(ABC):
    """How one weight moves in place.

    Attributes:
        decay: Decoupled weight decay (per unit of learning rate): every step first multiplies the weight by
            ``1 - lr * decay``. Biases never decay. Default 0.
        repeats: Class attribute: True if weight w means that the sample is seen w times, as for rules that remember
            inputs; otherwise its error is multiplied by w.
        scale_free: Class attribute: True if the size of a step does not depend on that of the gradient, as for Adam and
            sign rules. Areas beside a learning shared part then move at a tenth of its rate, see `Rates`.
        recursive: Class attribute: True if one pass over single samples is all that it needs, as for `RLS`: networks
            then have `SumOfSquares` for their loss, and schedules one epoch of small batches at a constant rate.
    """

    decay: float = field(default=0.0, kw_only=True)
    repeats: ClassVar[bool] = False
    scale_free: ClassVar[bool] = False
    recursive: ClassVar[bool] = False

    @property
    def default_lr(self) -> float:
        """Learning rate of a network that follows the rule, where none is given."""
        return LEARNING_RATE

    @abstractmethod
    def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Returns name and shape of every buffer that the rule keeps for a weight of this shape.

        All start at zero, in the weight's kind of number (float32 beside bfloat16), one for each area. The name
        ``steps`` stands for an int64 count, of shape ``()``. A shape is (out, in), or (out,) for a bias.

        Raises:
            BrodmannError: Where the weight is built: a name is no identifier, or is taken by the weight itself.
        """

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


@dataclass(frozen=True)
class SGD(UpdateRule):
    """Stochastic gradient descent: ``m = momentum * m + g``, ``w = (1 - lr * decay) * w - lr * m``.

    Same as `torch.optim.SGD` (no dampening, no Nesterov), but for the decay, which is decoupled (Loshchilov and Hutter
    2019). g is the gradient of the loss as the feedback sees it; w and m are (out, in), or (out,) for biases.

    Attributes:
        decay: Decoupled weight decay per unit of learning rate. Default 0.
        momentum: Default 0: plain descent keeps no state at all, the cheapest rule there is.

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


@dataclass(frozen=True)
class Adam(UpdateRule):
    """Adam with decoupled decay (`torch.optim.AdamW`), its step count kept per area.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``,
    ``w = (1 - lr * decay) w - lr * m^ / (sqrt(v^) + epsilon)`` with the bias-corrected ``m^ = m / (1 - b1^t)`` and
    ``v^ = v / (1 - b2^t)``, where ``t`` counts the steps of this very area: an area chosen for the first time late in
    training is corrected like one at its start. m and v are shaped like w, (out, in) or (out,), and count only steps in
    which the area was chosen.

    Source: Kingma and Ba (2015), decay by Loshchilov and Hutter (2019); counts per area: our choice.

    Attributes:
        decay: Decoupled weight decay per unit of learning rate. Default 0; the command line and estimators take 0.2.
        beta1: Default 0.9, that of the paper and of PyTorch.
        beta2: Default 0.999, likewise.
        epsilon: Default 1e-8, likewise.

    Raises:
        BrodmannError: The decay is negative, a beta not in [0, 1), or epsilon not above 0.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    scale_free: ClassVar[bool] = True

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


@dataclass(frozen=True)
class RLS(UpdateRule):
    """Recursive least squares: the gradient times the inverse covariance of every input the weight has ever seen.

    ``C = (ridge I + sum over all rows so far of x x^T)^-1``, this step's rows included, and ``W = (1 - lr * decay) W -
    lr * (delta^T x) C``. What a direction of the input has already determined is hardly moved by later samples, so
    that a stream that changes does not overwrite it: little is forgotten, nobody needs to say where a task ends.

    With an output layer, `SumOfSquares` and ``lr = 1``, every step leaves exactly the ridge regression on all samples
    that ever chose the area, whatever the batches. For hidden layers the target moves, and the rule is a
    Gauss-Newton step on the side of the inputs. Biases do not move, since the weights have already removed the
    error: give the layer a constant input instead, as `stream_mlp` does.

    ``C = R R^T`` is carried by its root, ``R = (I - N) / sqrt(ridge)``, which no rounding makes negative: about 3 rows
    in^2 multiplications a step and in^2 numbers an area. A sample of weight w counts as w samples. Source: Plackett
    (1950), the root by Andrews (1968); in hidden layers Shah, Palmieri and Datum (1992); to hold what was learned Zeng
    et al. (2019), who are told where tasks end. Per area: our choice.

    Attributes:
        decay: Default 0. With one, old samples lose weight and the regression is no longer exact.
        ridge: Sum of squares, in units of the input squared, below which a direction counts as never seen. Default 10:
            for inputs of variance 1 the first ten samples count half.

    Raises:
        BrodmannError: The decay is negative, or the ridge not above 0.
        DivergenceError: While learning: inputs are so large that they cannot be told apart.
    """

    ridge: float = 10.0
    repeats: ClassVar[bool] = True
    recursive: ClassVar[bool] = True

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
                "the scale of each feature from its first call), or raise the ridge of the rule."
            ) from None
        # R - R F^T K^-T (K + I)^-1 F is a root of the new C.
        part = torch.linalg.solve_triangular(lower + identity, seen, upper=False)
        explained.addmm_(back.t(), torch.linalg.solve_triangular(lower.t(), part, upper=True))
        return torch.cholesky_solve(back, lower).div_(root_ridge)


def _times_root(x: Tensor, explained: Tensor, root_ridge: float) -> Tensor:
    """Returns ``F = X R = X (I - N) / sqrt(ridge)``, (rows, in)."""
    return torch.addmm(x, x, explained, alpha=-1.0).div_(root_ridge)


UPDATES: dict[str, Callable[..., UpdateRule]] = {"sgd": SGD, "adam": Adam, "rls": RLS}


def counted(weight: Tensor, x: Tensor, *errors: Tensor) -> list[Tensor]:
    """Returns inputs and errors by which a rule that `repeats` counts each row ``weight`` times.

    They are ``sqrt(w) x`` and ``sqrt(w) e``: weight (rows,), x (rows, in), and errors (rows, ...), which hold ``w e``.
    """
    root = weight.to(x).reshape(-1, 1).sqrt()
    inverse = torch.where(root > 0, 1 / root, 0.0)
    return [x * root, *(error * inverse for error in errors)]


def check_counts(weight: Tensor, rows: int) -> None:
    """Checks weights of samples, (samples, ...), by which a rule that `repeats` counts the rows of a layer.

    Raises:
        BrodmannError: Not every row has one of its own or that of its sample, or one is negative.
    """
    if rows % weight.numel() or bool((weight < 0).any()):
        raise BrodmannError(
            "Expected a weight of at least 0 for each row of the layers, which count a sample so many times, got "
            f"{weight.numel()} for {rows} rows, the smallest {float(weight.min())}."
        )


def check_rule(update: Any) -> None:
    """Checks that an update is a rule, not its name or its class; raises a `BrodmannError`."""
    if not isinstance(update, UpdateRule):
        raise BrodmannError(f"Expected update to be a rule such as Adam(), got {update!r}.")


def update_rule(name: str, **options: float) -> UpdateRule:
    """Builds an update rule by name (``"sgd"``, ``"adam"`` or ``"rls"``) for command lines and configurations."""
    if not isinstance(name, str) or name not in UPDATES:
        raise unknown_name("update rule", name, UPDATES, "brodmann.updates.UPDATES")
    check_settings(name, options, UPDATES[name])
    return UPDATES[name](**options)


def default_decay(name: str) -> float:
    """Returns the decay of a rule where none is given: 0.2 for Adam, chosen on validation parts, else its own."""
    return 0.2 if name == "adam" else update_rule(name).decay
