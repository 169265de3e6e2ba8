"""Losses: the only global signal. A loss is any callable ``(output, target, weight) -> scalar``."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def _weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return values.mean()
    return (values * weight).sum() / weight.sum().clamp_min(torch.finfo(values.dtype).tiny)


class CrossEntropy:
    """``mean_i w_i * -sum_c q_ic log softmax(output_i)_c``, ``q`` one-hot smoothed by ``label_smoothing``.

    The mean over samples is weighted by the sample weight times the class weight of the target.
    """

    def __init__(self, label_smoothing: float = 0.0, class_weights: Tensor | None = None) -> None:
        """Stores the options.

        Args:
            label_smoothing: Share of the target that is spread over all classes. Default 0.
            class_weights: (classes,), or None for equal ones.
        """
        self.label_smoothing, self.class_weights = label_smoothing, class_weights

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Output (batch, ..., classes), target (batch, ...) int64, weight (batch, ...) or None; returns a scalar."""
        output, target = output.reshape(-1, output.shape[-1]), target.reshape(-1)
        values = F.cross_entropy(output, target, reduction="none", label_smoothing=self.label_smoothing)
        if self.class_weights is not None:
            of_class = self.class_weights.to(output)[target]
            weight = of_class if weight is None else weight.reshape(-1) * of_class
        return _weighted_mean(values, None if weight is None else weight.reshape(-1).to(values))


class MeanSquaredError:
    """``mean_i w_i * mean_k (output_ik - target_ik)^2 / 2``. The half makes the output error ``output - target``."""

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Output and target (batch, ..., outputs), weight (batch, ...) or None; returns a scalar."""
        if output.shape != target.shape:
            target = target.reshape(output.shape)
        values = (output - target).square().mean(-1) / 2
        return _weighted_mean(values, None if weight is None else weight.to(values))
