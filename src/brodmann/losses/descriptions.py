"""Losses as files describe them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .builtin import BinaryCrossEntropy, CrossEntropy, Loss, MeanSquaredError, SumOfSquares
from .facts import name_of_loss

_RESTORED: tuple[type, ...] = (CrossEntropy, BinaryCrossEntropy, MeanSquaredError, SumOfSquares)


def describe_loss(loss: Loss) -> dict[str, Any]:
    """Returns what a file says of a loss: name and options of one of ours; for any other, its name as ``other``."""
    if type(loss) in _RESTORED:
        options = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in vars(loss).items()}
        return {"name": type(loss).__name__, **options}
    return {"other": name_of_loss(loss)}


def described_loss(description: dict[str, Any]) -> Loss | None:
    """Returns the loss that `describe_loss` described, None where it is none of ours."""
    options = dict(description)
    kind = {loss.__name__: loss for loss in _RESTORED}.get(options.pop("name", ""))
    if kind is None:
        return None
    loss: Loss = kind(
        **{name: _as_tensor(value) if isinstance(value, list) else value for name, value in options.items()}
    )
    return loss


def _as_tensor(values: list[float]) -> Tensor:
    """Returns numbers as float32, if they were such, else as float64."""
    wide = torch.tensor(values, dtype=torch.float64)
    return wide.float() if torch.equal(wide.float().double(), wide) else wide
