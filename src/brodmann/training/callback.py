"""What a training tells those who watch it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .trainer import Trainer


class Callback:
    """Receives the events of a training. Every method does nothing by default.

    Attributes:
        last: Class attribute: True if it is called after those without, as what writes a row must be, so that the row
            holds what the others put there. Default False.
    """

    last: ClassVar[bool] = False

    def on_start(self, trainer: Trainer) -> None:
        """Called once, before the first step of a call of `Trainer.run`."""

    def on_step(self, trainer: Trainer, loss: float) -> None:
        """Called after every step, with its loss (of a sum over samples their mean)."""

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Called after every epoch with its row of metrics, before the checkpoint; may add to the row."""

    def on_end(self, trainer: Trainer) -> None:
        """Called once, also when training stops early or fails: ``trainer.failure`` then holds the exception."""
