"""Commands for a finished run: `brodmann evaluate`, `predict` and `inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from ..errors import BrodmannError
from ..runs import Run, inspect_run
from ..training import evaluate
from .output import say, say_json, say_table

RunFolder = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(name="run", metavar="RUN")]]


@dataclass(frozen=True)
class Evaluate:
    """Scores a finished run on its test part."""

    run_folder: RunFolder
    """Run folder."""
    data_dir: str | None = None
    """Folder of the data, if it was moved."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Prints the loss, and the accuracy or the explained variance."""
        run = Run.read(self.run_folder)
        options, scored = run.options, evaluate(run.learner(), *run.test_part(self.data_dir))
        scores = {f"test_{name}": value for name, value in scored.items()}
        if self.json:
            say_json({"dataset": options.dataset, "rule": options.rule, **scores, "run": str(run.folder)})
            return
        say(f"{options.dataset}, {options.rule}: " + ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))


@dataclass(frozen=True)
class Predict:
    """Predicts for every sample of a file (.npz with x or x_test, .npy, .csv, .tsv)."""

    run_folder: RunFolder
    """Run folder."""
    file: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="FILE")]]
    """Samples, raw as in the data set."""
    probabilities: bool = False
    """Give the probability of each class, in the order in which --json names the classes."""
    json: bool = False
    """Print one JSON object instead of a line per sample."""

    def run(self) -> None:
        """Prints a class name (or the target values, or probabilities) per sample."""
        run = Run.read(self.run_folder)
        found: list[Any] = run.predict_proba(self.file) if self.probabilities else run.predict(self.file)
        # One form whatever the data: classes by name, and numbers in a list.
        predictions = [part if isinstance(part, list) else str(part) if run.classes else [part] for part in found]
        if self.json:
            classes = {"classes": run.classes} if self.probabilities and run.classes else {}
            say_json({"run": str(run.folder), **classes, "predictions": predictions})
            return
        for prediction in predictions:
            print(" ".join(map(str, prediction)) if isinstance(prediction, list) else prediction)


@dataclass(frozen=True)
class Inspect:
    """Shows areas, alignment of errors and curves of a finished run, as tables and figures."""

    run_folder: RunFolder
    """Run folder."""
    data_dir: str | None = None
    """Folder of the data, if it was moved."""
    json: bool = False
    """Print one JSON object instead of tables."""

    def run(self) -> None:
        """Prints the tables, draws the figures."""
        inspection = inspect_run(self.run_folder, self.data_dir)
        try:
            drawn, problem = inspection.draw(), None
        except BrodmannError as error:  # such as matplotlib, which is not there: tables need none
            drawn, problem = [], error
        if self.json:
            found = {**inspection.as_dict(), "figures": [str(path) for path in drawn]}
            say_json(found if problem is None else {**found, "problem": str(problem)})
            return
        if inspection.usage:
            table = Table("layer", "areas", "in use", "effective", "entropy (nats)", title="Use of areas (test part)")
            for row in inspection.usage:
                areas, layer = len(row.counts), "whole network" if row.layer == "router" else row.layer
                table.add_row(layer, str(areas), str(areas - row.dead), f"{row.effective:.2f}", f"{row.entropy:.3f}")
            say_table(table)
        if inspection.alignment:
            table = Table("layer", "cosine", "norm ratio", "error norm", "weights", title="Error against true gradient")
            for line in inspection.alignment:
                weights = "-" if line.weight_cosine is None else f"{line.weight_cosine:.4f}"
                errors = (f"{line.cosine:.4f}", f"{line.norm_ratio:.3g}", f"{line.error_norm:.3g}")
                table.add_row(line.layer, *errors, weights)
            say_table(table)
            say("weights: cosine between the feedback matrix and the shared part", "dim")
        for path in drawn:
            say(f"figure: {path}")
        if problem is not None:
            say(f"No figures: {problem}")
