"""Cells of recurrent layers: the next state from the outputs of both maps, and how errors go back through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..autograd import as_leaf, ordinary
from ..errors import BrodmannError
from ..kernels import cells
from ..kernels.cells import PullBack, State
from ..layer import has_parameters

aten = torch.ops.aten


class Cell(ABC):
    """Abstract: computes the next state from the outputs of both maps, without parameters.

    Attributes:
        gates: Outputs of each map for every unit.
        states: Tensors that go from step to step.
    """

    gates: int = 1
    states: int = 1

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuses a formula of its own beside the derivative of another one.

        Raises:
            BrodmannError: The class overrides `__call__`, and inherits a `with_pull_back` that was written for another.
        """
        super().__init_subclass__(**options)
        formula, derivative = (
            next(place for place, kind in enumerate(cls.__mro__) if method in vars(kind))
            for method in ("__call__", "with_pull_back")
        )
        written_for = cls.__mro__[derivative]
        if formula < derivative and written_for is not Cell:
            raise BrodmannError(
                f"{cls.__name__} overrides __call__, but would learn by the derivative of {written_for.__name__}: "
                f"derive it from Cell, with gates = {cls.gates} and states = {cls.states}, or override with_pull_back "
                "too."
            )

    @abstractmethod
    def __call__(self, below: Tensor, before: Tensor, state: State) -> State:
        """Returns the next state.

        Args:
            below: What the map of the step's input returned, (batch, gates * units).
            before: What the map of the step before returned, likewise.
            state: State of the step before.
        """

    def with_pull_back(self, below: Tensor, before: Tensor, state: State) -> tuple[State, PullBack]:
        """Returns the next state, and a function that pulls errors back: by autograd unless a cell has a formula."""
        with torch.inference_mode(False), torch.enable_grad():
            taken = [as_leaf(part) for part in (below, before, *state)]
            found = self(taken[0], taken[1], tuple(taken[2:]))
        return tuple(part.detach() for part in found), partial(_pulled_back, found, taken)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _pulled_back(found: State, taken: list[Tensor], errors: State) -> tuple[Tensor, Tensor, State]:
    with torch.inference_mode(False):
        given = [ordinary(error) for error in errors]
        below, before, *state = torch.autograd.grad(found, taken, given, materialize_grads=True)
    return below, before, tuple(state)


class Elman(Cell):
    """``h = phi(below + before)``. Source: Elman (1990)."""

    def __init__(self, activation: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        """Takes the activation. Default tanh, as in PyTorch's `nn.RNN`.

        Raises:
            BrodmannError: It cannot be called, or has parameters, which would not learn.
        """
        if not callable(activation) or isinstance(activation, type) or has_parameters(activation):
            raise BrodmannError(
                f"Expected an activation without parameters, such as torch.tanh or nn.ReLU(), got {activation!r}."
            )
        self.activation = activation

    def __repr__(self) -> str:
        return f"Elman({getattr(self.activation, '__name__', self.activation)})"

    def __call__(self, below: Tensor, before: Tensor, state: State) -> State:
        """See `Cell`."""
        return (self.activation(below + before),)


class GRU(Cell):
    """Gated recurrent units: ``r``, ``z`` and ``n`` in turn, as in PyTorch's `nn.GRU`.

    ``r = sigmoid(below_r + before_r)``, ``z`` likewise, ``n = tanh(below_n + r before_n)``, ``h = (1 - z) n + z h``.
    Source: Cho et al. (2014).
    """

    gates = 3

    def __call__(self, below: Tensor, before: Tensor, state: State) -> State:
        """See `Cell`."""
        return self.with_pull_back(below, before, state)[0]

    def with_pull_back(self, below: Tensor, before: Tensor, state: State) -> tuple[State, PullBack]:
        """See `Cell`; by a kernel or in closed form, which takes a third to two thirds of the time (docs/log.md)."""
        if cells.takes(self.gates, below, before, state):
            return cells.gru(below, before, state)
        (h,), both = state, 2 * (below.shape[-1] // 3)
        before_n = before[:, both:]
        rz = torch.sigmoid(below[:, :both] + before[:, :both])
        r, z = rz.chunk(2, -1)
        n = torch.tanh(torch.addcmul(below[:, both:], r, before_n))

        def pull_back(errors: State) -> tuple[Tensor, Tensor, State]:
            (error,) = errors
            of_h = error * z
            of_n = aten.tanh_backward(error - of_h, n)  # error (1 - z)
            of_rz = aten.sigmoid_backward(torch.cat((of_n * before_n, error * (h - n)), -1), rz)
            return torch.cat((of_rz, of_n), -1), torch.cat((of_rz, of_n * r), -1), (of_h,)

        return (torch.lerp(n, h, z),), pull_back


class LSTM(Cell):
    """Long short-term memory: gates ``i``, ``f``, ``g`` and ``o`` in turn, as in PyTorch's `nn.LSTM`.

    ``c = sigmoid(f) c + sigmoid(i) tanh(g)``, ``h = sigmoid(o) tanh(c)``, each gate ``below + before``.
    Source: Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000).
    """

    gates = 4
    states = 2

    def __call__(self, below: Tensor, before: Tensor, state: State) -> State:
        """See `Cell`."""
        return self.with_pull_back(below, before, state)[0]

    def with_pull_back(self, below: Tensor, before: Tensor, state: State) -> tuple[State, PullBack]:
        """See `Cell`; by a kernel or in closed form, which takes a third to two thirds of the time (docs/log.md)."""
        if cells.takes(self.gates, below, before, state):
            return cells.lstm(below, before, state)
        gates, units = below + before, below.shape[-1] // 4
        g = torch.tanh(gates[:, 2 * units : 3 * units])
        opened = torch.sigmoid(gates)
        i, f, _, o = opened.chunk(4, -1)
        c = torch.addcmul(f * state[1], i, g)
        squashed = torch.tanh(c)

        def pull_back(errors: State) -> tuple[Tensor, Tensor, tuple[None, Tensor]]:
            of_h, of_c = errors
            of_c = torch.addcmul(of_c, of_h, aten.tanh_backward(o, squashed))
            of_gates = aten.sigmoid_backward(torch.cat((g, state[1], g, squashed), -1), opened)
            of_i, of_f, of_g, of_o = of_gates.chunk(4, -1)
            torch.mul(of_c, aten.tanh_backward(i, g), out=of_g)
            of_i.mul_(of_c)
            of_f.mul_(of_c)
            of_o.mul_(of_h)
            return of_gates, of_gates, (None, of_c * f)

        return (o * squashed, c), pull_back
