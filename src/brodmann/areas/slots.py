"""Slots: tensors of equally many slots, which grow and shrink together without moving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..storage import computing
from .room import Room


class Slots(nn.Module):
    """A parameter ``value`` of several slots, and buffers with as many, such as an update rule keeps for each.

    Memory for ``reserve`` slots is requested at the first growth, but a slot takes memory only when it is first
    written: growing never copies, and on the CPU unused capacity costs nothing. If the system grants less than that,
    the room doubles as it fills.

    Attributes:
        reserve: Slots for which there is to be room.
        shrunk: How often slots were given up, which recordings must notice: tensors keep their addresses.
    """

    def __init__(self, value: Tensor, reserve: int) -> None:
        """Holds ``value`` (slots, *shape), with room for ``reserve`` slots in all, and no buffers yet."""
        super().__init__()
        self.reserve, self.shrunk = reserve, 0
        self._rooms: dict[str, Room] = {}  # what the value and the buffers grow in, by name
        self._keep(value.contiguous(), requires_grad=False)  # the kernels walk through it in order

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

    def _hold(self, tensors: dict[str, Tensor]) -> None:
        """Takes these tensors for the value and the rule's buffers."""
        for name, tensor in tensors.items():
            if name == "value":
                self._keep(tensor, self.value.requires_grad)
            else:
                setattr(self, name, tensor)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Slots:
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
