"""Streams of tasks, learned in one pass without task labels, and what is forgotten on the way."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from brodmann.bench.case import Case, Row
from brodmann.bench.stream_learners import stream_learner
from brodmann.data import load
from brodmann.errors import BrodmannError, unknown_name
from brodmann.runs import split_data

STREAMS = ("split", "permuted", "mixture")
TUNED_ON = 3
"""Trials see so many tasks, the first ones: who learns a stream cannot tune on its end (Chaudhry et al. 2019)."""


@dataclass(frozen=True)
class Task:
    """One stretch of a stream.

    Attributes:
        x: Samples to learn from, in the order of the stream, (n, in).
        y: Their classes, (n,).
        parts: Samples and classes to be scored by: one pair, or one per data set in a mixture.
    """

    x: Tensor
    y: Tensor
    parts: list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Stream:
    """Tasks in their order.

    Attributes:
        tasks: The tasks.
        outputs: Classes of all tasks together.
        digest: Of the data.
        reads: How often the test part was read.
    """

    tasks: list[Task]
    outputs: int
    digest: str
    reads: int


def stream(case: Case) -> Row:
    """Learns a stream; the row holds the matrix of accuracies, task by task.

    ``matrix[i][j]`` is the accuracy on task j after learning task i. Average accuracy is the mean of the last row;
    forgetting the mean drop of a task from its best earlier accuracy; backward transfer the mean change since it was
    learned (Lopez-Paz and Ranzato 2017, section 3). A mixture is one task whose row has an accuracy per data set.
    """
    options = case.options
    torch.manual_seed(options.seed)
    tasks = tasks_of(case)
    learner = stream_learner(case, tasks.tasks[0].x.shape[1], tasks.outputs)
    generator = torch.Generator().manual_seed(options.seed)
    matrix: list[list[float]] = []
    steps = 0
    began = time.perf_counter()
    for task in tasks.tasks:
        for rows in torch.split(torch.randperm(len(task.x), generator=generator), options.batch_size):
            learner.learn(task.x[rows], task.y[rows])
            steps += 1
        learner.end_task(task.x, task.y)
        matrix.append(
            [float((learner.predict(x) == y).double().mean()) for other in tasks.tasks for x, y in other.parts]
        )
    seconds = time.perf_counter() - began
    scores = continual_scores(matrix)
    score = scores["average_accuracy"]
    row: Row = {
        "digest": tasks.digest,
        "steps": steps,
        "seconds": round(seconds, 3),
        "test_reads": tasks.reads,
        "active": learner.active_parameters(),
        "total": learner.total_parameters(),
        "curve": [],
        "validation": score if case.trial else None,
    }
    if case.trial:
        return row  # a trial saw validation parts alone
    return row | {"test": score, "matrix": [[round(value, 5) for value in line] for line in matrix], **scores}


def continual_scores(matrix: list[list[float]]) -> dict[str, float]:
    """Returns average accuracy, forgetting and backward transfer of a matrix of accuracies (tasks, tasks)."""
    last = matrix[-1]
    # A mixture is one task with several parts: nothing comes before it, so nothing can be forgotten.
    earlier = range(len(matrix) - 1)
    count = max(1, len(matrix) - 1)
    return {
        "average_accuracy": sum(last) / len(last),
        "forgetting": sum(max(matrix[i][j] for i in range(j, len(matrix) - 1)) - last[j] for j in earlier) / count,
        "backward_transfer": sum(last[j] - matrix[j][j] for j in earlier) / count,
    }


def tasks_of(case: Case) -> Stream:
    """Builds the stream of a case; a trial has its first tasks, scored on validation parts; a result on test parts.

    Raises:
        BrodmannError: The stream is unknown, or the data has too few classes for it.
    """
    kind = case.detail["stream"]
    if kind not in STREAMS:
        raise unknown_name("stream", kind, STREAMS)
    if kind == "mixture":
        return _mixture(case)
    options = case.options
    split = split_data(options, load(options.dataset))
    held = (split.x_validation, split.y_validation) if case.trial else (split.x_test, split.y_test)
    if kind == "permuted":
        generator = torch.Generator().manual_seed(options.seed)
        features = split.x_train.shape[1]
        orders = [torch.arange(features)]
        orders += [torch.randperm(features, generator=generator) for _ in range(case.detail["tasks"] - 1)]
        orders = orders[:TUNED_ON] if case.trial else orders
        tasks = [Task(split.x_train[:, order], split.y_train, [(held[0][:, order], held[1])]) for order in orders]
        return Stream(tasks, split.outputs, split.digest, split.test.reads)
    count = case.detail["tasks"]
    if split.outputs % count:
        raise BrodmannError(f"{split.outputs} classes cannot be split into {count} tasks of equal size.")
    tasks = []
    for classes in torch.arange(split.outputs).chunk(count)[: TUNED_ON if case.trial else count]:
        own, judged = torch.isin(split.y_train, classes), torch.isin(held[1], classes)
        tasks.append(Task(split.x_train[own], split.y_train[own], [(held[0][judged], held[1][judged])]))
    return Stream(tasks, split.outputs, split.digest, split.test.reads)


def _mixture(case: Case) -> Stream:
    """One task: several sets of images, brought to one size, each with classes of its own, as one shuffled stream."""
    splits = []
    for name in (case.options.dataset, *case.detail["others"]):
        data = load(name)
        coloured = len(data.shape) == 3 and data.shape[0] == 3
        splits.append(split_data(replace(case.options, dataset=name, grey=coloured), data))
    side = max(math.isqrt(split.x_train.shape[1]) for split in splits)
    first = 0
    xs, ys, parts = [], [], []
    for split in splits:
        x, y = (split.x_validation, split.y_validation) if case.trial else (split.x_test, split.y_test)
        xs.append(_resized(split.x_train, side))
        ys.append(split.y_train + first)
        parts.append((_resized(x, side), y + first))
        first += split.outputs
    reads = max(split.test.reads for split in splits)
    digest = "+".join(split.digest for split in splits)
    return Stream([Task(torch.cat(xs), torch.cat(ys), parts)], first, digest, reads)


def _resized(x: Tensor, side: int) -> Tensor:
    """Brings square grey images (n, s * s) to (n, side * side), by bilinear interpolation."""
    own = math.isqrt(x.shape[1])
    if own * own != x.shape[1]:
        raise BrodmannError(f"A mixture needs square images, got {x.shape[1]} features.")
    if own == side:
        return x
    return F.interpolate(x.reshape(-1, 1, own, own), (side, side), mode="bilinear", align_corners=False).flatten(1)
