"""Convergence: steps and seconds to an accuracy."""

from __future__ import annotations

import statistics
from functools import partial

from ...case import Row
from .. import plots
from ..tables import Table, grouped
from .section import Plot, Section

LEVELS = (0.9, 0.95, 0.97, 0.98, 0.99)


def convergence_section(rows: list[Row]) -> Section:
    """Returns the section of the recipe `convergence`."""
    result = Section(
        "convergence",
        "Convergence",
        [
            "Validation accuracy, measured every few steps; settings from the search of `ten`. Seconds count training "
            "only, on one thread; only rows that ran alone on the machine are timed."
        ],
    )
    for dataset, group in grouped(rows, "dataset").items():
        lines = []
        for method, own in grouped(group, "method").items():
            cells = []
            for level in LEVELS:
                reached = [_reached(row, level) for row in own]
                if any(entry is None for entry in reached):
                    count = sum(entry is not None for entry in reached)
                    cells.append(f"{count} of {len(own)} seeds" if count else "-")
                    continue
                steps = statistics.median(entry[0] for entry in reached if entry)
                timed = [entry[1] for entry, row in zip(reached, own, strict=True) if entry and row["jobs"] == 1]
                cells.append(f"{steps:,.0f} steps" + (f", {statistics.median(timed):.2f} s" if timed else ""))
            lines.append([method, *cells])
        result.tables.append(
            Table(
                f"{dataset}: steps and time to reach a validation accuracy (median over seeds)",
                ["method", *(f"{100 * level:.0f} %" for level in LEVELS)],
                lines,
            )
        )
        result.plots.append(
            Plot(
                f"convergence-{dataset}",
                f"{dataset}: validation error by step, on logarithmic scales; bands span all seeds",
                partial(plots.curves, rows=group),
            )
        )
    return result


def _reached(row: Row, level: float) -> tuple[float, float] | None:
    return next(((step, seconds) for step, seconds, accuracy in row["curve"] if accuracy >= level), None)
