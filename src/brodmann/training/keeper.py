"""Keeper: what a training leaves in its folder, and how it goes on from there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BrodmannError, CheckpointError
from ..files import staying
from ..generators import Draws
from .best_weights import BestWeights
from .checkpoints import (
    Checkpoint,
    checkpoint_names,
    drop_checkpoints_after,
    drop_halves,
    read_checkpoint,
    write_checkpoint,
)
from .group import Group
from .settings import settings_of

if TYPE_CHECKING:
    from .trainer import Trainer

GENERATORS = ("generator_state", "device_generator_state")
"""Tensors of a checkpoint that hold the states of the generators; the second is that of an accelerator."""


class Keeper:
    """Keeps a training: checkpoints in a folder, if it has one, and the weights of the best epoch.

    Of several processes only the first reads and writes; the others go on from what it has read.

    Attributes:
        draws: Random numbers of the training, which a checkpoint continues.
        check: Raises if the folder of a training that runs was deleted, moved or replaced.
    """

    def __init__(self, trainer: Trainer, folder: str | Path | None, group: Group) -> None:
        """Takes the folder, None for none, which need not be there yet.

        Raises:
            BrodmannError: It is a file.
        """
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None and any(place.is_file() for place in (self.folder, *self.folder.parents)):
            raise BrodmannError(f"Checkpoints need a folder, but {self.folder} is a file, or is inside one.")
        self.draws = Draws(trainer.schedule.seed, trainer.samples.device)
        self._trainer, self._group = trainer, group
        self._best = BestWeights(trainer.network, self.folder)
        self.check: Callable[[], None] = _nothing
        self._written = 0.0

    @contextmanager
    def open(self) -> Iterator[None]:
        """Keeps the folder open while the training runs, which starts out from the last weights, not the best.

        Raises:
            BrodmannError: The folder cannot be used, or holds checkpoints of another run, and this one is to begin.
        """
        self._group.by_first(self._check_new)
        with ExitStack() as stack:
            if self.folder is not None and self._group.keeps:
                self.check = stack.enter_context(staying(self.folder))
            self._written = time.monotonic()
            self._group.by_first(self._best.go_on)
            self._group.copy_first()
            yield

    def written_within(self, seconds: float) -> bool:
        """Whether the last checkpoint, or the beginning, is not longer ago than that."""
        return time.monotonic() - self._written <= seconds

    def checkpoint(self) -> None:
        """Writes a checkpoint, if there is a folder."""
        if self.folder is not None and self._group.keeps:
            self.check()
            trainer = self._trainer
            draws = zip(GENERATORS, self.draws.now(), strict=False)
            tensors = {**trainer.network.learning_state(), **dict(draws)}
            checkpoint = Checkpoint(tensors, vars(trainer.progress), settings_of(trainer))
            write_checkpoint(self.folder, trainer.progress.step, checkpoint)
            self._best.named(trainer.progress.best_epoch)
        self._written = time.monotonic()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Writes a checkpoint if something fails between two steps, so that what was learned is not lost."""
        try:
            yield
        except BaseException as error:
            if self._trainer.progress.step:
                try:
                    self.checkpoint()
                except Exception as second:  # what failed first is what must be told
                    error.add_note(f"No checkpoint could be written either: {second}")
            raise

    def keep_best(self, epoch: int) -> None:
        """Keeps the weights as they are now, those of the best epoch so far."""
        if self._group.keeps:
            self._best.keep(epoch)

    def put_best_back(self, epoch: int, *, goes_on: bool) -> None:
        """Puts the weights of the best epoch into the network; keeps the last ones if the training may go on."""
        self._group.by_first(lambda: self._best.put_back(epoch, goes_on=goes_on))
        self._group.copy_first()

    def load(self, name: str | None) -> Checkpoint:
        """Loads a checkpoint, by default the newest, into the network; returns it without the network's tensors.

        Raises:
            CheckpointError: There is none, it is damaged, or it is of another network.
        """
        checkpoint = self._group.by_first(lambda: self._load(name))
        self._group.copy_first()
        return checkpoint

    def go_back(self, checkpoint: Checkpoint, name: str | None) -> None:
        """Goes on from a checkpoint that was loaded; gives up what others left after one that was chosen by name."""
        self.draws.states = [checkpoint.tensors[name] for name in GENERATORS if name in checkpoint.tensors]
        if self.folder is not None and self._group.keeps:
            self._best.go_back(checkpoint.progress["best_epoch"])
            drop_halves(self.folder)
            if name is not None:  # else a damaged one would stay the newest
                drop_checkpoints_after(self.folder, name)

    def _load(self, name: str | None) -> Checkpoint:
        if self.folder is None:
            raise CheckpointError("This Trainer has no folder of checkpoints: give it one.")
        checkpoint = read_checkpoint(self.folder, name)
        progress = {"lr": None, **checkpoint.progress}  # earlier versions had none
        if set(progress) != set(vars(self._trainer.progress)):
            raise CheckpointError(f"{self.folder} holds checkpoints of another version of this package: start again.")
        tensors = dict(checkpoint.tensors)
        states = {generator: tensors.pop(generator) for generator in GENERATORS if generator in tensors}
        try:
            self._trainer.network.load_learning_state(tensors)
        except (RuntimeError, KeyError, IndexError):
            raise CheckpointError(f"{self.folder} holds {self._misfit(checkpoint.settings)}.") from None
        return Checkpoint(states, progress, checkpoint.settings)

    def _misfit(self, before: dict[str, Any]) -> str:
        """Says in words by what checkpoints of these settings do not fit the network."""
        old, new = before.get("rules"), settings_of(self._trainer)["rules"]
        if old in (None, new):
            return "checkpoints of another network: build it as before"
        return (
            f"checkpoints of a network with the update rules {', '.join(old)}, not {', '.join(new)}: build it with "
            "those, or replace its rules again, before resume()"
        )

    def _check_new(self) -> None:
        """Raises if a training that begins would write among the checkpoints of another."""
        if self._trainer.progress.step == 0 and self.folder is not None and checkpoint_names(self.folder):
            raise BrodmannError(
                f"{self.folder} holds checkpoints of an earlier run: continue it with resume(), or choose another "
                "folder."
            )


def _nothing() -> None:
    """Checks nothing: there is no folder."""
