"""Modules of one route: the steps of a module whose maps follow one router, which reads what comes to the module."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor, nn

from ...errors import BrodmannError
from ...layers.graph import INPUT
from ..following.recurrent import Recurrence
from ..modules import MAPS
from ..steps.computation import Computation, Step
from .choices import Choices


@dataclass(frozen=True)
class OneRoute:
    """The steps of a module whose maps follow one route.

    Attributes:
        module: Name of the module, as the model has it.
        steps: Its steps, in their order.
        source: Name of the value that comes to it.
        output: The one of them whose value leaves it.
    """

    module: str
    steps: tuple[Step, ...]
    source: str
    output: Step

    @cached_property
    def came(self) -> Tensor:
        """A few samples of what comes to it."""
        return next(
            value
            for step in self.steps
            for name, value in zip(step.sources, step.inputs, strict=True)
            if name == self.source
        )

    @property
    def maps(self) -> list[Step]:
        """Its steps that may have areas."""
        return [step for step in self.steps if isinstance(step.operation, (*MAPS, Recurrence))]

    @cached_property
    def of_rows(self) -> bool:
        """Whether each row of (..., in) chooses, as tokens do: all maps read these rows. Else samples choose."""
        leading = self.came.shape[:-1]
        rows = (leading, (leading.numel(),))
        linear = all(isinstance(step.operation, nn.Linear) for step in self.maps)
        return linear and self.came.ndim != 4 and all(step.output.shape[:-1] in rows for step in self.maps)

    @property
    def samples_first(self) -> bool:
        """Whether samples lie in the first dimension of all its values, as far as their sizes show."""
        turned = any(step.batch_second for step in self.steps)
        return not turned and (self.of_rows or not any(len(step.output) % len(self.came) for step in self.maps))

    @property
    def computation(self) -> Computation:
        """What the module computes, of `INPUT`."""
        steps = [
            replace(step, sources=tuple(INPUT if source == self.source else source for source in step.sources))
            for step in self.steps
        ]
        return Computation({INPUT: self.came}, steps, self.output.name, held={})


def in_modules(computation: Computation, choices: Choices) -> list[Step | OneRoute]:
    """Returns the steps in their order, those of a module whose maps follow one route together, at the last of them.

    Raises:
        BrodmannError: Such a module reads several values or returns several, reads whole numbers, or has steps of
            sequences in the first dimension.
    """
    modules: dict[str, list[Step]] = {}
    for step in computation.steps:
        if (name := choices.module_of(step.origin)) is not None:
            modules.setdefault(name, []).append(step)
    last = {steps[-1].name: _one_route(name, steps, computation) for name, steps in modules.items()}
    inside = {step.name for steps in modules.values() for step in steps}
    return [last.get(step.name, step) for step in computation.steps if step.name in last or step.name not in inside]


def _one_route(module: str, steps: Sequence[Step], computation: Computation) -> OneRoute:
    """Returns the steps of a module as one."""
    own = {step.name for step in steps}
    others = [step for step in computation.steps if step.name not in own]
    read = _sources(steps) - own
    leaving = _sources(others).union(step.name for step in computation.returned)
    left = [step for step in steps if step.name in leaving]
    if len(read) != 1 or len(left) != 1:
        count = f"{len(read)} and {len(left)}"
        raise _refused(module, f"expected one tensor that it reads and one that it returns, got {count}")
    found = OneRoute(module, tuple(steps), read.pop(), left[0])
    if not found.came.is_floating_point():
        raise _refused(module, "it reads whole numbers, which have no direction to route them by")
    if not found.samples_first:
        raise _refused(module, "samples do not lie in the first dimension there, as they do with batch_first=True")
    return found


def _refused(module: str, reason: str) -> BrodmannError:
    return BrodmannError(
        f"The maps of '{module}' cannot follow one route: {reason}. Name modules inside it instead, or choose "
        'routing="layer", by which every map routes its own rows.'
    )


def _sources(steps: Iterable[Step]) -> set[str]:
    return {source for step in steps for source in step.sources}
