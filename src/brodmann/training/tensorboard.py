"""TensorBoard: the numbers of every epoch as curves there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import BrodmannError
from .callback import Callback
from .trainer import Trainer


class TensorBoard(Callback):
    """Writes every number of an epoch's row for TensorBoard (extra ``tensorboard``).

    If a training begins again or goes back to a checkpoint, epochs that it makes replace those of before.
    """

    last = writes = True

    def __init__(self, folder: str | Path) -> None:
        """Writes event files into this folder.

        Raises:
            BrodmannError: TensorBoard is not installed.
        """
        self.check_installed()
        self.folder = folder
        self._writer: Any = None

    @property
    def writer(self) -> Any:
        """PyTorch's ``SummaryWriter`` into the folder, for entries of your own, also before and after a training."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder))
        return self._writer

    @staticmethod
    def check_installed() -> None:
        """Raises a `BrodmannError` if TensorBoard is not installed."""
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            raise BrodmannError("TensorBoard is not installed: pip install 'brodmann[tensorboard]'.") from None

    def on_start(self, trainer: Trainer) -> None:
        """See `Callback`."""
        from torch.utils.tensorboard import SummaryWriter

        # Also in the first epoch: a run that was killed before its first checkpoint has events.
        first = trainer.progress.epoch + 1
        if self._writer is None:
            self._writer = SummaryWriter(str(self.folder), purge_step=first)
        else:  # it stays the same one for those who hold it, and opens a file anew with its next entry
            self._writer.close()
            self._writer.purge_step = first

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
        if self._writer is not None:  # another callback may have failed at the start
            self._writer.close()
