"""Weights of samples as counts, for rules that remember what they have seen."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import BrodmannError


def counted(weight: Tensor, x: Tensor, *errors: Tensor) -> list[Tensor]:
    """Returns inputs and errors by which a rule that `repeats` counts each row ``weight`` times.

    They are ``sqrt(w) x`` and ``sqrt(w) e``: weight (rows,), x (rows, in), and errors (rows, ...), which hold ``w e``.
    """
    root = weight.to(x).reshape(-1, 1).sqrt()
    inverse = torch.where(root > 0, 1 / root, 0.0)
    return [x * root, *(error * inverse for error in errors)]


def check_counts(weight: Tensor, rows: int) -> None:
    """Checks weights of samples, (samples, ...), by which a rule that `repeats` counts the rows of a layer.

    Raises:
        BrodmannError: Not every row has one of its own or that of its sample, or one is negative.
    """
    if rows % weight.numel() or bool((weight < 0).any()):
        raise BrodmannError(
            "Expected a weight of at least 0 for each row of the layers, by which the rule counts a sample that many "
            f"times, got {weight.numel()} weights for {rows} rows, the smallest {float(weight.min())}."
        )
