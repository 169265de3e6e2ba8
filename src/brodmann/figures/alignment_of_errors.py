"""How errors align with the true gradient, layer by layer and by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..telemetry import Alignment
from .drawing import (
    COLOURS,
    GREY,
    legend_below,
    new_figure,
    plain_decades,
    require,
    shades,
    tidy,
    title,
    whole_numbers,
    write_figure,
)


def alignment(path: str | Path, rows: Sequence[Alignment]) -> None:
    """Draws, for each layer, cosine and ratio of norms between the error that arrives and the true gradient.

    Args:
        path: File to write, ``.png``, ``.svg`` or ``.pdf``; PNG if it has no ending.
        rows: From input to output, see `brodmann.telemetry.alignment`.

    Raises:
        BrodmannError: There is no layer, or matplotlib is missing.
    """
    require(rows, "a layer")
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
    # If a ratio is near one everywhere, do not zoom in on its last per cents.
    below.set_ylim(min([0.5, *(0.7 * value for value in usable)]), max([2.0, *(1.4 * value for value in usable)]))
    plain_decades(below.yaxis)
    tidy(above, "", "cosine")
    tidy(below, "layer, from input to output", "norm ratio")
    above.tick_params(labelbottom=False)
    title(above, "error that arrives, against the true gradient")
    whole_numbers(below.xaxis)
    below.set_xlim(0.5, len(rows) + 0.5)
    figure.align_ylabels([above, below])
    write_figure(path, figure)


def alignment_by_epoch(path: str | Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Draws how errors, and feedback weights, align with what backpropagation would use, by epoch.

    A line for each layer, the lowest in the first colour: on the left the cosine of its error and the true gradient, on
    the right, if there is one, that of its feedback matrix and the forward weights that all areas share.

    Args:
        path: File to write, ``.png``, ``.svg`` or ``.pdf``; PNG if it has no ending.
        history: A row per epoch with ``epoch``, ``alignment`` and ``weight_alignment``, see
            `brodmann.training.AlignmentRecord`.

    Raises:
        BrodmannError: No epoch has an alignment, or matplotlib is missing.
    """
    history = [row for row in history if row.get("alignment")]
    require(history, "an epoch with an alignment")
    kinds = {"alignment": "error, true gradient", "weight_alignment": "feedback, forward weights"}
    kinds = {name: label for name, label in kinds.items() if any(row.get(name) for row in history)}
    names = list(dict.fromkeys(name for row in history for name in row["alignment"]))
    few = len(names) <= len(COLOURS)
    colours = dict(zip(names, COLOURS if few else shades(len(names)), strict=False))
    figure = new_figure(0.8 + 2.9 * len(kinds), 2.9)
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    lines: dict[str, Any] = {}  # not Matplotlib's labels, which hide those that begin with _
    for panel, (kind, label) in zip(panels, kinds.items(), strict=True):
        panel.axhline(0.0, color=GREY, linewidth=0.8, linestyle=":")
        for name in names:
            points = [(row["epoch"], row[kind][name]) for row in history if name in row.get(kind, {})]
            if points:
                (lines[name],) = panel.plot(
                    *zip(*points, strict=True),
                    color=colours[name],
                    linewidth=1.3,
                    marker="o" if len(points) <= 30 else None,
                    markersize=3,
                )
        tidy(panel, "epoch", "cosine" if panel is panels[0] else "")
        title(panel, label)
        whole_numbers(panel.xaxis)
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(min(low, -0.05), max(high, 1.05))
    handles, labels = list(lines.values()), list(lines)
    if not few:
        handles = [handles[0], handles[len(handles) // 2], handles[-1]]
        labels = [labels[0], "layers between", labels[-1]]
    legend_below(figure, handles, labels, 2 if few else 3)
    write_figure(path, figure)
