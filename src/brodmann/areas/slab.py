"""Slab: weights of equal shape, one per slot, with their biases and the buffers that the update rule keeps for each."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..errors import BrodmannError
from ..held import Held
from ..kernels import Groups, Served, Target, known_rule, operations
from ..recording import recorder_here, replayed
from ..updates import SGD, UpdateRule
from .slots import Slots


class Slab(Slots):
    """Weights of equal shape, one per slot, with the buffers that the update rule keeps for each.

    Their biases are another slab, ``bias``, (slots, out), or None. They move along, and never decay.
    """

    bias = Held["Slab | None"]()

    def __init__(self, value: Tensor, update: UpdateRule, bias: Tensor | None = None, reserve: int = 0) -> None:
        """Holds ``value`` (slots, *shape), which ``update`` will move, with room for ``reserve`` slots in all."""
        super().__init__(value, reserve)
        self.bias = None if bias is None else Slab(bias, update, reserve=reserve)
        self._update_rule = update
        self._start_states(self._shapes_of(update))

    @property
    def update_rule(self) -> UpdateRule:
        """Rule that moves the weights and their biases. It may be replaced between steps.

        What the old one remembers stays if the new one is of the same class and keeps buffers of the same shapes;
        otherwise its buffers start at zero.

        Raises:
            BrodmannError: A buffer of the rule has a name that cannot be used. Nothing is replaced then.
        """
        return self._update_rule

    @update_rule.setter
    def update_rule(self, update: UpdateRule) -> None:
        self.check_can_follow(update)
        for part in self.slabs():
            shapes = part._shapes_of(update)
            if type(update) is not type(part._update_rule) or shapes != part._shapes_of(part._update_rule):
                part._start_states(shapes)
            part._update_rule = update

    def check_can_follow(self, update: UpdateRule) -> None:
        """Raises a `BrodmannError` if the weights or their biases cannot keep the buffers of a rule."""
        for part in self.slabs():
            part._shapes_of(update)

    def _shapes_of(self, update: UpdateRule) -> dict[str, tuple[int, ...]]:
        """Returns the buffers that a rule keeps for one slot, once their names are checked."""
        shapes = update.state_shapes(tuple(self.value.shape[1:]))
        if not isinstance(shapes, dict):
            raise BrodmannError(
                f"{type(update).__name__}.state_shapes should return a dictionary of buffers' names and shapes, such "
                f"as {{'velocity': shape}}, got {type(shapes).__name__}."
            )
        for name, shape in shapes.items():
            if not name.isidentifier() or (name not in self._buffers and hasattr(self, name)):
                raise BrodmannError(
                    f"{type(update).__name__} names a buffer '{name}', which is reserved or not a Python identifier: "
                    "choose another name, such as 'velocity'."
                )
            if name == "steps" and shape != ():
                raise BrodmannError(
                    f"{type(update).__name__} names a buffer of shape {shape} 'steps', but that name is reserved for a "
                    "count of shape (): choose another name."
                )
        return shapes

    def slabs(self) -> list[Slab]:
        """Returns this slab and that of its biases, if there are any."""
        return [self] if self.bias is None else [self, self.bias]

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return " x ".join(map(str, self.value.shape[1:]))

    def forward(self, x: Tensor) -> Tensor:
        """Computes ``value[0] x + bias[0]`` by operations that autograd and compilers know: x (rows, in)."""
        return F.linear(x, self.value[0].to(x.dtype), None if self.bias is None else self.bias.value[0])

    def product(self, x: Tensor, groups: Groups, slot: Tensor | None = None, *, beside: Tensor | None = None) -> Tensor:
        """Computes ``value[s] x + bias[s] + beside``, s the slot of the row's area.

        Args:
            x: (rows, in).
            groups: The rows of each area.
            slot: Slot of each area, (areas,) int64; None if area g has slot g, or one slot serves all rows.
            beside: (rows, out), which stays as it is. Default None: nothing is added.

        Returns:
            (rows, out).
        """
        served, weight = self._served(groups.complete, slot, None, x), self.value
        bias = None if self.bias is None else self.bias.value
        return operations(weight, x).forward(weight, bias, served, x, beside=beside)

    def add_error(self, below: Tensor, delta: Tensor, groups: Groups, slot: Tensor | None = None) -> None:
        """Adds ``delta value[s]`` to ``below`` in place: delta (rows, out), below (rows, in)."""
        served, weight = self._served(groups.complete, slot, delta, below), self.value
        operations(weight, delta).add_error(weight, served, delta, below)

    def learn(
        self,
        delta: Tensor,
        x: Tensor,
        groups: Groups,
        lr: float,
        decay: float,
        slot: Tensor | None = None,
        *,
        follower: Target | None = None,
    ) -> None:
        """Moves the slots that have rows, in place; every other slot stays bit for bit as it was.

        Args:
            delta: (rows, out).
            x: (rows, in).
            groups: The rows of each area.
            lr: Learning rate of this step.
            decay: Decoupled decay of these weights.
            slot: Slot of each area, (areas,) int64; None if area g has slot g, or one slot serves all rows.
            follower: Weights of equal shape that move by the same gradient, under the same rule.
        """
        served = self._served(groups, slot, delta, x)
        if follower is not None and follower.weight.shape != self.value.shape:
            raise BrodmannError(
                f"Expected a follower of shape {tuple(self.value.shape)}, like the weights that it follows, got "
                f"{tuple(follower.weight.shape)}."
            )
        if follower is not None and follower.state.keys() != self._buffers.keys():
            raise BrodmannError(
                f"Expected a follower with the update rule of the weights that it follows, {self.update_rule}, got one "
                f"that keeps {', '.join(follower.state) or 'nothing'}: build it with Slab(..., shape.update)."
            )
        groups = served.groups
        if self._called_again:
            rows = groups.area, groups.areas, groups.apart
            replayed(self._learn_again, delta, x, *rows, slot, lr, decay, *(follower or ()), moves=True)
        else:
            self._learn(served, delta, x, lr, decay, follower)

    def _learn_again(
        self,
        delta: Tensor,
        x: Tensor,
        area: Tensor | None,
        areas: int,
        apart: frozenset[int],
        slot: Tensor | None,
        lr: float,
        decay: float,
        *follower: Any,
    ) -> None:
        """As `learn`, with what makes the groups and the follower: a recording follows single numbers and tensors."""
        groups = Groups.single(len(x), x.device) if area is None else Groups.of(area, areas, apart)
        self._learn(Served(groups, slot), delta, x, lr, decay, Target(*follower) if follower else None)

    def _learn(
        self, served: Served, delta: Tensor, x: Tensor, lr: float, decay: float, follower: Target | None
    ) -> None:
        own = self.target(lr, decay)
        targets = (own,) if follower is None else (own, follower)
        bias = None if self.bias is None else self.bias.target(lr, 0.0)
        operations(own.weight, delta).update(self.update_rule, targets, served, delta, x, bias=bias)

    def move(self, gradient: Tensor, lr: float, decay: float, of_bias: Tensor | None = None) -> None:
        """Moves the only slot, of a slab of one, and its bias by gradients of their shapes, in place.

        Args:
            gradient: (*shape), of the weights.
            lr: Learning rate of this step.
            decay: Decoupled decay of these weights.
            of_bias: (out,). Default None: the bias stays as it is.

        Raises:
            BrodmannError: There are several slots, or a gradient has another shape.
        """
        slots, *shape = self.value.shape
        if slots != 1 or list(gradient.shape) != shape:  # a kernel would read past its end, or take a transposed one
            raise BrodmannError(
                f"Expected one slot and a gradient of its shape {tuple(shape)}, got {slots} and "
                f"{tuple(gradient.shape)}. A gradient (out, in) is delta.t() @ x; several slots move by `learn`."
            )
        if self._called_again:
            replayed(self._move, gradient, lr, decay, moves=True)
        else:
            self._move(gradient, lr, decay)
        if self.bias is not None and of_bias is not None:
            self.bias.move(of_bias, lr, 0.0)

    def _move(self, gradient: Tensor, lr: float, decay: float) -> None:
        operations(self.value, gradient).move(self.update_rule, self.target(lr, decay), gradient)

    @property
    def _called_again(self) -> bool:
        """Whether a recording calls the rule again, as a whole: no kernel knows it, and it may do anything."""
        return known_rule(self.update_rule) is None and recorder_here() is not None

    def _served(self, groups: Groups, slot: Tensor | None, delta: Tensor | None, x: Tensor) -> Served:
        """Returns the rows by the slots that serve them: all together for a slab of one.

        Checks what the kernels rely on: they would read and write past the end of smaller tensors.
        """
        slots, outputs, inputs = self.value.shape
        if slot is None and slots == 1:
            groups = groups.whole
        if delta is not None and delta.shape != (groups.rows, outputs):
            raise _misfit("(rows, out)", (groups.rows, outputs), delta)
        if x.shape != (groups.rows, inputs):
            raise _misfit("(rows, in)", (groups.rows, inputs), x)
        if delta is not None and delta.dtype != x.dtype:
            raise BrodmannError(f"Expected delta and rows of the same dtype, got {delta.dtype} and {x.dtype}.")
        areas = slots if slot is None else len(slot)
        if groups.areas > areas:
            raise BrodmannError(
                f"These weights serve {areas} areas, but the rows choose among {groups.areas}: use a router with as "
                "many areas as the weights."
            )
        return Served(groups, slot)

    def target(self, lr: float, decay: float) -> Target:
        """Returns the weights with their state and rates, as what an update moves."""
        # All of its buffers are the rule's; a copy would cost a tenth of a small step.
        state: dict[str, Any] = self._buffers
        return Target(self.value, state, lr, decay)

    def forget(self) -> None:
        """Drops the rule's buffers: for weights that no longer learn."""
        self.update_rule = SGD()


def _misfit(what: str, shape: tuple[int, int], rows: Tensor) -> BrodmannError:
    return BrodmannError(
        f"Expected {what} of shape {shape} for these weights and groups of rows, got {tuple(rows.shape)}."
    )
