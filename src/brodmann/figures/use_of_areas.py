"""How the samples spread over the areas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from ..telemetry import AreaUsage
from .drawing import COLOURS, GREY, INK, MAP, new_figure, require, tidy, tidy_bar, title, whole_numbers, write_figure

BARS = 3
"""Largest number of routers whose areas are drawn as bars; more are a heat map."""
COLUMNS = 2048
"""Largest number of bars, more than a panel has pixels."""


def area_usage(path: str | Path, rows: Sequence[AreaUsage]) -> None:
    """Draws the share of the samples that each area got, for each router, with the effective areas.

    Up to three routers are bars, more are a heat map of routers by areas.

    Args:
        path: File to write, ``.png``, ``.svg`` or ``.pdf``; PNG if it has no ending.
        rows: From input to output, see `brodmann.telemetry.area_usage`.

    Raises:
        BrodmannError: There is no router, or matplotlib is missing.
    """
    require(rows, "a router")
    if len(rows) <= BARS:
        _usage_bars(path, rows)
    else:
        _usage_map(path, rows)


def _usage_bars(path: str | Path, rows: Sequence[AreaUsage]) -> None:
    figure = new_figure(4.6, 1.25 * len(rows) + 0.7)
    for index, row in enumerate(rows):
        panel = figure.add_subplot(len(rows), 1, index + 1)
        areas = len(row.counts)
        if areas <= 64:
            panel.bar(range(areas), _shares(row), width=0.82, color=COLOURS[0], zorder=2)
        else:  # bars of their own take milliseconds each
            panel.stairs(*_outline(_shares(row)), fill=True, color=COLOURS[0], zorder=2)
        panel.axhline(100.0 / areas, color=COLOURS[1], linewidth=1.0, linestyle="--", zorder=3)
        last = index == len(rows) - 1
        tidy(panel, "area (dashed: all areas alike)" if last else "", "samples (%)")
        panel.grid(visible=False, axis="x")
        panel.set_xlim(-0.6, areas - 0.4)
        whole_numbers(panel.xaxis)
        label = router_label(row.layer, index, len(rows))
        title(panel, f"{label}: {row.effective:.1f} effective areas of {areas}")
        if row.dead:
            title(panel, f"{row.dead} never chosen", side="right", colour=GREY)
    write_figure(path, figure)


def _usage_map(path: str | Path, rows: Sequence[AreaUsage]) -> None:
    areas = max(len(row.counts) for row in rows)
    figure = new_figure(6.2, max(2.4, min(6.5, 0.17 * len(rows) + 1.2)))
    grid = figure.add_gridspec(1, 2, width_ratios=(3, 1.15))
    panel = figure.add_subplot(grid[0, 0])
    shares = torch.full((len(rows), areas), math.nan)
    for index, row in enumerate(rows):
        shares[index, : len(row.counts)] = torch.tensor(_shares(row))
    extent = (-0.5, areas - 0.5, len(rows) + 0.5, 0.5)
    image = panel.imshow(shares.numpy(), cmap=MAP, vmin=0.0, aspect="auto", interpolation="nearest", extent=extent)
    panel.set_facecolor("#E6E6E6")  # shows where a router has fewer areas than another
    tidy(panel, "area", "router, from input to output", grid=False)
    whole_numbers(panel.xaxis)
    whole_numbers(panel.yaxis)
    beside = figure.add_subplot(grid[0, 1], sharey=panel)
    effective = [row.effective for row in rows]
    numbers = range(1, len(rows) + 1)
    beside.barh(numbers, effective, height=0.82 if len(rows) <= 64 else 1.0, color=COLOURS[0], zorder=2)
    tidy(beside, f"effective areas (of {areas})", "")
    beside.grid(visible=False, axis="y")
    beside.tick_params(labelleft=False)
    beside.set_ylim(len(rows) + 0.5, 0.5)
    beside.set_xlim(0, areas * (1.22 if len(rows) <= 24 else 1.02))
    if len(rows) <= 24:
        for number, value in zip(numbers, effective, strict=True):
            beside.text(value + 0.02 * areas, number, f"{value:.1f}", va="center", fontsize=7, color=INK)
    bar = figure.colorbar(image, ax=[panel], location="top", shrink=0.7, pad=0.02, aspect=30)
    tidy_bar(bar, "share of the samples (%)")
    write_figure(path, figure)


def _outline(shares: list[float]) -> tuple[list[float], list[float]]:
    """Returns heights and edges of the outline of bars side by side: of those within a pixel, the highest is seen."""
    together = math.ceil(len(shares) / COLUMNS)
    begins = range(0, len(shares), together)
    heights = [max(shares[begin : begin + together]) for begin in begins]
    return heights, [begin - 0.5 for begin in (*begins, len(shares))]


def _shares(row: AreaUsage) -> list[float]:
    total = max(1, sum(row.counts))
    return [100.0 * count / total for count in row.counts]


def router_label(name: str, index: int, routers: int) -> str:
    """Returns what a router is called above its panel: by its place among routers, since not every layer has one."""
    if name == "router":
        return "whole network"
    return f"router {index + 1}" if routers <= BARS else f"router {index + 1} of {routers}"
