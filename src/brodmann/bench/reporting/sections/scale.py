"""Scale: accuracy, time and memory by total parameters."""

from __future__ import annotations

import statistics

from ...case import Row
from .. import plots
from ..tables import Table, grouped
from .scores import mean_and_lowest
from .section import Plot, Section


def scale_section(rows: list[Row]) -> Section:
    """Returns the section of the recipe `scale`."""
    lines = []
    for (dataset, method), group in grouped(rows, "dataset", "method").items():
        first = group[0]
        timed = [row["step_seconds"] for row in group if row["jobs"] == 1]
        lines.append(
            [
                dataset,
                method,
                f"{first['options']['areas']:,}",
                f"{statistics.mean(row['total'] for row in group):,.0f}",
                f"{first['active']:,}",
                mean_and_lowest(group),
                ", ".join(f"{value:.1f}" for value in first.get("effective_areas") or []) or "-",
                f"{1e6 * plots.OVER_SEEDS['step_seconds'](timed):,.0f}" if timed else "-",
                f"{plots.OVER_SEEDS['peak_rss_mb']([row['peak_rss_mb'] for row in group]):,.0f}",
            ]
        )
    columns = [
        "set",
        "asked for",
        "areas",
        "total parameters that exist",
        "active",
        "test accuracy in %, mean (lowest)",
        "effective areas",
        "step (us, one thread), median",
        "peak memory (MiB), largest",
    ]
    return Section(
        "scale",
        "Scale",
        [
            "Areas that no sample chose do not exist: a small set cannot fill a large budget. Each row ran in its own "
            "process."
        ],
        [
            Table(
                "Total parameters by the number of areas",
                columns,
                lines,
                "A sample uses one area, of the same size in every row. The rest of what is active is the router: its "
                "prototypes, one for each area, are compared with every sample, and grow with their number.",
            )
        ],
        [
            Plot(
                "scale",
                "Accuracy (mean of seeds), time of a step (median) and peak memory (largest) by total parameters",
                lambda path: plots.scale(path, rows),
            )
        ],
    )
