"""Samples: where a training takes its batches from, tensors in memory or a data set of PyTorch's."""

from __future__ import annotations

import hashlib
import signal
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from ..checks import all_finite, check_weights, check_whole
from ..errors import BrodmannError
from ..generators import drawing_by
from ..rows import evenly_spaced
from ..several import Several, check_pairs, check_several, of_each, parts_in, rows_of, sample_count
from .workers import made_by

Batch = tuple[Several, Several, Tensor | None]
"""Samples, targets, weights of samples or None, (batch, ...) each."""


class Samples(ABC):
    """Abstract: a number of samples, any of which may be asked for.

    Attributes:
        device: Where batches lie.
    """

    device: torch.device

    @abstractmethod
    def __len__(self) -> int:
        """Returns their number."""

    @abstractmethod
    def batch(self, rows: Tensor) -> Batch:
        """Returns some of them, by their numbers, (batch,)."""

    def batches(self, order: Sequence[Tensor], seeds: Iterable[int]) -> Generator[Batch]:
        """Yields one batch after the other, by the numbers of its samples, and a seed for what they draw."""
        for rows in order:
            yield self.batch(rows)

    @cached_property
    def digest(self) -> str:
        """A text that tells these samples from others; empty if none is known."""
        return ""


class InMemory(Samples):
    """Tensors: samples (n, ...), targets (n, ...), several of both perhaps, and weights (n, ...) or None."""

    def __init__(self, name: str, x: Several, target: Several, weight: Tensor | None = None) -> None:
        """Takes the tensors; ``name`` says in errors which part they are.

        Raises:
            BrodmannError: There are none, sizes differ, or values are not finite.
        """
        check_several(samples=x, targets=target)
        check_pairs(x, target)
        for kind, values in (("samples", x), ("targets", target)):
            if not all(map(all_finite, parts_in(values))):
                raise BrodmannError(f"The {name} {kind} hold NaN or infinite values: remove or fill them first.")
        if weight is not None:
            check_weights(weight, sample_count(x))
        self.x, self.target, self.weight, self.device = x, target, weight, parts_in(x)[0].device

    def __len__(self) -> int:
        """See `Samples`."""
        return sample_count(self.x)

    @property
    def tensors(self) -> tuple[Any, ...]:
        """Samples, targets and, if there are any, weights."""
        pair = self.x, self.target
        return pair if self.weight is None else (*pair, self.weight)

    def batch(self, rows: Tensor) -> Batch:
        """See `Samples`."""
        rows = rows.to(self.device)
        weight = None if self.weight is None else self.weight[rows]
        return rows_of(self.x, rows), rows_of(self.target, rows), weight

    @cached_property
    def digest(self) -> str:
        """See `Samples`: of all targets, and of a few hundred samples."""
        some = evenly_spaced(len(self), 256).to(self.device)
        given, weights = parts_in(self.x), () if self.weight is None else (self.weight,)
        digest = hashlib.sha256("".join(str((part.shape, part.dtype)) for part in given).encode())
        for part in (*(part[some] for part in given), *parts_in(self.target), *weights):
            digest.update(part.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:12]


