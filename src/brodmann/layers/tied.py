"""Tied weights: one tensor that several products of a network share, such as embedding and readout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..areas import Slab
from ..autograd import unrecorded
from ..errors import BrodmannError
from ..feedback import Feedback, KolenPollack, Shape
from ..layer import Context, Layer
from ..routing import Chosen
from ..updates import UpdateRule
from .weights import Operation, ProductTrace, Weights, check_operation, traced_product


class TiedWeights(Weights):
    """Weights W that several maps share: a node of a `Graph` that reads nothing, and is read by `TiedProduct` nodes.

    ``y1 = f1(x1, W)``, ``y2 = f2(x2, W)``, and so on: the table of an embedding that is the readout too, an encoder
    whose decoder is its transpose. Every product sends its error down by one matrix of feedback weights B, shaped as W
    and held here. Other operations may read W as well, such as one that looks tokens up in it; one that multiplies by
    it would send its error down by W itself. A step moves W once, ``W <- W - lr u``, u what the rule makes of the sum
    of all their gradients, at the rate of shared parts, and W decays; `KolenPollack` moves B likewise. It has no areas.

    Source: tied embeddings are those of Press and Wolf (2017); what carries errors down in their place is our choice.
    """

    def __init__(
        self,
        weight: Tensor,
        *,
        feedback: Callable[[Shape], Feedback] | None = KolenPollack,
        update: UpdateRule | None = None,
    ) -> None:
        """Copies the weights.

        Args:
            weight: W as it starts, (out, ...), of at least two dimensions.
            feedback: The feedback path of all products that read it, as for `Product`. None if nothing below them
                learns.
            update: Rule that moves W. Default plain SGD. Under `RLS` W stays.

        Raises:
            BrodmannError: The weights are of another kind, or the feedback is more than one matrix.
        """
        super().__init__(weight, feedback, update)

    @property
    def reads(self) -> bool:
        """False: it ignores its input."""
        return False

    def forward(self, x: Tensor, choice: Chosen = None) -> Tensor:
        """Returns W."""
        return self.weight

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, None]:
        """Returns W: its readers are done before it moves."""
        return self.weight, None

    @unrecorded
    def learn(self, trace: Any, error: Tensor, context: Context) -> None:
        """Moves by the gradient, of W's shape, which `TiedProduct` layers computed from clipped errors."""
        self.hand_over(error, context)


class TiedProduct(Layer):
    """A map ``y = f(x, W)`` by weights that others use too, see `TiedWeights`: a node of a `Graph` that reads x and W.

        table = TiedWeights(0.02 * torch.randn(50, 32))
        Graph(
            {
                "table": (table,),
                "rows": (functional.embedding, "input", "table"),
                ...
                "scores": (TiedProduct(functional.linear, table), "hidden", "table"),
            }
        )

    f is linear in x and linear in W. With ``e = dL/dy`` as the feedback sees it, ``e_below = d<e, f(x, B)> / dx`` goes
    down to x, and ``d<e, f(x, W)> / dW`` to the weights, which move by it. Source: our choice.
    """

    def __init__(self, operation: Operation, weights: TiedWeights, *, lowest: bool = False) -> None:
        """Takes the operation; only their own node holds the weights.

        Args:
            operation: f, as for `Product`.
            weights: The layer of the node that it reads second.
            lowest: Whether nothing below it learns, so that it sends no error down. Default False.

        Raises:
            BrodmannError: The operation cannot be called or holds parameters, or these are no tied weights.
        """
        super().__init__()
        check_operation(operation, "TiedProduct")
        if not isinstance(weights, TiedWeights):
            raise BrodmannError(
                f"Expected the weights of a TiedProduct to be a TiedWeights layer, got {type(weights).__name__}."
            )
        self.operation, self.lowest = operation, lowest
        self._held = (weights,)  # in a tuple, which keeps it from being a part of this module

    @property
    def weights(self) -> TiedWeights:
        """The layer that holds W and B."""
        return self._held[0]

    @property
    def shared(self) -> Slab:
        """The slab that holds W as a matrix."""
        return self.weights.shared

    @property
    def one_map(self) -> Tensor:
        """W as a matrix, (out, in)."""
        return self.weights.one_map

    @property
    def feedback(self) -> Feedback | None:
        """Its feedback path, which all products by these weights share."""
        return None if self.lowest else self.weights.feedback

    @property
    def sends_down(self) -> bool:
        """Whether it has feedback."""
        return self.feedback is not None

    def forward(self, x: tuple[Tensor, Tensor], choice: Chosen = None) -> Tensor:  # type: ignore[override]
        """Inference: x (samples, ...) and W; returns (samples, ...)."""
        came, weight = self._pair(x)
        return self.operation(came, weight.to(came.dtype))

    @unrecorded
    def trace(self, x: tuple[Tensor, Tensor], context: Context) -> tuple[Tensor, ProductTrace]:  # type: ignore[override]
        """Learning forward pass: x (samples, ...) and W."""
        trace = traced_product(self.operation, *self._pair(x))
        return trace.y.detach(), trace

    @unrecorded
    def learn(self, trace: ProductTrace, error: Tensor, context: Context) -> tuple[Tensor | None, Tensor]:  # type: ignore[override]
        """Error pass: error shaped as the output; returns that below, shaped as x, or None, and the gradient of W."""
        error = context.received(self, error)
        return self.weights.pulled_back(self.operation, trace, error, down=self.sends_down)

    @staticmethod
    def _pair(x: Any) -> tuple[Tensor, Tensor]:
        if not isinstance(x, tuple):
            raise BrodmannError(
                "A TiedProduct takes a value and the weights that it shares: make it a node of the Graph in which "
                "those weights are a node, and let it read both."
            )
        return x

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return f"by weights {self.weights.form}"
