"""Figures of a benchmark, in the style of `brodmann.figures`; the suffix of the path decides the format."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...figures.drawing import (
    COLOURS,
    GREY,
    INK,
    MAP,
    legend_below,
    new_figure,
    plain_decades,
    tidy,
    title,
    whole_numbers,
    write_figure,
)
from ..case import Row
from .statistics import Difference
from .tables import grouped

MARKERS = "osD^vP"
NOISY = "kolen-pollack-noisy"
PLACES = {"kolen-pollack": 0, "transpose": 1, "random": 2, "direct": 3, NOISY: 5}
"""Rule -> its place among colours and styles; 4 is that of networks of areas, and of others."""
STYLES = ("-", "--", "-.", ":")
OVER_SEEDS: dict[str, Callable[[list[float]], float]] = {
    "test": statistics.mean,
    "step_seconds": statistics.median,
    "peak_rss_mb": max,
}
"""What stands for the seeds of a row of `scale`, in table and figure: other work slows single runs, memory must suffice
for all."""


def forest(path: Path, differences: Mapping[str, Difference]) -> None:
    """Draws a difference and its interval per data set."""
    figure = new_figure(4.8, 0.32 * len(differences) + 0.9)
    panel = figure.add_subplot()
    panel.axvline(0.0, color=INK, linewidth=0.8)
    for place, entry in enumerate(differences.values()):
        sure = entry.low > 0 or entry.high < 0
        colour = GREY if not sure else COLOURS[0] if entry.mean > 0 else COLOURS[1]
        panel.plot([entry.low, entry.high], [place, place], color=colour, linewidth=1.6)
        panel.plot(
            entry.mean,
            place,
            marker="o" if sure else "D",
            markersize=5,
            color=colour,
            markerfacecolor=colour if sure else "white",
        )
    panel.set_yticks(range(len(differences)), labels=list(differences))
    panel.set_ylim(len(differences) - 0.5, -0.5)
    tidy(panel, "points of test accuracy (right: SAL is better)", "")
    panel.grid(visible=False, axis="y")
    write_figure(path, figure)


def critical_difference(path: Path, methods: Sequence[str], ranks: NDArray[np.float64], apart: float) -> None:
    """Draws mean ranks on a line; bars join methods that do not differ (Demsar 2006, figure 1)."""
    order = np.argsort(ranks)
    left, right = order[: (len(order) + 1) // 2], order[(len(order) + 1) // 2 :][::-1]
    bars = _cliques(ranks[order], apart)
    step = 0.28
    figure = new_figure(7.0, 0.75 + 0.22 * len(bars) * 0.6 + step * len(left) * 0.85)
    panel = figure.add_subplot()
    low, high = 1.0, float(len(methods))
    gap = 0.015 * (high - low)  # between a line and its text
    panel.set_xlim(low - 0.55 * (high - low), high + 0.55 * (high - low))
    first = -0.25 - 0.14 * len(bars)
    panel.set_ylim(first - step * len(left), 0.75)
    panel.plot([low, high], [0, 0], color=INK, linewidth=1.0)
    for tick in range(1, len(methods) + 1):
        panel.plot([tick, tick], [0, 0.08], color=INK, linewidth=0.8)
        panel.text(tick, 0.14, str(tick), ha="center", fontsize=7.5, color=INK)
    panel.plot([low, low + apart], [0.5, 0.5], color=INK, linewidth=1.6)
    panel.text(low + apart + gap, 0.5, f"critical difference {apart:.2f}", va="center", fontsize=7.5, color=INK)
    for side, names in ((-1, left), (1, right)):
        for place, index in enumerate(names):
            y = first - step * place
            edge = low - 0.05 * (high - low) if side < 0 else high + 0.05 * (high - low)
            colour = COLOURS[0] if methods[index].startswith("SAL") else INK
            panel.plot([ranks[index], ranks[index], edge], [0, y, y], color=GREY, linewidth=0.7)
            text = f"{methods[index]} ({ranks[index]:.2f})"
            panel.text(
                edge + gap * side, y, text, ha="right" if side < 0 else "left", va="center", fontsize=7.5, color=colour
            )
    for place, (start, end) in enumerate(bars):
        y = -0.12 - 0.14 * place
        panel.plot(
            [ranks[order[start]], ranks[order[end]]],
            [y, y],
            color=COLOURS[1],
            linewidth=2.6,
            solid_capstyle="butt",
        )
    panel.axis("off")
    write_figure(path, figure)


def depth(path: Path, rows: Sequence[Row]) -> None:
    """Draws test accuracy by number of layers, residual networks beside plain ones; rows carry ``layers_count``."""
    residual = grouped([row | {"residual": row["options"]["residual"]} for row in rows], "residual")
    kinds = {name: residual[kind] for kind, name in ((True, "residual"), (False, "plain")) if kind in residual}
    figure = new_figure(2.0 + 2.6 * len(kinds), 3.0)
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    names = list(dict.fromkeys(_without_kind(row["method"]) for row in rows))
    drawn: dict[str, Any] = {}
    for panel, (kind, own) in zip(panels, kinds.items(), strict=True):
        # The main method last, and the same with noise, which lies on it, dotted above: others would hide them.
        for method, of_method in sorted(grouped(own, "method").items(), key=lambda entry: _is_main(entry[1][0])):
            name, options = _without_kind(method), of_method[0]["options"]
            areas, noise = options["areas"] > 1, options["rule"] == NOISY
            colour = COLOURS[_place(options)]
            by = grouped(of_method, "layers_count")
            scores = [[100 * row["test"] for row in of_count] for of_count in by.values()]
            lowest, highest = [min(s) for s in scores], [max(s) for s in scores]
            panel.fill_between([*by], lowest, highest, color=colour, alpha=0.12, linewidth=0)
            (drawn[name],) = panel.plot(
                [*by],
                [sum(s) / len(s) for s in scores],
                color=colour,
                linestyle="--" if areas else ":" if noise else "-",
                marker=MARKERS[names.index(name) % len(MARKERS)],
                markersize=3.5,
                linewidth=1.4,
            )
        panel.set_xscale("log", base=2)
        counts = list(dict.fromkeys(row["layers_count"] for row in own))
        panel.set_xticks(counts, labels=_apart(counts))
        panel.minorticks_off()
        tidy(panel, "layers", "test accuracy (%)" if panel is panels[0] else "")
        title(panel, kind)
    lines = [drawn[name] for name in names]
    figure.legend(lines, names, loc="outside right upper", fontsize=7, frameon=False, labelcolor=INK)
    write_figure(path, figure)


def _apart(counts: Sequence[int]) -> list[str]:
    """Returns the labels of ticks on a logarithmic axis, of ten octaves at most: none that the next would touch."""
    labels: dict[int, str] = {}
    for count in sorted(counts, reverse=True):
        label = str(count)
        nearest = min(labels, default=None)  # an octave is as wide as seven halves of a figure
        if nearest is None or math.log2(nearest / count) > 0.15 * (len(label) + len(str(nearest))):
            labels[count] = label
    return [labels.get(count, "") for count in counts]


def _without_kind(method: str) -> str:
    """Returns the name of a method of `depth` without what its panel says."""
    return method.replace(", residual", "").replace(", plain", "")


def layers(path: Path, rows: Sequence[Row]) -> None:
    """Draws, layer by layer, the angle to the true gradient, the error's norm and the share of silent units."""
    figure = new_figure(6.4, 5.0)
    panels = figure.subplots(3, 1, sharex=True)
    for row in rows:
        place = _place(row["options"])
        kind = {"color": COLOURS[place], "linestyle": STYLES[place % 4], "linewidth": 1.3, "label": row["method"]}
        numbers = range(1, len(row["layers"]) + 1)
        cosines = [math.nan if line["cosine"] is None else line["cosine"] for line in row["layers"]]
        angles = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
        panels[0].plot(numbers, angles, **kind)
        panels[1].plot(numbers, [line["error"] if line["error"] > 0 else math.nan for line in row["layers"]], **kind)
        first = len(row["layers"]) - len(row["silent"])  # activations follow layers, but for the first and the readout
        panels[2].plot(range(first, first + len(row["silent"])), [100 * share for share in row["silent"]], **kind)
    panels[0].axhline(90, color=GREY, linewidth=0.8, linestyle=":")
    panels[1].set_yscale("log")
    plain_decades(panels[1].yaxis)
    tidy(panels[0], "", "angle (degrees)")
    tidy(panels[1], "", "norm of the error")
    tidy(panels[2], "layer, from input to output", "silent units (%)")
    for panel in panels:
        whole_numbers(panel.xaxis)
    figure.align_ylabels(panels)
    handles, labels = panels[0].get_legend_handles_labels()
    legend_below(figure, handles, labels)
    write_figure(path, figure)


