"""The training loop: epochs, early stopping, signals, checkpoints and exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from ..checks import check_positive
from ..errors import BrodmannError, DivergenceError, warn
from ..files import entry_as_json
from ..generators import Borrowed
from ..kernels import library
from ..losses.facts import facts_of, per_sample
from ..losses.scores import name_of_score
from ..network import Captured, Parallel
from ..network.divergence import check_loss
from ..several import Several, parts_in, sample_count
from .callback import Callback, in_order, observer
from .early_stopping import EarlyStopping
from .error_norms import ErrorNorms
from .group import Group
from .keeper import Keeper
from .learner import Learner, Steps, device_of
from .progress import Progress
from .samples import Batch, as_samples, in_memory
from .schedule import Pace, Schedule, batch_seed, learning_rate, rows_of_batches, transform_seed
from .scoring import evaluate, right_and_scored
from .settings import go_on_with
from .signals import Interrupted, Waiting, waiting_signals
from .transform import Transform
from .watching import Watching

BRIEF = 1.0
"""Seconds after a checkpoint within which the end of an epoch needs none: little is lost, and writing takes long."""


class Trainer:
    """Trains a learner on tensors or a data set; with a folder, a killed training can be resumed, bit for bit."""

    def __init__(
        self,
        network: Learner | Captured | Parallel,
        train: tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor | None] | Dataset[Any],
        validation: tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor | None] | Dataset[Any] | None = None,
        schedule: Schedule | None = None,
        *,
        folder: str | Path | None = None,
        callbacks: Iterable[Callback] | Callback = (),
        transform: Callable[..., Any] | None = None,
        workers: int = 0,
    ) -> None:
        """Stores its arguments; nothing runs yet.

        Args:
            network: The learner. A `Network` makes captured steps, see `Captured`; give a `Captured` if several
                trainings of one network are to share its recordings. A `Parallel` trains in several processes, of
                which the first reads and writes the folder.
            train: Samples (n, ...) and targets (n, ...), either of which may be several tensors, and optionally weights
                of samples (n, ...), as for `Network.learn`. Or a `torch.utils.data.Dataset` of such items, with a
                length, for samples that do not fit into memory: batches are made as they are needed, in the schedule's
                order. The schedule's seed decides what items draw from the generators of PyTorch, NumPy or Python.
            validation: Samples and targets for validation, perhaps their weights, see `evaluate`; a data set of them,
                which is taken into memory; or None.
            schedule: Default `Schedule()`.
            folder: Folder of the checkpoints; None for no checkpoints.
            callbacks: Objects of `Callback`, called in turn, those that are `last` after the others.
            transform: Changes the samples of a batch, (batch, ...) or several such tensors, before the step that
                learns from them, for example to augment images. A function with two required arguments gets samples
                and targets and returns both, as Mixup does. The schedule's seed decides what it draws from the
                generators of PyTorch, NumPy and Python, but not from a generator of its own. Default None.
            workers: Processes that make items of a data set ahead of the training, useful if reading or augmenting
                takes time; numbers stay the same. Default 0: items are made when a batch needs them.

        Attributes:
            progress: Progress of the run.
            earlier: Epochs of earlier trainings that this one continues, as a call of ``partial_fit`` does: if epochs
                are short, errors are watched only in some of all epochs. Default 0.
            failure: The exception that ended the last call of `run`, or None.

        Raises:
            BrodmannError: There is nothing to train on, the validation part is empty, sizes differ, values are not
                finite, or early stopping lacks a validation part.
        """
        self._learn = Steps(network)
        if isinstance(validation, Schedule) or not (schedule is None or isinstance(schedule, Schedule)):
            raise BrodmannError(
                "Expected network, training part, validation part or None, and a Schedule, in this order, got "
                f"{type(validation).__name__} and {type(schedule).__name__} for the last two."
            )
        self.network, self.schedule = self._learn.learner, schedule or Schedule()
        device = device_of(self.network)
        self.samples = as_samples(train, "training", device, workers)
        if validation is not None and _is_empty(validation):
            raise BrodmannError("Expected a validation part with samples, got an empty one: give None for none.")
        self.held_out = None if validation is None else in_memory(validation, "validation", device)
        self._group = Group(network)
        self._keeper = Keeper(self, folder, self._group)
        self._early_stopping = EarlyStopping(self, self._keeper)
        self.callbacks = [callback for callback in in_order(callbacks) if self._group.keeps or not callback.writes]
        self.transform = transform
        self.progress = Progress()
        self._rate: float | None = None
        self.earlier = 0
        self.failure: BaseException | None = None
        self._stopping = False
        self._waiting, self._others, self._watching = Waiting(), Borrowed(), Watching()

    @property
    def validation(self) -> tuple[Any, ...] | None:
        """Samples, targets and, if there are any, weights of the validation part; None if there is none."""
        return None if self.held_out is None else self.held_out.tensors

    @property
    def folder(self) -> Path | None:
        """Folder of the checkpoints."""
        return self._keeper.folder

    @property
    def transform(self) -> Callable[..., Any] | None:
        """Function that changes a batch before the step that learns from it, or None. May be set between steps."""
        return self._transform.function

    @transform.setter
    def transform(self, transform: Callable[..., Any] | None) -> None:
        self._transform = Transform(transform)

    @property
    def pace(self) -> Pace:
        """Epochs, batch size and shape of the rate: the schedule's, or what suits the data and the learner's rule."""
        return self.schedule.pace(len(self.samples), recursive=self.network.recursive)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the last one may be smaller."""
        return math.ceil(len(self.samples) / self.pace.batch_size)

    @property
    def lr(self) -> float:
        """Largest learning rate, which the schedule shapes: its own, or else the learner's.

        It may be set between steps, as by a callback, and then holds to the end of the training, resumed ones included.

        Raises:
            BrodmannError: It is not above 0.
        """
        given = self.schedule.lr if self.progress.lr is None else self.progress.lr
        return self.network.lr if given is None else given

    @lr.setter
    def lr(self, lr: float) -> None:
        check_positive(lr=lr)
        self.progress.lr = float(lr)

    @property
    def rate(self) -> float | None:
        """Learning rate of the last step, None before one: what the schedule makes of `lr`."""
        return self._rate

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.pace.epochs

    def resume(self, name: str | None = None) -> None:
        """Goes back to a checkpoint in the folder, by default the newest.

        The network, the data and the schedule are those of this trainer: give it the same ones as before. The
        network's ``rates`` and ``clip``, its frozen layers and protected areas, and `lr` if it was set while training,
        become those of the checkpoint.

        Raises:
            CheckpointError: There is none, it is damaged, or it is of another network.

        Warns:
            UserWarning: Data, schedule, loss, rules or the construction of the network are not the same. If the
                training part is a data set, only the number of items is compared.
        """
        checkpoint = self._keeper.load(name)
        self.progress = Progress(**checkpoint.progress)
        if changed := go_on_with(self, checkpoint.settings):
            warn(f"This training continues with other settings than it began with: {', '.join(changed)}.")
        self._keeper.go_back(checkpoint, name)

    def stop(self) -> None:
        """Ends the training after the running epoch: for callbacks that have seen enough."""
        self._stopping = True

    def run(self) -> Progress:
        """Trains to the end of the schedule, or until it is stopped.

        An exception between two steps is raised here after a checkpoint has been written: by a callback, a data set,
        the transform, the schedule's shape, or the scoring of an epoch. If a step fails, no checkpoint is written,
        because a part of the network may have moved: such a training continues from its last checkpoint.

        The schedule's seed decides what is drawn, such as dropout. Afterwards PyTorch's own generator is as it was
        before, and so are NumPy's and Python's if a transform drew from them. Threads share PyTorch's generator, so
        one training waits for another.

        Raises:
            BrodmannError: The folder holds checkpoints of another run, or was deleted or moved meanwhile; or no target
                of an epoch or of the validation part counts.
            Interrupted: SIGINT or SIGTERM came; the step was finished and a checkpoint written.
            DivergenceError: The loss or an error is not finite, has vanished or exploded; the message names the layer.
                Errors are checked in one step of every epoch, the first included; if epochs have fewer than eight
                steps, in one of about eight steps.

        Warns:
            UserWarning: The warm-up is longer than the training that begins; or the units of a network are silent.
        """
        progress, self._stopping, self.failure = self.progress, False, None
        if progress.step == 0 and self.schedule.warmup > self.steps:
            warn(
                f"The learning rate rises for {self.schedule.warmup} steps, but the training has {self.steps}: it "
                "never reaches its full size. Shorten the warm-up, or train longer.",
            )
        library.active()  # compiles at a machine's first use: seconds that no step took
        # Signals wait for the end of a step, not for another thread's training: the generators come first.
        with self._keeper.draws.going_on(), self._others, waiting_signals() as self._waiting, self._keeper.open():
            try:
                for callback in self.callbacks:
                    callback.on_start(self)
                while not self._is_over():
                    self._epoch()
                self._early_stopping.end()
                self._waiting.stop_if_any()  # it came after the last step
            except BaseException as error:
                self.failure = error
                raise
            finally:
                with ExitStack() as ends:  # one that fails keeps no other from ending
                    for callback in reversed(self.callbacks):
                        ends.callback(callback.on_end, self)
        self._waiting.stop_if_any()  # it came while callbacks ended
        return progress

    def _epoch(self) -> None:
        """Makes the steps that are left of an epoch, and ends it."""
        progress, pace, count = self.progress, self.pace, len(self.samples)
        rate_of = partial(learning_rate, steps=self.steps, shape=pace.shape, warmup=self.schedule.warmup)
        order = rows_of_batches(count, pace.batch_size, self.schedule.seed, progress.epoch)
        self._watching.begin(self.earlier + progress.epoch, count, pace.batch_size)
        left = range(progress.batch, len(order))
        seeds = (batch_seed(self.schedule.seed, progress.epoch, number) for number in left)
        with closing(self.samples.batches(order[progress.batch :], seeds)) as batches:  # an interrupt ends its workers
            for number in left:
                loss = self._step(batches, rate_of, self._watching.of_batch(number))
                with self._keeper.saving():
                    for callback in self.callbacks:
                        callback.on_step(self, loss)
                    number = self._agreed()  # another process may have failed in a callback
                self._stop_if_asked(number)
                if not self._keeper.written_within(self.schedule.checkpoint_seconds):
                    self._keeper.checkpoint()
        with self._keeper.saving(), self._keeper.draws.undone_on_failure():
            self._end_epoch()
            self._agreed()
        if self._is_over() or not self._keeper.written_within(min(BRIEF, self.schedule.checkpoint_seconds)):
            self._keeper.checkpoint()

    def _step(self, batches: Iterator[Batch], rate_of: Callable[..., float], norms: ErrorNorms | None) -> float:
        """Learns from the next batch, counts it, and returns its loss, a mean over samples."""
        progress, began = self.progress, time.perf_counter()
        with self._keeper.saving(), self._keeper.draws.undone_on_failure():
            self._rate = rate = rate_of(self.lr, progress.step)
            x, target, weight = self._transformed(*self._next(batches))
            samples = sample_count(target)
        value, output = self._learned(x, target, weight, rate, norms)
        counted = facts_of(self.network.loss).counts_for(target, weight, samples)
        loss = per_sample(self.network.loss, float(value), counted)
        progress.seconds += time.perf_counter() - began
        right = scored = 0
        if isinstance(output, Tensor) and isinstance(target, Tensor):
            right, scored = right_and_scored(self.network.loss, output, target, weight) or (0, 0)
        progress.count(loss, counted, right, scored)
        if norms is not None:
            self._watching.judge(norms, self.network, output)
        return loss

    def _next(self, batches: Iterator[Batch]) -> Batch:
        """Returns the next batch; if a signal to all processes ended its worker, the training stops as usual."""
        try:
            return next(batches)
        except RuntimeError:
            self._stop_if_asked(self._waiting.number)
            raise

    def _transformed(self, x: Several, target: Several, weight: Tensor | None) -> Batch:
        """Returns a batch as the transform leaves it."""
        if self.transform is not None:
            self._others.seed(transform_seed(self.schedule.seed, self.progress.epoch, self.progress.batch))
        return *self._transform(x, target), weight

    def _learned(
        self, x: Several, target: Several, weight: Tensor | None, rate: float, norms: ErrorNorms | None
    ) -> tuple[Tensor, Any]:
        """Makes a step of the network; returns loss and output. If it diverges, the error names the step."""
        observe = observer(self, None if norms is None else norms.observe)
        try:
            loss, output = self._learn(x, target, weight, lr=rate, observe=observe)
            check_loss(self.network, loss, x)
        except DivergenceError as error:
            raise DivergenceError(f"Step {self.progress.step + 1}: {error}") from None
        return loss, output

    def _agreed(self) -> int:
        """Stops all processes if one stops; returns the number of a signal that any of them got, 0 for none."""
        number, stopping = self._group.largest(self._waiting.number or 0, self._stopping)
        self._stopping = bool(stopping)
        return int(number)

    def _stop_if_asked(self, number: int | None) -> None:
        if number:
            self._keeper.checkpoint()
            raise Interrupted(number)

    def _end_epoch(self) -> None:
        """Scores an epoch, and lets callbacks and early stopping see its row."""
        self._keeper.check()  # before callbacks write there
        row = self._row_of_epoch()
        for callback in self.callbacks:
            callback.on_epoch(self, row)
            told = f"After {type(callback).__name__}.on_epoch, the row of epoch {row['epoch']}"
            row.update({name: entry_as_json(told, name, value) for name, value in row.items()})  # as a checkpoint does
        self._early_stopping.see(row)
        self.progress.end_epoch(row)

    def _row_of_epoch(self) -> dict[str, Any]:
        """Returns number, scores and seconds of the epoch that ends."""
        progress, loss, number = self.progress, self.network.loss, self.progress.epoch + 1
        _check_counted(progress.counted, f"epoch {number}")
        row: dict[str, Any] = {"epoch": number, **progress.train_scores(name_of_score(loss))}
        if (held_out := self.held_out) is not None:
            scores = evaluate(self.network, *held_out.tensors)
            row |= {f"validation_{name}": value for name, value in scores.items()}
            weight = facts_of(loss).counts_for(held_out.target, held_out.weight, len(held_out))
            _check_counted(weight, "the validation part")  # else its loss of 0 would pass for the best of all
        return row | {"seconds": progress.seconds}

    def _is_over(self) -> bool:
        return self.progress.epoch >= self.pace.epochs or self._early_stopping.is_due or self._stopping


def _check_counted(weight: float, where: str) -> None:
    """Raises if the targets of a part count for nothing."""
    if not weight:
        raise BrodmannError(
            f"No target of {where} counted: all have weight 0, or are what the loss leaves out, such as -100. Leave "
            "such samples out, and look at how targets and weights are made."
        )


def _is_empty(part: Any) -> bool:
    """Whether a part, tensors or a data set, has a length of 0."""
    samples = part[0] if isinstance(part, tuple | list) and len(part) else part
    first = next(iter(parts_in(samples)), samples)
    return hasattr(first, "__len__") and len(first) == 0