class OfDataset(Samples):
    """A `torch.utils.data.Dataset` with a length, whose items are (sample, target) or (sample, target, weight).

    A sample or a target may be several tensors, as a tuple or a dictionary. Items are made when a batch needs them, or
    ahead of it by worker processes, and put together by PyTorch's `default_collate`. A seed for each batch decides what
    they draw, so that the number of workers changes nothing.
    """

    def __init__(self, dataset: Any, device: torch.device, workers: int = 0) -> None:
        """Takes the data set, the device of batches, and how many processes make items.

        Raises:
            BrodmannError: It is empty, or has no length or no numbered items. When asked for a batch: items are not as
                above.
        """
        numbered = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
        if not numbered or isinstance(dataset, IterableDataset | Tensor | numpy.ndarray | dict | str):
            hint = "its data set, loader.dataset" if hasattr(dataset, "dataset") else "batches to network.learn(*batch)"
            if isinstance(dataset, Tensor | numpy.ndarray):
                hint = "tensors as a pair, (x, y)"
            raise BrodmannError(
                "Expected samples and targets as tensors in memory, or a data set with a length and numbered items, "
                f"got {type(dataset).__name__}: give {hint}."
            )
        if len(dataset) == 0:
            raise BrodmannError("Expected a data set with samples, got an empty one.")
        self.made, self.device, self.workers = _Made(dataset), device, workers

    def __len__(self) -> int:
        """See `Samples`."""
        return len(self.made.dataset)

    def batch(self, rows: Tensor) -> Batch:
        """See `Samples`."""
        return self._placed(self.made[0, rows.tolist()])

    def batches(self, order: Sequence[Tensor], seeds: Iterable[int]) -> Generator[Batch]:
        """See `Samples`."""
        asked: Any = [(seed, rows.tolist()) for seed, rows in zip(seeds, order, strict=True)]
        loader = DataLoader(
            self.made,
            batch_size=None,  # what is asked for is a batch already
            sampler=asked,
            num_workers=self.workers,
            worker_init_fn=_leave_interrupts,
            generator=torch.Generator(),  # otherwise it would draw from that of the training
        )
        with closing(made_by(loader)) as batches:
            for made in batches:
                yield self._placed(made)

    def _placed(self, made: Any) -> Batch:
        if isinstance(made, BrodmannError):
            raise made
        x, target, *weight = (of_each(lambda part: part.to(self.device), values) for values in made)
        return x, target, weight[0] if weight else None


class _Made(Dataset[Any]):
    """Batches of a data set, by a seed and the numbers of their items."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, asked: tuple[int, list[int]]) -> Any:
        """Returns a batch, or the error if there is none: raised in a worker, it would tell only of the worker."""
        seed, rows = asked
        with drawing_by(seed):
            items = [self.dataset[row] for row in rows]
        try:
            return self._together(items)
        except BrodmannError as error:
            return error

    @staticmethod
    def _together(items: list[Any]) -> Any:
        if not all(isinstance(item, tuple | list) and len(item) in (2, 3) for item in items):
            item, remedy = items[0], ""
            if isinstance(item, Mapping):
                remedy = f" with {', '.join(map(repr, item))}: wrap the data set in one that returns two of these"
            raise BrodmannError(
                "Expected items of the data set to be (sample, target) or (sample, target, weight), got "
                f"{type(item).__name__}{remedy}."
            )
        try:
            parts = default_collate(items)
            tensors = all(isinstance(part, Tensor) for several in parts for part in parts_in(several))
            failure = "" if tensors else "they hold something other than tensors"
        except (TypeError, RuntimeError, KeyError) as error:
            failure = str(error)
        if failure:
            raise BrodmannError(
                f"Items of the data set cannot be put together into tensors: {failure}. Let it return tensors of one "
                "shape, for example by torchvision's Resize and ToTensor."
            )
        return parts


def _leave_interrupts(worker: int) -> None:
    """Lets a worker finish its batch if the training is interrupted, which then still needs it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def as_samples(part: Any, name: str, device: torch.device, workers: int = 0) -> Samples:
    """Returns samples of a part, a tuple of tensors or a data set, whose items ``workers`` processes make.

    Raises:
        BrodmannError: It is neither, or holds something that cannot be learned from.
    """
    check_whole(0, workers=workers)
    if not isinstance(part, tuple | list):
        return OfDataset(part, device, workers)
    if workers:
        raise BrodmannError(
            "Samples in memory need no workers: leave workers out, or give a data set that loads its samples."
        )
    if len(part) not in (2, 3):
        if part and all(isinstance(item, tuple | list) for item in part):
            raise BrodmannError(
                f"Expected samples and targets as two tensors, (x, y), got a list of {len(part)} pairs: stack the "
                "samples, and the targets, with torch.stack, or give a torch.utils.data.Dataset of the pairs."
            )
        raise BrodmannError(f"Expected samples and targets, and optionally weights, got {len(part)} tensors.")
    return InMemory(name, *part)


def in_memory(part: Any, name: str, device: torch.device) -> InMemory:
    """Returns samples of a part in memory, see `as_samples`; a data set's are all made at once.

    Raises:
        BrodmannError: It is neither, or holds something that cannot be scored.
    """
    samples = as_samples(part, name, device)
    return samples if isinstance(samples, InMemory) else InMemory(name, *samples.batch(torch.arange(len(samples))))
