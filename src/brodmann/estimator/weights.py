"""Weights of samples: which are accepted, whose samples count, and how much from call to call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import _check_sample_weight

from ..errors import BrodmannError

Array = NDArray[Any]
WEIGHTS, COUNTS = (1e-150, 1e150), (1e-30, 1e6)
"""Least and largest weight of a sample, whose squares float64 holds. Under recursive least squares float32 holds it,
and can still tell the samples of a batch apart: with weights of 1e8, batches of 64 break down."""


class Samples(NamedTuple):
    """Samples of one call that count: inputs (n, features), targets (n, ...), weights (n,) in float64 or None."""

    x: Array
    y: Array
    weight: Array | None

    @classmethod
    def of(cls, x: Array, y: Any, sample_weight: ArrayLike | None, *, counts: bool) -> Samples:
        """Checks weights, and leaves out samples whose weight is 0 in float32.

        Raises:
            BrodmannError: A weight is out of range, or all are 0.
        """
        if sample_weight is None:
            return cls(x, y, None)
        weight: Array = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise BrodmannError("All sample weights are zero: expected at least one above 0.")
        least, most = COUNTS if counts else WEIGHTS
        if weight.max() > most or weight[weight > 0].min() < least:
            raise BrodmannError(
                f"Expected sample weights of 0, or from {least:g} to {most:g}: rescale them to be closer to 1."
            )
        heavy = (weight / weight.mean()).astype(np.float32) != 0
        return cls(x, y, weight) if heavy.all() else cls(x[heavy], y[heavy], weight[heavy])


@dataclass(frozen=True)
class Weighing:
    """How samples count in the loss over all calls: as multiples of the mean weight so far, or as counts.

    Attributes:
        counts: Whether weights are counts, as under recursive least squares.
        total: Sum of the weights so far; 1 for samples without.
        samples: Number of samples so far.
    """

    counts: bool
    total: float = 0.0
    samples: int = 0

    def after(self, given: Samples) -> Weighing:
        """Returns what is known once the samples of another call have come."""
        count = len(given.x)
        total = self.total + (count if given.weight is None else given.weight.sum())
        return Weighing(self.counts, total, self.samples + count)

    def of(self, given: Samples) -> torch.Tensor | None:
        """Returns the weights (n,) by which samples, the last that came, are learned; None if all count alike."""
        if self.counts:
            return None if given.weight is None else torch.from_numpy(given.weight.astype(np.float32))
        if given.weight is None and self.total == self.samples:  # no call has given any
            return None
        weight = np.ones(len(given.x)) if given.weight is None else given.weight
        return torch.from_numpy(weight * (self.samples / self.total)).float()
