"""The streams of the recipe `interference`: classes in groups, permuted pixels, mixtures of sets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import load
from ..errors import BrodmannError, unknown_name
from ..streams import Task, continual_scores, learn_stream
from .case import Case, Row
from .held_back import without_test_part
from .stream_learners import stream_learner

TUNED_ON = 3
"""Trials see this many tasks, the first ones: settings cannot be tuned on a stream's end (Chaudhry et al. 2019)."""


@dataclass(frozen=True)
class Stream:
    """Tasks in their order.

    Attributes:
        tasks: The tasks.
        outputs: Classes of all tasks together.
        digest: Digest of the data.
        reads: How often the test part was read.
    """

    tasks: list[Task]
    outputs: int
    digest: str
    reads: int


def stream(case: Case) -> Row:
    """Learns a stream; the row holds the matrix of accuracies, see `learn_stream`.

    A mixture is one task whose row has an accuracy per data set.
    """
    options = case.options
    torch.manual_seed(options.seed)
    made = stream_of(case)
    samples = [len(task.x) for task in made.tasks]
    learner = stream_learner(case, made.tasks[0].x.shape[1], made.outputs)
    batch = options.pace(sum(samples)).batch_size
    began = time.perf_counter()
    matrix = learn_stream(learner, made.tasks, batch_size=batch, seed=options.seed)
    seconds = time.perf_counter() - began
    scores = continual_scores(matrix)
    score = scores["average_accuracy"]
    row: Row = {
        "digest": made.digest,
        "steps": sum(math.ceil(count / batch) for count in samples),
        "seconds": round(seconds, 3),
        "test_reads": made.reads,
        "active": learner.active_parameters(),
        "total": learner.total_parameters(),
        "curve": [],
        "validation": score if case.trial else None,
    }
    if case.trial:
        return row  # a trial saw only validation parts
    return row | {"test": score, "matrix": [[round(value, 5) for value in line] for line in matrix], **scores}


def stream_of(case: Case) -> Stream:
    """Builds the stream of a case; a trial has its first tasks, scored on validation parts; a result on test parts.

    Raises:
        BrodmannError: The stream is unknown, or the data has too few classes for it.
    """
    kind = case.detail["stream"]
    if kind not in STREAMS:
        raise unknown_name("stream", kind, STREAMS)
    return STREAMS[kind](case)


def _split(case: Case) -> Stream:
    """A task for each of several groups of classes."""
    options, count = case.options, case.detail["tasks"]
    split, test = without_test_part(options)
    x, y = (split.x_validation, split.y_validation) if case.trial else test.read()
    if split.outputs % count:
        raise BrodmannError(f"{split.outputs} classes cannot be split into {count} tasks of equal size.")
    tasks = []
    for classes in _order_of_classes(split.outputs, options.seed).chunk(count)[: TUNED_ON if case.trial else count]:
        own, judged = torch.isin(split.y_train, classes), torch.isin(y, classes)
        tasks.append(Task(split.x_train[own], split.y_train[own], [(x[judged], y[judged])]))
    return Stream(tasks, split.outputs, split.digest, test.reads)


def _permuted(case: Case) -> Stream:
    """A task for each of several orders of the inputs, the first as they are."""
    split, test = without_test_part(case.options)
    x, y = (split.x_validation, split.y_validation) if case.trial else test.read()
    generator = torch.Generator().manual_seed(case.options.seed)
    features = split.x_train.shape[1]
    orders = [torch.arange(features)]
    orders += [torch.randperm(features, generator=generator) for _ in range(case.detail["tasks"] - 1)]
    orders = orders[:TUNED_ON] if case.trial else orders
    tasks = [Task(split.x_train[:, order], split.y_train, [(x[:, order], y)]) for order in orders]
    return Stream(tasks, split.outputs, split.digest, test.reads)


def _order_of_classes(outputs: int, seed: int) -> Tensor:
    """Seed 0 has the usual order (0 and 1, then 2 and 3 ...), every other seed its own: luck with the order counts."""
    return torch.randperm(outputs, generator=torch.Generator().manual_seed(seed)) if seed else torch.arange(outputs)


def _mixture(case: Case) -> Stream:
    """One task: several sets of images, brought to one size, each with classes of its own, as one shuffled stream."""
    splits = []
    for name in (case.options.dataset, *case.detail["others"]):
        data = load(name)
        splits.append(without_test_part(replace(case.options, dataset=name, grey=data.is_coloured), data))
    side = max(math.isqrt(split.x_train.shape[1]) for split, _ in splits)
    first = 0
    xs, ys, parts = [], [], []
    for split, test in splits:
        x, y = (split.x_validation, split.y_validation) if case.trial else test.read()
        xs.append(_resized(split.x_train, side))
        ys.append(split.y_train + first)
        parts.append((_resized(x, side), y + first))
        first += split.outputs
    reads = max(test.reads for _, test in splits)
    digest = "+".join(split.digest for split, _ in splits)
    return Stream([Task(torch.cat(xs), torch.cat(ys), parts)], first, digest, reads)


def _resized(x: Tensor, side: int) -> Tensor:
    """Brings square grey images (n, s * s) to (n, side * side), by bilinear interpolation."""
    own = math.isqrt(x.shape[1])
    if own * own != x.shape[1]:
        raise BrodmannError(f"A mixture needs square images, got {x.shape[1]} features.")
    if own == side:
        return x
    return F.interpolate(x.reshape(-1, 1, own, own), (side, side), mode="bilinear", align_corners=False).flatten(1)


STREAMS: dict[str, Callable[[Case], Stream]] = {"split": _split, "permuted": _permuted, "mixture": _mixture}
"""What makes a stream, by name."""
