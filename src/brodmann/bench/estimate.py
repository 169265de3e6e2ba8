"""How long a recipe will take, from timed steps."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from ..data import Split, load
from ..generators import undisturbed
from ..origin import package_of
from ..runs import RunOptions
from ..runs.assembly import learner_for, split_data
from ..runs.execution import threads
from .case import Case
from .choices import search_of
from .folder import ROWS, TRIAL_ROWS, read_choices, read_rows
from .runner import known_choices, searches
from .stream_learners import stream_learner
from .streams import Stream, stream_of
from .tasks import task_of
from .tuner import candidates, choose, settled, trials_of

START_SECONDS = 0.3
"""Loading data, scoring and writing a row: measured on the small sets, where it shows."""
TIMED_STEPS = 5
STREAM_STEPS = 40
"""Steps of a stream that are timed: the first ones recruit the areas."""


def core_hours(
    cases: Iterable[Case], trials: int, *, search: bool = False, folder: Path | None = None
) -> dict[str, float]:
    """Estimates the core-hours that are left of each recipe; the search counts as a recipe of its own.

    A few steps of every distinct learner are timed on one thread, and multiplied by the number of steps; of streams
    also the scores, which every task asks for. What a task of your own does is not known: recipes that have one take
    NaN hours.

    Args:
        cases: What is to run.
        trials: Settings that a search tries.
        search: Whether to search also if settings are known.
        folder: Folder whose rows and trials are not run again; None for a new one.
    """
    cases = list(cases)
    total = dict.fromkeys((case.recipe for case in cases), 0.0)
    paces: dict[str, tuple[float, float]] = {}
    with threads(1), undisturbed():
        for case in _left(cases, trials, search, folder):
            if package_of(task_of(case)) != "brodmann":
                seconds = math.nan
            else:
                seconds = _stream_seconds(case, paces) if case.task == "stream" else _seconds(case)
            total[case.recipe] = total.get(case.recipe, 0.0) + (START_SECONDS + seconds) / 3600.0
    return total


def _left(cases: list[Case], trials: int, search: bool, folder: Path | None) -> list[Case]:
    """Returns the trials, then the cases, that have no row yet."""
    rows = [] if folder is None else read_rows(folder, ROWS)
    tried = [] if folder is None else read_rows(folder, TRIAL_ROWS)
    earlier = {} if folder is None else read_choices(folder)
    wanted, choices = searches(cases, {} if search else known_choices(earlier))
    there, best = Counter(search_of(row) for row in tried), choose(tried)
    left: list[Case] = []
    for name, case in wanted.items():
        # Which settings a search will try is not known yet; how many is, and none changes the time of a step.
        more = trials_of(case, candidates(trials))[there[name] :]
        if not more:
            choices[name] = best[name]
        left += more
    done = {row["key"] for row in rows}

    def is_done(case: Case) -> bool:
        is_open = case.searched and search_of(case) not in choices
        return not is_open and settled(case, choices).key in done

    return left + [case for case in cases if not is_done(case)]


def _seconds(case: Case) -> float:
    options = case.options
    samples = len(_parts(options.dataset, options.grey).x_train)
    pace = options.pace(samples)
    steps = pace.epochs * math.ceil(samples / pace.batch_size)
    # Settings that do not change a step's time are left out: networks of one kind are timed once.
    kind = replace(options, seed=0, lr=None, decay=None, dropout=0.0, epochs=None, batch_size=pace.batch_size)
    return steps * _step_seconds(kind)


def _stream_seconds(case: Case, paces: dict[str, tuple[float, float]]) -> float:
    """Returns the seconds of a stream; ``paces`` holds those of a step and of a scored sample, by kind of learner."""
    detail = json.dumps({name: case.detail[name] for name in ("stream", "tasks", "others") if name in case.detail})
    first = _first_tasks(RunOptions(case.options.dataset, grey=case.options.grey), detail)
    count = len(first.tasks)
    tasks = count if case.trial else case.detail.get("tasks", 1)
    batch = case.options.pace(sum(len(task.x) for task in first.tasks)).batch_size
    steps = sum(math.ceil(len(task.x) / batch) for task in first.tasks) * tasks / count
    scored = sum(len(y) for task in first.tasks for _, y in task.parts) * tasks / count
    if not case.trial:
        split = _parts(case.options.dataset, case.options.grey)
        scored *= len(split.x_test) / len(split.x_validation)
    options = replace(case.options, seed=0, lr=None, decay=None, dropout=0.0)
    kind = replace(case, recipe="", options=options, searched=False, trial=False).key
    if kind not in paces:
        task = first.tasks[0]
        learner = stream_learner(case, task.x.shape[1], first.outputs)
        times = []
        for rows in torch.arange(len(task.x)).split(batch)[:STREAM_STEPS]:  # type: ignore[no-untyped-call]
            times.append(_time_of(partial(learner.learn, task.x[rows], task.y[rows])))
        judged = task.parts[0][0]
        paces[kind] = (
            statistics.mean(times[len(times) // 2 :]),
            _time_of(partial(learner.predict, judged)) / len(judged),
        )
    step, score = paces[kind]
    return steps * step + tasks * scored * score


@lru_cache(maxsize=1)
def _first_tasks(options: RunOptions, detail: str) -> Stream:
    """Returns the tasks that trials see: the test part stays closed."""
    return stream_of(Case("", "", options, trial=True, detail=json.loads(detail)))


def _time_of(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


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
        times.append(_time_of(partial(learner.learn_with_output, split.x_train[rows], split.y_train[rows], lr=1e-3)))
    return statistics.median(times[1:])
