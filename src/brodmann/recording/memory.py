"""Memory of a recording: which tensors it makes, how long each is needed, and its place in memory."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

LINE = 64
"""Bytes of a cache line: every piece of memory begins at a multiple."""


@dataclass
class Piece:
    """Memory that a recorded call made.

    Attributes:
        size: Its bytes.
        made: Number of the call that made it.
        used: Number of the last call that uses it.
        for_kernels: Whether only kernels may use it.
        within: Number of an earlier piece, of the same size, in whose place it lies; None if it has a place to itself.
    """

    size: int
    made: int
    used: int
    for_kernels: bool = False
    within: int | None = None


class View(NamedTuple):
    """A tensor in a piece of memory."""

    piece: int
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def tensor(self, room: Tensor, begins: list[int]) -> Tensor:
        """Returns it, where its piece begins at a byte of a room (bytes,)."""
        width = self.dtype.itemsize
        offset = (room.storage_offset() + begins[self.piece]) // width + self.offset
        return room.new_empty(0, dtype=self.dtype).set_(room.untyped_storage(), offset, self.size, self.stride)


def placed(pieces: list[Piece]) -> tuple[list[int], int]:
    """Returns the offset of each piece, in bytes, and how many they need together.

    As an allocator does, it gives what is free again to the next piece of equal size, the last one first: that is most
    likely still in a cache. Pieces come in the order in which they are made.
    """
    begins: list[int] = []
    free: dict[int, list[int]] = defaultdict(list)
    ending: dict[int, list[int]] = defaultdict(list)
    end = call = 0
    for number, piece in enumerate(pieces):
        for past in range(call, piece.made):
            for other in ending.pop(past, ()):
                free[_whole(pieces[other].size)].append(begins[other])
        call = max(call, piece.made)
        if piece.within is not None:
            begins.append(begins[piece.within])
            continue
        size = _whole(piece.size)
        if free[size]:
            begins.append(free[size].pop())
        else:
            begins.append(end)
            end += size
        ending[max(piece.used, piece.made)].append(number)
    return begins, end


def _whole(size: int) -> int:
    return -(-max(size, 1) // LINE) * LINE
