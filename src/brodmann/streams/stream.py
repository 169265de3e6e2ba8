"""Streams of tasks, learned in one pass without task labels, and what is forgotten on the way."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checks import check_real, check_tensors, check_whole, rows_not_finite
from ..errors import BrodmannError
from ..network import Captured
from ..several import check_pairs
from ..training import outputs_of
from ..training.learner import Learner, Steps


@dataclass(frozen=True, eq=False)  # equality of tensors is not one truth value
class Task:
    """One stretch of a stream.

    Attributes:
        x: Samples to learn from, (n, ...).
        y: Their classes, (n,) int64.
        parts: Samples and classes to be scored by: one pair, or several that are scored apart.
    """

    x: Tensor
    y: Tensor
    parts: Sequence[tuple[Tensor, Tensor]]


@runtime_checkable
class StreamLearner(Protocol):
    """What learns a stream: sees every sample once."""

    def learn(self, x: Tensor, y: Tensor) -> None:
        """One step: x (batch, ...), y (batch,)."""

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """Called at the end of a task, with its samples; learners that do not need this do nothing."""

    def predict(self, x: Tensor) -> Tensor:
        """Returns the class of every sample, (n,)."""


class NetworkLearner:
    """A network that learns a stream step by step at a constant rate; knows of no tasks. Its steps are captured."""

    def __init__(self, network: Learner | Captured, lr: float | None = None) -> None:
        """Takes a network, or a baseline, and the rate of its steps. Default the network's own."""
        self._step = Steps(network)
        self.network: Any = self._step.learner
        self.lr = lr

    @property
    def lr(self) -> float:
        """Rate of its steps: the one given, or else the network's own at the time.

        May be set between steps; with None it is the network's own again.
        """
        own: float = self.network.lr
        return own if self._lr is None else self._lr

    @lr.setter
    def lr(self, lr: float | None) -> None:
        if lr is not None:
            check_real(lr=lr)
        self._lr = lr

    def learn(self, x: Tensor, y: Tensor) -> None:
        """One step; what an encoder made of other samples is learned from, and no error goes back to the encoder."""
        self._step(x.detach() if isinstance(x, Tensor) else x, y, lr=self.lr)

    def end_task(self, x: Tensor, y: Tensor) -> None:
        """Does nothing."""

    def predict(self, x: Tensor) -> Tensor:
        """Returns the class of every sample: that of the largest output; for a single output, whether it is above 0."""
        outputs: Tensor = outputs_of(self.network, x)
        return outputs.argmax(-1) if outputs.shape[-1] > 1 else (outputs[..., 0] > 0).long()

    def active_parameters(self) -> int:
        """Numbers read for one sample, as the network counts them."""
        return int(self.network.active_parameters())

    def total_parameters(self) -> int:
        """Numbers stored, as the network counts them."""
        return int(self.network.total_parameters())


def learn_stream(
    learner: StreamLearner | Learner,
    tasks: Iterable[Task],
    *,
    batch_size: int = 16,
    seed: int = 0,
    done: Sequence[Sequence[float]] | NDArray[Any] | Tensor = (),
    after_task: Callable[[int, list[list[float]]], None] | None = None,
) -> list[list[float]]:
    """Learns tasks one after the other, each sample once, and scores every task after each.

    Args:
        learner: A `Network`, which then learns at its own rate (`NetworkLearner` takes another), or a learner of your
            own.
        tasks: In their order; the samples of each are shuffled.
        batch_size: Samples of a step. Default 16: a stream is short, and steps are what it has to learn by.
        seed: Seed of the order inside a task. Default 0.
        done: Rows of the matrix of tasks that the learner has learned already, to continue a stream that was stopped:
            they begin what is returned, and the other tasks are learned in the order in which they would have been.
            What else the learner draws goes by its own generator, or PyTorch's, whose state you keep. Default none.
        after_task: Called as ``after_task(number, matrix)`` once a task is learned and scored, with its number, from 0,
            and the rows so far: to save both them and the learner, or to look into it. Default None.

    Returns:
        The matrix of accuracies: ``matrix[i][j]`` is that on part j (of all parts of all tasks, in order) after task i.
        `continual_scores` sums it up.

    Raises:
        BrodmannError: There is no task, one has no samples, no classes or nothing to be scored by, the learner is none,
            or predicts something else than a class for each sample; or what is done are no rows of these tasks.
    """
    learner = _as_learner(learner)
    check_whole(batch_size=batch_size)
    check_whole(0, seed=seed)
    if not isinstance(tasks, Iterable):
        raise BrodmannError(f"Expected a list of tasks, got {type(tasks).__name__}.")
    _check_after_task(after_task)
    tasks = list(tasks)
    if not tasks:
        raise BrodmannError("Expected at least one task.")
    for task in tasks:
        _check_task(task)
    parts = [part for task in tasks for part in task.parts]
    matrix = _rows_of(done, len(tasks), len(parts))
    generator = torch.Generator("cpu").manual_seed(int(seed))
    orders = [torch.randperm(len(task.x), generator=generator, device="cpu") for task in tasks]
    for number in range(len(matrix), len(tasks)):
        task = tasks[number]
        for rows in torch.split(orders[number], int(batch_size)):
            learner.learn(task.x[rows], task.y[rows])
        learner.end_task(task.x, task.y)
        matrix.append([_accuracy(learner, x, y) for x, y in parts])
        if after_task is not None:
            after_task(number, matrix)
    return matrix


