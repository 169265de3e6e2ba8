"""How long a recipe will take, from timed steps."""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import torch

from brodmann.assembly import learner_for, split_data
from brodmann.bench.case import Case
from brodmann.bench.runner import searches
from brodmann.bench.tuner import candidates, stored_choices, trials_of
from brodmann.data import Split, load
from brodmann.execution import threads
from brodmann.options import RunOptions

START_SECONDS = 0.3
"""Loading data, scoring and writing a row: measured on the small sets, where it shows."""
TIMED_STEPS = 5


def core_hours(cases: Iterable[Case], trials: int, *, search: bool = False) -> dict[str, float]:
    """Estimates the core-hours of each recipe; the search counts as one of its own.

    A few steps of every distinct network are timed on one thread, and multiplied by the number of steps.
    """
    cases = list(cases)
    wanted, _ = searches(cases, {} if search else stored_choices())
    # Which settings a search tries is not known before; how many is, and none changes the time of a step.
    tried = [trial for case in wanted.values() for trial in trials_of(case, candidates(trials))]
    total: dict[str, float] = defaultdict(float)
    with threads(1):
        for case in [*tried, *cases]:
            total[case.recipe] += _seconds(case) / 3600.0
    return dict(total)


def _seconds(case: Case) -> float:
    options = case.options
    passes = case.detail["tasks"] if case.detail.get("stream") == "permuted" else 1
    samples = passes * len(_parts(options.dataset, options.grey).x_train)
    pace = options.pace(samples)
    steps = pace.epochs * math.ceil(samples / pace.batch_size)
    # What changes no step's time is left out: networks of one kind are timed once.
    kind = replace(options, seed=0, lr=None, decay=None, dropout=0.0, epochs=None, batch_size=pace.batch_size)
    return START_SECONDS + steps * _step_seconds(kind)


@cache
def _parts(dataset: str, grey: bool) -> Split:
    return split_data(RunOptions(dataset, grey=grey), load(dataset))


@cache
def _step_seconds(options: RunOptions) -> float:
    split = _parts(options.dataset, options.grey)
    learner = learner_for(options, split)
    batch = options.pace(len(split.x_train)).batch_size
    times = []
    for _ in range(TIMED_STEPS):
        rows = torch.randint(len(split.x_train), (batch,))
        began = time.perf_counter()
        learner.learn_with_output(split.x_train[rows], split.y_train[rows], lr=1e-3)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])
