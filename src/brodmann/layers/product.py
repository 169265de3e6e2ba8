"""Product: a map of any form with one tensor of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..autograd import unrecorded
from ..feedback import Feedback, KolenPollack, Shape
from ..layer import Context
from ..routing import Chosen
from ..several import check_several, parts_in
from ..updates import UpdateRule
from .weights import Operation, ProductTrace, Weights, check_operation, traced_product


class Product(Weights):
    """A map of any form, ``y = f(x, W)``, with f linear in x and linear in W.

    For what an `AreaLinear` cannot say: convolutions of several groups, transposed ones, those of volumes, and products
    that are written out, such as `torch.einsum`. One map serves every sample: it has no areas. With ``e = dL/dy`` as
    the feedback sees it, a step computes

    - ``e_below = d<e, f(x, B)> / dx``, B the feedback weights, shaped as W: a convolution with B sends its error down
      by the transposed convolution with B;
    - ``W <- W - lr u``, u what the rule makes of ``d<e, f(x, W)> / dW``, at the rate of shared parts. `KolenPollack`
      moves B likewise.

    Only PyTorch's derivative of f is used, once with B and once for W: no forward weight is transported. Source: our
    choice; for convolutions as in Akrout et al. (2019).
    """

    def __init__(
        self,
        operation: Operation,
        weight: Tensor,
        *,
        feedback: Callable[[Shape], Feedback] | None = KolenPollack,
        update: UpdateRule | None = None,
        storage: str | torch.dtype | None = None,
    ) -> None:
        """Copies the weights.

        Args:
            operation: f, of an input (samples, ...) and weights, such as ``partial(torch.conv2d, groups=4)``. It must
                be linear in each of the two, which is not checked, and treat samples independently. In a `Graph` it may
                take further tensors after them, which its node reads after the input, and through which no error goes:
                such as which of several weights each row goes to.
            weight: W as it starts, (out, ...), of at least two dimensions. Feedback paths take it as a matrix
                (out, in), all dimensions but the first flattened. B starts at the scale of W; fixed random and
                sign-symmetric feedback have that of weights of standard deviation ``1 / sqrt(in)`` instead.
            feedback: Its feedback path, as for `AreaLinear`; it must send errors down by one matrix, which stays or
                moves as W does. None if nothing below learns.
            update: Rule that moves W. Default plain SGD. Under `RLS`, which asks for rows of inputs, W stays.
            storage: As for `AreaLinear`.

        Raises:
            BrodmannError: The operation cannot be called or holds parameters, the weights are of another kind, or the
                feedback has no such matrix.
        """
        check_operation(operation, "Product")
        super().__init__(weight, feedback, update, storage)
        self.operation = operation

    @property
    def sends_down(self) -> bool:
        """Whether it has feedback."""
        return self.feedback is not None

    def forward(self, x: Tensor | tuple[Tensor, ...], choice: Chosen = None) -> Tensor:
        """Inference: x (samples, ...), with further inputs if the operation takes them; returns (samples, ...)."""
        value, *others = parts_in(x)
        try:
            return self.operation(value, self.weight.to(value.dtype), *others)
        except (TypeError, AttributeError):
            check_several(x=x)
            raise

    @unrecorded
    def trace(self, x: Tensor | tuple[Tensor, ...], context: Context) -> tuple[Tensor, ProductTrace]:
        """Learning forward pass: x as for `forward`; returns (samples, ...), and what `learn` needs."""
        value, *others = parts_in(x)
        trace = traced_product(self.operation, value, self.weight, *others)
        return trace.y.detach(), trace

    @unrecorded
    def learn(self, trace: ProductTrace, error: Tensor, context: Context) -> Any:
        """Error pass: error shaped as the output; returns that below, shaped as the input, or None; others get None."""
        error = context.received(self, error)
        below, gradient = self.pulled_back(self.operation, trace, error, down=self.sends_down)
        self.hand_over(gradient, context)
        return (below, *(None for _ in trace.others)) if trace.others else below
