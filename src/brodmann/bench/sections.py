"""What a report says about each recipe: tables, figures and their reading, computed from the rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brodmann.bench import plots
from brodmann.bench.case import Row
from brodmann.bench.recipes import PUBLISHED
from brodmann.bench.statistics import (
    Difference,
    average_ranks,
    critical_difference,
    difference,
    error_ratio,
    holm,
    interval,
    unpack,
)
from brodmann.bench.tables import Table, crossed, grouped

OURS = {"differences": "SAL, 16 areas", "differences-growing": "SAL, growing to 16 areas"}
"""Figure -> method: those that stand beside every other one."""
TWIN = "backpropagation, equal active"
TOLERANCE = 0.3
"""Points of accuracy: a loss whose 95 % bound stays within this, or within one test sample, counts as not worse."""
LEVELS = (0.9, 0.95, 0.97, 0.98, 0.99)


@dataclass(frozen=True)
class Plot:
    """A figure: drawn on demand by ``draw(path)``, whose suffix decides the format."""

    name: str
    caption: str
    draw: Callable[[Any], None]


@dataclass(frozen=True)
class Section:
    """One recipe's part of a report."""

    recipe: str
    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)


def section(recipe: str, rows: Sequence[Row]) -> Section:
    """Returns the part of a recipe; one without a part of its own gets its accuracies as a table."""
    return SECTIONS.get(recipe, _plain)(list(rows))


def _plain(rows: list[Row]) -> Section:
    return Section(rows[0]["recipe"], rows[0]["recipe"], tables=[_accuracies(rows, "Test accuracy")])


# ---- ten -------------------------------------------------------------------------------------------------------------


def _ten(rows: list[Row]) -> Section:
    tuned = [row for row in rows if row["protocol"] == "tuned"]
    published = [row for row in rows if row["protocol"] == "paper"]
    result = Section("ten", "Ten data sets")
    if tuned:
        _tuned(result, tuned)
    if published:
        _published(result, published)
    return result


def _tuned(result: Section, rows: list[Row]) -> None:
    result.tables.append(
        _accuracies(
            rows,
            "Protocol tuned: test accuracy in %, mean ± standard deviation over seeds",
            "Every method had the same trials on validation parts; dense methods are widened to the active parameters "
            "of SAL with 16 areas (or its total). cifar10-jpeg is CIFAR-10 once through JPEG, in grey.",
        )
    )
    names = list(dict.fromkeys(row["method"] for row in rows))
    for figure, ours in OURS.items():
        if ours in names and TWIN in names:
            table, losses = _against_twin(rows, ours)
            result.tables.append(table)
            result.text.extend(losses)
            found = _differences(rows, ours, TWIN)
            caption = f"{ours} minus {TWIN}: points of test accuracy, 95 % intervals"
            result.plots.append(Plot(figure, caption, partial(plots.forest, differences=found)))
        if ours in names:
            result.tables.append(_against_all(rows, ours, [name for name in names if name != ours]))
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
    result.tables.append(
        crossed(
            "Effective areas per layer, mean over seeds",
            [row for row in rows if row.get("effective_areas")],
            "method",
            "dataset",
            _effective,
            "Below half of the budget a row stands for its effective number, not for its name.",
        )
    )
    if "scikit-learn MLP" in names and TWIN in names:
        result.tables.append(_baseline_is_sound(rows))
    result.tables.append(
        crossed(
            "Chosen settings (learning rate, decay, dropout)",
            rows,
            "method",
            "dataset",
            lambda cell: "{lr:g}, {decay:g}, {dropout:g}".format(**cell[0]["options"]),
        )
    )


def _against_twin(rows: list[Row], ours: str) -> tuple[Table, list[str]]:
    found = _differences(rows, ours, TWIN)
    corrected = dict(zip(found, holm([entry.p for entry in found.values()]), strict=True))
    lines, lost, unknown = [], [], []
    for dataset, entry in found.items():
        tested = next(row["tested"] for row in rows if row["dataset"] == dataset)
        verdict = _verdict(entry, corrected[dataset], tested)
        lines.append(
            [
                dataset,
                f"{entry.mean:+.2f}",
                f"[{entry.low:+.2f}, {entry.high:+.2f}]",
                _p(corrected[dataset]),
                str(entry.pairs),
                verdict,
            ]
        )
        if entry.mean < 0:
            lost.append(f"{dataset} ({entry.mean:+.2f} points, {verdict})")
        if verdict == "undecided":
            unknown.append(dataset)
    pairs = _pairs(rows, ours, TWIN)
    ratio, low, high = error_ratio(pairs)
    table = Table(
        f"{ours} against {TWIN}",
        ["set", "difference (points)", "95 % interval", "p (Holm)", "seeds", "verdict"],
        lines,
        f"Geometric mean of (error + 0.5) ratios: {ratio:.3f} [{low:.3f}, {high:.3f}]; below 1 SAL errs less. "
        "Not worse: the bound of the loss is within 0.3 points or one test sample.",
    )
    text = [
        f"Where {ours} loses to tuned backpropagation: {'; '.join(lost)}."
        if lost
        else f"{ours}: the mean is nowhere below tuned backpropagation's."
    ]
    if unknown:
        text.append(f"{ours}, undecided with these seeds: {', '.join(unknown)}.")
    return table, text


