"""The group that trains: this process alone, or the processes of a `Parallel`, of which the first writes files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..network import Parallel

R = TypeVar("R")


class Group:
    """The processes of a training, which do the same at the same place of it; or one process alone.

    Attributes:
        keeps: Whether this process is the one that writes files, and prints.
    """

    def __init__(self, network: Any) -> None:
        """Takes what is trained: a `Parallel` means that others train it too."""
        self._parallel = network if isinstance(network, Parallel) else None
        self.keeps = self._parallel is None or self._parallel.processes.rank == 0

    def by_first(self, do: Callable[[], R]) -> R:
        """Returns what a function, called only in the first process, returns there; it must be picklable.

        Raises:
            Exception: Whatever it raises there is raised in all processes.
        """
        if self._parallel is None:
            return do()
        made: R | None = None
        error: Exception | None = None
        if self.keeps:
            try:
                made = do()
            except Exception as own:
                error = own
        made, error = self._parallel.processes.from_first((made, error))
        if error is not None:
            raise error
        return made

    def copy_first(self) -> None:
        """Gives all processes the network of the first one."""
        if self._parallel is not None:
            self._parallel.copy_first()

    def largest(self, *numbers: float) -> list[float]:
        """Returns the largest that any process gives, for each of several numbers."""
        if self._parallel is None:
            return list(numbers)
        return [
            max(values)
            for values in zip(*self._parallel.processes.numbers_of_each("a training", *numbers), strict=True)
        ]
