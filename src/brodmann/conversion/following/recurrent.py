"""PyTorch's recurrent layers, written out as levels and directions, each of which is one step of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...errors import BrodmannError
from ...kernels.cells import State
from ...layers.cells import GRU, LSTM, Cell, Elman
from ..modules import linear_of
from ..nodes import name_of
from .answering import made

LAYERS, STEPS = (nn.RNN, nn.GRU, nn.LSTM), (nn.RNNCell, nn.GRUCell, nn.LSTMCell)
"""PyTorch's recurrent layers, and its single steps."""


def cell_of(plain: Any) -> Cell:
    """Returns the cell of a layer or a step: what makes the next state of what both maps return."""
    if isinstance(plain, nn.RNN | nn.RNNCell):
        return Elman(getattr(torch, plain.nonlinearity))
    return GRU() if isinstance(plain, nn.GRU | nn.GRUCell) else LSTM()


class Recurrence(nn.Module):
    """One level of a recurrent layer in one direction: takes (samples, steps, in), returns (samples, steps, units)."""

    def __init__(self, layer: nn.RNNBase, level: int, *, reverse: bool = False) -> None:
        """Takes the weights of a level."""
        super().__init__()
        kind: Any = type(layer)
        self.plain = kind(
            layer.input_size if level == 0 else layer.hidden_size * (1 + layer.bidirectional),
            layer.hidden_size,
            bias=layer.bias,
            batch_first=True,
            dtype=layer.weight_ih_l0.dtype,
            **({"nonlinearity": layer.nonlinearity} if isinstance(layer, nn.RNN) else {}),
        )
        held, place = dict(layer.named_parameters(remove_duplicate=False)), f"_l{level}{'_reverse' if reverse else ''}"
        for name in dict(self.plain.named_parameters()):
            setattr(self.plain, name, held[name.removesuffix("_l0") + place])

    @property
    def cell(self) -> Cell:
        """The cell, which makes the next state of what both maps return."""
        return cell_of(self.plain)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the outputs of all steps, (samples, steps, units)."""
        if x.ndim != 3:
            raise BrodmannError("a recurrent layer takes a sequence for each sample")
        return self.plain(x)[0]


class NeedsUnrollingError(Exception):
    """A recurrent layer begins with a state, or its cells are read: it has to be followed step by step."""

    def __init__(self, layer: RecurrentLayer) -> None:
        """Takes the layer."""
        super().__init__()
        self.layer = layer


class RecurrentLayer(nn.Module):
    """As `nn.RNN`, `nn.GRU` and `nn.LSTM`: levels, in one direction or two.

    Attributes:
        unrolled: Whether each step becomes several operations of the network, as with a `RecurrentCell`; else a level
            is one.
    """

    def __init__(self, layer: nn.RNNBase) -> None:
        """Takes the levels of a layer.

        Raises:
            BrodmannError: It projects its output.
        """
        super().__init__()
        if layer.proj_size:
            raise BrodmannError(f"{layer} cannot be converted: leave proj_size out, and put an nn.Linear after it.")
        self.mode, self.batch_first = layer.mode, layer.batch_first
        levels = range(layer.num_layers)
        self.onward = nn.ModuleList(Recurrence(layer, level) for level in levels)
        reverse = levels if layer.bidirectional else ()
        self.backward = nn.ModuleList(Recurrence(layer, level, reverse=True) for level in reverse)
        self.dropout = nn.Dropout(layer.dropout) if layer.dropout and layer.num_layers > 1 else None
        self.unrolled = False
        self.steps_onward, self.steps_backward = (
            nn.ModuleList(RecurrentCell(level.plain, "_l0") for level in way) for way in (self.onward, self.backward)
        )

    def flatten_parameters(self) -> None:
        """Does nothing: networks call it for GPUs."""

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """Takes (samples, steps, in), or steps first, and states; returns the output and states after the last step.

        Raises:
            NeedsUnrollingError: It is not unrolled, and there are states.
        """
        given = hx if isinstance(hx, tuple | list) else (hx,)
        before = [None if _is_zero(part) else part for part in given]
        if not self.unrolled and any(part is not None for part in before):
            raise NeedsUnrollingError(self)
        after: list[Any] = []  # of each level and direction
        x = input if self.batch_first else input.transpose(0, 1)
        onward, backward = (self.steps_onward, self.steps_backward) if self.unrolled else (self.onward, self.backward)
        for number in range(len(onward)):
            if number and self.dropout is not None:
                x = self.dropout(x)
            y, state = self._level(onward[number], x, before, len(after))
            after.append(state)
            if backward:
                reverse, state = self._level(backward[number], x.flip(1), before, len(after))
                after.append(state)
                y = torch.cat((y, reverse.flip(1)), -1)
            x = y
        if not self.batch_first:
            x = x.transpose(0, 1)
        if self.unrolled:
            states = tuple(torch.stack(parts) for parts in zip(*after, strict=True))
            return x, states if self.mode == "LSTM" else states[0]
        last = torch.stack(after)
        return x, (last, cells_after(last)) if self.mode == "LSTM" else last

    def _level(self, level: Any, x: Tensor, before: list[Any], place: int) -> tuple[Tensor, Any]:
        """Returns what a level makes of a sequence, and the state it ends with: only h, unless unrolled."""
        if not self.unrolled:
            y = level(x)
            return y, y[:, -1]
        state = tuple(None if part is None else part[place] for part in before)
        inputs, found = level.inputs(x), []
        for step in range(x.shape[1]):
            state = level.after(inputs[:, step], state)
            found.append(state[0])
        return torch.stack(found, 1), state


class RecurrentCell(nn.Module):
    """As `nn.RNNCell`, `nn.GRUCell` and `nn.LSTMCell`: one step, whose two maps may stand in a network many times."""

    def __init__(self, plain: Any, behind: str = "") -> None:
        """Takes the weights of a cell, whose names may have a suffix."""
        super().__init__()
        self.input_size, self.hidden_size = plain.input_size, plain.hidden_size
        self.inputs, self.states = (
            linear_of(getattr(plain, f"weight_{which}{behind}"), getattr(plain, f"bias_{which}{behind}", None))
            for which in ("ih", "hh")
        )
        self.cell = cell_of(plain)

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Takes (samples, in), and the state before, (samples, units), or for an `nn.LSTMCell` both."""
        after = self.after(self.inputs(input), hx if isinstance(hx, tuple | list) else (hx,))
        return after if self.cell.states > 1 else after[0]

    def after(self, inputs: Tensor, before: Sequence[Any]) -> State:
        """Returns the state after a step, from what the map makes of its input and the state before."""
        given: Sequence[Any] = before if any(part is not None for part in before) else (None,) * self.cell.states
        if len(given) != self.cell.states:
            raise BrodmannError(f"Expected {self.cell.states} states for {self.cell}, got {len(given)}.")
        # Zeros that come from the input, as all values between layers do.
        zeros = (inputs[:, :1] * 0.0).expand(-1, self.hidden_size)
        state: State = tuple(zeros if _is_zero(part) else part for part in given)
        return self.cell(inputs, self.states(state[0]), state)


@fx.wrap
def cells_after(last: Tensor) -> Tensor:
    """Stands for the cells of an `nn.LSTM` after the last step, which a `Recurrent` does not return.

    A layer whose cells are read is unrolled, so that nobody sees what this returns: something of the cells' shape.
    """
    return last


def _is_zero(state: Any) -> bool:
    """Whether an initial state is the default one, zeros."""
    if isinstance(state, fx.Proxy):
        node = state.node
        while node.target in ("to", "detach", "requires_grad_", "double", "float"):
            (node, *_) = node.all_input_nodes
        name = node.args[0] if node.target is made else name_of(node)
        return name in ("zeros", "zeros_like", "new_zeros")
    return state is None or (isinstance(state, Tensor) and not bool(state.any()))
