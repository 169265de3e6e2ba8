"""Constant: a tensor as a layer; mostly for gains and shifts that learn."""

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
    """A tensor, ``y = c``, whatever the input: a node of a `Graph` that reads nothing.

    With a rule it learns: ``c`` moves by its error, ``dL/dc``, at the rate of shared parts, since it serves every
    sample. It does not decay, as biases do not, and under `RLS` it stays, as they do. Source: our choice.
    """

    def __init__(self, value: Tensor, update: UpdateRule | None = None, *, form: tuple[int, ...] | None = None) -> None:
        """Copies the tensor.

        Args:
            value: Tensor of any shape.
            update: Rule that moves it. Default None: it never moves, and may hold whole numbers.
            form: Shape in which its readers get it. Default that of the value, in which it moves: `Muon` tells a
                matrix from a number for each channel, (channels,), which readers may need as (channels, 1).

        Raises:
            BrodmannError: It is not a tensor, it is to learn and is neither float32 nor float64, or the form holds
                another number of values.
        """
        super().__init__()
        if not isinstance(value, Tensor):
            raise BrodmannError(f"Expected the value of a Constant to be a tensor, got {type(value).__name__}.")
        self.slab: Slab | None = None
        self._update_rule = update
        self._form = tuple(value.shape) if form is None else form
        with torch.inference_mode(False):
            own = value.detach().clone()
            try:
                shown = own.reshape(self._form)
            except (RuntimeError, TypeError):
                raise BrodmannError(
                    f"Expected form to be a shape of {value.numel()} numbers, as {tuple(value.shape)} is, got {form!r}."
                ) from None
        if update is None:
            self.register_buffer("fixed", shown)
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
        return self.fixed if self.slab is None else self.slab.value[0].view(self._form)  # type: ignore[return-value]

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
            gradient = sum(parts[1:], parts[0]).reshape(self.slab.value.shape[1:])
            self.slab.move(gradient, lr, 0.0)

    def as_now(self, state: dict[str, Tensor], prefix: str) -> None:
        """Makes of its part of a ``state_dict`` that an earlier version saved what this one would have saved.

        There it moved in the shape in which its readers get it. A rule that keeps something else for the shape of the
        value, as `Muon` does for a bias, begins anew.
        """
        if self.slab is None or f"{prefix}slab.value" not in state:
            return
        own = self.slab.tensors()
        if state[f"{prefix}slab.value"].shape == (1, *self._form) != own["value"].shape:
            earlier = {name: state.pop(name) for name in list(state) if name.startswith(f"{prefix}slab.")}
            for name, tensor in own.items():
                saved = earlier.get(f"{prefix}slab.{name}")
                state[f"{prefix}slab.{name}"] = torch.zeros_like(tensor) if saved is None else saved.view(tensor.shape)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        self.as_now(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        moves = "fixed" if self.slab is None else str(self.update_rule)
        return f"{tuple(self.value.shape)}, {moves}"


def affine(
    gain: Tensor,
    shift: Tensor | None = None,
    update: UpdateRule | None = None,
    *,
    form: tuple[int, ...] | None = None,
) -> Graph:
    """Returns ``gain * x + shift``, which may learn: what PyTorch's norms end with.

    The error below is ``gain * e``: a unit knows its own gain, and no weight of another layer is transported.

    Args:
        gain: Tensor of a shape that broadcasts with x, such as (features,).
        shift: Tensor of such a shape. Default None: there is none.
        update: Rule that moves both. Default None: they stay.
        form: Shape in which both broadcast with x. Default their own.
    """
    nodes: dict[str, tuple[Any, ...]] = {"gain": (Constant(gain, update, form=form),)}
    if shift is None:
        return Graph({**nodes, "scaled": (torch.mul, INPUT, "gain")})
    return Graph(
        {**nodes, "shift": (Constant(shift, update, form=form),), "scaled": (torch.addcmul, "shift", INPUT, "gain")},
    )