def scale(path: Path, rows: Sequence[Row]) -> None:
    """Draws accuracy, time of a step and peak memory by total parameters; of seeds what `OVER_SEEDS` says."""
    figure = new_figure(7.2, 2.6)
    panels = figure.subplots(1, 3)
    kinds = (
        ("test accuracy (%)", "test", 100),
        ("step (us)", "step_seconds", 1e6),
        ("peak memory (MiB)", "peak_rss_mb", 1),
    )
    for panel, (label, name, factor) in zip(panels, kinds, strict=True):
        for place, (dataset, group) in enumerate(grouped(rows, "dataset").items()):
            for dense in (False, True):
                own = [row for row in group if (row["options"]["rule"] == "backprop") == dense]
                if name == "step_seconds":  # only of rows that ran alone
                    own = [row for row in own if row["jobs"] == 1]
                points = sorted(_point(seeds, factor, name) for seeds in grouped(own, "method").values())
                panel.plot(
                    [total for total, _ in points],
                    [value for _, value in points],
                    color=COLOURS[place % len(COLOURS)],
                    marker="D" if dense else "o",
                    markersize=4,
                    linestyle="none" if dense else "-",
                    linewidth=1.3,
                    markerfacecolor="white" if dense else None,
                    label=f"{dataset}, {'backpropagation' if dense else 'SAL'}",
                )
        panel.set_xscale("log")
        panel.margins(x=0.08, y=0.1)
        tidy(panel, "total parameters", label)
    for panel in panels[1:]:
        panel.set_ylim(0, 1.05 * panel.get_ylim()[1])
    handles, labels = panels[0].get_legend_handles_labels()
    legend_below(figure, handles, labels, len(labels))
    write_figure(path, figure)


