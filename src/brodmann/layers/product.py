"""Product: a map of any form with one tensor of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..areas import Slab
from ..errors import BrodmannError
from ..feedback import Feedback, KolenPollack, Shape, build_feedback
from ..layer import Context, Gathering
from ..recording import ordinary, unrecorded
from ..routing import Choice, Route
from ..updates import SGD, UpdateRule, check_rule


class ProductTrace(NamedTuple):
    """What a `Product` remembers of one forward pass: input, weights and the output that autograd made of them."""

    x: Tensor
    weight: Tensor
    y: Tensor


class Product(Gathering):
    """A map of any form, ``y = f(x, W)``, where f is linear in x and linear in W.

    For what an `AreaLinear` cannot say: convolutions of several groups, transposed ones, those of volumes, and products
    that are written out, such as `torch.einsum`. One map serves every sample: it has no areas. With ``e = dL/dy`` as
    the feedback sees it, a step computes

    - ``e_below = d<e, f(x, B)> / dx``, B the feedback weights, shaped as W: a convolution with B sends its error down
      by the transposed convolution with B;
    - ``W <- W - lr u``, u what the rule makes of ``d<e, f(x, W)> / dW``, at the rate of shared parts. `KolenPollack`
      moves B likewise.

    PyTorch's formula for f alone is used, once with B and once for W: no forward weight is transported. Source: our
    choice; for convolutions as in Akrout et al. (2019).
    """

    def __init__(
        self,
        operation: Callable[[Tensor, Tensor], Tensor],
        weight: Tensor,
        *,
        feedback: Callable[[Shape], Feedback] | None = KolenPollack,
        update: UpdateRule | None = None,
        storage: torch.dtype | None = None,
    ) -> None:
        """Copies the weights.

        Args:
            operation: f, of an input (samples, ...) and weights, such as ``partial(torch.conv2d, groups=4)``. It must
                be linear in each of the two, which is not checked, and treat every sample alone.
            weight: W as it starts, (out, ...), of at least two dimensions. Feedback paths take it as a matrix
                (out, in) with all but the first dimension in one; B starts as large as W, but that of fixed random
                feedback and of signs as if a sum had so many terms.
            feedback: Its way down, as for `AreaLinear`, if errors go down by one matrix, which stays or moves as W
                does. None where nothing below learns.
            update: Rule that moves W. Default plain SGD. Under `RLS`, which asks for rows of inputs, W stays.
            storage: As for `AreaLinear`.

        Raises:
            BrodmannError: The operation cannot be called or holds parameters, the weights are of another kind, or the
                feedback has no such matrix.
        """
        super().__init__()
        held = any(True for _ in operation.parameters()) if isinstance(operation, nn.Module) else False
        if not callable(operation) or held:
            raise BrodmannError(
                f"Expected the operation of a Product as a function of inputs and weights, without parameters of its "
                f"own, got {operation!r}."
            )
        if not isinstance(weight, Tensor) or weight.ndim < 2 or weight.dtype not in (torch.float32, torch.float64):
            came = f"{tuple(weight.shape)} {weight.dtype}" if isinstance(weight, Tensor) else type(weight).__name__
            raise BrodmannError(f"Expected weights (out, ...) of float32 or float64, got {came}.")
        rule = update or SGD()
        check_rule(rule)
        self.operation, self.form, self.update_rule = operation, tuple(weight.shape), rule
        with torch.inference_mode(False):
            matrix = weight.detach().clone().flatten(1)
        out, inputs = matrix.shape
        scale = float(matrix.square().mean() * inputs) ** 0.5
        shape = Shape(inputs, out, 1, True, matrix, rule, storage, scale=scale or 1.0)
        self.slab = Slab(shape.stored(matrix[None]), rule)
        self.feedback = None if feedback is None else build_feedback(feedback, shape)
        if self.feedback is not None:
            _check_path(self.feedback, matrix)
        if weight.dtype != torch.get_default_dtype():
            self.to(weight.dtype)

    @property
    def sends_down(self) -> bool:
        """Whether it has feedback."""
        return self.feedback is not None

    @property
    def weight(self) -> Tensor:
        """W."""
        return self.slab.value[0].view(self.form)

    def forward(self, x: Tensor, choice: Route | Choice | None = None) -> Tensor:
        """Inference: x (samples, ...); returns (samples, ...)."""
        return self.operation(x, self.weight.to(x.dtype))

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, ProductTrace]:
        """Learning forward pass."""
        with torch.inference_mode(False), torch.enable_grad():
            weight = self.weight.detach().to(x.dtype).requires_grad_()
            y = self.operation(ordinary(x).detach(), weight)
        return y.detach(), ProductTrace(x, weight, y)

    @unrecorded
    def learn(self, trace: ProductTrace, error: Tensor, context: Context) -> Tensor | None:
        """Error pass: error shaped as the output; returns that below, shaped as the input, or None."""
        error = context.received(self, error)
        with torch.inference_mode(False):
            error = ordinary(error)
            below = None if self.feedback is None else self._error_below(self.feedback, trace.x, error)
            (gradient,) = torch.autograd.grad(trace.y, trace.weight, error)
        self.hand_over(gradient.reshape(len(gradient), -1), context)
        return below

    @unrecorded
    def move(self, parts: list[Tensor], context: Context) -> None:
        """Moves the weights, and feedback weights that follow them, by gradients (out, in)."""
        gradient = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
        rates, lr = context.rates, context.lr_of(self)
        follower = None if self.feedback is None else self.feedback.follower
        for slab, rate in ((self.slab, lr * rates.shared), (follower, lr * rates.feedback)):
            if slab is not None and rate:
                slab.move(gradient, rate, self.update_rule.decay)

    def _error_below(self, feedback: Feedback, x: Tensor, error: Tensor) -> Tensor:
        matrix = feedback.one_matrix(self.slab.value[0])
        assert matrix is not None
        with torch.enable_grad():
            leaf = ordinary(x).detach().requires_grad_()
            y = self.operation(leaf, matrix.detach().to(x.dtype).view(self.form))
        return torch.autograd.grad(y, leaf, error)[0]

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"{self.form}, {self.update_rule}"


def _check_path(path: Feedback, matrix: Tensor) -> None:
    """Raises where a path is more than one matrix, which stays or follows the weights."""
    by_rows = type(path).learn is not Feedback.learn and path.follower is None
    if path.one_matrix(matrix) is None or by_rows:
        raise BrodmannError(
            f"{type(path).__name__} has no way down through a Product, such as a convolution of several groups: choose "
            "a path of one matrix, which stays or moves as the weights do, such as KolenPollack without noise."
        )
