"""Depth: accuracy by number of layers, and every layer of the deepest networks."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...case import Row
from .. import plots
from ..tables import crossed, grouped
from .scores import mean_and_lowest
from .section import Plot, Section


def depth_section(rows: list[Row]) -> Section:
    """Returns the section of the recipe `depth`."""
    rows = [row | {"layers_count": row["options"]["layers"]} for row in rows]
    result = Section(
        "depth",
        "Depth",
        [
            "Learning rate and all other settings are the same at every depth. transpose equals backpropagation to "
            "within 1e-10."
        ],
    )
    for dataset, group in grouped(rows, "dataset").items():
        ordered = sorted(group, key=lambda row: row["layers_count"])
        result.tables.append(
            crossed(
                f"{dataset}: test accuracy in %, mean (lowest) over seeds",
                ordered,
                "method",
                "layers_count",
                mean_and_lowest,
            )
        )
        result.plots.append(
            Plot(
                f"depth-{dataset}",
                f"{dataset}: test accuracy by number of layers; bands span all seeds",
                partial(plots.depth, rows=ordered),
            )
        )
        residual = [row for row in ordered if "layers" in row and _is_plain_residual(row["options"])]
        deepest = max((row["layers_count"] for row in residual), default=0)
        shown = [row for row in residual if row["layers_count"] == deepest and row["seed"] == 0]
        if shown:
            result.plots.append(
                Plot(
                    f"layers-{dataset}",
                    f"{dataset}: every layer of the {deepest}-layer residual networks after training, first seed: "
                    "angle to the true gradient (dotted: 90 degrees, where none of it is left), norm of the error, "
                    "share of silent units",
                    partial(plots.layers, rows=shown),
                )
            )
    return result


def _is_plain_residual(options: dict[str, Any]) -> bool:
    """Whether a network is residual, of one area, and its feedback moves without noise."""
    return bool(options["residual"]) and options["areas"] == 1 and options["rule"] != plots.NOISY
