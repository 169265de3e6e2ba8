"""Scores of a learner on samples that it has not seen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..checks import check_pairs, check_tensors
from ..losses.adapters import is_known, per_sample, takes_logits
from ..losses.builtin import are_classes, one_number
from .learner import Learner, check_learner

ROWS = 1024
"""Samples that go through a network at a time: enough for its products, and memory for few."""


@torch.no_grad()
def outputs_of(network: Callable[[Tensor], Tensor], x: Tensor, rows: int = ROWS) -> Tensor:
    """Returns the outputs of all samples, x (n, ...), so many at a time."""
    return torch.cat([network(part) for part in torch.split(x, rows)])


@torch.no_grad()
def evaluate(network: Learner, x: Tensor, target: Tensor, rows: int = ROWS) -> dict[str, float]:
    """Returns the loss, and the `score` where targets are classes or real values like the outputs; x (n, ...).

    Of a loss that sums over samples, such as `SumOfSquares`, it is the mean, so that parts of any size compare.
    There is no ``r2`` where the loss takes outputs for logits, such as a binary cross-entropy, or where whole numbers
    may be anything: a loss of your own.

    Raises:
        BrodmannError: There is nothing to score, the numbers of samples and targets differ, or it is no network.
    """
    check_learner(network)
    check_tensors(x=x, target=target)
    check_pairs(x, target)
    outputs = outputs_of(network, x, rows)
    loss = per_sample(network.loss, float(one_number(network.loss(outputs, target, None))), len(x))
    values = target.numel() == outputs.numel() and not takes_logits(network.loss)
    known = target.is_floating_point() or is_known(network.loss)
    scored = are_classes(outputs, target) or (values and known)
    return {"loss": loss, **(score(outputs, target) if scored else {})}


def score(outputs: Tensor, target: Tensor) -> dict[str, float]:
    """Returns ``accuracy`` for classes, else ``r2``, the coefficient of determination (mean over targets).

    That of a target which is the same for all samples is not defined and does not count; where none is, nothing is
    returned.
    """
    if are_classes(outputs, target):
        return {"accuracy": float(correct(outputs, target).double().mean())}
    target = target.reshape(outputs.shape).to(outputs.dtype)
    residual = (outputs - target).double().square().sum(0)
    total = (target - target.mean(0)).double().square().sum(0)
    varies = target.amin(0) < target.amax(0)
    return {"r2": float((1 - residual[varies] / total[varies]).mean())} if bool(varies.any()) else {}


def correct(outputs: Tensor, target: Tensor) -> Tensor:
    """Returns which classes are right, (n, ...): outputs (n, ..., classes), target as many classes in any shape."""
    return outputs.argmax(-1) == target.reshape(outputs.shape[:-1])