def _against_all(rows: list[Row], ours: str, others: list[str]) -> Table:
    lines = []
    for other in others:
        found = _differences(rows, ours, other)
        if not found:
            continue
        corrected = holm([entry.p for entry in found.values()])
        better = sum(entry.mean > 0 and p < 0.05 for entry, p in zip(found.values(), corrected, strict=True))
        worse = sum(entry.mean < 0 and p < 0.05 for entry, p in zip(found.values(), corrected, strict=True))
        ratio, low, high = error_ratio(_pairs(rows, ours, other))
        mean = statistics.mean(entry.mean for entry in found.values())
        lines.append(
            [
                other,
                f"{better} / {len(found) - better - worse} / {worse}",
                f"{mean:+.2f}",
                f"{ratio:.3f} [{low:.3f}, {high:.3f}]",
            ]
        )
    return Table(
        f"{ours} against every method",
        ["method", "sets significantly better / neither / worse", "mean difference (points)", "error ratio [95 %]"],
        lines,
        "Paired t-tests over seeds, Holm-corrected over the sets; the ratio as above.",
    )


def _baseline_is_sound(rows: list[Row]) -> Table:
    lines = []
    for dataset, entry in _differences(rows, TWIN, "scikit-learn MLP").items():
        sound = "yes" if entry.high > 0 else "no: the baseline is worse"
        lines.append([dataset, f"{entry.mean:+.2f}", f"[{entry.low:+.2f}, {entry.high:+.2f}]", sound])
    return Table(
        "Is the baseline sound? Backpropagation here minus scikit-learn's MLPClassifier, same width and trials",
        ["set", "difference (points)", "95 % interval", "not worse"],
        lines,
    )


def _published(result: Section, rows: list[Row]) -> None:
    result.tables.append(
        _accuracies(
            rows,
            "Protocol paper: test accuracy in %, mean ± standard deviation over seeds",
            "2 layers of 256, plain SGD at 1e-4, batch 16, 25 epochs, initial values of He et al., the same for every "
            "method. A reference beside published numbers that rest on under-trained baselines, no comparison of "
            "methods. Inputs are standardised.",
        )
    )
    lines = []
    for dataset, group in grouped(rows, "dataset").items():
        means = {
            name: 100 * statistics.mean(row["test"] for row in own) for name, own in grouped(group, "method").items()
        }
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
            "The column with twice the learning rate shows how much of a gain is that larger step.",
        )
    )


# ---- depth -----------------------------------------------------------------------------------------------------------


def _depth(rows: list[Row]) -> Section:
    rows = [row | {"layers_count": row["options"]["layers"]} for row in rows]
    result = Section(
        "depth",
        "Depth",
        ["Learning rate and all other settings are the same at every depth. transpose is backpropagation, to 1e-10."],
    )
    for dataset, group in grouped(rows, "dataset").items():
        ordered = sorted(group, key=lambda row: row["layers_count"])
        result.tables.append(
            crossed(
                f"{dataset}: test accuracy in %, mean (lowest) over seeds",
                ordered,
                "method",
                "layers_count",
                _mean_and_lowest,
            )
        )
        broken = [row for row in group if row.get("stopped")]
        if broken:
            names = ", ".join(dict.fromkeys(f"{row['method']} at {row['layers_count']}" for row in broken))
            result.text.append(f"{dataset}: training stopped because errors vanished or exploded: {names}.")
        result.plots.append(
            Plot(
                f"depth-{dataset}",
                f"{dataset}: test accuracy by number of layers; bands are all seeds",
                partial(plots.depth, rows=ordered),
            )
        )
        residual = [row for row in ordered if "layers" in row and row["method"].endswith("residual")]
        deepest = max((row["layers_count"] for row in residual), default=0)
        shown = [row for row in residual if row["layers_count"] == deepest and row["seed"] == 0]
        if shown:
            result.plots.append(
                Plot(
                    f"layers-{dataset}",
                    f"{dataset}: every layer of the {deepest}-layer residual networks after training: angle to the "
                    "true gradient, norm of the error, share of silent units",
                    partial(plots.layers, rows=shown),
                )
            )
    return result


