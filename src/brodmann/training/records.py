"""Records: what an epoch's row also holds, the use of areas and the alignment of errors."""

from __future__ import annotations

from math import isnan
from typing import Any

import torch
from torch import Tensor

from ..errors import warn
from ..network import Network, routers
from ..routing import Router
from ..telemetry import alignment, area_usage
from .callback import Callback
from .trainer import Trainer


class AreaRecord(Callback):
    """Adds ``effective_areas`` and ``dead_areas``, a number per router, to every epoch's row.

    They are lists in the order of `brodmann.telemetry.area_usage`, which names the routers' layers.

    If areas grow by themselves, also, of the routers whose areas do, ``area_counts``, the samples of every area;
    ``tension``, how near each came to a split, see `brodmann.routing.Conflict`; and ``splits``, those of the epoch:
    which cells of which layer went from which area to which. The first row also has ``began``, the area of each cell
    of routers that had several when the training began.
    """

    def __init__(self, x: Tensor) -> None:
        """Counts on the samples x (n, ...)."""
        self.x = x
        self._trainer: Trainer | None = None
        self._known: dict[str, Tensor] = {}  # partition of each router after the splits that rows have reported

    def on_start(self, trainer: Trainer) -> None:
        """See `Callback`."""
        history = trainer.progress.history
        within_first = self._trainer is trainer and trainer.progress.step and not history  # no row tells how it began
        if not isinstance(trainer.network, Network) or within_first:
            return
        self._trainer = trainer
        for name, router in routers(trainer.network):
            goes_on = trainer.progress.step > 0
            self._known[name] = _reported(name, router, history) if goes_on else router.partition.clone()

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """See `Callback`."""
        if isinstance(trainer.network, Network):
            usage = area_usage(trainer.network, self.x)
            row["effective_areas"] = [round(layer.effective, 3) for layer in usage]
            row["dead_areas"] = [layer.dead for layer in usage]
            growing = {name: router for name, router in routers(trainer.network) if router.conflict is not None}
            if growing:
                shown = [layer for layer in usage if layer.layer in growing]
                row["area_counts"] = [layer.counts for layer in shown]
                row["tension"] = [_tension(growing[layer.layer]) for layer in shown]
                began = {name: self._known[name].tolist() for name in growing if bool(self._known[name].any())}
                if began and not trainer.progress.history:
                    row["began"] = began
                row["splits"] = [one for name, router in growing.items() for one in self._new_splits(name, router)]

    def _new_splits(self, name: str, router: Router) -> list[dict[str, Any]]:
        """Returns the splits of a router that no row has reported yet, and notes them as reported."""
        before, now = self._known[name], router.partition
        moved = dict.fromkeys(zip(before.tolist(), now.tolist(), strict=True))
        self._known[name] = now.clone()
        return [
            {"layer": name, "from": old, "to": new, "cells": ((before == old) & (now == new)).nonzero()[:, 0].tolist()}
            for old, new in moved
            if old != new
        ]


def _reported(name: str, router: Router, history: list[dict[str, Any]]) -> Tensor:
    """Returns the partition of a router as rows tell it: the first says how it began, and all how it has split."""
    began = history[0].get("began", {}) if history else {}
    cells = began.get(name) or (began.get("") if name == "router" else None)  # "" in earlier versions
    partition = torch.as_tensor(cells) if cells else torch.zeros_like(router.partition)
    for split in (split for row in history for split in row.get("splits", ())):
        if (split["layer"] or "router") == name:
            partition[split["cells"]] = split["to"]
    return partition


def _tension(router: Router) -> float:
    assert router.conflict is not None
    return round(float(router.conflict.tension), 4)


class AlignmentRecord(Callback):
    """Adds ``alignment``, layer -> cosine of its error and the true gradient or None, to every epoch's row.

    Also ``weight_alignment`` and ``weight_ratio``, layer -> cosine and ratio of norms of its feedback matrix and
    ``W0``, if there is one of each. See `brodmann.telemetry.alignment`; `brodmann.figures.alignment_by_epoch` draws
    the cosines. If the network cannot be copied, or autograd cannot follow it, since its layers may be a user's,
    it says so once and adds nothing.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        """Measures on the samples x (n, ...) and targets y (n, ...): a few hundred do."""
        self.x, self.y, self.possible = x, y, True

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """See `Callback`."""
        if isinstance(trainer.network, Network) and self.possible:
            try:
                found = alignment(trainer.network, self.x, self.y)
            except Exception as error:  # from a user's parts; a training does not end for want of a figure
                self.possible = False
                warn(f"The alignment of this network cannot be recorded: {error}")
                return
            cosines = {layer.layer: layer.cosine for layer in found}
            row["alignment"] = {name: None if isnan(value) else round(value, 4) for name, value in cosines.items()}
            for key, field in (("weight_alignment", "weight_cosine"), ("weight_ratio", "weight_ratio")):
                values = {layer.layer: getattr(layer, field) for layer in found}
                row[key] = {name: round(value, 4) for name, value in values.items() if value is not None}
