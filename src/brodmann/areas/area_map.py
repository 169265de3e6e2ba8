"""Storage of areas: a linear map per area, allocated at first choice."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from ..autograd import unrecorded
from ..errors import BrodmannError
from ..held import Held, HeldBuffer
from ..kernels import Groups
from ..kernels.per_row import lacks
from ..recording import recorder_here, replayed
from ..updates import UpdateRule
from .grouped_linear import grouped_linear
from .slab import Slab

COPIED = 2048
"""Slots whose copy takes less time than the three operations that copy a few of them."""


class AreaMap(nn.Module):
    """A linear map per area, ``y = D[g] x + d[g]``, allocated at first choice.

    Slot 0 holds the origin: what every area is until it first learns. It is never trained.

    Attributes:
        weight: Slab (slots, out, in), with biases (slots, out) or without.
        slot: Slot of each area, (areas,) int64; 0 for an area that no sample has chosen yet.
    """

    weight = Held[Slab]()
    slot = HeldBuffer[Tensor]()

    def __init__(self, areas: int, origin: Tensor, origin_bias: Tensor | None, update: UpdateRule) -> None:
        """Starts with only the origin.

        Args:
            areas: Budget of areas.
            origin: (out, in), the map that every area starts from.
            origin_bias: (out,), or None for a map without bias.
            update: Rule that moves the areas.
        """
        super().__init__()
        bias = None if origin_bias is None else origin_bias[None].clone()
        self.weight = Slab(origin[None].clone(), update, bias, reserve=areas + 1)
        self.register_buffer("slot", torch.zeros(areas, dtype=torch.int64, device=origin.device))

    @property
    def existing(self) -> int:
        """Number of areas that have memory of their own."""
        return self.weight.value.shape[0] - 1

    def allocate(self, areas: Tensor) -> None:
        """Gives memory to those of ``areas``, (n,) int64 and distinct, that have none yet."""
        missing = areas[self.slot.index_select(0, areas) == 0]
        if not len(missing):
            return
        first = self.existing + 1
        for slab in self.weight.slabs():  # all of them first, before any grows
            slab.make_room(first + len(missing))
        for slab in self.weight.slabs():
            slab.resize(first + len(missing))
        self.slot[missing] = torch.arange(first, first + len(missing), device=self.slot.device)

    def _allocate_chosen(self, area: Tensor) -> None:
        """Gives memory to the areas of rows, (rows,) int64, that have none yet."""
        if lacks(area, self.slot):
            self.allocate(torch.unique(area))

    def make_room(self) -> None:
        """Moves the existing areas, if need be and possible, to memory that has room for all areas of the budget."""
        if self.existing < self.slot.shape[0]:
            with suppress(BrodmannError):  # there is not enough: they stay, see `stay_here`
                for slab in self.weight.slabs():
                    slab.make_room(self.slot.shape[0] + 1)

    def stay_here(self) -> None:
        """Gives up a recording unless the memory of the existing areas has room for all areas of the budget."""
        if (recorder := recorder_here()) is None:
            return
        if not all(slab.has_room(self.slot.shape[0] + 1) for slab in self.weight.slabs()):
            recorder.refuse("areas may have to move to other memory as they become more")

    def product(self, x: Tensor, groups: Groups, slot: Tensor | None = None) -> Tensor:
        """Computes ``D[g] x + d[g]`` with each row's area: x (rows, in); returns (rows, out).

        If another thread may add areas meanwhile, ``slot`` is what `slots_of_now` returned: weights are read after
        it, and so have all of them. Default the slots themselves.
        """
        return self.weight.product(x, groups, self.slot if slot is None else slot)

    def slots_of_now(self, area: Tensor) -> Tensor:
        """Returns the slots, (areas,), as they are now; only those of rows' areas, (rows,) int64, need be right.

        If all areas exist, learning adds none and the slots need no copy.
        """
        if self.existing == len(self.slot):
            return self.slot
        if len(self.slot) <= max(len(area), COPIED):
            return self.slot.clone()
        # With very many areas, a copy of all would take longer than the products of a few rows.
        return torch.empty_like(self.slot).index_copy_(0, area, self.slot.index_select(0, area))

    def add_error(self, below: Tensor, delta: Tensor, groups: Groups) -> None:
        """Adds ``delta D[g]`` to ``below`` in place: delta (rows, out), below (rows, in)."""
        self.weight.add_error(below, delta, groups, self.slot)

    def learn(self, delta: Tensor, x: Tensor, groups: Groups, lr: float, decay: float) -> None:
        """Moves only the areas that have rows, in place, none at rate 0: delta (rows, out), x (rows, in)."""
        if not lr:
            return
        if self.existing < self.slot.shape[0]:
            replayed(self._allocate_chosen, groups.of_rows)
            self.stay_here()
        self.weight.learn(delta, x, groups, lr, decay, self.slot)

    @unrecorded
    def clone(self, area: int, new: int) -> None:
        """Makes area ``new`` a copy of ``area``, optimiser state included."""
        if int(self.slot[area]) == int(self.slot[new]) == 0:
            return
        source, target = self._slots_of(area, new)
        for tensor in self._tensors():
            tensor[target].copy_(tensor[source])

    @unrecorded
    def merge(self, kept: int, gone: int) -> float:
        """Replaces area ``kept`` by what the rule makes of both, by default the mean, and frees ``gone``.

        See `UpdateRule.merge`.

        Returns:
            How far apart they were: ``|D[kept] - D[gone]| / (|D[kept]| + |D[gone]|)``, 0 for equal ones, at most 1.
        """
        if int(self.slot[kept]) == 0 and int(self.slot[gone]) == 0:
            return 0.0
        first, second = self._slots_of(kept, gone)
        a, b = self.weight.value[first], self.weight.value[second]
        apart = float((a - b).norm() / (a.norm() + b.norm()).clamp_min(torch.finfo(a.dtype).tiny))
        for slab in self.weight.slabs():
            one, two = ({name: tensor[slot] for name, tensor in slab.states().items()} for slot in (first, second))
            slab.update_rule.merge(slab.value[first], one, slab.value[second], two, slab.value[0])
        self._free(gone)
        return apart

    def _tensors(self) -> list[Tensor]:
        """Returns weights, biases and the rule's buffers of both, each with the slot as its first dimension."""
        return [tensor for slab in self.weight.slabs() for tensor in slab.tensors().values()]

    def _slots_of(self, *areas: int) -> list[int]:
        """Returns the slots of these areas, giving memory to those that have none."""
        wanted = torch.tensor(areas, device=self.slot.device)
        self.allocate(wanted)
        return self.slot[wanted].tolist()

    def _free(self, area: int) -> None:
        """Frees an area's memory: the last slot moves into the gap."""
        gap, last = int(self.slot[area]), self.existing
        for slab in self.weight.slabs():
            for tensor in slab.tensors().values():
                tensor[gap].copy_(tensor[last])
            slab.resize(last)
        self.slot[self.slot == last] = gap
        self.slot[area] = 0

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Loads slots and weights together or not at all: kernels would read past the end of weights that lack one."""
        if (problem := self._problem_with(state_dict, prefix)) is None:
            super()._load_from_state_dict(state_dict, prefix, *args)
            return
        args[-1].append(problem)  # errors, which PyTorch raises
        for name, tensor in self.state_dict(prefix=prefix).items():
            if name in state_dict:
                state_dict[name] = tensor  # so that the slabs stay as they are too

    def _problem_with(self, state: dict[str, Any], prefix: str) -> str | None:
        """Returns why slots and weights of a ``state_dict`` cannot be loaded; None if they can, or are not in it."""
        own = {"slot": self.slot, "weight.value": self.weight.value}
        if self.weight.bias is not None:
            own["weight.bias.value"] = self.weight.bias.value
        given = {name: state[prefix + name] for name in own if prefix + name in state}
        if not given:
            return None
        if given.keys() != own.keys():
            return f"{prefix}* should hold {', '.join(own)}, got only {', '.join(given)}."
        if any(tensor.shape[1:] != own[name].shape[1:] for name, tensor in given.items()):
            sizes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in given.items())
            return f"{prefix}* has tensors of other sizes than expected: {sizes}."
        slot, *weights = given.values()
        slots = len(weights[0])
        if slot.shape != self.slot.shape or len(weights[-1]) != slots:
            return (
                f"{prefix}* was saved for another number of areas, or its weights and biases disagree on that number."
            )
        if not bool(((slot >= 0) & (slot < slots)).all()):
            return f"{prefix}slot should hold slots from 0 to {slots - 1}."
        return None

    def forward(self, x: Tensor, area: Tensor) -> Tensor:
        """Inference: x (rows, in), area (rows,); returns ``D[g] x + d[g]``, (rows, out)."""
        slot = self.slot.index_select(0, area)  # before the weights, see `product`; raises if there is no such area
        weight = self.weight.value
        bias = x.new_zeros(weight.shape[:2]) if self.weight.bias is None else self.weight.bias.value
        return grouped_linear(x, slot, weight, bias)
