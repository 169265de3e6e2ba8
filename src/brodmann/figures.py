"""Figures of a training, as PNG files: curves, growth and use of areas, what they hold, alignment (extra ``figures``).

Colours are told apart by colour-blind readers, and every difference in colour is one in line style, marker or position
too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checks import check_tensors
from .drawing import (
    COLOURS,
    GREY,
    INK,
    MAP,
    literal,
    name_ticks,
    new_figure,
    plain_decades,
    separate,
    shades,
    tidy,
    tidy_bar,
    whole_numbers,
    write_figure,
)
from .errors import BrodmannError
from .routes import spread
from .telemetry import Alignment, AreaUsage

BARS = 3
"""Layers up to which the use of areas is drawn as bars; above it is a heat map."""
Row = Mapping[str, Any]
_PARTS = {"train": "--", "validation": "-"}
_AXES = {"loss": "loss", "accuracy": "accuracy (%)", "r2": "R²"}


def learning_curves(
    path: Path,
    history: Sequence[Row],
    *,
    beside: Mapping[str, Sequence[Row]] | None = None,
    name: str = "this run",
) -> None:
    """Draws loss and score by epoch: training part dashed, validation part solid.

    Args:
        path: PNG file to write.
        history: A row per epoch with ``epoch``, ``train_loss`` and, where there are any, ``train_accuracy``,
            ``validation_loss``, ``validation_accuracy`` or ``validation_r2``.
        beside: Rows of further runs by name, such as a baseline's. Default none.
        name: Of this run in the legend, where others stand beside it.

    Raises:
        BrodmannError: There is no epoch, or matplotlib is missing.
    """
    runs = {name: history, **(beside or {})}
    _require(history, "an epoch")
    score = "r2" if any("validation_r2" in row for rows in runs.values() for row in rows) else "accuracy"
    scored = any(f"{part}_{score}" in row for rows in runs.values() for row in rows for part in _PARTS)
    figure = new_figure(6.6 if scored else 3.8, 2.9)
    panels = [figure.add_subplot(1, 1 + scored, 1 + index) for index in range(1 + scored)]
    handles: dict[str, Any] = {}
    values: list[float] = []
    for panel, kind in zip(panels, ("loss", score), strict=False):
        factor = 100.0 if kind == "accuracy" else 1.0
        for index, (run, rows) in enumerate(runs.items()):
            for part, style in _PARTS.items():
                points = [(row["epoch"], factor * _number(row.get(f"{part}_{kind}"))) for row in rows]
                points = [point for point in points if math.isfinite(point[1])]
                if not points:
                    continue
                (line,) = panel.plot(
                    *zip(*points, strict=True),
                    color=COLOURS[index % len(COLOURS)],
                    linestyle=style,
                    marker="o^sDvP"[index % 6] if len(points) <= 30 else None,
                    markersize=3,
                    markerfacecolor="white" if part == "train" else None,
                    linewidth=1.4,
                )
                label = {"train": "training"}.get(part, part)
                handles.setdefault(label if len(runs) == 1 else f"{run}, {label}", line)
                values += [value for _, value in points] if kind == "loss" else []
        tidy(panel, "epoch", _AXES[kind])
        whole_numbers(panel.xaxis)
    if values and min(values) > 0 and max(values) > 20 * min(values):
        panels[0].set_yscale("log")
        plain_decades(panels[0].yaxis)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=1 if len(panels) == 1 and len(runs) > 1 else min(len(handles), 2),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handlelength=3,
    )
    write_figure(path, figure)


def growth(path: Path, history: Sequence[Row], *, panels: int = 3) -> None:
    """Draws how areas grew: above the share of the samples in each area by epoch, below the tension that splits them.

    A split shows as a new band above; the tension that called for it lies above the dashed line below, and falls once
    the area is split.

    Args:
        path: PNG file to write.
        history: A row per epoch with ``epoch``, ``area_counts`` and ``tension``, see `brodmann.callbacks.AreaUse`.
        panels: Most routers to draw; of more, evenly spaced ones with the first and the last. Default 3.

    Raises:
        BrodmannError: No area could grow, or matplotlib is missing.
    """
    history = [row for row in history if "tension" in row]
    _require(history, "an epoch in which areas could grow")
    epochs, count = [row["epoch"] for row in history], len(history[0]["tension"])
    shown = _evenly(count, max(1, panels))
    figure = new_figure(1.0 + 3.4 * len(shown), 3.9)
    grid = figure.add_gridspec(2, len(shown), height_ratios=(1.5, 1.0))
    for column, index in enumerate(shown):
        above = figure.add_subplot(grid[0, column])
        counts = torch.tensor([row["area_counts"][index] for row in history], dtype=torch.float64).t()
        shares = 100.0 * counts / counts.sum(0)
        used = [share for share in shares if share.any()]
        # A second and a third round are paler.
        colours = [
            (COLOURS[place % len(COLOURS)], 1 - 0.35 * (place // len(COLOURS) % 3)) for place in range(len(used))
        ]
        above.stackplot(epochs, *used, colors=colours, edgecolor="white", linewidth=0.8, step="post")
        above.set_ylim(0, 100)
        below = figure.add_subplot(grid[1, column], sharex=above)
        below.axhline(1.0, color=GREY, linewidth=0.9, linestyle="--")
        below.plot(
            epochs, [row["tension"][index] for row in history], color=INK, linewidth=1.2, marker="o", markersize=3
        )
        first = column == 0
        tidy(above, "", "samples of each area (%)" if first else "", grid=False)
        tidy(below, "epoch (dashed: an area splits, while the budget lasts)", "tension" if first else "")
        above.tick_params(labelbottom=False)
        grown = int((counts[:, -1] > 0).sum())
        where = "" if count == 1 else f"router {index + 1} of {count}: "
        above.set_title(
            f"{where}1 area grew to {grown} in use" if grown > 1 else f"{where}one area",
            fontsize=8,
            color=INK,
            loc="left",
        )
        whole_numbers(below.xaxis)
        if len(epochs) > 1:
            above.set_xlim(epochs[0], epochs[-1])
    write_figure(path, figure)


def area_usage(path: Path, rows: Sequence[AreaUsage]) -> None:
    """Draws the share of the samples that each area got, for each routed layer, with the effective areas.

    Up to three layers are bars, more are a heat map of layers by areas.

    Args:
        path: PNG file to write.
        rows: From input to output, see `brodmann.telemetry.area_usage`.

    Raises:
        BrodmannError: There is no routed layer, or matplotlib is missing.
    """
    _require(rows, "a routed layer")
    if len(rows) <= BARS:
        _usage_bars(path, rows)
    else:
        _usage_map(path, rows)


def areas_by_class(
    path: Path,
    choices: Mapping[str, Tensor],
    target: Tensor,
    classes: Sequence[str] | None = None,
    *,
    panels: int = 4,
) -> None:
    """Draws which classes live in which areas: a row per class, which adds up to 100 %, a column per area in use.

    The areas are ordered by the class that fills most of each. Above each layer stands how much its area tells about
    the class: the mutual information of both, and the entropy of the class, in bits, as counted on these samples.

    Args:
        path: PNG file to write.
        choices: Area of every row by layer, (rows,), from input to output, see `brodmann.telemetry.area_choices`:
            a row for each sample, or as many for each as another, those of a sample together.
        target: Class of every sample, (samples,) int64.
        classes: Names of the classes. Default their numbers.
        panels: Most layers to draw; of more, evenly spaced ones with the first and the last. Default 4.

    Raises:
        BrodmannError: There is no routed layer, sizes differ, or matplotlib is missing.
    """
    _require(choices, "a routed layer")
    names = list(choices)
    check_tensors(target=target)
    if target.numel() == 0 or target.is_floating_point():
        raise BrodmannError(
            f"Expected the class of every sample, whole numbers, got {target.dtype} of shape {tuple(target.shape)}."
        )
    classes = [str(number) for number in range(int(target.max()) + 1)] if classes is None else classes
    shown = _evenly(len(names), max(1, panels))
    tables = [_class_table(choices[names[index]], target, len(classes)) for index in shown]
    columns = min(len(shown), 2 if len(shown) != 3 else 3)
    lines = math.ceil(len(shown) / columns)
    widest = max(len(order) for order, _ in tables)
    height = max(2.3, min(7.0, 0.16 * len(classes) + 0.95))
    figure = new_figure(min(12.0, columns * max(2.9, min(5.6, 0.17 * widest + 1.3)) + 0.6), lines * height)
    image = None
    for position, (index, (order, counts)) in enumerate(zip(shown, tables, strict=True)):
        panel = figure.add_subplot(lines, columns, position + 1)
        shares = 100.0 * counts / counts.sum(1, keepdim=True).clamp_min(1)
        image = panel.imshow(shares.numpy(), cmap=MAP, vmin=0.0, vmax=100.0, aspect="auto", interpolation="nearest")
        told, entropy = _information(counts)
        label = _layer_label(names[index], index, len(names))
        panel.set_title(f"{label}: {told:.2f} of {entropy:.2f} bits of class", fontsize=8, color=INK, loc="left")
        last = position + columns >= len(shown)
        tidy(panel, "area in use" if last else "", "class" if position % columns == 0 else "", grid=False)
        name_ticks(panel.xaxis, [str(area) for area in order], 20)
        name_ticks(panel.yaxis, [_short(name) for name in classes], 45)
        if len(order) > 8 and max(order) > 99:
            panel.tick_params(axis="x", rotation=90)
        separate(panel, len(order), len(classes))
    bar = figure.colorbar(image, ax=figure.axes, shrink=0.9, pad=0.02, aspect=28)
    tidy_bar(bar, "share of the class (%)")
    write_figure(path, figure)


def alignment(path: Path, rows: Sequence[Alignment]) -> None:
    """Draws, for each layer, cosine and ratio of norms between the error that arrives and the true gradient.

    Args:
        path: PNG file to write.
        rows: From input to output, see `brodmann.telemetry.alignment`.

    Raises:
        BrodmannError: There is no layer, or matplotlib is missing.
    """
    _require(rows, "a layer")
    figure = new_figure(max(3.8, min(6.6, 2.6 + 0.1 * len(rows))), 3.7)
    above = figure.add_subplot(2, 1, 1)
    below = figure.add_subplot(2, 1, 2, sharex=above)
    numbers = list(range(1, len(rows) + 1))
    style = {"linewidth": 1.2, "marker": "o", "markersize": 4 if len(rows) <= 40 else 2.2, "zorder": 3}
    cosines = [row.cosine for row in rows]
    above.axhline(1.0, color=GREY, linewidth=0.8, linestyle="--")
    above.axhline(0.0, color=GREY, linewidth=0.8, linestyle=":")
    above.plot(numbers, cosines, color=COLOURS[0], clip_on=False, **style)
    finite = [value for value in cosines if math.isfinite(value)]
    above.set_ylim(min([-0.05, *(1.1 * value for value in finite)]), 1.05)
    ratios = [row.norm_ratio if math.isfinite(row.norm_ratio) and row.norm_ratio > 0 else math.nan for row in rows]
    below.axhline(1.0, color=GREY, linewidth=0.8, linestyle="--")
    below.plot(numbers, ratios, color=COLOURS[1], **{**style, "marker": "s"})
    below.set_yscale("log")
    usable = [value for value in ratios if not math.isnan(value)]
    # A ratio near one everywhere is no reason to blow up its last per cents.
    below.set_ylim(min([0.5, *(0.7 * value for value in usable)]), max([2.0, *(1.4 * value for value in usable)]))
    plain_decades(below.yaxis)
    tidy(above, "", "cosine")
    tidy(below, "layer, from input to output", "norm ratio")
    above.tick_params(labelbottom=False)
    above.set_title("error that arrives, against the true gradient", fontsize=8, color=INK, loc="left")
    whole_numbers(below.xaxis)
    below.set_xlim(0.5, len(rows) + 0.5)
    figure.align_ylabels([above, below])
    write_figure(path, figure)


def alignment_by_epoch(path: Path, history: Sequence[Row]) -> None:
    """Draws how errors, and feedback weights, align with what backpropagation would use, by epoch.

    A line for each layer, the lowest in the first colour: on the left the cosine of its error and the true gradient, on
    the right, where there is one, that of its feedback matrix and the forward weights that all areas share.

    Args:
        path: PNG file to write.
        history: A row per epoch with ``epoch``, ``alignment`` and ``weight_alignment``, see
            `brodmann.callbacks.AlignmentRecord`.

    Raises:
        BrodmannError: No epoch has an alignment, or matplotlib is missing.
    """
    history = [row for row in history if row.get("alignment")]
    _require(history, "an epoch with an alignment")
    kinds = {"alignment": "error, true gradient", "weight_alignment": "feedback, forward weights"}
    kinds = {name: label for name, label in kinds.items() if any(row.get(name) for row in history)}
    names = list(dict.fromkeys(name for row in history for name in row["alignment"]))
    few = len(names) <= len(COLOURS)
    colours = dict(zip(names, COLOURS if few else shades(len(names)), strict=False))
    figure = new_figure(0.8 + 2.9 * len(kinds), 2.9)
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for panel, (kind, label) in zip(panels, kinds.items(), strict=True):
        panel.axhline(0.0, color=GREY, linewidth=0.8, linestyle=":")
        for name in names:
            points = [(row["epoch"], row[kind][name]) for row in history if name in row.get(kind, {})]
            if points:
                panel.plot(
                    *zip(*points, strict=True),
                    color=colours[name],
                    linewidth=1.3,
                    marker="o" if len(points) <= 30 else None,
                    markersize=3,
                    label=name,
                )
        tidy(panel, "epoch", "cosine" if panel is panels[0] else "")
        panel.set_title(label, fontsize=8, color=INK, loc="left")
        whole_numbers(panel.xaxis)
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(min(low, -0.05), max(high, 1.05))
    handles, labels = panels[0].get_legend_handles_labels()
    if not few:
        handles, labels = [handles[0], handles[-1]], [labels[0], f"{labels[-1]}, and layers between"]
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7.5, frameon=False, labelcolor=INK)
    write_figure(path, figure)


def _usage_bars(path: Path, rows: Sequence[AreaUsage]) -> None:
    figure = new_figure(4.6, 1.25 * len(rows) + 0.7)
    for index, row in enumerate(rows):
        panel = figure.add_subplot(len(rows), 1, index + 1)
        areas = len(row.counts)
        panel.bar(range(areas), _shares(row), width=0.82 if areas <= 64 else 1.0, color=COLOURS[0], zorder=2)
        panel.axhline(100.0 / areas, color=COLOURS[1], linewidth=1.0, linestyle="--", zorder=3)
        last = index == len(rows) - 1
        tidy(panel, "area (dashed: all areas alike)" if last else "", "samples (%)")
        panel.grid(visible=False, axis="x")
        panel.set_xlim(-0.6, areas - 0.4)
        whole_numbers(panel.xaxis)
        label = _layer_label(row.layer, index, len(rows))
        panel.set_title(f"{label}: {row.effective:.1f} effective areas of {areas}", fontsize=8, color=INK, loc="left")
        if row.dead:
            panel.set_title(f"{row.dead} never chosen", fontsize=8, color=GREY, loc="right")
    write_figure(path, figure)


def _usage_map(path: Path, rows: Sequence[AreaUsage]) -> None:
    areas = max(len(row.counts) for row in rows)
    figure = new_figure(6.2, max(2.4, min(6.5, 0.17 * len(rows) + 1.2)))
    grid = figure.add_gridspec(1, 2, width_ratios=(3, 1.15))
    panel = figure.add_subplot(grid[0, 0])
    shares = torch.full((len(rows), areas), math.nan)
    for index, row in enumerate(rows):
        shares[index, : len(row.counts)] = torch.tensor(_shares(row))
    extent = (-0.5, areas - 0.5, len(rows) + 0.5, 0.5)
    image = panel.imshow(shares.numpy(), cmap=MAP, vmin=0.0, aspect="auto", interpolation="nearest", extent=extent)
    panel.set_facecolor("#E6E6E6")  # shows where a layer has fewer areas than another
    tidy(panel, "area", "routed layer, from input to output", grid=False)
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


def _shares(row: AreaUsage) -> list[float]:
    total = max(1, sum(row.counts))
    return [100.0 * count / total for count in row.counts]


def _class_table(area: Tensor, target: Tensor, classes: int) -> tuple[list[int], Tensor]:
    """Returns the areas in use, ordered by their main class, and samples by class and area, in that order."""
    area, target = area.reshape(-1).cpu(), target.reshape(-1).cpu()
    if len(area) % len(target) == 0:
        target = spread(target, len(area))  # of samples with several rows, such as patches of an image
    if len(area) != len(target) or len(area) == 0:
        raise BrodmannError(f"Expected one class per sample, got {len(target)} classes for {len(area)} samples.")
    if int(target.min()) < 0 or int(target.max()) >= classes:
        raise BrodmannError(
            f"Expected classes from 0 to {classes - 1}, got {int(target.min())} to {int(target.max())}."
        )
    areas = int(area.max()) + 1
    counts = torch.bincount(target * areas + area, minlength=classes * areas).reshape(classes, areas).double()
    main, largest = counts.argmax(0).tolist(), counts.max(0).values.tolist()
    used = [index for index in range(areas) if largest[index]]
    order = sorted(used, key=lambda index: (main[index], -largest[index]))
    return order, counts[:, order]


def _information(counts: Tensor) -> tuple[float, float]:
    """Returns mutual information of row and column, and entropy of the row, in bits."""
    joint = counts / counts.sum()

    def entropy(shares: Tensor) -> float:
        return float(torch.special.entr(shares).sum()) / math.log(2)

    of_class = entropy(joint.sum(1))
    return max(0.0, of_class + entropy(joint.sum(0)) - entropy(joint)), of_class


def _evenly(count: int, most: int) -> list[int]:
    """Returns at most so many of the indices 0 to count - 1, evenly spaced, with the first and the last."""
    if count <= most:
        return list(range(count))
    return [0] if most == 1 else sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


def _layer_label(name: str, index: int, layers: int) -> str:
    if not name:
        return "whole network"
    return f"layer {index + 1}" if layers <= BARS else f"layer {index + 1} of {layers}"


def _short(name: str) -> str:
    return literal(name if len(name) <= 16 else f"{name[:15]}…")


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _require(rows: Sequence[Any] | Mapping[str, Any], what: str) -> None:
    if not rows:
        raise BrodmannError(f"There is nothing to draw: expected at least {what}.")
