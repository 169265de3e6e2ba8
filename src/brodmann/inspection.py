"""What a finished run looks like from inside: usage, alignment and curves, as data and as figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import figures
from .files import read_rows
from .network import Network
from .runs import Run
from .telemetry import Alignment, AreaUsage, alignment, area_choices, area_usage

SAMPLES = 512
"""Samples for the alignment: enough for three digits, and quick at any depth."""


@dataclass(frozen=True)
class Inspection:
    """Telemetry of a run; ``figures`` are the files drawn."""

    usage: list[AreaUsage]
    alignment: list[Alignment]
    history: list[dict[str, Any]]
    figures: list[Path]

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON-safe data."""
        return {
            "usage": [asdict(row) for row in self.usage],
            "alignment": [asdict(row) for row in self.alignment],
            "history": self.history,
            "figures": [str(path) for path in self.figures],
        }


def inspect_run(folder: Path, data_dir: str | None = None) -> Inspection:
    """Measures a finished run on its test part and draws its figures into ``figures/``.

    Args:
        folder: Of the run.
        data_dir: Where the data lies, if not where it was.

    Raises:
        BrodmannError: The run is not finished, its data has changed, or matplotlib is missing.
    """
    run = Run.read(folder)
    folder, network = run.folder, run.learner()
    history = read_rows(folder / "metrics.jsonl")
    place = folder / "figures"
    twin = folder / "backpropagation" / "metrics.jsonl"
    beside = {"backpropagation": read_rows(twin)} if twin.is_file() else None
    figures.learning_curves(place / "curves.png", history, beside=beside)
    drawn = [place / "curves.png"]
    if not isinstance(network, Network):
        return Inspection([], [], history, drawn)
    x, y = run.test_part(data_dir)
    x = x.to(network.dtype)
    if any("tension" in row for row in history):
        figures.growth(place / "growth.png", history)
        drawn.append(place / "growth.png")
    usage = area_usage(network, x)
    aligned = alignment(network, x[:SAMPLES], y[:SAMPLES])
    figures.alignment(place / "alignment.png", aligned)
    drawn.append(place / "alignment.png")
    if any(row.get("alignment") for row in history):
        figures.alignment_by_epoch(place / "alignment-by-epoch.png", history)
        drawn.append(place / "alignment-by-epoch.png")
    if usage:
        figures.area_usage(place / "areas.png", usage)
        drawn.append(place / "areas.png")
        if run.classes:
            figures.areas_by_class(place / "classes.png", area_choices(network, x), y, run.classes)
            drawn.append(place / "classes.png")
    return Inspection(usage, aligned, history, drawn)
