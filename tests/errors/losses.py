"""What is said of losses and targets."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from brodmann import BinaryCrossEntropy, CrossEntropy, MeanSquaredError, Network, SumOfSquares, mlp
from brodmann.losses import Loss


def learn_from(target: torch.Tensor, loss: Loss | None = None) -> None:
    Network(mlp(4, 2), loss).learn(torch.zeros(3, 4), target)


NO_CLASSES = "Expected targets of shape (3,), torch.int64, from 0 to 1, got "

CASES: list[tuple[Callable[[], object], str]] = [
    (lambda: CrossEntropy(1.5), "Expected label_smoothing to be a number in [0, 1), got 1.5."),
    (
        lambda: CrossEntropy(class_weights=torch.tensor([-1.0, 1.0])),
        "Expected class_weights that are finite and at least 0: with negative ones, training would increase the loss.",
    ),
    (
        lambda: CrossEntropy(class_weights=[1.0, 2.0]),  # type: ignore[arg-type]
        "Expected class_weights to be a tensor, got list: convert it with torch.as_tensor(...).",
    ),
    (
        lambda: learn_from(torch.tensor([0, 1, 1]), CrossEntropy(class_weights=torch.ones(3))),
        "Expected class_weights of shape (2,), one for each class, got (3,).",
    ),
    (lambda: learn_from(torch.tensor([0, 1, 5])), NO_CLASSES + "0 to 5."),
    (lambda: learn_from(torch.tensor([0, -1, 1])), NO_CLASSES + "-1 to 1."),
    (lambda: learn_from(torch.zeros(3, 2, dtype=torch.long)), NO_CLASSES + "shape (3, 2)."),
    (
        lambda: learn_from(torch.zeros(3)),
        NO_CLASSES
        + (
            "torch.float32: convert class numbers with .long(), use nn.CrossEntropyLoss() for probabilities, "
            "BinaryCrossEntropy for samples of several labels, and MeanSquaredError for real targets."
        ),
    ),
    (lambda: learn_from(torch.tensor([0, 1, 5]), SumOfSquares()), NO_CLASSES + "0 to 5."),
    (
        lambda: learn_from(torch.zeros(3), SumOfSquares()),
        "Expected targets of shape (3, 2), like the output, got (3,).",
    ),
    (
        lambda: learn_from(torch.zeros(3, 1), MeanSquaredError()),
        "Expected targets of shape (3, 2), like the output, got (3, 1).",
    ),
    (
        lambda: CrossEntropy()(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64, device="meta")),
        "Expected targets on cpu, where the output is, got some on meta.",
    ),
    (
        lambda: SumOfSquares()(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64, device="meta")),
        "Expected targets on cpu, where the output is, got some on meta.",
    ),
    (
        lambda: learn_from(torch.zeros(3, dtype=torch.int64), nn.BCEWithLogitsLoss()),
        "BCEWithLogitsLoss takes a number for each of the outputs (3, 2), got classes of shape (3,): use CrossEntropy, "
        "or MeanSquaredError, which takes classes as their one-hot vectors.",
    ),
    (
        lambda: learn_from(torch.zeros(3, 5, dtype=torch.int64), nn.HuberLoss()),
        "Expected targets of shape (3, 2), like the output, got (3, 5).",
    ),
    (
        lambda: Network(mlp(4, 2), nn.CrossEntropyLoss()).learn(
            torch.zeros(3, 4), torch.tensor([0, 1, 1]), torch.ones(3)
        ),
        "CrossEntropyLoss takes no sample weights: use CrossEntropy, BinaryCrossEntropy, MeanSquaredError, or a "
        "callable that takes (output, target, weight).",
    ),
    (
        lambda: learn_from(torch.tensor([0, 1, 1]), nn.CrossEntropyLoss(reduction="none")),
        "Expected a loss that returns a tensor with one number, got shape (3,).",
    ),
    (
        lambda: learn_from(torch.tensor([0, 1, 1]), lambda *given: 0.5),  # type: ignore[arg-type,return-value]
        "Expected a loss that returns a tensor with one number, got 0.5.",
    ),
    (
        lambda: BinaryCrossEntropy(torch.tensor([-1.0, 1.0])),
        "Expected pos_weight that are finite and at least 0: with negative ones, training would increase the loss.",
    ),
    (
        lambda: BinaryCrossEntropy(2.0),  # type: ignore[arg-type]
        "Expected pos_weight to be a tensor, got float: convert it with torch.as_tensor(...).",
    ),
    (
        lambda: learn_from(torch.ones(3, 2), BinaryCrossEntropy(torch.ones(3))),
        "Expected pos_weight of shape (2,), one for each label, got (3,).",
    ),
    (
        lambda: learn_from(torch.tensor([[0, 1], [1, 2], [0, 0]]), BinaryCrossEntropy()),
        "Expected targets in [0, 1], 1 for each label that a sample has and 0 for all others, got some from 0 to 2: "
        "use CrossEntropy for numbers of classes, and MeanSquaredError for real targets.",
    ),
    (
        lambda: learn_from(torch.full((3, 2), math.nan), BinaryCrossEntropy()),
        "Expected targets in [0, 1], 1 for each label that a sample has and 0 for all others, got some from nan to "
        "nan: use CrossEntropy for numbers of classes, and MeanSquaredError for real targets.",
    ),
    (
        lambda: learn_from(torch.tensor([0, 1, 1]), BinaryCrossEntropy()),
        "Expected targets of shape (3, 2), like the output, got (3,).",
    ),
]
