"""Figures of a run, ready for a paper: curves, use of areas, classes in areas, alignment. Needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .errors import BrodmannError
from .files import write_bytes
from .telemetry import Alignment, AreaUsage

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
"""Okabe and Ito's palette: told apart by colour-blind readers too."""


def learning_curves(
    path: Path, history: Sequence[dict[str, Any]], beside: dict[str, Sequence[dict[str, Any]]] | None = None
) -> None:
    """Draws loss and score of every epoch, training dashed, validation solid.

    Args:
        path: PNG to write.
        history: A row per epoch, as in ``metrics.jsonl``.
        beside: Histories of other learners by name, such as the backpropagation twin.
    """
    figure = _figure(8.0, 3.2)
    losses, scores = figure.subplots(1, 2)
    kind = "r2" if any("validation_r2" in row for row in history) else "accuracy"
    for colour, (name, rows) in zip(COLOURS, {"SAL": history, **(beside or {})}.items(), strict=False):
        for axes, measure in ((losses, "loss"), (scores, kind)):
            for part, style in (("train", "--"), ("validation", "-")):
                points = [(row["epoch"], row[f"{part}_{measure}"]) for row in rows if f"{part}_{measure}" in row]
                if points:
                    axes.plot(*zip(*points, strict=True), style, color=colour, label=f"{name}, {part}", linewidth=1.5)
    losses.set(xlabel="epoch", ylabel="loss", yscale="log")
    scores.set(xlabel="epoch", ylabel=kind)
    for axes in (losses, scores):
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    _write(figure, path)


def area_usage(path: Path, rows: Sequence[AreaUsage]) -> None:
    """Draws the share of samples that each area of each routed layer takes; effective areas stand beside the name.

    Args:
        path: PNG to write.
        rows: One per routed layer, from input to output.
    """
    most = max(len(row.counts) for row in rows)
    shares = np.full((len(rows), most), np.nan)
    for index, row in enumerate(rows):
        # Sorted by size: the number of an area means nothing, the shape of the use does.
        counts = np.sort(np.asarray(row.counts, dtype=float))[::-1]
        shares[index, : len(counts)] = counts / max(counts.sum(), 1.0)
    figure = _figure(7.0, 1.4 + 0.32 * min(len(rows), 40))
    axes = figure.subplots()
    image = axes.imshow(shares, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    every = max(1, len(rows) // 32)
    axes.set_yticks(
        range(0, len(rows), every),
        [f"{row.layer} ({row.effective:.1f} effective)" for row in rows[::every]],
        fontsize=8,
    )
    axes.set(xlabel="areas, most used first", title="Share of samples in each area")
    axes.title.set_fontsize(10)
    figure.colorbar(image, ax=axes, label="share")
    _write(figure, path)


def areas_by_class(path: Path, choices: dict[str, Tensor], target: Tensor, classes: Sequence[str]) -> None:
    """Draws which classes live in which areas: for each layer a map of classes by areas, every row summing to one.

    Args:
        path: PNG to write.
        choices: Area of every sample, (samples,), for up to four routed layers; further layers are left out.
        target: Class of every sample, (samples,).
        classes: Names of the classes.
    """
    layers = list(choices.items())[:4]
    figure = _figure(0.8 + 3.4 * len(layers), 1.2 + 0.22 * min(len(classes), 40))
    panels = figure.subplots(1, len(layers), squeeze=False)[0]
    labels = target.cpu().numpy()
    for axes, (name, area) in zip(panels, layers, strict=True):
        used, column = np.unique(area.cpu().numpy(), return_inverse=True)
        table = np.zeros((len(classes), len(used)))
        np.add.at(table, (labels, column), 1.0)
        table /= np.maximum(table.sum(1, keepdims=True), 1.0)
        image = axes.imshow(table, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.set_xticks(range(len(used)), [str(number) for number in used], fontsize=7)
        every = max(1, len(classes) // 26)
        axes.set_yticks(range(0, len(classes), every), list(classes)[::every], fontsize=8)
        axes.set_xlabel("area (those in use)")
    panels[0].set_ylabel("class")
    figure.colorbar(image, ax=list(panels), label="share of the class")
    _write(figure, path)


def alignment(path: Path, rows: Sequence[Alignment]) -> None:
    """Draws cosine and norm ratio of each layer's error against the true gradient.

    Args:
        path: PNG to write.
        rows: One per layer, from input to output.
    """
    figure = _figure(7.0, 3.2)
    cosines, ratios = figure.subplots(1, 2)
    layers = range(1, len(rows) + 1)
    for axes, values, name in (
        (cosines, [row.cosine for row in rows], "cosine with the true gradient"),
        (ratios, [row.norm_ratio for row in rows], "norm, as a multiple of the true gradient's"),
    ):
        axes.plot(layers, values, "o-", color=COLOURS[0], markersize=4 if len(rows) < 40 else 2, linewidth=1.2)
        axes.axhline(1.0, color="0.6", linewidth=0.8, linestyle=":")
        axes.set(xlabel="layer, from input to output", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    cosines.set_ylim(min(-0.05, *(row.cosine for row in rows)), 1.05)
    ratios.set_ylim(bottom=0)
    _write(figure, path)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise BrodmannError("Figures need matplotlib: pip install 'brodmann[figures]'.") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write(figure: Any, path: Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=160)
    write_bytes(path, content.getvalue())