# ---- scale -----------------------------------------------------------------------------------------------------------


def _scale(rows: list[Row]) -> Section:
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
                _mean_and_lowest(group),
                ", ".join(f"{value:.1f}" for value in first.get("effective_areas") or []) or "-",
                f"{1e6 * statistics.median(timed):,.0f}" if timed else "-",
                f"{max(row['peak_rss_mb'] for row in group):,.0f}",
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
        "step (us, one thread)",
        "peak memory (MiB)",
    ]
    return Section(
        "scale",
        "Scale",
        [
            "Areas that no sample chose do not exist: a small set cannot fill a large budget. "
            "Each row ran in a process of its own."
        ],
        [Table("Total parameters at constant active parameters", columns, lines)],
        [
            Plot(
                "scale",
                "Accuracy, time of a step and peak memory by total parameters",
                lambda path: plots.scale(path, rows),
            )
        ],
    )


# ---- convergence -----------------------------------------------------------------------------------------------------


def _convergence(rows: list[Row]) -> Section:
    result = Section(
        "convergence",
        "Convergence",
        [
            "Validation accuracy, looked at every few steps; settings from the search of `ten`. "
            "Seconds are of training alone, one thread; only rows that ran alone on the machine are timed."
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
                f"{dataset}: to reach a validation accuracy (median over seeds)",
                ["method", *(f"{100 * level:.0f} %" for level in LEVELS)],
                lines,
            )
        )
        result.plots.append(
            Plot(
                f"convergence-{dataset}",
                f"{dataset}: validation accuracy by step; bands are all seeds",
                partial(plots.curves, rows=group),
            )
        )
    return result


def _reached(row: Row, level: float) -> tuple[float, float] | None:
    return next(((step, seconds) for step, seconds, accuracy in row["curve"] if accuracy >= level), None)


# ---- interference ----------------------------------------------------------------------------------------------------


def _interference(rows: list[Row]) -> Section:
    result = Section("interference", "Interference")
    conflicts = [row for row in rows if row["task"] == "conflict"]
    if conflicts:
        lines = [
            [
                dataset,
                method,
                str(place + 1),
                *(
                    f"{statistics.mean(row['conflict'][place][name] for row in group):.3f}"
                    for name in ("inside_areas", "pooled", "opposed_inside", "opposed_pooled")
                ),
            ]
            for (dataset, method), group in grouped(conflicts, "dataset", "method").items()
            for place in range(len(group[0]["conflict"]))
        ]
        result.tables.append(
            Table(
                "Conflict between the gradients of classes",
                [
                    "set",
                    "network",
                    "layer",
                    "cancelled inside areas",
                    "cancelled if pooled",
                    "opposed pairs inside",
                    "opposed pairs pooled",
                ],
                lines,
                "Cancelled: the share of the classes' pulls on a map that adds up to nothing. "
                "Opposed: pairs of classes whose gradients point apart.",
            )
        )
    streams = [row | {"stream": row["detail"]["stream"]} for row in rows if row["task"] == "stream"]
    for (dataset, stream), group in grouped(streams, "dataset", "stream").items():
        lines = []
        ordered = sorted(
            grouped(group, "method").items(), key=lambda entry: -statistics.mean(row["test"] for row in entry[1])
        )
        for method, own in ordered:
            low, high = interval([100 * row["test"] for row in own])
            between = f"[{low:.2f}, {high:.2f}]" if len(own) > 1 else "(one seed)"
            parts = ", ".join(
                f"{100 * statistics.mean(row['matrix'][-1][place] for row in own):.1f}"
                for place in range(len(own[0]["matrix"][-1]))
            )
            lines.append(
                [
                    method,
                    f"{100 * statistics.mean(row['test'] for row in own):.2f} {between}",
                    *(
                        f"{100 * statistics.mean(row[name] for row in own):+.2f}"
                        for name in ("forgetting", "backward_transfer")
                    ),
                    parts,
                    f"{own[0]['total']:,}",
                ]
            )
        titles = {
            "split": "classes arrive in groups",
            "permuted": "pixels are permuted anew for every task",
            "mixture": f"mixed with {', '.join(group[0]['detail'].get('others', []))}",
        }
        result.tables.append(
            Table(
                f"{dataset}, {stream} stream ({titles[stream]}): one pass, no task labels",
                [
                    "method",
                    "average accuracy in % [95 %]",
                    "forgetting",
                    "backward transfer",
                    "accuracy on each part at the end",
                    "total numbers stored",
                ],
                lines,
            )
        )
        result.text.append(_hidden_layers_verdict(dataset, stream, group))
        if stream != "mixture":
            result.plots.append(
                Plot(
                    f"stream-{dataset}-{stream}",
                    f"{dataset}, {stream}: accuracy on each task (columns) after learning each (rows), first seed",
                    partial(plots.matrices, rows=[row for row in group if row["seed"] == 0]),
                )
            )
    return result


