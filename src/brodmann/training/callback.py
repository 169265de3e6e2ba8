"""Callbacks: what a training reports to its observers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from ..errors import BrodmannError
from ..layer import Layer, Observer

if TYPE_CHECKING:
    from .trainer import Trainer


class Callback:
    """Receives the events of a training. Every method does nothing by default.

    Attributes:
        last: Class attribute: True to be called after the callbacks without it, as one that writes a row must be, so
            that the row holds what the others put there. Default False.
        writes: Class attribute: True for one that writes files, or prints: if several processes train together, see
            `Parallel`, only that of the first is called. Default False.
    """

    last: ClassVar[bool] = False
    writes: ClassVar[bool] = False

    def on_start(self, trainer: Trainer) -> None:
        """Called once, before the first step of a call of `Trainer.run`."""

    def on_step(self, trainer: Trainer, loss: float) -> None:
        """Called after every step, with its loss (the mean, if the loss is a sum over samples)."""

    def on_layer_error(self, trainer: Trainer, layer: Layer, error: Tensor) -> None:
        """Called in every step, from the top layer down, as ``observe`` of `Network.learn` is.

        If a callback has this method, no step is captured: small steps take longer. The layer has not moved yet. The
        error is to be read, or copied, not kept: others use it.
        """

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Called after every epoch with its row of metrics, before the checkpoint; may add to the row."""

    def on_end(self, trainer: Trainer) -> None:
        """Called once, also when training stops early or fails: ``trainer.failure`` then holds the exception."""


def in_order(callbacks: Any) -> list[Callback]:
    """Returns callbacks in the order in which they are called."""
    if not isinstance(callbacks, Callback | Iterable):
        raise BrodmannError(f"Expected callbacks to be a list of `Callback` objects, got {callbacks!r}.")
    listed = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
    for callback in listed:
        if not isinstance(callback, Callback):
            raise BrodmannError(f"Expected callbacks to be a list of `Callback` objects, got {callback!r} in it.")
    return sorted(listed, key=lambda callback: callback.last)


def observer(trainer: Trainer, own: Observer | None) -> Observer | None:
    """Returns what tells those callbacks that ask of errors, after the trainer's own observer; None if nobody asks."""
    asking = [one for one in trainer.callbacks if type(one).on_layer_error is not Callback.on_layer_error]
    if not asking:
        return own

    def observe(layer: Layer, error: Tensor) -> None:
        if own is not None:
            own(layer, error)
        for callback in asking:
            callback.on_layer_error(trainer, layer, error)

    return observe
