"""Room: memory in which a tensor of slots grows without moving."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from ..errors import BrodmannError
from .pages import ask_for_large_pages


class Room:
    """Memory for a tensor (slots, ...) that grows: the system supplies it when it is first written."""

    def __init__(self, reserve: int) -> None:
        """Requests nothing yet; at the first need, room for ``reserve`` slots."""
        self.reserve = reserve
        self.memory: Tensor | None = None

    def holds(self, tensor: Tensor, slots: int) -> bool:
        """Whether a tensor lies here, with room for so many slots: one that was moved or assigned lies elsewhere."""
        memory = self.memory
        if memory is None or len(memory) < slots:
            return False
        return memory.data_ptr() == tensor.data_ptr() and memory.dtype == tensor.dtype

    def take_in(self, tensor: Tensor, slots: int) -> Tensor:
        """Returns a tensor as it lies here, with room for so many slots; moves it here if it does not.

        Raises:
            BrodmannError: There is not enough memory.
        """
        if not self.holds(tensor, slots):
            memory = _requested(tensor, slots, self.reserve)
            ask_for_large_pages(memory)
            memory[: len(tensor)] = tensor
            self.memory = memory
        return self.first(len(tensor))

    def first(self, slots: int) -> Tensor:
        """Returns the first slots, as a tensor whose storage ends where they end.

        Files and copies of it, such as those of a ``state_dict``, then hold only these slots.
        """
        memory = self.memory
        assert memory is not None
        if memory.is_meta:  # which has no storage
            return memory[:slots]
        size = slots * memory[0].numel() * memory.element_size()
        return memory.new_empty(0).set_(memory.untyped_storage()[:size], 0, (slots, *memory.shape[1:]), memory.stride())


def _requested(like: Tensor, slots: int, reserve: int) -> Tensor:
    """Returns memory for ``reserve`` slots, or for twice as many as needed if the system grants no more."""
    for wanted in (max(slots, reserve), 2 * slots):
        with suppress(RuntimeError):
            return _unwritten(like, wanted)
    shape = " x ".join(map(str, like.shape[1:]))
    raise BrodmannError(f"There is not enough memory for {slots} areas of {shape} weights: use fewer areas or units.")


def _unwritten(like: Tensor, slots: int) -> Tensor:
    """Returns room for ``slots`` slots, which takes memory only when it is written."""
    deterministic: Any = torch.utils.deterministic
    filled = deterministic.fill_uninitialized_memory
    deterministic.fill_uninitialized_memory = False  # else PyTorch's deterministic mode would write all of it
    try:
        return like.new_empty((slots, *like.shape[1:]))
    finally:
        deterministic.fill_uninitialized_memory = filled
