"""The weights of the best epoch of a training."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..areas import Slab
from ..files import read_tensors, write_tensors
from .checkpoints import KEPT
from .learner import Learner


class BestWeights:
    """The weights of the best epoch so far: with a folder in a file for each such epoch, else in memory."""

    def __init__(self, learner: Learner, folder: Path | None) -> None:
        """Holds none yet."""
        self.learner = learner
        self.folder = folder
        self._best: dict[str, Tensor] = {}
        self._last: dict[str, Tensor] | None = None
        self._named: list[int] = []  # best epochs, by the checkpoints that are kept

    def keep(self, epoch: int) -> None:
        """Keeps the weights as they are now: those of ``epoch``, the best so far."""
        if self.folder is None:
            self._best = self._now()
            return
        write_tensors(_file(self.folder, epoch), self.learner.learning_state(), {})

    def named(self, epoch: int) -> None:
        """Notes that a checkpoint names this epoch as the best; removes files older than those that kept ones name."""
        self._named = [*self._named, epoch][-KEPT:]
        if self.folder is not None and len(self._named) == KEPT:
            for epoch_of_file, path in _files(self.folder):
                if epoch_of_file < self._named[0]:
                    path.unlink(missing_ok=True)

    def put_back(self, epoch: int, *, goes_on: bool) -> None:
        """Puts the weights of ``epoch``, the best one, into the learner; keeps the last weights if it may go on."""
        if goes_on:
            self._last = self._now()
        self._load(self._best if self.folder is None else read_tensors(_file(self.folder, epoch))[0])

    def go_back(self, epoch: int) -> None:
        """Removes what later epochs left: the training continues from the time when ``epoch`` was the best."""
        self.drop_last()
        self._named = []
        if self.folder is not None:
            for epoch_of_file, path in _files(self.folder):
                if epoch_of_file > epoch:
                    path.unlink(missing_ok=True)

    def go_on(self) -> None:
        """Puts the last weights back into the learner, if the best ones have taken their place."""
        if self._last is not None:
            self._load(self._last)
        self.drop_last()

    def drop_last(self) -> None:
        """Drops the last weights: the learner has others now."""
        self._last = None

    def _now(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.learner.learning_state().items()}

    def _load(self, state: dict[str, Tensor]) -> None:
        """Loads a state; what rules kept that were replaced since is left out, and their successors begin anew."""
        slabs = {name: part for name, part in self.learner.named_modules() if isinstance(part, Slab)}
        fitting = {name: tensor for name, tensor in state.items() if name.rpartition(".")[0] not in slabs}
        for place, slab in slabs.items():
            fitting[f"{place}.value"] = value = state[f"{place}.value"]
            for buffer, own in slab.states().items():
                kept = state.get(f"{place}.{buffer}")
                if kept is None or kept.shape[1:] != own.shape[1:]:
                    kept = own.new_zeros(len(value), *own.shape[1:])
                fitting[f"{place}.{buffer}"] = kept
        self.learner.load_learning_state(fitting)


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"best-{epoch:06d}.safetensors"


def _files(folder: Path) -> list[tuple[int, Path]]:
    """Returns the files of all epochs, each with its epoch: their names are in its order for a million epochs alone."""
    named = ((path.stem.removeprefix("best-"), path) for path in folder.glob("best-*.safetensors"))
    return [(int(epoch), path) for epoch, path in named if epoch.isdecimal()]
