"""Runs: a training as options and a folder, from its start to what it looks like from inside."""

from .execution import continue_run, start_run
from .inspection import Inspection, inspect_run
from .options import RunOptions
from .run import Run

__all__ = [
    "Inspection",
    "Run",
    "RunOptions",
    "continue_run",
    "inspect_run",
    "start_run",
]
