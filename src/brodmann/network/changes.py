"""Changes: whether the tensors of a network were moved, written or replaced since the last check."""

from __future__ import annotations

import threading
from itertools import chain
from operator import attrgetter, is_, methodcaller
from typing import Any

from torch import Tensor, nn


class Changes:
    """Counts the steps of a network, and knows where its tensors lie.

    It walks through the network at the first look, and again if something was replaced: a walk in every look would
    take a tenth of a small step. Parts that hold no tensors then are not searched for later ones.

    Attributes:
        turn: A lock of the thread that changes the network by a step, or needs it to stay as it is.
    """

    __slots__ = ("_counted", "_held", "_steps", "_tables", "_walks", "turn")

    def __init__(self) -> None:
        """Knows no network yet."""
        self.turn = threading.RLock()
        self._steps = self._walks = 0
        self._tables: list[dict[str, Any]] = []
        self._held: list[Any] = []  # what the tables held at the last walk
        self._counted: list[Tensor] = []

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles begin anew."""
        return Changes, ()

    def add_step(self) -> None:
        """Counts a step: PyTorch does not count what kernels change."""
        self._steps += 1

    def state(self, network: nn.Module) -> tuple[Any, ...]:
        """Returns a state of the network, which stays equal as long as nothing changes."""
        held = _values(self._tables)
        if not held or len(held) != len(self._held) or not all(map(is_, held, self._held)):
            self._walk(network)
        return self._walks, self._steps, list(map(_VERSION, self._counted))

    def _walk(self, network: nn.Module) -> None:
        parts = [part for part in network.modules() if part._parameters or part._buffers]
        tables = list(chain.from_iterable(map(_TENSORS, parts)))
        # No changes are counted of tensors that were made in inference mode.
        self._counted = [tensor for tensor in _values(tables) if tensor is not None and not tensor.is_inference()]
        self._tables = [*tables, *(part._modules for part in network.modules() if part._modules)]
        self._held = _values(self._tables)
        self._walks += 1


_TENSORS, _VERSION, _VALUES = attrgetter("_parameters", "_buffers"), attrgetter("_version"), methodcaller("values")


def _values(tables: list[dict[str, Any]]) -> list[Any]:
    return list(chain.from_iterable(map(_VALUES, tables)))
