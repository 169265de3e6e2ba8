"""What a finished run looks like from inside: usage, alignment and curves, as data and as figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import figures
from ..files import finite_or_none
from ..network import Network
from ..rows import evenly_spaced
from ..telemetry import Alignment, AreaUsage, alignment, area_choices, usage_of
from ..training import read_metrics
from .run import Run

Row = dict[str, Any]
SAMPLES = 512
"""Samples for the alignment: enough for three digits, and quick at any depth."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """Telemetry of a run.

    Attributes:
        folder: Folder of the run.
        history: A row per epoch.
        twin: Rows of the backpropagation twin, if it was trained.
        usage: Use of the areas, on the test part.
        alignment: Alignment of the errors, on some samples of the test part; empty for baselines.
        choices: The area of every test sample by layer.
        targets: Targets of the test part.
        classes: Names of the classes, None for regression.
    """

    folder: Path
    history: list[Row]
    twin: list[Row] = field(default_factory=list)
    usage: list[AreaUsage] = field(default_factory=list)
    alignment: list[Alignment] = field(default_factory=list)
    choices: dict[str, Tensor] = field(default_factory=dict)
    targets: Tensor | None = None
    classes: tuple[str, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns data that JSON can hold: None if a number is not finite, as the cosine behind silent units."""
        usage, rows = ([asdict(row) for row in found] for found in (self.usage, self.alignment))
        safe: dict[str, Any] = finite_or_none({"usage": usage, "alignment": rows, "history": self.history})
        return safe

    def draw(self) -> list[Path]:
        """Draws all figures into the run's ``figures/``; returns their files.

        Raises:
            BrodmannError: There is nothing to draw, or matplotlib is missing.
        """
        drawings: dict[str, Callable[[Path], None]] = {}
        beside = {"backpropagation": self.twin} if self.twin else None
        drawings["curves"] = partial(figures.learning_curves, history=self.history, beside=beside)
        if any("tension" in row for row in self.history):
            drawings["growth"] = partial(figures.growth, history=self.history)
        if len(self.alignment) > 1:  # at the output there is nothing to lose
            drawings["alignment"] = partial(figures.alignment, rows=self.alignment)
        if any(len(row.get("alignment", ())) > 1 for row in self.history):
            drawings["alignment-by-epoch"] = partial(figures.alignment_by_epoch, history=self.history)
        if self.usage:
            drawings["areas"] = partial(figures.area_usage, rows=self.usage)
        if self.usage and self.classes and self.targets is not None:
            drawings["classes"] = partial(
                figures.areas_by_class, choices=self.choices, target=self.targets, classes=self.classes
            )
        paths = {self.folder / "figures" / f"{name}.png": draw for name, draw in drawings.items()}
        for path, draw in paths.items():
            draw(path)
        return list(paths)


def inspect_run(folder: str | Path, data_dir: str | None = None) -> Inspection:
    """Measures a finished run on its test part.

    Args:
        folder: Folder of the run.
        data_dir: Folder of the data, if it was moved.

    Raises:
        BrodmannError: The run is not finished, or its data has changed.
    """
    run = Run.read(folder)
    folder, network = run.folder, run.learner()
    history = read_metrics(folder / "metrics.jsonl")
    twin = read_metrics(folder / "backpropagation" / "metrics.jsonl")
    if not isinstance(network, Network):
        return Inspection(folder, history)
    x, y = run.test_part(data_dir)
    choices, some = area_choices(network, x), evenly_spaced(len(x), SAMPLES)
    return Inspection(
        folder,
        history,
        twin,
        usage_of(network, choices),
        alignment(network, x[some], y[some]),
        choices,
        y,
        run.classes,
    )
