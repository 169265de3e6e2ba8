"""Context: everything in a learning step that is not local to one layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from torch import Tensor

from ..checks import Unmodified
from ..processes import Processes
from ..rates import Rates
from ..routing import Route

if TYPE_CHECKING:
    from .gathering import Gathering
    from .layer import Layer

Observer = Callable[["Layer", Tensor], None]
"""Called with every layer that has weights and a feedback path, or that calls `Context.received`, and its error.

It must not change the error: to change how layers learn, write a loss, a feedback path or a layer.
"""


class Context(NamedTuple):
    """What is not local to one layer during a learning step.

    Attributes:
        lr: Learning rate of this step; at 0 nothing moves, nothing is recruited, and no area splits.
        rates: Multiples of it for each part.
        output_error: Error at the network's output, (batch, ..., outputs), set only during the error pass; None if
            there are several outputs.
        route: Route shared by the layers of a `Routed` body, else None.
        weight: Weight of each sample, (batch, ...), or None. The output error includes it already.
        clip: Largest norm, over the whole batch, of the error that enters a layer, see `clipped`; None for no limit.
        observe: Called by every `AreaLinear`, `Product` and `TiedProduct` in `learn` with itself and the error that
            arrived, before it is clipped.
        target: What the output is compared with, (batch, ...), or several tensors.
        layer_rates: Rates of single layers, see `Rates`; None if all are 1.
        gathered: What is to move layers that stand in several places, see `Gathering`; None if layers move at once.
        processes: The processes that make the step together, see `brodmann.Parallel`; None if this one is alone.
        output: Output of the network before the step, (batch, ..., outputs), if ``output_error`` is set; the caller has
            it too, so it must stay as it is.
    """

    lr: float = 0.0
    rates: Rates = Rates()
    output_error: Tensor | None = None
    route: Route | None = None
    weight: Tensor | None = None
    clip: float | None = None
    observe: Observer | None = None
    target: Any = None
    layer_rates: Mapping[Layer, float] | None = None
    gathered: dict[Gathering, list[Any]] | None = None
    processes: Processes | None = None
    output: Tensor | None = None

    def rate_of(self, layer: Layer) -> float:
        """Returns the multiple of the learning rate for all that one layer holds."""
        if layer.frozen_here:
            return 0.0
        return 1.0 if self.layer_rates is None else self.layer_rates.get(layer, 1.0)

    def lr_of(self, layer: Layer, part: Literal["shared", "projection", "feedback"] | None = None) -> float:
        """Returns the learning rate of this step for all that one layer holds, or for a part of it, see `Rates`."""
        lr = self.lr * self.rate_of(layer)
        return lr if part is None else lr * getattr(self.rates, part)

    def received(self, layer: Layer, error: Tensor) -> Tensor:
        """Shows the observer the error that arrives at a layer; returns it `clipped`.

        Raises:
            BrodmannError: The observer has changed the error in place.
        """
        if self.observe is not None:
            with Unmodified("The observer of errors", (error,)):
                self.observe(layer, error)
        return self.clipped(error)

    def clipped(self, error: Tensor) -> Tensor:
        """Returns an error no larger than ``clip`` allows: ``e min(1, clip / |e|)``, over the whole batch."""
        if self.clip is None:
            return error
        norm: Tensor = error.norm()
        if self.processes is not None:
            (square,) = self.processes.summed(norm.square())
            norm = square.sqrt()
        return error * (self.clip / norm.clamp_min(self.clip))

    def summed(self, *tensors: Tensor) -> list[Tensor]:
        """Returns sums of tensors of one dtype over all processes that make the step, such as gradients."""
        return list(tensors) if self.processes is None else self.processes.summed(*tensors)

    def same_draws(self) -> AbstractContextManager[None]:
        """Lets all processes that make the step draw the same random numbers inside the block."""
        return nullcontext() if self.processes is None else self.processes.same_draws()

    def of_all_processes(self) -> Context:
        """Returns the context for rows gathered from all processes: as if this process had the whole batch."""
        processes, weight = self.processes, self.weight
        if processes is not None and weight is not None:
            (weight,) = processes.rows(weight)
        return self._replace(processes=None, weight=weight)
