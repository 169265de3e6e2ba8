"""Slab: weights of equal shape, one per slot, with their biases and the buffers that the update rule keeps for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import BrodmannError
from ..held import Held
from ..kernels import Groups, Served, Target, known_rule, operations
from ..recording import recorder_here, replayed
from ..storage import computing
from ..updates import SGD, UpdateRule
from .room import Room


class Slab(nn.Module):
    """Weights of equal shape, one per slot, with the buffers that the update rule keeps for each.

    Their biases are another slab, ``bias``, (slots, out), or None. They move along, and never decay.

    Memory for ``reserve`` slots is requested at the first growth, but a slot takes memory only when it is first
    written: growing never copies, and on the CPU unused capacity costs nothing. If the system grants less than that,
    the room doubles as it fills.
    """

    bias = Held["Slab | None"]()

    def __init__(self, value: Tensor, update: UpdateRule, bias: Tensor | None = None, reserve: int = 0) -> None:
        """Holds ``value`` (slots, *shape), which ``update`` will move, with room for ``reserve`` slots in all."""
        super().__init__()
        self.reserve = reserve
        self.bias = None if bias is None else Slab(bias, update, reserve=reserve)
        self.shrunk = 0  # how often slots were given up, which recordings must notice: tensors keep their addresses
        self._rooms: dict[str, Room] = {}  # what the value and the buffers grow in, by name
        self._keep(value.contiguous(), requires_grad=False)  # the kernels walk through it in order
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

    @torch.inference_mode(False)
    def _start_states(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Replaces the rule's buffers by new ones, which start at zero."""
        for name in self.states():
            del self._buffers[name]
            self._rooms.pop(name, None)
        number = computing(self.value.dtype)
        for name, shape in shapes.items():
            dtype = torch.int64 if name == "steps" else number
            self.register_buffer(name, self.value.new_zeros((len(self.value), *shape), dtype=dtype))

    @property
    def value(self) -> Tensor:
        """(slots, *shape), a parameter without gradient.

        float32, float64, or bfloat16: then the rule's buffers are float32 and new weights are rounded stochastically,
        so that small updates survive on average.
        """
        # A step reads this dozens of times, and a module looks up its parameters slowly.
        try:
            return self._parameters["value"]  # type: ignore[return-value]
        except KeyError:  # as for any missing attribute
            raise AttributeError("value") from None

    def _keep(self, value: Tensor, requires_grad: bool) -> None:
        self._parameters["value"] = nn.Parameter(value, requires_grad=requires_grad)

    def states(self) -> dict[str, Tensor]:
        """Returns the rule's buffers, each with the slot as its first dimension."""
        return {name: tensor for name, tensor in self._buffers.items() if tensor is not None}

    def tensors(self) -> dict[str, Tensor]:
        """Returns the value and the rule's buffers, each with the slot as its first dimension."""
        return {"value": self.value, **self.states()}

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
        """Moves the only slot, of a slab of one, and its bias by gradients of their shapes, in place."""
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

    def make_room(self, slots: int) -> None:
        """Reserves the memory that ``slots`` slots need, so that `resize` cannot fail.

        Raises:
            BrodmannError: There is not enough.
        """
        with torch.inference_mode(False), torch.no_grad():
            self._hold({name: self._room(name).take_in(old, slots) for name, old in self.tensors().items()})

    def has_room(self, slots: int) -> bool:
        """Whether it could hold so many slots without moving."""
        return all(len(old) >= slots or self._room(name).holds(old, slots) for name, old in self.tensors().items())

    def resize(self, slots: int) -> None:
        """Keeps the first slots and adds new ones: a copy of slot 0 with fresh state of the rule."""
        self.make_room(slots)
        self.shrunk += slots < len(self.value)
        with torch.inference_mode(False), torch.no_grad():
            sized = {}
            for name, old in self.tensors().items():
                sized[name] = new = self._room(name).first(slots)
                if slots > len(old):
                    new[len(old) :] = old[0] if name == "value" else 0
            self._hold(sized)

    def _room(self, name: str) -> Room:
        return self._rooms.setdefault(name, Room(self.reserve))

    def forget(self) -> None:
        """Drops the rule's buffers: for weights that no longer learn."""
        self.update_rule = SGD()

    def _hold(self, tensors: dict[str, Tensor]) -> None:
        """Takes these tensors for the value and the rule's buffers."""
        for name, tensor in tensors.items():
            if name == "value":
                self._keep(tensor, self.value.requires_grad)
            else:
                setattr(self, name, tensor)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Slab:
        """Keeps weights stored as bfloat16 if float32 is asked for: the computation is in float32 already."""
        stored = self.value.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._rooms.clear()
        if stored != self.value.dtype == computing(stored):
            self._keep(self.value.detach().to(stored), self.value.requires_grad)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles hold the slots that exist, not the room that is kept for more."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {**state, "_rooms": {}}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        stored = state_dict.get(prefix + "value")
        if stored is not None and stored.shape[1:] == self.value.shape[1:] and len(stored) != len(self.value):
            self.resize(len(stored))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _misfit(what: str, shape: tuple[int, int], rows: Tensor) -> BrodmannError:
    return BrodmannError(
        f"Expected {what} of shape {shape} for these weights and groups of rows, got {tuple(rows.shape)}."
    )
