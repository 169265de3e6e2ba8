"""Recurrent: maps of areas that all steps of a sequence share; the output of a step goes into the next."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..autograd import unrecorded
from ..checks import check_error, check_tensors
from ..errors import BrodmannError
from ..kernels.cells import PullBack, State
from ..layer import Container, Context
from ..routing import Chosen, Route
from ..rows import stack_steps
from .area_linear import AreaLinear, AreaTrace, groups_of
from .cells import Cell


class RecurrentTrace(NamedTuple):
    """What a `Recurrent` remembers of one forward pass.

    Attributes:
        inputs: Trace of the map of inputs.
        states: For each step, that of the map of states.
        cells: For each step, what pulls errors back through the cell.
    """

    inputs: AreaTrace
    states: list[AreaTrace]
    cells: list[PullBack]


class Recurrent(Container):
    """Steps one after the other: ``s[t] = cell(W x[t] + b, U h[t - 1] + c, s[t - 1])``, with ``h`` the first of s.

    x (batch, steps, in); returns ``h``, (batch, steps, units). The state before the first step is 0. Both maps are an
    `AreaLinear`, so that with one route for all layers a sample has one area in all of its steps. Errors go back
    through time by the feedback of ``U``, and from all steps down by that of ``W``:

    - ``e_h[t] = e[t] + what comes from step t + 1``, and the cell's derivative, which holds no weights, makes of it the
      errors of both maps and of the state before;
    - then ``U``, its feedback and a router of its own learn once, from the errors of all steps, and so does ``W``; rows
      move the area that their own step took.

    With transpose feedback this is backpropagation through time. ``clip`` limits the error of every step as it goes
    back, and that of all steps together as both maps learn. Source: our choice.
    """

    def __init__(self, inputs: AreaLinear, states: AreaLinear, cell: Cell) -> None:
        """Takes both maps and the cell.

        Args:
            inputs: ``W``, from what comes to ``gates * units``; without feedback if nothing below learns.
            states: ``U``, from units to ``gates * units``.
            cell: `Elman`, `GRU`, `LSTM`, or one of your own.

        Raises:
            BrodmannError: They are of other kinds or sizes, or ``U`` has no feedback.
        """
        super().__init__()
        kinds = isinstance(inputs, AreaLinear), isinstance(states, AreaLinear), isinstance(cell, Cell)
        if not all(kinds):
            raise BrodmannError(
                "Expected two AreaLinear layers and a cell such as LSTM(), got "
                f"{', '.join(type(part).__name__ for part in (inputs, states, cell))}."
            )
        if isinstance(cell, nn.Module) and [*cell.parameters(), *cell.buffers()]:
            raise BrodmannError(f"Expected a cell without parameters or buffers, which would not learn, got {cell}.")
        self.units, sizes = states.in_features, (inputs.out_features, states.out_features)
        if sizes != (cell.gates * self.units,) * 2:
            raise BrodmannError(
                f"Expected maps with {cell.gates * self.units} outputs, {cell.gates} for each of {self.units} units of "
                f"{cell}, got {sizes[0]} and {sizes[1]}."
            )
        if states.feedback is None or states.feedback.from_output:
            raise BrodmannError(
                "Expected a map of states with a feedback path of its own, by which errors go back in time, got "
                f"{'none' if states.feedback is None else 'direct feedback from the output'}: give it "
                "another one, such as FixedRandom."
            )
        self.inputs, self.states, self.cell = inputs, states, cell

    def forward(self, x: Tensor, choice: Chosen = None) -> Tensor:
        """Inference: x (batch, steps, in); returns (batch, steps, units)."""
        below, state = self.inputs(self._checked(x), choice), self._first(x)
        found = []
        for step in below.unbind(1):
            state = self._next(self.cell(step, self.states(state[0], choice), state), state)
            found.append(state[0])
        return torch.stack(found, 1)

    @unrecorded
    def trace(self, x: Tensor, context: Context) -> tuple[Tensor, RecurrentTrace]:
        """Learning forward pass: x (batch, steps, in); returns (batch, steps, units), and the traces of all steps."""
        below, of_inputs = self.inputs.trace(self._checked(x), context)
        state = self._first(x)
        states, cells, found = [], [], []
        for number, step in enumerate(below.unbind(1)):
            before, of_state = self.states.trace(state[0], _at_step(context, number, below.shape[1]))
            after, pull_back = self.cell.with_pull_back(step, before, state)
            state = self._next(after, state)
            found.append(state[0])
            states.append(of_state)
            cells.append(pull_back)
        return torch.stack(found, 1), RecurrentTrace(of_inputs, states, cells)

    @unrecorded
    def learn(self, trace: RecurrentTrace, error: Tensor, context: Context) -> Tensor | None:
        """Error pass, from the last step to the first: error (batch, steps, units); returns that of x, or None."""
        check_error(error, (*trace.inputs.leading, self.units), trace.inputs.x.dtype)
        after = self._first(error)  # errors of the state that come back from the step after
        zeros = after[0]
        of_inputs, of_states = [], []  # errors of both maps, from the last step to the first
        for arrived, traced in zip(reversed(error.unbind(1)), reversed(trace.states), strict=True):
            pull_back = trace.cells.pop()  # what it remembers is freed with it
            below, before, (of_h, *others) = pull_back((arrived + after[0], *after[1:]))
            of_inputs.append(below)
            of_states.append(before)
            sent = self.states.send(traced, before, context)
            assert sent is not None  # the map of states has feedback
            after = sent if of_h is None else of_h + sent, *(zeros if part is None else part for part in others)
        errors = torch.stack(of_states[::-1], 1)
        self.states.learn_without_sending(_of_all(trace.states), errors, context)
        if any(below is not before for below, before in zip(of_inputs, of_states, strict=True)):  # else they are equal
            errors = torch.stack(of_inputs[::-1], 1)
        return self.inputs.learn(trace.inputs, errors, context)

    def _first(self, x: Tensor) -> State:
        return (x.new_zeros(x.shape[0], self.units),) * self.cell.states

    def _next(self, state: Any, before: State) -> State:
        """Returns a state, once checked, since a cell may be user-defined."""
        shapes = [tuple(part.shape) for part in state] if isinstance(state, tuple) else type(state).__name__
        if shapes != [tuple(part.shape) for part in before]:
            raise BrodmannError(
                f"{self.cell} should return a tuple of as many tensors as it has states, {self.cell.states} of shape "
                f"{tuple(before[0].shape)}, got {shapes}."
            )
        return state

    @staticmethod
    def _checked(x: Tensor) -> Tensor:
        check_tensors(x=x)
        if x.ndim != 3 or x.shape[1] == 0:
            raise BrodmannError(f"Expected sequences (batch, steps, in), got {tuple(x.shape)}.")
        return x

    def extra_repr(self) -> str:
        """Shown by print(network)."""
        return str(self.cell)


def _of_all(steps: list[AreaTrace]) -> AreaTrace:
    """Returns the traces of single steps as one, in which each row keeps the route that it took at its step."""
    x = stack_steps([step.x for step in steps])
    own = [step.own for step in steps if step.own is not None]
    routes = [step.route for step in steps if step.route is not None]
    route = Route.of_steps(routes) if routes else None
    leading = *steps[0].leading, len(steps)
    return AreaTrace(x, stack_steps(own) if own else None, route, groups_of(x, route), leading)


def _at_step(context: Context, step: int, steps: int) -> Context:
    """Returns the context of one step, with the weights of that step if every step has its own."""
    weight = context.weight
    if weight is None or weight.ndim < 2 or weight.shape[1] != steps:
        return context
    return context._replace(weight=weight[:, step])
