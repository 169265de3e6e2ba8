"""Scores of a learner on samples that it has not seen."""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import check_pairs
from .learner import Learner
from .losses import one_number


@torch.no_grad()
def evaluate(network: Learner, x: Tensor, target: Tensor, rows: int = 1024) -> dict[str, float]:
    """Returns loss and ``accuracy`` (share of correct classes), or ``r2`` for real targets, see `score`; x (n, ...).

    Raises:
        BrodmannError: There is nothing to score, or the numbers of samples and targets differ.
    """
    check_pairs(x, target)
    outputs = torch.cat([network(part) for part in torch.split(x, rows)])
    loss = float(one_number(network.loss(outputs, target, None)))
    return {"loss": loss, **score(outputs, target)}


def score(outputs: Tensor, target: Tensor) -> dict[str, float]:
    """Returns ``accuracy`` for integer targets, else ``r2``, the coefficient of determination (mean over targets).

    That of a target which is the same for all samples is not defined and does not count; where none is, nothing is
    returned.
    """
    if not target.is_floating_point():
        return {"accuracy": float((outputs.argmax(-1) == target).double().mean())}
    target = target.reshape(outputs.shape)
    residual = (outputs - target).double().square().sum(0)
    total = (target - target.mean(0)).double().square().sum(0)
    varies = target.amin(0) < target.amax(0)
    return {"r2": float((1 - residual[varies] / total[varies]).mean())} if bool(varies.any()) else {}
