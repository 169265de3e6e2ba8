"""Loss and score by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..losses.scores import SCORES
from .drawing import COLOURS, legend_below, new_figure, plain_decades, require, tidy, whole_numbers, write_figure

Row = Mapping[str, Any]
_PARTS = {"train": "--", "validation": "-"}
_AXES = {"loss": "loss", "r2": "R²", "label_accuracy": "accuracy of labels (%)", "accuracy": "accuracy (%)"}


def learning_curves(
    path: str | Path,
    history: Sequence[Row],
    *,
    beside: Mapping[str, Sequence[Row]] | None = None,
    name: str = "this run",
) -> None:
    """Draws loss and score by epoch: training part dashed, validation part solid.

    Args:
        path: File to write, ``.png``, ``.svg`` or ``.pdf``; PNG if it has no ending.
        history: A row per epoch with ``epoch``, ``train_loss`` and, if there are any, ``train_accuracy``,
            ``validation_loss``, ``validation_accuracy`` or ``validation_r2``; ``label_accuracy`` likewise.
        beside: Rows of further runs by name, such as a baseline's. Default none.
        name: Name of this run in the legend, if there are others.

    Raises:
        BrodmannError: There is no epoch, or matplotlib is missing.
    """
    runs = {name: history, **(beside or {})}
    require(history, "an epoch")
    known = {name for rows in runs.values() for row in rows for name in row}
    scores = [kind for kind in SCORES if any(f"{part}_{kind}" in known for part in _PARTS)]
    score, scored = scores[0] if scores else "accuracy", bool(scores)
    figure = new_figure(6.6 if scored else 3.8, 2.9)
    panels = [figure.add_subplot(1, 1 + scored, 1 + index) for index in range(1 + scored)]
    handles: dict[str, Any] = {}
    values: list[float] = []
    for panel, kind in zip(panels, ("loss", score), strict=False):
        factor = 100.0 if kind.endswith("accuracy") else 1.0
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
    columns = 1 if len(panels) == 1 and len(runs) > 1 else min(len(handles), 2)
    legend_below(figure, handles.values(), handles, columns, fontsize=8, handlelength=3)
    write_figure(path, figure)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
