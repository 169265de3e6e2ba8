"""The progress bar of a training."""

from __future__ import annotations

import sys
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from ..losses.scores import score_in
from .callback import Callback
from .display import display
from .trainer import Trainer


class ProgressBar(Callback):
    """Time left, loss, accuracy, areas in use and samples per second, on standard error.

    If that takes nothing more, such as a pipe that nobody reads, it shows nothing, and the training goes on.
    """

    last = writes = True

    def __init__(self, title: str) -> None:
        """Shows this title before the bar."""
        self.title = title
        self.bar: Progress | None = None
        self.facts = ""
        self.began, self.samples = 0.0, 0  # of training alone: what an evaluation or a first import takes is no step's

    def _start(self, trainer: Trainer) -> None:
        self.bar = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=24)),
            BarColumn(bar_width=10),
            TimeRemainingColumn(),
            _Facts(),
            console=display(sys.stderr),
        )
        self.task = self.bar.add_task(self.title, total=trainer.steps, facts="", completed=trainer.progress.step)
        self.began, self.samples = trainer.progress.seconds, 0
        self.bar.start()

    def on_step(self, trainer: Trainer, loss: float) -> None:
        """See `Callback`."""
        if self.bar is None:
            self._start(trainer)
            return
        self.samples += trainer.pace.batch_size
        if trainer.progress.step % 20 == 0:
            self._show(self.bar, trainer, loss)

    def _show(self, bar: Progress, trainer: Trainer, loss: float) -> None:
        rate = self.samples / max(trainer.progress.seconds - self.began, 1e-9)
        facts = f"loss {loss:.4f} {self.facts} {rate:,.0f} samples/s"
        bar.update(self.task, completed=trainer.progress.step, facts=facts)

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """See `Callback`."""
        score = score_in(row, "validation")
        facts = [] if score is None else ["{} {:.4f}".format(*score)]
        if row.get("effective_areas"):
            ends = dict.fromkeys(f"{end(row['effective_areas']):.1f}" for end in (min, max))
            facts.append(f"areas {'-'.join(ends)}")
        self.facts = " ".join(facts)
        if self.bar is not None:
            self._show(self.bar, trainer, row["train_loss"])
            if not self.bar.console.is_terminal:
                line = f"{self.title} epoch {row['epoch']}: loss {row['train_loss']:.4f} {self.facts}"
                print(line, file=self.bar.console.file)

    def on_end(self, trainer: Trainer) -> None:
        """See `Callback`."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


class _Facts(ProgressColumn):
    """What is told of a training, as far as the terminal is wide enough."""

    def render(self, task: Task) -> Text:
        """See `rich.progress.ProgressColumn`."""
        return Text(task.fields["facts"], no_wrap=True, overflow="ellipsis")
