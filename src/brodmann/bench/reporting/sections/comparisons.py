"""Comparisons of two methods on the test samples and seeds that both have."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

from ...case import Row
from ...packing import Correct, unpack
from ..statistics import Difference, difference, error_ratio, holm
from ..tables import Table, grouped, spread

Pairs = dict[str, tuple[Correct, Correct]]
"""Data set -> which test samples either method got right, (seeds, samples) each."""
TWIN = "backpropagation, equal active"
TOLERANCE = 0.3
"""Points of accuracy: a loss whose 95 % bound stays within this, or within one test sample, counts as not worse."""


def against_rival(rows: list[Row], ours: str, rival: str = TWIN) -> tuple[Table, list[str]]:
    """Returns the table of a method against backpropagation, and in words the sets that it loses, or that are open."""
    pairs = pairs_of(rows, ours, rival)
    found = differences(pairs)
    corrected = dict(zip(found, holm([entry.p for entry in found.values()]), strict=True))
    lines, lost, unknown = [], [], []
    for dataset, entry in found.items():
        verdict = _verdict(entry, corrected[dataset], pairs[dataset][0].shape[1])
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
        if entry.mean <= -0.005:  # what reads as 0.00 is no loss
            lost.append(f"{dataset} ({entry.mean:+.2f} points, {verdict})")
        if verdict == "undecided":
            unknown.append(dataset)
    if not found:
        return Table(f"{ours} against {rival}", ["set"], [], "The two methods have no seed in common."), []
    table = Table(
        f"{ours} against {rival}",
        ["set", "difference (points)", "95 % interval", "p (Holm)", "seeds", "verdict"],
        lines,
        f"Geometric mean of (error + 0.5) ratios: {_ratio(pairs)}; below 1, SAL makes fewer "
        f"errors. Not worse: the 95 % bound of the loss is within {TOLERANCE} points or one test sample.",
    )
    text = [
        f"Where {ours} loses to tuned backpropagation: {'; '.join(lost)}."
        if lost
        else f"{ours}: on no set is the mean below that of tuned backpropagation."
    ]
    if unknown:
        text.append(f"{ours}, undecided with these seeds: {', '.join(unknown)}.")
    return table, text


def against_all(rows: list[Row], ours: str, others: list[str]) -> Table:
    """Returns the table of a method against each of the others."""
    lines = []
    for other in others:
        pairs = pairs_of(rows, ours, other)
        if not pairs:
            continue
        found = differences(pairs)
        corrected = holm([entry.p for entry in found.values()])
        better = sum(entry.mean > 0 and p < 0.05 for entry, p in zip(found.values(), corrected, strict=True))
        worse = sum(entry.mean < 0 and p < 0.05 for entry, p in zip(found.values(), corrected, strict=True))
        mean = statistics.mean(entry.mean for entry in found.values())
        lines.append(
            [
                other,
                f"{better} / {len(found) - better - worse} / {worse}",
                f"{mean:+.2f}",
                _ratio(pairs),
            ]
        )
    return Table(
        f"{ours} against every method",
        ["method", "sets significantly better / neither / worse", "mean difference (points)", "error ratio [95 %]"],
        lines,
        "Paired t-tests over seeds, Holm-corrected over the sets; the ratio is as above.",
    )


def pair_by_pair(rows: Sequence[Row], methods: Sequence[tuple[str, str]]) -> Table:
    """Returns the table of differences between the methods of each pair, set by set."""
    sets = list(dict.fromkeys(row["dataset"] for row in rows))
    lines = []
    for ours, theirs in methods:
        pairs = pairs_of(rows, ours, theirs)
        if pairs:
            found = differences(pairs)
            cells = (
                f"{found[name].mean:+.2f} [{found[name].low:+.2f}, {found[name].high:+.2f}]" if name in found else ""
                for name in sets
            )
            seeds = spread([len(first) for first, _ in pairs.values()])
            lines.append([f"{ours} minus {theirs}", *cells, _ratio(pairs), seeds])
    return Table(
        "Differences in points of test accuracy, with 95 % intervals",
        ["methods", *sets, "error ratio [95 %]", "seeds"],
        lines,
        "Paired over test samples and the seeds that both have. The ratio is the geometric mean over the sets of "
        "(error + 0.5); below 1, the first makes fewer errors.",
    )


def baseline_is_sound(rows: list[Row]) -> Table:
    """Returns the table of our backpropagation against scikit-learn's."""
    lines = []
    for dataset, entry in differences(pairs_of(rows, TWIN, "scikit-learn MLP")).items():
        sound = "yes" if entry.high >= 0 else "no: the baseline is worse"
        lines.append([dataset, f"{entry.mean:+.2f}", f"[{entry.low:+.2f}, {entry.high:+.2f}]", sound])
    return Table(
        "Is the baseline sound? Backpropagation here minus scikit-learn's MLPClassifier, same width and trials",
        ["set", "difference (points)", "95 % interval", "not worse"],
        lines,
    )


def differences(pairs: Pairs) -> dict[str, Difference]:
    """Returns, for each data set, how far the first method's test accuracy lies above the second's."""
    return {dataset: difference(*pair) for dataset, pair in pairs.items()}


def pairs_of(rows: Sequence[Row], ours: str, theirs: str) -> Pairs:
    """Returns, for each data set, which test samples either got right in the seeds that both have.

    If rows of a set come from different data, which the audit tells of, only those of what most have are compared.
    """
    pairs = {}
    for dataset, every in grouped(rows, "dataset").items():
        group = max(grouped(every, "digest").values(), key=len)
        by = {name: {row["seed"]: row for row in own} for name, own in grouped(group, "method").items()}
        common = sorted(by.get(ours, {}).keys() & by.get(theirs, {}).keys())
        if common:
            first, second = (
                np.stack([unpack(by[name][seed]["correct"], by[name][seed]["tested"]) for seed in common])
                for name in (ours, theirs)
            )
            pairs[dataset] = (first, second)
    return pairs


def _verdict(entry: Difference, p: float, tested: int) -> str:
    if p < 0.05:
        return "better" if entry.mean > 0 else "worse"
    if -entry.low <= max(TOLERANCE, 100.0 / tested):
        return "not worse"
    return "undecided"


def _ratio(pairs: Pairs) -> str:
    ratio, low, high = error_ratio(pairs)
    return f"{ratio:.3f} [{low:.3f}, {high:.3f}]"


def _p(value: float) -> str:
    return "-" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
