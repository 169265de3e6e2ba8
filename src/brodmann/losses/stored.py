"""Losses as files hold them: by name and options, if they are of this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .builtin import BinaryCrossEntropy, CrossEntropy, Loss, MeanSquaredError, SumOfSquares
from .facts import name_of_loss

RESTORED: tuple[type, ...] = (CrossEntropy, BinaryCrossEntropy, MeanSquaredError, SumOfSquares)
"""Losses that a file can restore."""


def describe_loss(loss: Loss) -> dict[str, Any]:
    """Returns what a file says of a loss: name and options of one of ours; for any other, its name as ``other``."""
    if type(loss) in RESTORED:
        options = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in vars(loss).items()}
        return {"name": type(loss).__name__, **options}
    return {"other": name_of_loss(loss)}


def restored_loss(path: Path, description: dict[str, Any]) -> Loss:
    """Returns the loss that a file describes, see `describe_loss`.

    Raises:
        CheckpointError: It is not one of this package's, or one of another version.
    """
    options = dict(description)
    kind = {loss.__name__: loss for loss in RESTORED}.get(options.pop("name", ""))
    if kind is None:
        raise CheckpointError(f"{path} was trained with {description['other']}: pass that as loss.")
    given = {name: _as_tensor(value) if isinstance(value, list) else value for name, value in options.items()}
    try:
        loss: Loss = kind(**given)
    except TypeError as error:
        raise CheckpointError(f"{path} names a loss of another version of this package: {error}") from None
    return loss


def _as_tensor(values: list[float]) -> Tensor:
    """Returns numbers as float32, if they were such, else as float64."""
    wide = torch.tensor(values, dtype=torch.float64)
    return wide.float() if torch.equal(wide.float().double(), wide) else wide
