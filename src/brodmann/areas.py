"""Storage of areas and the three grouped operations over them: forward, error, update in place.

Rows that share an area lie beside each other (`Groups`), so that an area's work is one dense product over a slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .updates import Factors, UpdateRule


@dataclass(frozen=True)
class Groups:
    """The rows of a batch, sorted by area.

    Attributes:
        order: Row numbers in sorted order, (rows,); None where the rows already lie in order (one area).
        segments: ``(area, start, stop)`` of every area that has rows, in the sorted order.
    """

    order: Tensor | None
    segments: tuple[tuple[int, int, int], ...]

    @staticmethod
    def single(rows: int) -> Groups:
        """All rows in area 0."""
        return Groups(None, ((0, 0, rows),) if rows else ())

    @staticmethod
    def of(area: Tensor, areas: int) -> Groups:
        """Sorts the rows by their area, (rows,) with values in [0, areas)."""
        segments = []
        start = 0
        for index, count in enumerate(torch.bincount(area, minlength=areas).tolist()):
            if count:
                segments.append((index, start, start + count))
                start += count
        order = None if len(segments) <= 1 else torch.argsort(area, stable=True)
        return Groups(order, tuple(segments))

    def sort(self, rows: Tensor) -> Tensor:
        """Brings rows (rows, ...) into sorted order."""
        return rows if self.order is None else rows.index_select(0, self.order)

    def unsort(self, rows: Tensor) -> Tensor:
        """Brings sorted rows (rows, ...) back into the batch's order."""
        return rows if self.order is None else torch.empty_like(rows).index_copy_(0, self.order, rows)


class Slab(nn.Module):
    """Weights of equal shape, one per slot, with the buffers that the update rule keeps for each.

    Attributes:
        value: (slots, *shape), a parameter without gradient.
    """

    value: nn.Parameter

    def __init__(self, value: Tensor, update: UpdateRule) -> None:
        """Holds ``value`` (slots, *shape), which ``update`` will move."""
        super().__init__()
        self.update_rule = update
        self.value = nn.Parameter(value, requires_grad=False)
        shapes = update.state_shapes(tuple(value.shape[1:]))
        self._state_names = tuple(shapes)
        for name, shape in shapes.items():
            dtype = torch.int64 if name == "steps" else value.dtype
            self.register_buffer(name, torch.zeros((len(value), *shape), dtype=dtype, device=value.device))

    def state(self, slot: int) -> dict[str, Tensor]:
        """Returns views of the rule's buffers of one slot."""
        return {name: getattr(self, name)[slot] for name in self._state_names}

    def step(self, slot: int, factors: Factors, lr: float, decay: float) -> None:
        """Moves one slot in place; every other slot stays bit for bit as it was."""
        self.update_rule.apply(self.value[slot], self.state(slot), factors, lr, decay)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the value and every buffer of the rule, each with the slot as its first dimension."""
        return {"value": self.value, **{name: getattr(self, name) for name in self._state_names}}

    def resize(self, slots: int) -> None:
        """Keeps the first slots and adds new ones: a copy of slot 0 with fresh optimiser state.

        Memory moves, once per growth; a capacity that nobody has chosen takes none.
        """
        with torch.inference_mode(False), torch.no_grad():
            for name, old in self.tensors().items():
                new = old.new_zeros((slots, *old.shape[1:]))
                new[: min(slots, len(old))] = old[:slots]
                if name == "value":
                    new[len(old) :] = old[0]
                    self.value = nn.Parameter(new, requires_grad=False)
                else:
                    setattr(self, name, new)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        stored = state_dict.get(prefix + "value")
        if stored is not None and stored.shape[1:] == self.value.shape[1:] and len(stored) != len(self.value):
            self.resize(len(stored))
        super()._load_from_state_dict(state_dict, prefix, *args)


class AreaMap(nn.Module):
    """A linear map per area, ``y = D[g] x + d[g]``, allocated at first choice.

    Slot 0 holds the origin: what every area is until it first learns. It is never trained.

    Attributes:
        weight: Slab (slots, out, in).
        bias: Slab (slots, out), or None.
        slot: Slot of each area, (areas,) int64; 0 for an area that nobody chose yet.
    """

    slot: Tensor

    def __init__(self, areas: int, origin: Tensor, origin_bias: Tensor | None, update: UpdateRule) -> None:
        """Starts with the origin alone.

        Args:
            areas: Budget of areas.
            origin: (out, in), the map that every area starts from.
            origin_bias: (out,), or None for a map without bias.
            update: Rule that moves the areas.
        """
        super().__init__()
        self.weight = Slab(origin[None].clone(), update)
        self.bias = None if origin_bias is None else Slab(origin_bias[None].clone(), update)
        self.register_buffer("slot", torch.zeros(areas, dtype=torch.int64, device=origin.device))

    @property
    def existing(self) -> int:
        """Number of areas that have memory of their own."""
        return len(self.weight.value) - 1

    def _slabs(self) -> Iterator[Slab]:
        yield self.weight
        if self.bias is not None:
            yield self.bias

    def allocate(self, areas: list[int]) -> list[int]:
        """Gives memory to those of the areas that have none; returns the slot of each."""
        slots = self.slot[areas].tolist()
        missing = [area for area, slot in zip(areas, slots, strict=True) if slot == 0]
        if not missing:
            return slots
        first = self.existing + 1
        for slab in self._slabs():
            slab.resize(first + len(missing))
        self.slot[missing] = torch.arange(first, first + len(missing), device=self.slot.device)
        return self.slot[areas].tolist()

    def forward_groups(self, x: Tensor, groups: Groups) -> Tensor:
        """Computes ``D[g] x + d[g]`` for sorted rows x (rows, in); returns (rows, out)."""
        weight, slots = self.weight.value, self.slot.tolist()
        out = x.new_empty(len(x), weight.shape[1])
        for area, start, stop in groups.segments:
            rows, to, slot = x[start:stop], out[start:stop], slots[area]
            if self.bias is None:
                torch.mm(rows, weight[slot].t(), out=to)
            else:
                torch.addmm(self.bias.value[slot], rows, weight[slot].t(), out=to)
        return out

    def add_error(self, below: Tensor, delta: Tensor, groups: Groups) -> None:
        """Adds ``delta D[g]`` to ``below`` in place: sorted rows, delta (rows, out), below (rows, in)."""
        slots = self.slot.tolist()
        for area, start, stop in groups.segments:
            below[start:stop].addmm_(delta[start:stop], self.weight.value[slots[area]])

    def learn(self, x: Tensor, delta: Tensor, groups: Groups, lr: float, decay: float) -> None:
        """Moves the areas that have rows, in place, and no other: sorted rows x (rows, in), delta (rows, out)."""
        slots = self.allocate([area for area, _, _ in groups.segments])
        for slot, (_, start, stop) in zip(slots, groups.segments, strict=True):
            rows = delta[start:stop]
            self.weight.step(slot, Factors(rows, x[start:stop]), lr, decay)
            if self.bias is not None:
                self.bias.step(slot, Factors(rows), lr, 0.0)

    def clone(self, area: int, new: int) -> None:
        """Makes area ``new`` a copy of ``area``, optimiser state included."""
        if int(self.slot[area]) == 0:
            return
        source, target = self.allocate([area, new])
        for slab in self._slabs():
            for tensor in slab.tensors().values():
                tensor[target].copy_(tensor[source])

    def merge(self, kept: int, gone: int) -> float:
        """Replaces area ``kept`` by the mean of both, optimiser state included, and frees ``gone``.

        Step counts take the larger one, so that Adam's moments are never corrected too strongly.

        Returns:
            How far apart they were: ``|D[kept] - D[gone]| / (|D[kept]| + |D[gone]|)``, 0 for equal ones, at most 1.
        """
        if int(self.slot[kept]) == 0 and int(self.slot[gone]) == 0:
            return 0.0
        first, second = self.allocate([kept, gone])
        a, b = self.weight.value[first], self.weight.value[second]
        apart = float((a - b).norm() / (a.norm() + b.norm()).clamp_min(torch.finfo(a.dtype).tiny))
        for slab in self._slabs():
            for name, tensor in slab.tensors().items():
                if name == "steps":
                    tensor[first] = torch.maximum(tensor[first], tensor[second])
                else:
                    tensor[first].lerp_(tensor[second], 0.5)
        self._free(gone)
        return apart

    def _free(self, area: int) -> None:
        """Returns an area's memory: the last slot moves into the gap."""
        gap, last = int(self.slot[area]), self.existing
        for slab in self._slabs():
            for tensor in slab.tensors().values():
                tensor[gap].copy_(tensor[last])
            slab.resize(last)
        self.slot[self.slot == last] = gap
        self.slot[area] = 0

    def forward(self, x: Tensor, area: Tensor) -> Tensor:
        """Inference for unsorted rows: x (rows, in), area (rows,); returns ``D[g] x + d[g]``, (rows, out)."""
        weight = self.weight.value
        bias = weight.new_zeros(weight.shape[:2]) if self.bias is None else self.bias.value
        slot = self.slot[area]
        if torch.compiler.is_exporting():
            return _every_slot_then_choose(x, slot, weight, bias)
        return _grouped_linear(x, slot, weight, bias)  # type: ignore[no-any-return]


