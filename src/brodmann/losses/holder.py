"""What holds a loss."""

from __future__ import annotations

from typing import Any

from torch import nn

from .adapters import as_loss
from .builtin import Loss


class HoldsLoss(nn.Module):
    """A module whose ``loss`` may be whatever `as_loss` takes, whenever it is assigned."""

    loss: Loss

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute; a loss is converted by `as_loss` first."""
        super().__setattr__(name, as_loss(value) if name == "loss" else value)  # type: ignore[arg-type]
