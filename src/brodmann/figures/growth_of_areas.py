"""How areas grew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..rows import evenly_spaced
from .drawing import COLOURS, GREY, INK, new_figure, require, tidy, title, whole_numbers, write_figure

BANDS = 64
"""Largest number of areas with a band each; of more, the largest ones: a band takes milliseconds, and is too thin."""


def growth(path: str | Path, history: Sequence[Mapping[str, Any]], *, panels: int = 3) -> None:
    """Draws how areas grew: above the share of the samples in each area by epoch, below the tension that splits them.

    A split shows as a new band above; the tension that called for it lies above the dashed line below, if its window
    was the last of the epoch, and falls once the area is split. What is drawn once the budget is spent splits nothing.
    Of more than 64 areas the largest have a band each, and a grey one on top stands for all others.

    Args:
        path: File to write, ``.png``, ``.svg`` or ``.pdf``; PNG if it has no ending.
        history: A row per epoch with ``epoch``, ``area_counts`` and ``tension``, see `brodmann.training.AreaRecord`.
        panels: Largest number of routers to draw; of more, evenly spaced ones, the first and the last included. Default
            3.

    Raises:
        BrodmannError: No area could grow, or matplotlib is missing.
    """
    history = [row for row in history if "tension" in row]
    require(history, "an epoch in which areas could grow")
    epochs, count = [row["epoch"] for row in history], len(history[0]["tension"])
    edges = [epochs[0] - 0.5, *(epoch + 0.5 for epoch in epochs)]  # every epoch is as wide as the others, the last too
    shown = evenly_spaced(count, max(1, panels)).tolist()
    figure = new_figure(1.0 + 3.4 * len(shown), 3.9)
    grid = figure.add_gridspec(2, len(shown), height_ratios=(1.5, 1.0))
    for column, index in enumerate(shown):
        above = figure.add_subplot(grid[0, column])
        counts = torch.tensor([row["area_counts"][index] for row in history], dtype=torch.float64).t()
        shares = 100.0 * counts / counts.sum(0)
        used, others = _largest(shares)
        # A second and a third round are paler.
        colours: list[Any] = [
            (COLOURS[place % len(COLOURS)], 1 - 0.35 * (place // len(COLOURS) % 3)) for place in range(len(used))
        ]
        if others is not None:
            used, colours = [*used, others], [*colours, GREY]
        bands = [torch.cat([band, band[-1:]]) for band in used]
        above.stackplot(edges, *bands, colors=colours, edgecolor="white", linewidth=0.8, step="post")
        above.set_ylim(0, 100)
        below = figure.add_subplot(grid[1, column], sharex=above)
        below.axhline(1.0, color=GREY, linewidth=0.9, linestyle="--")
        below.plot(
            epochs, [row["tension"][index] for row in history], color=INK, linewidth=1.2, marker="o", markersize=3
        )
        first = column == 0
        each = "samples of each area (%)" if others is None else "samples (%; grey: smaller areas)"
        tidy(above, "", each if first else "", grid=False)
        tidy(below, "epoch (dashed: an area splits, while the budget lasts)", "tension" if first else "")
        above.tick_params(labelbottom=False)
        grown = int((counts[:, -1] > 0).sum())
        where = "" if count == 1 else f"router {index + 1} of {count}: "
        # If it began with several areas, which of them were in use then is not known.
        several = f"{grown} areas in use" if history[0].get("began") else f"1 area grew to {grown} in use"
        title(above, where + (several if grown > 1 else "one area"))
        whole_numbers(below.xaxis)
        above.set_xlim(edges[0], edges[-1])
    write_figure(path, figure)


def _largest(shares: Tensor) -> tuple[list[Tensor], Tensor | None]:
    """Returns the shares of the areas with a band each, in their order, and what all others in use amount to."""
    used = shares[shares.any(1)]
    if len(used) <= BANDS:
        return list(used), None
    order = used.sum(1).argsort(descending=True, stable=True)
    return list(used[order[:BANDS].sort().values]), used[order[BANDS:]].sum(0)
