"""Ten data sets: the tuned comparison, and the published setting."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...case import Row
from .. import plots
from ..statistics import average_ranks, critical_difference
from ..tables import crossed, grouped
from .comparisons import (
    TWIN,
    against_all,
    against_rival,
    baseline_is_sound,
    differences,
    pairs_of,
)
from .published import add_published
from .scores import accuracies
from .section import Plot, Section

OURS = {
    "differences": ("SAL, 16 areas", TWIN),
    "differences-growing": ("SAL, growing to 16 areas", TWIN),
    "differences-wide": ("SAL, growing to 4 areas, equal total", "backpropagation, equal total"),
}
"""Figure -> the method that it compares with every other one, and the one that it is drawn against."""


def ten_section(rows: list[Row]) -> Section:
    """Returns the section of the recipe `ten`."""
    tuned = [row for row in rows if row["protocol"] == "tuned"]
    published = [row for row in rows if row["protocol"] == "paper"]
    result = Section("ten", "Ten data sets")
    if tuned:
        _add_tuned(result, tuned)
    if published:
        add_published(result, published)
    return result


def _add_tuned(result: Section, rows: list[Row]) -> None:
    result.tables.append(
        accuracies(
            rows,
            "Protocol tuned: test accuracy in %, mean ± standard deviation over seeds",
            "Settings are chosen on validation parts; dense methods are widened to the active parameters "
            "of SAL with 16 areas (or its total). cifar10-jpeg is CIFAR-10 compressed once as JPEG, in grey.",
        )
    )
    names = list(dict.fromkeys(row["method"] for row in rows))
    for figure, (ours, rival) in OURS.items():
        if ours in names and rival in names:
            table, losses = against_rival(rows, ours, rival)
            result.tables.append(table)
            result.text.extend(losses)
            found = differences(pairs_of(rows, ours, rival))
            caption = (
                f"{ours} minus {rival}: points of test accuracy, 95 % intervals; grey where they contain zero. The "
                "verdicts, which also use the paired test, are in the table"
            )
            result.plots.append(Plot(figure, caption, partial(plots.forest, differences=found)))
        if ours in names and len(names) > 1:
            result.tables.append(against_all(rows, ours, [name for name in names if name != ours]))
    scores = _score_matrix(rows, names)
    if scores is not None and len(scores) > 1 and len(names) > 2:
        ranks, apart = average_ranks(scores), critical_difference(len(names), len(scores))
        result.plots.append(
            Plot(
                "ranks",
                f"Mean rank over {len(scores)} sets (1 is best). Those joined by a bar do not differ at the 5 % level "
                f"(Nemenyi, critical difference {apart:.2f})",
                lambda path: plots.critical_difference(path, names, ranks, apart),
            )
        )
    routed = [row for row in rows if row.get("effective_areas")]
    if routed:
        result.tables.append(
            crossed(
                "Effective areas per layer, mean over seeds",
                routed,
                "method",
                "dataset",
                _effective,
                "If fewer than half of the areas are effective, a row stands for that number rather than for its name.",
            )
        )
    if "scikit-learn MLP" in names and TWIN in names:
        result.tables.append(baseline_is_sound(rows))
    result.tables.append(
        crossed(
            "Chosen settings (learning rate, decay, dropout)",
            rows,
            "method",
            "dataset",
            lambda cell: "{lr:g}, {decay:g}, {dropout:g}".format(**cell[0]["options"]),
        )
    )


def _score_matrix(rows: Sequence[Row], methods: list[str]) -> NDArray[np.float64] | None:
    groups = grouped(rows, "dataset", "method")
    datasets = dict.fromkeys(row["dataset"] for row in rows)
    whole = [name for name in datasets if all((name, method) in groups for method in methods)]
    if not whole:
        return None
    return np.array(
        [[statistics.mean(row["test"] for row in groups[name, method]) for method in methods] for name in whole]
    )


def _effective(rows: list[Row]) -> str:
    layers = zip(*(row["effective_areas"] for row in rows), strict=True)
    return ", ".join(f"{statistics.mean(values):.1f}" for values in layers)
