"""Which classes live in which areas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..checks import check_tensors
from ..errors import BrodmannError
from ..rows import evenly_spaced
from .drawing import (
    MAP,
    can_draw,
    literal,
    name_ticks,
    new_figure,
    require,
    separate,
    tidy,
    tidy_bar,
    title,
    write_figure,
)
from .use_of_areas import router_label


def areas_by_class(
    path: str | Path,
    choices: Mapping[str, Tensor],
    target: Tensor,
    classes: Sequence[str] | None = None,
    *,
    panels: int = 4,
) -> None:
    """Draws which classes live in which areas: a row per class, which adds up to 100 %, a column per area in use.

    The darkest colour is the largest share of all, the same in all panels: of many areas each gets little of a class.
    The areas are ordered by the class that fills most of each. Above each router stands how much its area tells about
    the class: the mutual information of both, and the entropy of the class, in bits, as counted on these samples.

    Args:
        path: File to write, ``.png``, ``.svg`` or ``.pdf``; PNG if it has no ending.
        choices: Area of every sample by router, (samples,), or of its rows, (samples, rows), from input to output, see
            `brodmann.telemetry.area_choices`.
        target: Class of every sample, (samples,) int64, or of every row, (samples, rows).
        classes: Names of the classes. Default their numbers, which also stand for names in letters that the font lacks.
        panels: Largest number of routers to draw; of more, evenly spaced ones, the first and the last included. Default
            4.

    Raises:
        BrodmannError: There is no router, sizes differ, or matplotlib is missing.
    """
    require(choices, "a router")
    names = list(choices)
    check_tensors(target=target)
    if target.numel() == 0 or target.is_floating_point():
        raise BrodmannError(
            f"Expected the class of every sample as a whole number, got {target.dtype} of shape {tuple(target.shape)}."
        )
    classes = [str(number) for number in range(int(target.max()) + 1)] if classes is None else classes
    shown = evenly_spaced(len(names), max(1, panels)).tolist()
    tables = [_class_table(choices[names[index]], target, len(classes)) for index in shown]
    percent = [100.0 * counts / counts.sum(1, keepdim=True).clamp_min(1) for _, counts in tables]
    largest = max(float(shares.max()) for shares in percent)
    columns = min(len(shown), 2 if len(shown) != 3 else 3)
    lines = math.ceil(len(shown) / columns)
    widest = max(len(order) for order, _ in tables)
    height = max(2.3, min(7.0, 0.16 * len(classes) + 0.95))
    figure = new_figure(min(12.0, columns * max(2.9, min(5.6, 0.17 * widest + 1.3)) + 0.6), lines * height)
    labels = [_short(name) if can_draw(name) else str(number) for number, name in enumerate(classes)]
    image = None
    for position, (index, (order, counts), shares) in enumerate(zip(shown, tables, percent, strict=True)):
        panel = figure.add_subplot(lines, columns, position + 1)
        image = panel.imshow(shares.numpy(), cmap=MAP, vmin=0.0, vmax=largest, aspect="auto", interpolation="nearest")
        told, entropy = _information(counts)
        label = router_label(names[index], index, len(names))
        title(panel, f"{label}: {told:.2f} of {entropy:.2f} bits about the class")
        last = position + columns >= len(shown)
        tidy(panel, "area in use" if last else "", "class" if position % columns == 0 else "", grid=False)
        name_ticks(panel.xaxis, [str(area) for area in order], 20)
        name_ticks(panel.yaxis, labels, 45)
        if len(order) > 8 and max(order) > 99:
            panel.tick_params(axis="x", rotation=90)
        separate(panel, len(order), len(classes))
    bar = figure.colorbar(image, ax=figure.axes, shrink=0.9, pad=0.02, aspect=28)
    tidy_bar(bar, "share of the class (%)")
    write_figure(path, figure)


def _class_table(area: Tensor, target: Tensor, classes: int) -> tuple[list[int], Tensor]:
    """Returns the areas in use, ordered by their main class, and samples by class and area, in that order."""
    area, target = (tensor.reshape(len(tensor), -1).cpu() for tensor in (area, target))
    if len(area) != len(target) or target.shape[1] not in (1, area.shape[1]):
        got, wanted = (" x ".join(map(str, tensor.shape)) for tensor in (target, area))
        raise BrodmannError(
            f"Expected a class for each sample, or for each of its rows, got {got} classes for {wanted} rows: count "
            "areas and classes of the same samples."
        )
    target, area = target.expand_as(area).reshape(-1), area.reshape(-1)
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


def _short(name: str) -> str:
    return literal(name if len(name) <= 16 else f"{name[:15]}…")
