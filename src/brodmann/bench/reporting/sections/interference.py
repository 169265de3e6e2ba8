"""Interference: how far the gradients of classes cancel, and what streams forget."""

from __future__ import annotations

import statistics
from functools import partial

from ...case import Row
from .. import plots
from ..tables import Table, grouped
from .scores import mean_in_percent
from .section import Plot, Section

CONFLICT = {
    "cancelled inside areas": "inside_areas",
    "cancelled if pooled": "pooled",
    "opposed pairs inside": "opposed_inside",
    "opposed pairs pooled": "opposed_pooled",
}
"""Column -> what a row calls it."""
AREAS, WITHOUT_HIDDEN_LAYERS = ("areas", "recursive"), ("nearest-mean", "streaming-discriminant")
"""Learners of a stream, see `brodmann.bench.stream_learners.LEARNERS`."""


def interference_section(rows: list[Row]) -> Section:
    """Returns the section of the recipe `interference`."""
    result = Section("interference", "Interference")
    conflicts = [row for row in rows if row["task"] == "conflict"]
    if conflicts:
        result.tables.append(_conflicts(conflicts))
    streams = [row | {"stream": row["detail"]["stream"]} for row in rows if row["task"] == "stream"]
    for (dataset, stream), group in grouped(streams, "dataset", "stream").items():
        result.tables.append(_stream(dataset, stream, group))
        result.text.extend(_hidden_layers_verdict(dataset, stream, group))
        if stream != "mixture":
            result.plots.append(
                Plot(
                    f"stream-{dataset}-{stream}",
                    f"{dataset}, {stream}: accuracy on each task (columns) after learning each (rows), first seed",
                    partial(plots.matrices, rows=[row for row in group if row["seed"] == 0]),
                )
            )
    return result


def _conflicts(rows: list[Row]) -> Table:
    lines = [
        [
            dataset,
            method,
            str(place + 1),
            *(f"{statistics.mean(row['conflict'][place][name] for row in own):.3f}" for name in CONFLICT.values()),
        ]
        for (dataset, method), own in grouped(rows, "dataset", "method").items()
        for place in range(len(own[0]["conflict"]))
    ]
    return Table(
        "Conflict between the gradients of classes",
        ["set", "network", "layer", *CONFLICT],
        lines,
        "Cancelled: the share of the classes' pulls on a map that cancel each other out. Opposed: the share of pairs "
        "of classes whose gradients have a cosine below 0.",
    )


def _stream(dataset: str, stream: str, rows: list[Row]) -> Table:
    """Returns the table of one stream, the best method first."""
    lines = []
    for method, own in sorted(grouped(rows, "method").items(), key=lambda entry: -mean_in_percent(entry[1])):
        scores = [100 * row["test"] for row in own]
        between = f"[{min(scores):.2f}, {max(scores):.2f}]" if len(own) > 1 else "(one seed)"
        parts = (100 * statistics.mean(last) for last in zip(*(row["matrix"][-1] for row in own), strict=True))
        lines.append(
            [
                method,
                f"{mean_in_percent(own):.2f} {between}",
                f"{mean_in_percent(own, 'forgetting'):+.2f}",
                f"{mean_in_percent(own, 'backward_transfer'):+.2f}",
                ", ".join(f"{part:.1f}" for part in parts),
                f"{own[0]['total']:,}",
            ]
        )
    titles = {
        "split": "classes arrive in groups",
        "permuted": "pixels are permuted anew for every task",
        "mixture": f"mixed with {', '.join(rows[0]['detail'].get('others', []))}",
    }
    return Table(
        f"{dataset}, {stream} stream ({titles.get(stream, stream)}): one pass, no task labels",
        [
            "method",
            "average accuracy in % [lowest, highest seed]",
            "forgetting",
            "backward transfer",
            "accuracy on each part at the end",
            "total numbers stored",
        ],
        lines,
    )


def _hidden_layers_verdict(dataset: str, stream: str, rows: list[Row]) -> list[str]:
    methods = grouped(rows, "method")
    means = {name: mean_in_percent(own) for name, own in methods.items()}
    details = {name: own[0]["detail"] for name, own in methods.items()}
    # A frozen hidden layer is a control, not a way to win this comparison.
    ours = [name for name, detail in details.items() if detail["learner"] in AREAS and not detail.get("frozen")]
    unlearned = [name for name, detail in details.items() if detail["learner"] in WITHOUT_HIDDEN_LAYERS]
    fixed = [name for name in unlearned if "width" not in details[name]]
    if not ours or not fixed:
        return []
    best, rival = max(ours, key=means.__getitem__), max(fixed, key=means.__getitem__)
    word = "beats" if means[best] > means[rival] else "does not beat"
    wider = (name for name in unlearned if details[name].get("width") == 1024)
    return [
        f"{dataset}, {stream}: SAL at its best ({best}, {means[best]:.1f} %) {word} the best method that learns no "
        f"hidden layer ({rival}, {means[rival]:.1f} %) at equal width."
        + "".join(f" {name} reach {means[name]:.1f} %." for name in wider)
    ]
