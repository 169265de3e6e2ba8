"""Scores over seeds: their means, and the cells of tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ...case import Row
from ..tables import Table, crossed, grouped


def mean_in_percent(rows: Sequence[Row], name: str = "test") -> float:
    """Returns the mean of a field over rows, by default of the test accuracy, in %."""
    return 100 * statistics.mean(float(row[name]) for row in rows)


def accuracies(rows: Sequence[Row], title: str, note: str = "") -> Table:
    """Returns the table of test accuracies, methods down and data sets across."""
    return crossed(title, rows, "method", "dataset", _mean_and_deviation, note)


def _mean_and_deviation(rows: list[Row]) -> str:
    scores = [100 * row["test"] for row in rows]
    return f"{statistics.mean(scores):.2f} ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else f"{scores[0]:.2f}"


def mean_and_lowest(rows: list[Row]) -> str:
    """Returns mean and lowest accuracy of a cell, in %."""
    scores = [100 * row["test"] for row in rows]
    return f"{statistics.mean(scores):.2f} ({min(scores):.2f})" if len(scores) > 1 else f"{scores[0]:.2f}"


def broken_down(rows: Sequence[Row]) -> list[str]:
    """Returns a sentence for each data set on which trainings stopped, and were scored as they stood."""
    texts = []
    for dataset, group in grouped([row for row in rows if row.get("stopped")], "dataset").items():
        depths = grouped([row | row["options"] for row in rows if row["dataset"] == dataset], "method", "layers")
        methods = [method for method, _ in depths]
        names = (
            row["method"] + (f" at {row['options']['layers']}" if methods.count(row["method"]) > 1 else "")
            for row in group
        )
        texts.append(
            f"{dataset}: training stopped because errors vanished or exploded: {', '.join(dict.fromkeys(names))}."
        )
    return texts
