"""Constant: a tensor of its own, as a layer; mostly for gains and shifts that learn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..areas import Slab
from ..autograd import unrecorded
from ..errors import BrodmannError
from ..layer import Context, Gathering
from ..routing import Chosen
from ..updates import UpdateRule, check_rule
from .graph import INPUT, Graph


class Constant(Gathering):
    """A tensor of its own, ``y = c``, whatever comes to it: a node of a `Graph` that reads nothing.

    With a rule it learns: ``c`` moves by its error, ``dL/dc``, at the rate of shared parts, since it serves every
    sample. It does not decay, as biases do not, and under `RLS` it stays, as they do. Source: our choice.
    """

    def __init__(self, value: Tensor, update: UpdateRule | None = None) -> None:
        """Copies the tensor.

        Args:
            value: Tensor of any shape.
            update: Rule that moves it. Default None: it never moves, and may hold whole numbers.

        Raises:
            BrodmannError: It is no tensor, or it is to learn and is neither float32 nor float64.
        """
        super().__init__()
        if not isinstance(value, Tensor):
            raise BrodmannError(f"Expected the value of a Constant to be a tensor, got {type(value).__name__}.")
        self.slab: Slab | None = None
        self._update_rule = update
        with torch.inference_mode(False):
            own = value.detach().clone()
        if update is None:
            self.register_buffer("fixed", own)
            return
        check_rule(update)
        if own.dtype not in (torch.float32, torch.float64):
            raise BrodmannError(f"Expected a Constant that learns to be float32 or float64, got {value.dtype}.")
        self.slab = Slab(own[None], update)

    @property
    def reads(self) -> bool:
        """False: it ignores its input."""
        return False

    @property
    def value(self) -> Tensor:
        """The tensor."""
        return self.fixed if self.slab is None else self.slab.value[0]  # type: ignore[return-value]

    def forward(self, x: Tensor, choice: Chosen = None) -> Tensor:
        """Returns the tensor."""
        return self.value

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, None]:
        """Returns the tensor: its readers are done before it moves."""
        return self.value, None

    @unrecorded
    def learn(self, trace: Any, error: Tensor, context: Context) -> None:
        """Moves by the error, of the tensor's shape."""
        if self.slab is not None:
            self.hand_over(error, context)

    @unrecorded
    def move(self, parts: list[Tensor], context: Context) -> None:
        """Moves by errors, each of the tensor's shape."""
        lr = context.lr_of(self, "shared")
        if lr and self.slab is not None:
            parts = [context.clipped(part) for part in parts]
            self.slab.move(sum(parts[1:], parts[0]), lr, 0.0)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        moves = "fixed" if self.slab is None else str(self.update_rule)
        return f"{tuple(self.value.shape)}, {moves}"


def affine(gain: Tensor, shift: Tensor | None = None, update: UpdateRule | None = None) -> Graph:
    """Returns ``gain * x + shift``, which may learn: what PyTorch's norms end with.

    The error below is ``gain * e``: a unit knows its own gain, and no weight of another layer is transported.

    Args:
        gain: Tensor of a shape that broadcasts with x, such as (features,).
        shift: Likewise. Default None: there is none.
        update: Rule that moves both. Default None: they stay.
    """
    nodes: dict[str, tuple[Any, ...]] = {"gain": (Constant(gain, update),)}
    if shift is None:
        return Graph({**nodes, "scaled": (torch.mul, INPUT, "gain")})
    return Graph(
        {**nodes, "shift": (Constant(shift, update),), "scaled": (torch.addcmul, "shift", INPUT, "gain")},
    )
