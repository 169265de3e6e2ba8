"""Processes that make their steps together: what they tell one another, so that all of them move alike."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, distributed

from .errors import BrodmannError
from .generators import Draws

MOST = 16
"""Numbers in a message of `Processes.numbers_of_each`: all are of one size, so that none is taken for another."""


class Processes:
    """A group of processes of `torch.distributed`, each of which holds the same network and a share of every batch.

    Whatever is asked here, all processes must ask at the same place of a step. A `BrodmannError` is raised if another
    process has ended, or has not asked within the group's time limit.

    Attributes:
        group: The group, or None for all processes.
        rank: Number of this process in the group, from 0.
        count: How many there are.
        bytes_sent: Bytes that this process has sent to each of the others.
    """

    def __init__(self, group: Any = None) -> None:
        """Takes a group that exists.

        Args:
            group: As for `torch.distributed`; None for all processes.

        Raises:
            BrodmannError: No process group was initialised, or this process is none of the group's.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            raise BrodmannError(
                "Expected a process group: call torch.distributed.init_process_group() first, in a program that "
                "torchrun has started."
            )
        self.group = group
        self.rank, self.count = distributed.get_rank(group), distributed.get_world_size(group)
        if self.rank < 0:
            raise BrodmannError("This process is not in the group: build a Parallel only in processes that are.")
        self.bytes_sent = 0
        self._draws = Draws(0)

    def draw_from(self, seed: int) -> None:
        """Lets what `same_draws` draws begin at a seed, which all processes give alike."""
        self._draws = Draws(seed)

    def same_draws(self) -> AbstractContextManager[None]:
        """Lets all processes draw the same random numbers inside the block, as stochastic rounding needs."""
        return self._draws.going_on()

    def share_of(self, samples: int, rank: int | None = None) -> slice:
        """Returns which samples of a batch are a process's, by default this one's.

        Shares follow one another, and differ by one at most.
        """
        first, extra = divmod(samples, self.count)
        sizes = [first + (place < extra) for place in range(self.count)]
        bounds = list(pairwise(accumulate(sizes, initial=0)))
        return slice(*bounds[self.rank if rank is None else rank])

    def numbers_of_each(self, what: str, *numbers: float) -> list[list[float]]:
        """Returns the numbers that each process gives, as float64, in the order of the processes.

        Args:
            what: What they are for, such as a step.
            *numbers: Equally many in all processes, at most `MOST`.

        Raises:
            BrodmannError: Another process tells something else: it is at another place of its program.
        """
        own = torch.tensor([zlib.crc32(what.encode()), *numbers, *[0.0] * (MOST - len(numbers))], dtype=torch.float64)
        parts = self._gathered(own)
        for rank, part in enumerate(parts):
            if part[0] != own[0]:
                raise BrodmannError(
                    f"Process {rank} is at another place of its program than process {self.rank}, which is at {what}: "
                    "let all processes make equally many steps, of networks that were built alike."
                )
        return [part[1 : 1 + len(numbers)].tolist() for part in parts]

    def from_first(self, thing: Any) -> Any:
        """Returns what the first process gives, which must be picklable."""
        things = [thing]
        with _exchanging():
            distributed.broadcast_object_list(things, group=self.group, group_src=0)
        return things[0]

    def tensor_from_first(self, tensor: Tensor) -> Tensor:
        """Returns the tensor of the first process; the others' own, of the same shape and dtype, is overwritten."""
        with _exchanging():
            distributed.broadcast(tensor, group=self.group, group_src=0)
        return tensor

    def summed(self, *tensors: Tensor) -> list[Tensor]:
        """Returns sums over the processes: tensors of one dtype, each of the same shape in all processes."""
        joined = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _exchanging():
            distributed.all_reduce(joined, group=self.group)
        self.bytes_sent += joined.nbytes
        parts = torch.split(joined, [tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def counts(self, *tensors: Tensor) -> list[int]:
        """Returns how many rows each process has of tensors (rows, ...).

        Raises:
            BrodmannError: They are of other shapes or dtypes in another process.
        """
        form = zlib.crc32(repr([(tuple(tensor.shape[1:]), tensor.dtype) for tensor in tensors]).encode())
        every = self.numbers_of_each("the rows of a layer", tensors[0].shape[0], form)
        if others := [rank for rank, (_, other) in enumerate(every) if other != form]:
            raise BrodmannError(
                f"A layer of process {others[0]} has rows of another shape or dtype than in process {self.rank}: build "
                "the networks alike, and give samples, weights and targets of one shape. Layers above have moved "
                "already, so begin again."
            )
        return [int(count) for count, _ in every]

    def rows(self, *tensors: Tensor, counts: list[int] | None = None) -> list[Tensor]:
        """Returns the rows of all processes, (all rows, ...), in the order of the processes.

        Args:
            *tensors: Tensors (rows, ...) with equally many rows, whose number may differ from one process to the next.
            counts: How many rows each process has, if that is known already.
        """
        counts = counts or self.counts(*tensors)
        whole: dict[int, Tensor] = {}
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):  # those of one dtype go together
            places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
            whole |= zip(places, self._rows([tensors[place] for place in places], counts), strict=True)
        return [whole[place] for place in range(len(tensors))]

    def _rows(self, tensors: list[Tensor], counts: list[int]) -> list[Tensor]:
        own, widths = counts[self.rank], [tensor.shape[1:].numel() for tensor in tensors]
        flat = [tensor.reshape(own, width) for tensor, width in zip(tensors, widths, strict=True)]
        joined = torch.cat(flat, 1)
        padded = joined if own == max(counts) else torch.cat([joined, joined.new_zeros(max(counts) - own, sum(widths))])
        parts = self._gathered(padded)
        columns = torch.split(torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]), widths, 1)
        return [column.reshape(sum(counts), *tensor.shape[1:]) for column, tensor in zip(columns, tensors, strict=True)]

    def _gathered(self, own: Tensor) -> list[Tensor]:
        """Returns the tensors of all processes, which have one shape."""
        parts = [torch.empty_like(own) for _ in range(self.count)]
        with _exchanging():
            distributed.all_gather(parts, own.contiguous(), group=self.group)
        self.bytes_sent += own.nbytes
        return parts


@contextmanager
def _exchanging() -> Iterator[None]:
    """Says what it means if processes do not reach one another: PyTorch speaks of sockets, or of time that ran out."""
    try:
        yield
    except RuntimeError as error:
        raise BrodmannError(
            "The processes could not exchange data. If another one failed or ended, see its own error: this step may "
            "have moved only a part of the network, so start all processes again, from a checkpoint if there is one. "
            f"PyTorch says: {error}"
        ) from error
