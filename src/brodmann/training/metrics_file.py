"""The file of metrics: a row for every epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import BrodmannError
from ..files import write_bytes
from .callback import Callback
from .trainer import Trainer


class MetricsFile(Callback):
    """Keeps ``metrics.jsonl``: a JSON object per epoch, whole at any moment, also after a resume."""

    last = writes = True

    def __init__(self, path: str | Path) -> None:
        """Writes to this path."""
        self.path = Path(path)

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """See `Callback`."""
        # Checkpoints hold the same rows, and a resume writes them anew: no need to wait for the disk.
        self._write([*trainer.progress.history, row], durable=False)

    def on_end(self, trainer: Trainer) -> None:
        """See `Callback`."""
        if trainer.failure is None:  # else there may be no folder any more
            self._write(trainer.progress.history, durable=True)

    def _write(self, rows: list[dict[str, Any]], *, durable: bool) -> None:
        write_bytes(self.path, "".join(json.dumps(one) + "\n" for one in rows).encode(), durable=durable)


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Returns what a `MetricsFile` holds, a row per epoch; one that is not there holds none.

    Raises:
        BrodmannError: A line is not a row of an epoch.
    """
    path = Path(path)
    if not path.is_file():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        whole = all(isinstance(row, dict) and "epoch" in row for row in rows)
    except (ValueError, OSError):
        whole = False
    if not whole:
        raise BrodmannError(f"{path} is damaged: expected a JSON object with an epoch on every line. Remove the file.")
    return rows
