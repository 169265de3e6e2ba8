"""Gathering: a layer that moves once a step, whatever the number of places and processes in which it stands."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor

from ..errors import BrodmannError
from ..processes import Processes
from .context import Context
from .layer import Layer


class Gathering(Layer):
    """Abstract: a layer that moves once a step, by all that its `learn` has handed over.

    It may stand in several places of a `Graph`, and in several processes, see `brodmann.Parallel`.
    """

    def hand_over(self, part: Any, context: Context) -> None:
        """Moves by what `learn` computed from one error: at once, or later together with the other places."""
        if context.gathered is None:
            self.move_together([part], context)
        else:
            context.gathered.setdefault(self, []).append(part)

    def move_together(self, parts: list[Any], context: Context) -> None:
        """Moves by what was handed over in all places, and in all processes that make the step."""
        processes = context.processes
        if processes is None:
            self.move(parts, context)
            return
        with processes.same_draws():
            self.move([self.of_all(part, processes) for part in parts], context.of_all_processes())

    def of_all(self, part: Any, processes: Processes) -> Any:
        """Returns a part as that of all processes: the sum of theirs if it is a tensor.

        Override it for parts of another kind, such as rows, see `Processes.rows`.

        Args:
            part: What was handed over in this process. All hand over as many, in the same order.
            processes: Who makes the step together.

        Raises:
            BrodmannError: The part is not a tensor.
        """
        if not isinstance(part, Tensor):
            raise BrodmannError(
                f"{type(self).__name__} hands over a {type(part).__name__}, which several processes cannot sum: "
                "override `of_all`, or hand over a tensor."
            )
        return processes.summed(part)[0]

    @abstractmethod
    def move(self, parts: list[Any], context: Context) -> None:
        """Moves in place by what was handed over, for each place in which the layer stands, from output to input."""
