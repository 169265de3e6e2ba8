"""Samples: where a training takes its batches from, tensors in memory or a data set of PyTorch's."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, default_collate

from ..checks import all_finite, check_pairs, check_tensors, check_weights
from ..errors import BrodmannError

Batch = tuple[Tensor, Tensor, Tensor | None]
"""Samples, targets, weights of samples or None, (batch, ...) each."""


class Samples(ABC):
    """Abstract: so many samples, of which any may be asked for.

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

    def digest(self) -> str:
        """Returns what tells these samples from others; empty where that is not known."""
        return ""


class InMemory(Samples):
    """Tensors: samples (n, ...), targets (n, ...), and weights (n, ...) or None."""

    def __init__(self, name: str, x: Tensor, target: Tensor, weight: Tensor | None = None) -> None:
        """Takes the tensors; ``name`` says in errors which part they are.

        Raises:
            BrodmannError: There are none, sizes differ, or values are not finite.
        """
        check_tensors(samples=x, targets=target)
        check_pairs(x, target)
        for kind, values in (("samples", x), ("targets", target)):
            if not all_finite(values):
                raise BrodmannError(f"The {name} {kind} hold NaN or infinite values: remove or fill them first.")
        if weight is not None:
            check_weights(weight, len(x))
        self.x, self.target, self.weight, self.device = x, target, weight, x.device

    def __len__(self) -> int:
        """See `Samples`."""
        return len(self.x)

    def batch(self, rows: Tensor) -> Batch:
        """See `Samples`."""
        rows = rows.to(self.device)
        return self.x[rows], self.target[rows], None if self.weight is None else self.weight[rows]

    def digest(self) -> str:
        """See `Samples`: of all targets, and of a few hundred samples."""
        some = torch.linspace(0, len(self.x) - 1, min(len(self.x), 256)).long().to(self.device)
        found = hashlib.sha256(str((self.x.shape, self.x.dtype)).encode())
        for part in (self.x[some], self.target, *(() if self.weight is None else (self.weight,))):
            found.update(part.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return found.hexdigest()[:12]


class OfDataset(Samples):
    """A `torch.utils.data.Dataset` with a length, whose items are (sample, target) or (sample, target, weight).

    Items are made when a batch needs them, one after the other, and put together by PyTorch's `default_collate`.
    """

    def __init__(self, dataset: Any, device: torch.device) -> None:
        """Takes the data set, and where batches go.

        Raises:
            BrodmannError: It is empty, or has no length or no numbered items. When asked for a batch: items are none
                such as above.
        """
        numbered = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
        if not numbered or isinstance(dataset, IterableDataset | Tensor | numpy.ndarray | dict | str):
            hint = "its data set, loader.dataset" if hasattr(dataset, "dataset") else "batches to network.learn(*batch)"
            if isinstance(dataset, Tensor | numpy.ndarray):
                hint = "tensors as a pair, (x, y)"
            raise BrodmannError(
                "Expected samples and targets, tensors in memory, or a data set with a length and numbered items, got "
                f"{type(dataset).__name__}: give {hint}."
            )
        if len(dataset) == 0:
            raise BrodmannError("Expected a data set with samples, got an empty one.")
        self.dataset, self.device = dataset, device

    def __len__(self) -> int:
        """See `Samples`."""
        return len(self.dataset)

    def batch(self, rows: Tensor) -> Batch:
        """See `Samples`."""
        items = [self.dataset[row] for row in rows.tolist()]
        if not all(isinstance(item, tuple | list) and len(item) in (2, 3) for item in items):
            raise BrodmannError(
                f"Expected items of the data set to be (sample, target) or (sample, target, weight), got "
                f"{type(items[0]).__name__}."
            )
        try:
            x, target, *weight = (part.to(self.device) for part in default_collate(items))
        except (TypeError, RuntimeError, AttributeError) as error:
            raise BrodmannError(
                f"Items of the data set cannot be put together to tensors: {error}. Let it return tensors of one "
                "shape, as by torchvision's ToTensor."
            ) from None
        return x, target, weight[0] if weight else None


def as_samples(part: Any, name: str, device: torch.device) -> Samples:
    """Returns samples of a part, which is a tuple of tensors or a data set.

    Raises:
        BrodmannError: It is neither, or holds something that cannot be learned from.
    """
    if not isinstance(part, tuple | list):
        return OfDataset(part, device)
    if len(part) not in (2, 3):
        raise BrodmannError(f"Expected samples and targets, perhaps weights, got {len(part)} tensors.")
    return InMemory(name, *part)


def in_memory(part: Any, name: str, device: torch.device) -> tuple[Tensor, ...]:
    """Returns samples, targets and perhaps weights of a part, see `as_samples`; of a data set all are made at once.

    Raises:
        BrodmannError: It is neither, or holds something that cannot be scored.
    """
    samples = as_samples(part, name, device)
    if not isinstance(samples, InMemory):
        samples = InMemory(name, *samples.batch(torch.arange(len(samples))))
    held = samples.x, samples.target
    return held if samples.weight is None else (*held, samples.weight)
