"""Shape: what a feedback path must know of its layer when it is built."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BrodmannError
from ..updates import UpdateRule


@dataclass(frozen=True, eq=False)
class Shape:
    """What a feedback path must know of its layer.

    Attributes:
        in_features: Size of what comes to the layer, and of the error below.
        out_features: Size of what it returns, and of the error that arrives.
        areas: Budget of areas.
        shared: Whether a shared part learns, whose factors a path can follow, see `Feedback.follower`.
        equal_start: The forward weights at the start, (out, in), for a path that begins as their copy.
        update: Rule of the layer's weights.
        storage: Dtype in which weights are stored, or None: that in which the layer computes.
        scale: Standard deviation of the forward weights at the start, in units of ``1 / sqrt(in)``.
        rows: Rows of the layer for each row of the network's output, such as patches of an image or steps of a
            sequence; 0 if there is no such number.

    Raises:
        BrodmannError: The storage is not None for float64 weights.
    """

    in_features: int
    out_features: int
    areas: int
    shared: bool
    equal_start: Tensor
    update: UpdateRule
    storage: torch.dtype | None = None
    scale: float = 1.0
    rows: int = 1

    def __post_init__(self) -> None:
        if self.storage is not None and self.equal_start.dtype == torch.float64:
            raise BrodmannError(
                "storage='bfloat16' works only with weights in float32, but these are float64: leave storage out."
            )

    def draw(self) -> Tensor:
        """Draws a matrix (out, in), normal with variance ``1 / in``, independent of the forward weights."""
        return torch.randn(self.out_features, self.in_features).div_(self.in_features**0.5)

    def stored(self, matrix: Tensor) -> Tensor:
        """Returns the matrix in the dtype in which the layer's weights are stored."""
        return matrix.to(self.storage or matrix.dtype)
