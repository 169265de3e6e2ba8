"""What an estimator computes around its network, as PyTorch modules: they predict, and can be exported with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .scaling import Scaler


class Scaled(nn.Module):
    """x -> (x - mean) / scale, computed in float64 and returned in float32, as `scaled` does; (samples, features)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, scaler: Scaler | None) -> None:
        """Takes what the columns were fitted to. None only rounds."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(()) if scaler is None else torch.from_numpy(scaler.mean_.copy()))
        self.register_buffer("scale", torch.ones(()) if scaler is None else torch.from_numpy(scaler.scale_.copy()))

    def forward(self, x: Tensor) -> Tensor:
        """Returns scaled rows."""
        return ((x.double() - self.mean) / self.scale).float()


class Probabilities(nn.Module):
    """Outputs -> probabilities in float64: (samples, classes), rows of which sum to one, or (samples, labels).

    Of classes the softmax, of labels the sigmoid. The outputs of recursive least squares estimate probabilities
    themselves: of classes their positive part, of labels the output, cut to (0, 1).
    """

    LEAST = 1e-6
    """Least probability under recursive least squares, whose outputs may be negative; before rows sum to one."""

    def __init__(self, *, labels: bool, recursive: bool) -> None:
        super().__init__()
        self.labels, self.recursive = labels, recursive

    def forward(self, outputs: Tensor) -> Tensor:
        """Returns probabilities."""
        outputs = outputs.double()
        if not self.recursive:
            return outputs.sigmoid() if self.labels else outputs.softmax(1)
        if self.labels:
            return outputs.clamp(self.LEAST, 1.0 - self.LEAST)
        positive = outputs.clamp(min=self.LEAST)
        return positive / positive.sum(1, keepdim=True)


class Targets(nn.Module):
    """Outputs -> targets in their own units, in float64: output * scale + mean; (samples,) or (samples, targets)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, scaler: Scaler, *, single: bool) -> None:
        """Takes what the targets were fitted to, and whether they came as (samples,)."""
        super().__init__()
        self.single = single
        self.register_buffer("mean", torch.from_numpy(scaler.mean_.copy()))
        self.register_buffer("scale", torch.from_numpy(scaler.scale_.copy()))

    def forward(self, outputs: Tensor) -> Tensor:
        """Returns targets."""
        targets = outputs.double() * self.scale + self.mean
        return targets[:, 0] if self.single else targets
