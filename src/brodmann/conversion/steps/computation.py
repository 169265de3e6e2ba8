"""What a network computes: steps between its inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import Tensor, nn

from ...builders import Parts
from ...layer import has_parameters
from ...several import parts_in
from ..following.questions import Questions

RESERVED = frozenset(dir(nn.ModuleDict()))
"""Names that no node of a `Graph` may have."""
Outputs = str | tuple[str, ...] | dict[str, str]
"""Name of the step that a network returns; or of several, as a tuple or a dictionary, as it returns them."""


@dataclass(frozen=True)
class Step:
    """One step of what a network computes.

    Attributes:
        name: Name of its value.
        origin: Name of the module or tensor that it applies, as the model has it, or of the module that calls the
            function that it applies; empty for the model itself.
        operation: A module of the network, a module made of its functions, or the tensor that the step is.
        sources: Names of the values that it reads, of steps or inputs of the network.
        inputs: Those values, for a few samples.
        output: Its value.
        rows_per_sample: How many rows of its first dimension belong to each sample: 1; the number of windows of an
            image whose windows the network maps as if they were samples; or 0 if it is the same whatever the input.
        batch_second: Whether samples lie in the second dimension, as when steps of a sequence come first.
    """

    name: str
    origin: str
    operation: nn.Module | Tensor
    sources: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    output: Tensor
    rows_per_sample: int = 1
    batch_second: bool = False

    @property
    def has_parameters(self) -> bool:
        """Whether it holds parameters of the network, or is one."""
        return has_parameters(self.operation) or isinstance(self.operation, nn.Parameter)

    def laid_out_as(self, other: Step, parts: Parts) -> bool:
        """Whether one layer can stand for both steps: the values that they take have to be laid out alike.

        If layers follow a route, they need equally many rows for each sample; under direct feedback, equal shapes.
        Rows that are the same whatever the input, such as the initial state of a loop, count as rows of samples where
        there are as many.
        """
        if self.batch_second != other.batch_second:
            return False
        equal = self.rows_per_sample == other.rows_per_sample
        if parts.from_output:
            return equal and self.output.shape == other.output.shape
        fits = equal or (not parts.routed and other.rows_per_sample > 0)
        fits = fits or (not other.rows_per_sample and len(other.output) * self.rows_per_sample == len(self.output))
        return fits and (self.output.ndim == 4) == (other.output.ndim == 4)

    def rows_of(self, outputs: int) -> int:
        """Returns how many rows of ``outputs`` numbers its value has for each sample."""
        samples = self.output.shape[1] if self.batch_second else len(self.output) // max(1, self.rows_per_sample)
        return self.output.numel() // (samples * outputs)


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
        asked: What the network asked about sizes: it holds if the answers are the same. None if it asked nothing.
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
