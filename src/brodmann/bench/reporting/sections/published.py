"""The published setting: gains from identical weights beside the published ones."""

from __future__ import annotations

import math

from ...case import Row
from ..tables import Table, grouped
from .scores import accuracies, mean_in_percent
from .section import Section

PUBLISHED = {
    "mnist": (90.64, 94.71),
    "cifar10-jpeg": (30.81, 36.60),
    "digits": (38.53, 71.63),
    "semeion": (35.16, 72.03),
}
"""Baseline and 16 areas as published for the paper (for CIFAR-10 itself), known from its abstract and descriptions.

Its splits and preprocessing are unknown.
"""


def add_published(result: Section, rows: list[Row]) -> None:
    """Adds the tables of the published setting to a section; that of gains needs rows of backpropagation."""
    epochs = " or ".join(map(str, sorted({row["options"]["epochs"] for row in rows})))  # fewer where they are quick
    result.tables.append(
        accuracies(
            rows,
            "Protocol paper: test accuracy in %, mean ± standard deviation over seeds",
            f"2 layers of 256, plain SGD at 1e-4, batch 16, {epochs} epochs, initial values of He et al., the same for "
            "every method. This is a reference beside published numbers, which rest on under-trained baselines, not a "
            "comparison of methods. Inputs are standardised unless the row says otherwise.",
        )
    )
    lines = []
    for dataset, group in grouped(rows, "dataset").items():
        means = {name: mean_in_percent(own) for name, own in grouped(group, "method").items()}
        if "backpropagation" not in means:
            continue
        base = means["backpropagation"]
        before, after = PUBLISHED.get(dataset, (math.nan, math.nan))
        gains = [
            f"{means[name] - base:+.2f}" if name in means else "-"
            for name in ("SAL, 16 areas", "SAL, 16 areas, no shared part", "SAL, 1 area", "backpropagation, lr x 2")
        ]
        lines.append(
            [
                dataset,
                f"{base:.2f}",
                *gains,
                "-" if math.isnan(before) else f"{before:.2f}",
                "-" if math.isnan(before) else f"{after - before:+.2f}",
            ]
        )
    if not lines:
        return
    result.tables.append(
        Table(
            "Gains over backpropagation from identical weights, beside the published ones",
            [
                "set",
                "backpropagation",
                "16 areas",
                "16 areas, no shared part",
                "1 area",
                "backpropagation, lr x 2",
                "published baseline",
                "published gain",
            ],
            lines,
            "With a shared part, W0 and D[g] both move by the gradient: the merged map moves twice as far per step. "
            "The column with twice the learning rate shows how much of a gain comes from that larger step.",
        )
    )