def _check_after_task(after_task: Any) -> None:
    """Raises a `BrodmannError`, before anything is learned, if it could not be called after a task."""
    if after_task is None:
        return
    try:
        inspect.signature(after_task).bind(0, [])
    except TypeError:  # it takes something else, or cannot be called
        raise BrodmannError(
            f"Expected after_task to be a function of a task's number and the matrix so far, got {after_task!r}."
        ) from None
    except ValueError:  # some built-in functions do not say
        pass


def _rows_of(done: Any, tasks: int, parts: int) -> list[list[float]]:
    """Returns the rows of tasks that are done as lists; raises a `BrodmannError` if they are none of these tasks."""
    rows = _listed(done)
    if rows == []:
        return []
    rows = _rows_of_numbers(rows)
    if len(rows) > tasks or any(len(row) != parts for row in rows):
        raise BrodmannError(
            f"Expected done to be at most {tasks} rows, one for each task, with a score for each of all {parts} parts, "
            f"got {len(rows)} rows of {len(rows[0])}: give all tasks again, those that are done too."
        )
    return rows


def _as_learner(learner: Any) -> StreamLearner:
    if hasattr(learner, "learn_with_output") and not isinstance(learner, type):
        return NetworkLearner(learner)
    if not isinstance(learner, StreamLearner) or isinstance(learner, type):
        name = learner.__name__ if isinstance(learner, type) else type(learner).__name__
        raise BrodmannError(
            f"Expected a Network, or an object with learn(x, y), end_task(x, y) and predict(x), got {name}."
        )
    return learner


def _check_task(task: Any) -> None:
    if not isinstance(task, Task):
        raise BrodmannError(f"Expected tasks of the class Task, got {type(task).__name__}.")
    several = isinstance(task.parts, Sequence) and len(task.parts)
    if not several or not all(isinstance(part, tuple | list) and len(part) == 2 for part in task.parts):
        raise BrodmannError(
            "Expected every task to have parts, a list of pairs of samples and classes on which to score."
        )
    for x, y in ((task.x, task.y), *task.parts):
        check_tensors(x=x, y=y)
        check_pairs(x, y)
        if y.ndim != 1 or y.is_floating_point():
            raise BrodmannError(f"Expected classes of shape (n,) as whole numbers, got {tuple(y.shape)} {y.dtype}.")
        if bad := rows_not_finite(x):
            raise BrodmannError(f"Sample {bad[0]} of a task, counted from 0, is not finite: remove or fill it first.")


def _accuracy(learner: StreamLearner, x: Tensor, y: Tensor) -> float:
    predicted = learner.predict(x)
    if not isinstance(predicted, Tensor) or predicted.shape != y.shape:
        came = tuple(predicted.shape) if isinstance(predicted, Tensor) else type(predicted).__name__
        raise BrodmannError(f"Expected predict to return a class for each of {len(y)} samples, got {came}.")
    return float((predicted == y).double().mean())


def _rows_of_numbers(matrix: Any) -> list[list[float]]:
    """Returns a matrix of accuracies, of whatever kind, as lists; raises a `BrodmannError` if it is none."""
    rows = _listed(matrix)
    several = isinstance(rows, list) and rows and all(isinstance(row, list) and row for row in rows)
    if not several or not all(isinstance(score, Real) for row in rows for score in row):
        shape = getattr(matrix, "shape", None)
        came = reprlib.repr(matrix) if shape is None else f"an array of shape {tuple(shape)}"
        raise BrodmannError(
            f"Expected a matrix of accuracies, as learn_stream returns it, got {came}: give rows of numbers; of "
            "several streams, average the scores of each."
        )
    return rows


def _listed(value: Any) -> Any:
    """Returns arrays and sequences, at any depth, as lists; anything else as it is."""
    if isinstance(value, numpy.ndarray | Tensor):
        return value.tolist()
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return [_listed(part) for part in value] if several else value


def continual_scores(
    matrix: Sequence[Sequence[float] | NDArray[Any] | Tensor] | NDArray[Any] | Tensor,
) -> dict[str, float]:
    """Returns average accuracy, forgetting and backward transfer of a matrix of accuracies, see `learn_stream`.

    Average accuracy is the mean of the last row. Forgetting is the mean drop of a task, but for the last one: from its
    best accuracy between the step that learned it and the last row, which is left out, to that of the last row. Below
    0, a task ended better than it ever was. Backward transfer is the mean change since a task was learned (Lopez-Paz
    and Ranzato 2017, section 3).

    Args:
        matrix: A row for each task, with a score for each; or a single row of the scores of several parts. Lists,
            arrays or lists of arrays. Of several streams average the scores of each, not their matrices: forgetting
            looks for the best accuracy, and the best of a mean is never above the mean of the best.

    Raises:
        BrodmannError: There is nothing, there are not rows of numbers, or some tasks have more parts than one: which
            task a score is of is not known.
    """
    matrix = _rows_of_numbers(matrix)
    if len(matrix) > 1 and any(len(row) != len(matrix) for row in matrix):
        raise BrodmannError(
            f"Expected a score for each of the {len(matrix)} tasks in every row, got {len(matrix[0])}: give each task "
            "one part."
        )
    last = matrix[-1]
    # A mixture is one task with several parts: nothing comes before it, so nothing can be forgotten.
    earlier = range(len(matrix) - 1)
    count = max(1, len(matrix) - 1)
    return {
        "average_accuracy": sum(last) / len(last),
        "forgetting": sum(max(matrix[i][j] for i in range(j, len(matrix) - 1)) - last[j] for j in earlier) / count,
        "backward_transfer": sum(last[j] - matrix[j][j] for j in earlier) / count,
    }
