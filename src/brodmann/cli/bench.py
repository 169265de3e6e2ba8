"""`brodmann bench` and `brodmann report`."""

from __future__ import annotations

import math
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .. import bench
from ..bench.estimate import core_hours
from ..bench.tuner import TRIALS
from ..errors import BrodmannError
from ..files import expanded
from ..training.signals import Interrupted, interrupting_sigterm
from .output import say


@dataclass(frozen=True)
class Bench:
    """Runs the benchmark of a recipe, or those of all. It can be killed and started again."""

    name: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RECIPE")]]
    """ten, optimisers, depth, scale, convergence, interference, one of your own, or all. Put it before options that
    take lists."""
    quick: bool = False
    """A small version, on digits and semeion."""
    seeds: int | None = None
    """How many seeds each method runs with (default: the recipe's own)."""
    sets: tuple[str, ...] | None = None
    """Data sets (default: the recipe's own that are on this machine)."""
    methods: tuple[str, ...] | None = None
    """Methods, as tables call them (default: all of the recipe)."""
    protocols: tuple[str, ...] = ("tuned", "paper")
    """Protocols of the recipe ten: tuned (searched settings for each method), paper (the published setting)."""
    streams: tuple[str, ...] | None = None
    """Streams of the recipe interference: split, permuted, mixture (default: all, and the conflict between classes)."""
    jobs: int = 1
    """Trainings at a time, one thread each; only with 1 do their times count as measurements."""
    trials: int = TRIALS
    """How many settings a search tries for each method and data set."""
    search: bool = False
    """Search again even if the package holds chosen settings."""
    out: Path | None = None
    """Folder of the rows (default: runs/bench, or runs/bench-quick)."""
    data_dir: Path | None = None
    """Folder of the data (default: BRODMANN_DATA, then a cache folder)."""
    estimate: bool = False
    """Only print how many core-hours, or minutes, what is not yet in the folder will take."""

    def run(self) -> None:
        """Runs what is missing, then writes the report; or only says how long that takes."""
        self._check()
        if self.data_dir is not None:
            os.environ["BRODMANN_DATA"] = str(expanded(self.data_dir).resolve())  # the workers inherit it
        names = list(bench.RECIPES) if self.name == "all" else [self.name]
        plan = bench.Plan(self.quick, self.seeds, self.protocols, self.sets, self.methods, self.streams)
        folder = expanded(self.out) if self.out else Path("runs") / ("bench-quick" if self.quick else "bench")
        if self.estimate:
            self._say_hours(names, plan, folder)
            return
        try:
            with interrupting_sigterm():
                bench.run_recipes(names, plan, folder, jobs=self.jobs, trials=self.trials, search=self.search)
                report = bench.write_report(folder)
        except (KeyboardInterrupt, Interrupted) as stop:
            print("stopped; run the same command again to go on from here.", file=sys.stderr)
            sys.exit(128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT))
        _print_report(report)

    def _check(self) -> None:
        seeds = 1 if self.seeds is None else self.seeds
        if min(self.jobs, self.trials, seeds) < 1 or max(self.jobs, self.trials, seeds) > 10_000:
            raise BrodmannError("Expected --jobs, --trials and --seeds to be from 1 to 10,000.")
        for name in ("sets", "methods", "protocols", "streams"):
            if getattr(self, name) == ():
                raise BrodmannError(f"--{name} is given without a value: leave it out, or name at least one after it.")

    def _say_hours(self, names: list[str], plan: bench.Plan, folder: Path) -> None:
        """Prints how long each recipe will take."""
        cases = bench.cases_of(names, plan)
        hours = core_hours(cases, self.trials, search=self.search or self.quick, folder=folder)
        for name, value in hours.items():
            say(f"{name:14} {_duration(value)}")
        known = [value for value in hours.values() if not math.isnan(value)]
        rest = "" if len(known) == len(hours) else ", without what is unknown"
        say(f"{'in all':14} {_duration(sum(known))} on this machine when otherwise idle{rest}")


@dataclass(frozen=True)
class Report:
    """Writes the report of a benchmark: one HTML page, Markdown tables, figures."""

    folder: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="FOLDER")]]
    """Folder of the rows."""

    def run(self) -> None:
        """Writes it."""
        _print_report(bench.write_report(expanded(self.folder)))


def _duration(hours: float) -> str:
    if math.isnan(hours):
        return " unknown: steps of tasks of your own cannot be timed"
    return f"{hours:8.2f} core-hours" if hours >= 0.1 else f"{60 * hours:8.2f} core-minutes"


def _print_report(report: bench.Report) -> None:
    for problem in report.problems:
        say(f"problem: {problem}")
    for note in report.notes:
        say(f"note: {note}")
    for path in (report.page, report.markdown, report.figures):
        if path.exists():  # some recipes draw nothing
            say(str(path))
