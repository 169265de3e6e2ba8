"""Schedule: number of epochs, learning rate of each step, and order of the samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from ..checks import check_positive, check_real, check_whole
from ..errors import BrodmannError, unknown_name

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "linear": lambda done: 1.0 - done,
    "constant": lambda done: 1.0,
}
"""Shapes by name: the rate as a share of the largest, when a share in [0, 1) of the steps after warm-up is done."""


class Pace(NamedTuple):
    """What a `Schedule` comes to for a number of samples.

    Attributes:
        epochs: Passes over the training part.
        batch_size: Samples of a step.
        shape: Shape of the rate, see `Schedule`.
    """

    epochs: int
    batch_size: int
    shape: str | Callable[[float], float]


@dataclass(frozen=True)
class Schedule:
    """How long to train and how fast.

    Attributes:
        epochs: Passes over the training part. Default None: enough to see 4e5 samples, but at least 10 and at most 60;
            1 for recursive least squares, which needs a single pass.
        batch_size: Samples of a step. Default None: a sixteenth of the training part, but at least 8 and at most 64, so
            that even a table of 150 rows gives enough steps (docs/log.md).
        lr: Largest learning rate. Default None: the learner's own.
        shape: ``"cosine"`` or ``"linear"`` (down to 0), ``"constant"``, one registered in `SCHEDULES`, or a function
            itself, from the share of the steps that are done, in [0, 1), to the rate as a share of the largest. Default
            None: cosine, but constant for recursive least squares, whose steps are exact.
        warmup: Steps over which the rate rises linearly from 0. Default 0.
        seed: Seed of the order of samples and of dropout. Default 0.
        patience: Epochs without a better score before training stops and the best weights come back. Default None:
            train to the end, keep the last weights.
        metric: Entry of an epoch's row to maximise, or to minimise if its name ends in ``loss``; a `Callback` may have
            put it there. Ties go to the lower validation loss. Default None:
            ``validation_accuracy`` for classes under a loss of this package or of PyTorch, else ``validation_loss``,
            also for labels, of which most may be 0 in all samples.
        checkpoint_seconds: Time between checkpoints inside an epoch; every epoch ends with one anyway, unless the last
            is less than a second old. Default 60; infinite for none inside.
    """

    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    shape: str | Callable[[float], float] | None = None
    warmup: int = 0
    seed: int = 0
    patience: int | None = None
    metric: str | None = None
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.shape is not None:
            _check_shape(shape_of(self.shape))
        for name in ("epochs", "batch_size"):
            if (value := getattr(self, name)) is not None:
                check_whole(**{name: value})
        check_whole(0, warmup=self.warmup, seed=self.seed)
        if self.patience is not None:
            check_whole(patience=self.patience)
        if self.lr is not None:
            check_positive(lr=self.lr)
        if self.checkpoint_seconds != math.inf:
            check_real(checkpoint_seconds=self.checkpoint_seconds)

    def pace(self, samples: int, *, recursive: bool = False) -> Pace:
        """Returns what the schedule comes to for ``samples`` samples, its defaults filled in.

        Args:
            samples: Samples of the training part.
            recursive: Whether the learner follows recursive least squares. Default False.
        """
        check_whole(samples=samples)
        return Pace(
            self.epochs or (1 if recursive else max(10, min(60, round(4e5 / samples)))),
            self.batch_size or max(8, min(64, samples // 16)),
            self.shape or ("constant" if recursive else "cosine"),
        )


def shape_of(shape: str | Callable[[float], float]) -> Callable[[float], float]:
    """Returns the shape of a name in `SCHEDULES`, or the function that it is; raises a `BrodmannError` for others."""
    if callable(shape):
        return shape
    if not isinstance(shape, str) or shape not in SCHEDULES:
        raise unknown_name("schedule", shape, SCHEDULES, "brodmann.training.SCHEDULES")
    return SCHEDULES[shape]


def _check_shape(shape: Callable[[float], float]) -> None:
    """Asks a shape before a training begins, at enough places that one which falls below 0 is told."""
    for done in (*(part / 32 for part in range(32)), math.nextafter(1.0, 0.0)):  # which is not reached
        try:
            share = shape(done)
        except TypeError as error:
            raise BrodmannError(
                "Expected the shape of a schedule to be a function of one number, the share of steps done, got "
                f"{shape!r}: {error}."
            ) from None
        check_real(**{"the share that a schedule returns": share})


def learning_rate(
    base: float, step: int, steps: int, shape: str | Callable[[float], float] = "cosine", warmup: int = 0
) -> float:
    """Returns the rate of a step in [0, steps): it rises linearly over the warm-up, then follows the shape.

    Raises:
        BrodmannError: The shape is unknown, or gives no finite number of at least 0.
    """
    if step < warmup:
        return base * (step + 1) / warmup
    share = shape_of(shape)((step - warmup) / max(1, steps - warmup))
    check_real(**{"the share that a schedule returns": share})
    return base * share


def batch_seed(seed: int, epoch: int, number: int) -> int:
    """Returns the seed of what the samples of one batch draw as they are made."""
    return _seed_of(int(seed), epoch, number)


def transform_seed(seed: int, epoch: int, number: int) -> int:
    """Returns the seed of what the transform of one batch draws, which must not repeat what its samples drew."""
    return _seed_of(int(seed), epoch, number, 1)


def _seed_of(*numbers: int) -> int:
    return int(numpy.random.SeedSequence(numbers).generate_state(1, numpy.uint64)[0] >> 1)


def rows_of_batches(rows: int, size: int, seed: int, epoch: int) -> list[Tensor]:
    """Returns the shuffled row numbers of each batch; seed and epoch decide the order, nothing else."""
    generator = torch.Generator("cpu").manual_seed((int(seed) * 1_000_003 + epoch) % 2**63)
    return list(torch.split(torch.randperm(rows, generator=generator, device="cpu"), int(size)))