def _point(rows: Sequence[Row], factor: float, name: str) -> tuple[float, float]:
    """Returns the mean of total parameters and what stands for the seeds of what a row calls ``name``."""
    return statistics.mean(row["total"] for row in rows), factor * OVER_SEEDS[name]([row[name] for row in rows])


def curves(path: Path, rows: Sequence[Row]) -> None:
    """Draws the validation error by step, on logarithmic scales."""
    figure = new_figure(6.0, 3.2)
    panel = figure.add_subplot()
    for place, (method, own) in enumerate(grouped(rows, "method").items()):
        shortest = min(len(row["curve"]) for row in own)
        if not shortest:
            continue
        steps = [point[0] for point in own[0]["curve"][:shortest]]
        errors = np.array([[max(1e-3, 1 - point[2]) for point in row["curve"][:shortest]] for row in own]) * 100
        panel.fill_between(steps, errors.min(0), errors.max(0), color=COLOURS[place % 6], alpha=0.12, linewidth=0)
        panel.plot(
            steps, errors.mean(0), color=COLOURS[place % 6], linestyle=STYLES[place % 4], linewidth=1.4, label=method
        )
    panel.set_yscale("log")
    panel.set_xscale("log")
    plain_decades(panel.yaxis)
    plain_decades(panel.xaxis)
    tidy(panel, "step", "validation error (%)")
    legend_below(figure, *panel.get_legend_handles_labels())
    write_figure(path, figure)


def matrices(path: Path, rows: Sequence[Row]) -> None:
    """Draws the accuracy on each task after learning each, a panel per method."""
    columns = min(4, len(rows))
    lines = math.ceil(len(rows) / columns)
    figure = new_figure(1.85 * columns + 0.5, 1.95 * lines + 0.3)
    panels = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    image = None
    for place, (panel, row) in enumerate(zip(panels, rows, strict=False)):
        values = 100 * np.array(row["matrix"])
        image = panel.imshow(values, cmap=MAP, vmin=0, vmax=100)
        if values.size <= 36:
            for (i, j), value in np.ndenumerate(values):
                panel.text(
                    j, i, f"{value:.0f}", ha="center", va="center", fontsize=5.5, color="white" if value > 55 else INK
                )
        tidy(
            panel,
            "task" if place >= len(rows) - columns else "",
            "after task" if place % columns == 0 else "",
            grid=False,
        )
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_title(textwrap.fill(row["method"], 30), fontsize=6.5, color=INK)
    for panel in panels[len(rows) :]:
        panel.axis("off")
    if image is not None:
        bar = figure.colorbar(image, ax=list(panels), shrink=0.8, pad=0.02, aspect=30)
        bar.set_label("accuracy (%)", fontsize=8, color=INK)
        bar.ax.tick_params(labelsize=7)
    write_figure(path, figure)


def _cliques(ranks: NDArray[np.float64], apart: float) -> list[tuple[int, int]]:
    """Returns the longest stretches of sorted ranks that lie within the critical difference."""
    stretches: list[tuple[int, int]] = []
    for start in range(len(ranks)):
        end = int(np.searchsorted(ranks, ranks[start] + apart, side="right")) - 1
        if end > start and (not stretches or end > stretches[-1][1]):
            stretches.append((start, end))
    return stretches


def _place(options: dict[str, Any]) -> int:
    """Returns the place of a network of `depth` among colours and styles."""
    return 4 if options["areas"] > 1 else PLACES.get(options["rule"], 4)


def _is_main(row: Row) -> bool:
    """Whether a row is of the main method of `depth`, with or without noise."""
    options = row["options"]
    return bool(options["residual"]) and options["areas"] == 1 and options["rule"] in ("kolen-pollack", NOISY)
