"""What a network computes: steps between its inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.graph import PythonCode

from ..several import parts_in
from .questions import Questions

Outputs = str | tuple[str, ...] | dict[str, str]
"""Name of the step that a network returns; or of several, as a tuple or a dictionary, as it returns them."""


@dataclass(frozen=True)
class Step:
    """One step of what a network computes.

    Attributes:
        name: Name of its value.
        operation: A module of the network, a module made of its functions, or the tensor that the step is.
        sources: Names of the values that it reads, of steps or inputs of the network.
        before: Those values, for a few samples.
        after: Its value.
        each: How many rows of its first dimension belong to each sample: 1; the number of windows of an image whose
            windows the network maps as if they were samples; or 0 where it is the same whatever the input.
        turned: Whether samples lie in the second dimension, as where steps of a sequence come first.
    """

    name: str
    operation: nn.Module | Tensor
    sources: tuple[str, ...]
    before: tuple[Tensor, ...]
    after: Tensor
    each: int = 1
    turned: bool = False

    def laid_as(self, other: Step, *, alike: bool, routed: bool) -> bool:
        """Whether one layer can stand for both steps: the values that they take have to be laid out alike.

        Where they follow a route, they need equally many rows for each sample; if they are to be ``alike``, equal
        shapes. Rows that are the same whatever the input, such as the initial state of a loop, count as rows of samples
        where there are as many.
        """
        if self.turned != other.turned:
            return False
        if alike:
            return self.each == other.each and self.after.shape == other.after.shape
        rows = self.each == other.each or (not routed and other.each > 0)
        rows = rows or (not other.each and len(other.after) * self.each == len(self.after))
        return rows and (self.after.ndim == 4) == (other.after.ndim == 4)

    def rows_of(self, outputs: int) -> int:
        """Returns how many rows of ``outputs`` numbers its value has for each sample."""
        samples = self.after.shape[1] if self.turned else len(self.after) // max(1, self.each)
        return self.after.numel() // (samples * outputs)


class Functions(fx.GraphModule):
    """Functions of a network as one module. Where they fail, torch.fx would print it before anyone can catch it."""

    def recompile(self) -> PythonCode:
        """Makes the code of the functions."""
        code = super().recompile()
        del type(self).__call__  # which prints; every module of torch.fx has a class of its own
        return code

    def __reduce__(self) -> tuple[Any, ...]:
        """Is pickled as a module of torch.fx, which forgets this class."""
        restore, given = super().__reduce__()
        return _as_functions, (restore, *given)


def _as_functions(restore: Callable[..., fx.GraphModule], *given: Any) -> Functions:
    found = restore(*given)
    return Functions(found, found.graph)


class Weighted(nn.Module):
    """A function of a value and of weights, linear in each, whose weights are a parameter of the network."""

    def __init__(self, product: Callable[[Tensor, Tensor], Tensor], weight: nn.Parameter) -> None:
        """Takes the function, of value and weights, and the parameter."""
        super().__init__()
        self.product, self.weight = product, weight


class Tied(nn.Module):
    """A function of a value and of weights, linear in each, whose weights are a step of their own."""

    def __init__(self, product: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Takes the function, of value and weights."""
        super().__init__()
        self.product = product


@dataclass(frozen=True)
class Computation:
    """What a network computes.

    Attributes:
        inputs: A few samples (samples, ...) of each input tensor, by name.
        steps: Its steps, in their order.
        outputs: Name of the step that it returns; or of several, as a tuple or a dictionary, as it returns them.
        held: What the network holds, see `tensors_of`. Tensors of operations share this memory, perhaps transposed or
            in part.
        is_of_one_shape: Whether it holds only for samples of this shape, as where a step is repeated for each step of a
            sequence.
        asked: What the network asked about sizes: it holds where the answers are the same. None if it asked nothing.
    """

    inputs: dict[str, Tensor]
    steps: list[Step]
    outputs: Outputs
    held: dict[str, Tensor]
    is_of_one_shape: bool = False
    asked: Questions | None = None

    @property
    def returned(self) -> tuple[Step, ...]:
        """The steps whose values it returns."""
        steps = {step.name: step for step in self.steps}
        return tuple(steps[name] for name in parts_in(self.outputs))


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Returns parameters and buffers of a network, by their names."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def lay_out(model: nn.Module) -> None:
    """Gives every tensor of a network contiguous memory, so that parts of it can be views."""
    known: dict[Tensor, Tensor] = {}
    for part in model.modules():
        for held in part._parameters.values():
            if held is not None:
                held.data = held.data.contiguous()
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = known.setdefault(buffer, buffer.contiguous())


def free_name(name: str, taken: Collection[str]) -> str:
    """Returns a name, lengthened until it is none of those that are taken, nor empty."""
    while name in taken or not name:
        name += "_"
    return name
