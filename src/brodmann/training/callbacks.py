"""What watches a training: metrics file, use of areas, progress bar, TensorBoard."""

from __future__ import annotations

import json
import sys
import warnings
from math import isnan
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ..errors import BrodmannError
from ..files import write_bytes
from ..network import Network, routers
from ..routing import Router
from ..telemetry import alignment, area_usage
from .callback import Callback
from .trainer import Trainer

_SHOWN = ("validation_accuracy", "validation_r2")


class AreaUse(Callback):
    """Adds ``effective_areas`` and ``dead_areas``, a number per routed layer, to every epoch's row.

    Where areas grow by themselves, also ``area_counts``, the samples of every area of each router; ``tension``, how
    near each router came to a split, see `brodmann.routing.Conflict`; and ``splits``, those of the epoch: which cells
    went from which area to which.
    """

    def __init__(self, x: Tensor) -> None:
        """Counts on the samples x (n, ...)."""
        self.x = x
        self._known: dict[str, Tensor] = {}  # partition of each router after the splits that rows have told of

    def on_start(self, trainer: Trainer) -> None:
        """See `Callback`."""
        if isinstance(trainer.network, Network):
            progress = trainer.progress
            told = [split for row in progress.history for split in row.get("splits", ())]
            for name, router in routers(trainer.network):
                # A training that goes on began as one area, and split as its rows say, if not in the epoch that runs.
                known = torch.zeros_like(router.partition) if progress.step else router.partition.clone()
                for split in told:
                    if split["layer"] == name:
                        known[split["cells"]] = split["to"]
                self._known[name] = known

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """See `Callback`."""
        if isinstance(trainer.network, Network):
            usage = area_usage(trainer.network, self.x)
            row["effective_areas"] = [round(layer.effective, 3) for layer in usage]
            row["dead_areas"] = [layer.dead for layer in usage]
            held = routers(trainer.network)
            conflicts = {name: found for name, router in held if (found := router.conflict) is not None}
            growing = [layer for layer in usage if layer.layer in conflicts]
            if growing:
                row["area_counts"] = [layer.counts for layer in growing]
                row["tension"] = [round(float(conflicts[layer.layer].tension), 4) for layer in growing]
                grown = [(name, router) for name, router in held if name in conflicts]
                row["splits"] = [split for name, router in grown for split in self._new_splits(name, router)]

    def _new_splits(self, name: str, router: Router) -> list[dict[str, Any]]:
        """Returns the splits of a router that no row has told of yet, and takes them as told."""
        before, now = self._known[name], router.partition
        moved = dict.fromkeys(zip(before.tolist(), now.tolist(), strict=True))
        self._known[name] = now.clone()
        return [
            {"layer": name, "from": old, "to": new, "cells": ((before == old) & (now == new)).nonzero()[:, 0].tolist()}
            for old, new in moved
            if old != new
        ]


class AlignmentRecord(Callback):
    """Adds ``alignment``, layer -> cosine of its error and the true gradient or None, to every epoch's row.

    And ``weight_alignment``, layer -> cosine of its feedback matrix and ``W0``, where there is one of each. See
    `brodmann.telemetry.alignment`; `brodmann.figures.alignment_by_epoch` draws both. Where the network cannot be
    copied, or autograd cannot follow it, since its layers may be anybody's, it says so once and adds nothing.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        """Measures on the samples x (n, ...) and targets y (n, ...): a few hundred do."""
        self.x, self.y, self.possible = x, y, True

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """See `Callback`."""
        if isinstance(trainer.network, Network) and self.possible:
            try:
                found = alignment(trainer.network, self.x, self.y)
            except Exception as error:  # of parts of the user's own; a training does not end for want of a figure
                self.possible = False
                warnings.warn(f"The alignment of this network is not recorded: {error}", stacklevel=2)
                return
            cosines = {layer.layer: layer.cosine for layer in found}
            row["alignment"] = {name: None if isnan(value) else round(value, 4) for name, value in cosines.items()}
            weights = {layer.layer: layer.weight_cosine for layer in found}
            row["weight_alignment"] = {name: round(value, 4) for name, value in weights.items() if value is not None}


class MetricsFile(Callback):
    """Keeps ``metrics.jsonl``: a JSON object per epoch, whole at any moment, also after a resume."""

    last = True

    def __init__(self, path: Path) -> None:
        """Writes to this path."""
        self.path = path

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """See `Callback`."""
        rows = [*trainer.progress.history, row]
        write_bytes(self.path, "".join(json.dumps(one) + "\n" for one in rows).encode())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns what a `MetricsFile` holds, a row per epoch; one that is not there holds none.

    Raises:
        BrodmannError: A line is no row of an epoch.
    """
    if not path.is_file():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        whole = all(isinstance(row, dict) and "epoch" in row for row in rows)
    except (ValueError, OSError):
        whole = False
    if not whole:
        raise BrodmannError(f"{path} is damaged: expected a JSON object with an epoch on every line. Remove the file.")
    return rows


class ProgressBar(Callback):
    """Loss, accuracy, areas in use, samples per second and time left, on standard error."""

    last = True

    def __init__(self, title: str) -> None:
        """Shows this title before the bar."""
        self.title = title
        self.bar: Progress | None = None
        self.facts = ""
        self.began, self.samples = 0.0, 0  # of training alone: what an evaluation or a first import takes is no step's

    def _start(self, trainer: Trainer) -> None:
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
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
        facts = [f"{key.removeprefix('validation_')} {row[key]:.4f}" for key in _SHOWN if key in row]
        if row.get("effective_areas"):
            ends = dict.fromkeys(f"{end(row['effective_areas']):.1f}" for end in (min, max))
            facts.append(f"areas {'-'.join(ends)}")
        self.facts = " ".join(facts)
        if self.bar is not None:
            self._show(self.bar, trainer, row["train_loss"])
            if not self.bar.console.is_terminal:
                print(f"{self.title} epoch {row['epoch']}: loss {row['train_loss']:.4f} {self.facts}", file=sys.stderr)

    def on_end(self, trainer: Trainer) -> None:
        """See `Callback`."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


class TensorBoard(Callback):
    """Writes every number of an epoch's row for TensorBoard (extra ``tensorboard``)."""

    last = True

    def __init__(self, folder: Path) -> None:
        """Writes event files into this folder.

        Raises:
            BrodmannError: TensorBoard is not installed.
        """
        self.check_installed()
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    @staticmethod
    def check_installed() -> None:
        """Raises a `BrodmannError` where TensorBoard is not installed."""
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            raise BrodmannError("TensorBoard is not installed: pip install 'brodmann[tensorboard]'.") from None

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
        self.writer.close()