@torch.library.custom_op("brodmann::grouped_linear", mutates_args=())
def _grouped_linear(x: Tensor, slot: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``y[i] = weight[slot[i]] x[i] + bias[slot[i]]``, only the chosen slots compute; opaque to torch.compile."""
    groups = Groups.of(slot, len(weight))
    rows = groups.sort(x)
    out = x.new_empty(len(x), weight.shape[1])
    for index, start, stop in groups.segments:
        torch.addmm(bias[index], rows[start:stop], weight[index].t(), out=out[start:stop])
    return groups.unsort(out)


@_grouped_linear.register_fake
def _grouped_linear_fake(x: Tensor, slot: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _grouped_linear_backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None]:
    """For those who ask autograd, such as telemetry: learning never comes here."""
    x, slot, weight = ctx.saved_tensors
    needs_x, _, needs_weight, needs_bias = ctx.needs_input_grad
    below = torch.zeros_like(x) if needs_x else None
    of_weight = torch.zeros_like(weight) if needs_weight else None
    of_bias = weight.new_zeros(weight.shape[:2]) if needs_bias else None
    for index in slot.unique().tolist():
        rows = slot == index
        if below is not None:
            below[rows] = error[rows] @ weight[index]
        if of_weight is not None:
            of_weight[index] = error[rows].t() @ x[rows]
        if of_bias is not None:
            of_bias[index] = error[rows].sum(0)
    return below, None, of_weight, of_bias


_grouped_linear.register_autograd(_grouped_linear_backward, setup_context=_remember)


def _every_slot_then_choose(x: Tensor, slot: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same in traceable operations, for exported graphs: every slot computes, then each row takes its own."""
    every = torch.einsum("ni,soi->nso", x, weight) + bias
    choice = slot[:, None, None].expand(-1, 1, weight.shape[1])
    return every.gather(1, choice)[:, 0]
