"""TensorBoard: the numbers of every epoch as curves there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import BrodmannError
from .callback import Callback
from .trainer import Trainer


class TensorBoard(Callback):
    """Writes every number of an epoch's row for TensorBoard (extra ``tensorboard``).

    Where a training goes back to a checkpoint, epochs that it makes again replace those of before.
    """

    last = True

    def __init__(self, folder: Path) -> None:
        """Writes event files into this folder.

        Raises:
            BrodmannError: TensorBoard is not installed.
        """
        self.check_installed()
        self.folder = folder
        self.writer: Any = None

    @staticmethod
    def check_installed() -> None:
        """Raises a `BrodmannError` where TensorBoard is not installed."""
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            raise BrodmannError("TensorBoard is not installed: pip install 'brodmann[tensorboard]'.") from None

    def on_start(self, trainer: Trainer) -> None:
        """See `Callback`."""
        from torch.utils.tensorboard import SummaryWriter

        progress = trainer.progress
        self.writer = SummaryWriter(str(self.folder), purge_step=progress.epoch + 1 if progress.step else None)

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """See `Callback`."""
        for name, value in row.items():
            numbers = {name: value}
            if isinstance(value, list | dict):
                parts = value if isinstance(value, dict) else dict(enumerate(value))
                numbers = {f"{name}/{part}": number for part, number in parts.items()}
            for tag, number in numbers.items():
                if isinstance(number, int | float):  # the samples of every area are a figure, not a curve
                    self.writer.add_scalar(tag, number, row["epoch"])

    def on_end(self, trainer: Trainer) -> None:
        """See `Callback`."""
        if self.writer is not None:  # another callback may have failed at the start
            self.writer.close()
            self.writer = None
