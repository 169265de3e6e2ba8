"""TargetScale: real targets brought to mean 0 and variance 1, and predictions brought back."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import BrodmannError


@dataclass(frozen=True)
class TargetScale:
    """``(y - mean) / scale`` of every target.

    Attributes:
        mean: Mean of each target over the training part, in its own unit.
        scale: Standard deviation of each, 1 if a target is constant.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, y: Tensor) -> TargetScale:
        """Takes mean and standard deviation of the targets of a training part, (n, targets)."""
        wide = y.double()
        low, high = wide.amin(0), wide.amax(0)
        mean = wide.mean(0).clamp(low, high)  # rounding may leave that of a large constant beside it
        deviation = wide.std(0, correction=0)
        varies = (low < high) & (deviation > 0)  # rounding leaves a constant a deviation of 1e-17
        return cls(tuple(mean.tolist()), tuple(torch.where(varies, deviation, 1.0).tolist()))

    def __call__(self, y: Tensor) -> Tensor:
        """Scales targets, (n, targets); returns float32."""
        return ((y.double() - self._as(self.mean, y)) / self._as(self.scale, y)).float()

    def undo(self, y: Tensor) -> Tensor:
        """Brings predictions (n, targets) back to the targets' own units; returns float64, which holds any offset."""
        return y.double() * self._as(self.scale, y) + self._as(self.mean, y)

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON-safe data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> TargetScale:
        """Takes back what `as_dict` returned.

        Raises:
            BrodmannError: It is something else.
        """
        try:
            mean, scale = (tuple(float(value) for value in record[name]) for name in ("mean", "scale"))
        except (KeyError, TypeError, ValueError):
            mean, scale = (), ()
        if not mean or len(mean) != len(scale) or not all(map(math.isfinite, (*mean, *scale))) or min(scale) <= 0:
            raise BrodmannError(
                "Stored scales of targets must have a finite mean and a scale above 0 for each target, got "
                f"{record!r}: the file is damaged. Train again."
            )
        return cls(mean, scale)

    @staticmethod
    def _as(values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=like.device)
