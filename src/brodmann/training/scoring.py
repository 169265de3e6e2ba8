"""Scores of a learner on samples that it has not seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..checks import check_tensors, check_weights, check_whole
from ..errors import BrodmannError
from ..losses.builtin import Loss
from ..losses.facts import check_single, facts_of, one_number, per_sample
from ..losses.scores import name_of_score
from ..losses.targets import are_classes, like_output
from ..network.batches import ROWS, outputs_of
from ..rows import weights_of_rows
from ..several import Several, check_pairs, check_several, sample_count
from .learner import Learner, device_of, learner_of
from .samples import in_memory


@torch.no_grad()
def evaluate(
    network: Learner,
    x: Several | Dataset[Any],
    target: Several | None = None,
    weight: Tensor | None = None,
    *,
    rows: int = ROWS,
) -> dict[str, float]:
    """Returns the loss, and the `score` if targets are classes or real values like the outputs; x (n, ...).

    Under `BinaryCrossEntropy` the score is ``label_accuracy``, the share of single labels that are right: an output
    above 0 stands for a target above one half.

    For a loss that sums over samples, such as `SumOfSquares`, the mean over samples is returned, weighted if there are
    weights, so that parts of any size can be compared. There is no score if there are several outputs or targets. There
    is no ``r2`` if the loss takes outputs as logits, such as a binary cross-entropy of PyTorch, or if targets of a loss
    of your own are whole numbers, which may mean anything.
    Accuracy is over those targets that the loss counts, see `right_and_scored`.

    Args:
        network: What is scored.
        x: Samples, (n, ...), or several such tensors, as the network takes them. Without ``target`` a validation part
            as a `Trainer` takes it: a data set, all of whose items are made at once, or samples, targets and perhaps
            weights in a tuple.
        target: Target of each sample, (n, ...), or several such tensors.
        weight: Weight of each sample, or of each of its targets, (n, ...): in the loss as in learning; in the score a
            sample of weight 0 does not count, and all others count alike. Default None: all count.
        rows: Samples that go through the network at a time. Default 1024.

    Raises:
        BrodmannError: There is nothing to score, the numbers of samples and targets differ, weights are below 0 or not
            finite, or come twice, or it is not a network.
    """
    network = learner_of(network)
    part = (x, target) if target is not None else in_memory(x, "evaluated", device_of(network)).tensors
    if len(part) > 2 and weight is not None:
        raise BrodmannError("Expected weights once, got some with the samples and others as weight: leave one out.")
    samples, target, weight = (*part, weight)[:3]
    check_several(x=samples, target=target)
    check_pairs(samples, target)
    check_whole(1, rows=rows)
    count = sample_count(samples)
    if weight is not None:
        check_weights(weight, count)
    outputs = outputs_of(network, samples, rows)
    check_single(network.loss, outputs, target)
    value = float(one_number(network.loss(outputs, target, weight)))
    loss = per_sample(network.loss, value, facts_of(network.loss).counts_for(target, weight, count))
    return {"loss": loss, **_score_of(network.loss, outputs, target, weight)}


def _score_of(loss: Loss, outputs: Several, target: Several, weight: Tensor | None) -> dict[str, float]:
    """Returns the score as `evaluate` names it; nothing if targets have none."""
    if not (isinstance(outputs, Tensor) and isinstance(target, Tensor)):
        return {}
    if (found := right_and_scored(loss, outputs, target, weight)) is not None:
        right, scored = found
        return {name_of_score(loss): right / scored} if scored else {}
    values = target.numel() == outputs.numel() and not facts_of(loss).takes_logits
    if not values or not (target.is_floating_point() or facts_of(loss).known):
        return {}
    heavy = slice(None) if weight is None else weight.reshape(len(target), -1).ne(0).any(1)
    return score(outputs[heavy], target[heavy])


def score(outputs: Tensor, target: Tensor) -> dict[str, float]:
    """Returns ``accuracy`` for classes, else ``r2``, the coefficient of determination (mean over targets).

    R2 is not defined for a target that is the same for all samples; such targets are left out. If it is defined for
    none, or there are no samples, nothing is returned.

    Raises:
        BrodmannError: They are no tensors, or real targets are of another shape than the outputs.
    """
    check_tensors(outputs=outputs, target=target)
    if not target.numel():
        return {}
    if are_classes(outputs, target):
        return {"accuracy": float(correct(outputs, target).double().mean())}
    target = like_output(target, outputs)
    residual = (outputs - target).double().square().sum(0)
    total = (target - target.mean(0)).double().square().sum(0)
    varies = target.amin(0) < target.amax(0)
    return {"r2": float((1 - residual[varies] / total[varies]).mean())} if bool(varies.any()) else {}


def correct(outputs: Tensor, target: Tensor) -> Tensor:
    """Returns which classes are right, (n, ...): outputs (n, ..., classes), target as many classes in any shape."""
    return outputs.argmax(-1) == target.reshape(outputs.shape[:-1])


def right_and_scored(loss: Loss, outputs: Tensor, target: Tensor, weight: Tensor | None) -> tuple[int, int] | None:
    """Returns how many classes or labels are right, and how many count: those of weight 0 and those left out do not.

    Args:
        loss: Says whether targets are labels, and which target it leaves out, such as -100 for padding.
        outputs: (n, ..., classes or labels).
        target: As many classes, or as many labels as outputs; for real values nothing is returned.
        weight: Weight of each sample or target, (n, ...), or None.
    """
    ignored = facts_of(loss).ignored
    if facts_of(loss).takes_labels:
        right = (outputs > 0) == (like_output(target, outputs) > 0.5)
    elif are_classes(outputs, target):
        right = correct(outputs, target)
    else:
        return None
    if weight is None and ignored is None:
        return int(right.sum()), right.numel()
    counts = torch.ones_like(right) if ignored is None else target.reshape(right.shape) != ignored
    if weight is not None:
        rows = outputs.shape[:-1]
        heavy = weights_of_rows(weight, rows.numel()).reshape(rows) != 0
        counts &= heavy if counts.ndim == heavy.ndim else heavy[..., None]
    return int((right & counts).sum()), int(counts.sum())
