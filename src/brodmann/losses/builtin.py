"""Losses: the only global signal. A loss is any callable ``(output, target, weight) -> scalar``.

One of ``(output, target)`` alone counts all samples alike. One that also has
``value_and_error(output, target, weight)`` spares the network a pass of autograd: the losses here know their own
derivative. PyTorch's own, such as ``nn.CrossEntropyLoss()``, work too, see `brodmann.losses.adapters`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..autograd import ordinary
from ..checks import all_in, check_share, check_switch, check_tensors
from ..errors import BrodmannError
from ..kernels import per_row
from ..recording import replayed
from .facts import LossTraits
from .targets import are_classes, check_place, like_output, no_classes

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class _Parts(NamedTuple):
    """What a `CrossEntropy` and its derivative are made of.

    Attributes:
        log_probabilities: (rows, classes).
        own: The part of ``q k`` that only a target's class has, (rows, 1).
        spread: The part of ``q k`` that every class has, (classes,).
        values: Loss of each row, (rows, 1).
        share: Share of each row in the mean.
    """

    log_probabilities: Tensor
    own: Tensor
    spread: Tensor
    values: Tensor
    share: Tensor | float


class CrossEntropy(LossTraits):
    """``sum_i w_i * -sum_c q_ic k_c log softmax(output_i)_c / sum_i w_i k_y``.

    ``q`` is one-hot, smoothed by ``label_smoothing``; ``w`` is the sample weight and ``k`` the class weight, 1 if
    there is none; ``k_y`` is that of the target. Without sample weights it is `torch.nn.CrossEntropyLoss`.
    """

    known = takes_logits = True

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Tensor | None = None, *, normalised: bool = True
    ) -> None:
        """Stores the options.

        Args:
            label_smoothing: Share of the target that is spread over all classes. Default 0.
            class_weights: (classes,), or None for equal ones.
            normalised: Whether ``sum_i w_i k_y`` divides, as in PyTorch's own. Default True. Else the number of targets
                does, so that a batch of heavy samples moves more than one of light ones.

        Raises:
            BrodmannError: The smoothing is not in [0, 1), or a class weight is negative or not finite. When called:
                targets are no int64 or int32 classes of the output, or there is not a weight for each of them.
        """
        check_share(label_smoothing=label_smoothing)
        check_switch(normalised=normalised)
        if class_weights is not None:
            _check_factors(class_weights=class_weights)
        self.label_smoothing, self.class_weights, self.normalised = label_smoothing, class_weights, normalised

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Takes output (batch, ..., classes), classes (batch, ...) int64 or int32, weight (batch, ...); a scalar."""
        parts = self._parts(output, target, weight)
        return (parts.values * parts.share).sum()

    def value_and_error(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the loss and ``dL/d output_ic = w_i (softmax(output_i)_c sum_j q_ij k_j - q_ic k_c) / S``.

        Shaped like the output. ``S = sum_i w_i k_y``, or the number of targets if the loss is not normalised.
        """
        if weight is None and self.class_weights is None:
            fused = per_row.cross_entropy(output, target, self.label_smoothing)
            if fused is not None:
                return fused
        parts = self._parts(output, target, weight)
        error = parts.log_probabilities.exp().mul_(parts.own + parts.spread.sum()).sub_(parts.spread)
        error.scatter_add_(1, target.reshape(-1, 1), -parts.own).mul_(parts.share)
        return (parts.values * parts.share).sum(), error.reshape(output.shape)

    def counts_for(self, target: Any, weight: Tensor | None, samples: int) -> float:
        """As `LossTraits.counts_for`, with the weights of classes."""
        if self.class_weights is None or not self.normalised:
            return super().counts_for(target, weight, target.numel())
        of_target = self.class_weights.to(target.device)[target].reshape(-1)
        return float(of_target.sum() if weight is None else of_target @ weight.reshape(-1).to(of_target))

    def _parts(self, output: Tensor, target: Tensor, weight: Tensor | None) -> _Parts:
        """Returns what value and error are made of."""
        check_place(output, target)
        log_probabilities = output.reshape(-1, output.shape[-1]).log_softmax(1)
        classes, count = ordinary(target).reshape(-1, 1), output.shape[-1]
        if len(classes) != len(log_probabilities):
            raise no_classes(output, target)
        try:
            values = -log_probabilities.gather(1, classes)
        except RuntimeError:
            raise no_classes(output, target) from None
        of_classes = values.new_ones(count) if self.class_weights is None else self.class_weights.to(values)
        if of_classes.shape != (count,):
            raise BrodmannError(
                f"Expected class_weights of shape ({count},), one for each class, got {tuple(of_classes.shape)}."
            )
        of_target = of_classes[classes]
        own, spread = (1.0 - self.label_smoothing) * of_target, self.label_smoothing / count * of_classes
        values = own * values
        if self.label_smoothing:  # else a class of probability 0 would give 0 times infinity
            values = values - log_probabilities @ spread[:, None]
        share = _share(values, weight, self.normalised, of_target)
        return _Parts(log_probabilities, own, spread, values, share)


class BinaryCrossEntropy(LossTraits):
    """``sum_i w_i * mean_k -(p_k t_ik log s_ik + (1 - t_ik) log(1 - s_ik)) / sum_i w_i``, ``s = sigmoid(output)``.

    For samples that have any number of labels at once: an output of each label, as a logit, and a target of each label,
    1 if the sample has it and 0 if not, or a probability. A mean over labels and over samples: without sample
    weights it is `torch.nn.BCEWithLogitsLoss`. ``p`` is the weight of a label's ones, 1 if there is none.
    """

    known = takes_logits = takes_labels = True

    def __init__(self, pos_weight: Tensor | None = None, *, normalised: bool = True) -> None:
        """Stores the options.

        Args:
            pos_weight: (labels,), how much more a one of each label counts than a zero, as in PyTorch: such as zeros
                over ones for rare labels. Default None: all alike.
            normalised: Whether ``sum_i w_i`` divides, see `CrossEntropy`. Default True.

        Raises:
            BrodmannError: A weight of a label is negative or not finite. When called: targets are not as many numbers
                as the output, or not in [0, 1], or there is not a weight for each sample or for each label.
        """
        check_switch(normalised=normalised)
        if pos_weight is not None:
            _check_factors(pos_weight=pos_weight)
        self.pos_weight, self.normalised = pos_weight, normalised

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Takes output and target (batch, ..., labels), weight (batch, ...); returns a scalar."""
        return self._value_and_share(output, self._labels(output, target), weight)[0]

    def value_and_error(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the loss and ``dL/d output = w_i (s (1 + (p - 1) t) - p t) / (labels sum w)``, as the output."""
        labels = self._labels(output, target)
        value, share = self._value_and_share(output, labels, weight)
        ones = labels if self.pos_weight is None else labels * self.pos_weight.to(labels)
        zeros = 1 - labels
        return value, (output.sigmoid() * (ones + zeros) - ones) * (share / output.shape[-1])

    def _labels(self, output: Tensor, target: Tensor) -> Tensor:
        """Returns the targets like the output, after a check of them and of the weights of labels."""
        check_place(output, target)
        labels = like_output(target, output)
        replayed(_check_labels, labels)
        count = output.shape[-1]
        if self.pos_weight is not None and self.pos_weight.shape != (count,):
            raise BrodmannError(
                f"Expected pos_weight of shape ({count},), one for each label, got {tuple(self.pos_weight.shape)}."
            )
        return labels

    def _value_and_share(self, output: Tensor, labels: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | float]:
        """Returns the loss and each sample's share of the mean."""
        pos_weight = None if self.pos_weight is None else self.pos_weight.to(output)
        each = functional.binary_cross_entropy_with_logits(output, labels, reduction="none", pos_weight=pos_weight)
        values = each.mean(-1, keepdim=True)
        share = _share(values, weight, self.normalised)
        return (values * share).sum(), share


def _check_labels(labels: Tensor) -> None:
    if not all_in(labels, 0.0, 1.0):
        raise BrodmannError(
            "Expected targets in [0, 1], 1 for each label that a sample has and 0 for all others, got some from "
            f"{float(labels.min()):g} to {float(labels.max()):g}: use CrossEntropy for numbers of classes, and "
            "MeanSquaredError for real targets."
        )


class MeanSquaredError(LossTraits):
    """``sum_i w_i * mean_k (output_ik - target_ik)^2 / 2 / sum_i w_i``: half of `torch.nn.MSELoss`.

    So the error of an output is ``output - target``, over the number of outputs and the sum of the weights, or the
    number of samples if not normalised. In units of the target squared. Classes stand for their one-hot vectors, as
    in `SumOfSquares`. Raises a `BrodmannError` if targets are neither classes nor as many numbers as the output, or
    weights not one for each sample.
    """

    known = True

    def __init__(self, *, normalised: bool = True) -> None:
        """Stores whether ``sum_i w_i`` divides, see `CrossEntropy`. Default True."""
        check_switch(normalised=normalised)
        self.normalised = normalised

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Takes output, target (batch, ..., outputs) or classes (batch, ...) int64, weight (batch, ...); a scalar."""
        return self.value_and_error(output, target, weight)[0]

    def value_and_error(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the loss and ``dL/d output = w_i (output - target) / (outputs sum w)``, shaped like the output."""
        error = _difference(output, target)
        values = error.square().mean(-1, keepdim=True) / 2
        share = _share(values, weight, self.normalised)
        return (values * share).sum(), error * (share / error.shape[-1])


class SumOfSquares(LossTraits):
    """``sum_i w_i * sum_k (output_ik - target_ik)^2 / 2``: of all samples together, not their mean.

    A sample's error then does not depend on the batch it comes in, as `RLS` requires. Targets that are classes, a whole
    number for each row of several outputs, stand for their one-hot vectors.
    """

    known = sums = True

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Takes output (batch, ..., outputs), target of that shape or (batch, ...) int64; returns a scalar."""
        return self.value_and_error(output, target, weight)[0]

    def value_and_error(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the loss and ``dL/d output = w_i (output - target)``, shaped like the output."""
        error = _difference(output, target)
        weighted = error if weight is None else error * _weights_like(weight, error[..., :1])
        return (weighted * error).sum() / 2, weighted


LOSSES: dict[str, Callable[[], Loss]] = {
    "cross-entropy": CrossEntropy,
    "binary-cross-entropy": BinaryCrossEntropy,
    "mean-squared-error": MeanSquaredError,
    "sum-of-squares": SumOfSquares,
}
"""Losses by name, for options and the command line; register your own here, as a function that makes it."""


def _difference(output: Tensor, target: Tensor) -> Tensor:
    """Returns ``output - target``, for classes output minus their one-hot vectors; (batch, ..., outputs)."""
    if not are_classes(output, target):
        return output - like_output(target, output)
    check_place(output, target)
    rows = output.reshape(-1, output.shape[-1])
    minus_one = rows.new_full((len(rows), 1), -1.0)
    try:
        return rows.scatter_add(1, ordinary(target).reshape(-1, 1), minus_one).reshape(output.shape)
    except RuntimeError:
        raise no_classes(output, target) from None


def _check_factors(**factors: Tensor) -> None:
    check_tensors(**factors)
    for name, values in factors.items():
        if not bool(((values >= 0) & (values < torch.inf)).all()):
            raise BrodmannError(
                f"Expected {name} that are finite and at least 0: with negative ones, training would increase the loss."
            )


def _share(values: Tensor, weight: Tensor | None, normalised: bool, within: Tensor | None = None) -> Tensor | float:
    """Returns each value's share of the weighted mean, one number if all are equal; 0 if all weights are.

    Weights ``within`` are in the values already, and count in the divisor only.
    """
    count = values.numel()
    if not normalised or (weight is None and within is None):
        return 1 / count if weight is None else _weights_like(weight, values) / count
    weight = torch.ones_like(values) if weight is None else _weights_like(weight, values)
    total = weight.sum() if within is None else (weight * within).sum()
    return weight / total.clamp_min(torch.finfo(values.dtype).tiny)


def _weights_like(weight: Tensor, values: Tensor) -> Tensor:
    """Returns the weights of samples in the shape of a value of each."""
    if weight.numel() != values.numel():
        raise BrodmannError(
            f"Expected a weight for each of the {values.numel()} targets, got weights of shape {tuple(weight.shape)}."
        )
    return weight.to(values).reshape(values.shape)