def _hidden_layers_verdict(dataset: str, stream: str, rows: list[Row]) -> str:
    means = {method: statistics.mean(row["test"] for row in own) for method, own in grouped(rows, "method").items()}
    # A frozen hidden layer is a control, not a way to win this comparison.
    ours = {name: value for name, value in means.items() if name.startswith("SAL") and "frozen" not in name}
    equal = ("nearest class mean", "random features, streaming LDA")
    fixed = {name: value for name, value in means.items() if name in equal}
    if not ours or not fixed:
        return ""
    best, rival = max(ours, key=lambda name: ours[name]), max(fixed, key=lambda name: fixed[name])
    word = "beats" if ours[best] > fixed[rival] else "does not beat"
    return (
        f"{dataset}, {stream}: SAL at its best ({best}, {100 * ours[best]:.1f} %) {word} what learns no hidden layer "
        f"({rival}, {100 * fixed[rival]:.1f} %) at equal width."
        + "".join(f" {name} reach {100 * value:.1f} %." for name, value in means.items() if name.startswith("1024"))
    )


SECTIONS: dict[str, Callable[[list[Row]], Section]] = {
    "ten": _ten,
    "depth": _depth,
    "scale": _scale,
    "convergence": _convergence,
    "interference": _interference,
}


# ---- shared ----------------------------------------------------------------------------------------------------------


def _accuracies(rows: Sequence[Row], title: str, note: str = "") -> Table:
    return crossed(title, rows, "method", "dataset", _mean_and_deviation, note)


def _mean_and_deviation(rows: list[Row]) -> str:
    scores = [100 * row["test"] for row in rows]
    return f"{statistics.mean(scores):.2f} ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else f"{scores[0]:.2f}"


def _mean_and_lowest(rows: list[Row]) -> str:
    scores = [100 * row["test"] for row in rows]
    return f"{statistics.mean(scores):.2f} ({min(scores):.2f})" if len(scores) > 1 else f"{scores[0]:.2f}"


def _effective(rows: list[Row]) -> str:
    layers = zip(*(row["effective_areas"] for row in rows), strict=True)
    return ", ".join(f"{statistics.mean(values):.1f}" for values in layers)


def _pairs(rows: Sequence[Row], ours: str, theirs: str) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Returns, for each data set, which test samples either got right in the seeds that both have."""
    pairs = {}
    for dataset, group in grouped(rows, "dataset").items():
        by = {name: {row["seed"]: row for row in own} for name, own in grouped(group, "method").items()}
        common = sorted(by.get(ours, {}).keys() & by.get(theirs, {}).keys())
        if common:
            first, second = (
                np.stack([unpack(by[name][seed]["correct"], by[name][seed]["tested"]) for seed in common])
                for name in (ours, theirs)
            )
            pairs[dataset] = (first, second)
    return pairs


def _differences(rows: Sequence[Row], ours: str, theirs: str) -> dict[str, Difference]:
    return {dataset: difference(*pair) for dataset, pair in _pairs(rows, ours, theirs).items()}


def _verdict(entry: Difference, p: float, tested: int) -> str:
    if p < 0.05:
        return "better" if entry.mean > 0 else "worse"
    if -entry.low <= max(TOLERANCE, 100.0 / tested):
        return "not worse"
    return "undecided"


def _score_matrix(rows: Sequence[Row], methods: list[str]) -> NDArray[np.float64] | None:
    groups = grouped(rows, "dataset", "method")
    datasets = dict.fromkeys(row["dataset"] for row in rows)
    whole = [name for name in datasets if all((name, method) in groups for method in methods)]
    if not whole:
        return None
    return np.array(
        [[statistics.mean(row["test"] for row in groups[name, method]) for method in methods] for name in whole]
    )


def _p(value: float) -> str:
    return "-" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
