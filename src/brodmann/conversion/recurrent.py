"""PyTorch's recurrent layers, written out as levels and directions, each of which is one step of a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from ..errors import BrodmannError
from ..layers.cells import GRU, LSTM, Cell, Elman
from .followed import name_of
from .questions import made

ASKED = ("mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional", "proj_size")
"""What networks ask their recurrent layers for."""
CELLS: dict[type[nn.Module], type[Cell]] = {nn.RNN: Elman, nn.GRU: GRU, nn.LSTM: LSTM}
CELLS_OF: dict[type[nn.Module], type[Cell]] = {nn.RNNCell: Elman, nn.GRUCell: GRU, nn.LSTMCell: LSTM}
"""The same for PyTorch's single steps."""


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
        """What a step makes of both maps."""
        if isinstance(self.plain, nn.RNN):
            return Elman(torch.tanh if self.plain.nonlinearity == "tanh" else torch.relu)
        return CELLS[type(self.plain)]()

    def forward(self, x: Tensor) -> Tensor:
        """Returns what each step returns."""
        if x.ndim != 3:
            raise BrodmannError("a recurrent layer takes a sequence for each sample")
        return self.plain(x)[0]  # type: ignore[no-any-return]


class RecurrentLayer(nn.Module):
    """As `nn.RNN`, `nn.GRU` and `nn.LSTM`: levels, in one direction or two, from a state of zeros."""

    def __init__(self, layer: nn.RNNBase) -> None:
        """Takes the levels of a layer.

        Raises:
            BrodmannError: It projects its output.
        """
        super().__init__()
        if layer.proj_size:
            raise BrodmannError(f"{layer} cannot be converted: leave proj_size out, and put an nn.Linear above it.")
        for name in ASKED:
            setattr(self, name, getattr(layer, name))
        levels = range(layer.num_layers)
        self.onward = nn.ModuleList(Recurrence(layer, level) for level in levels)
        reverse = levels if layer.bidirectional else ()
        self.backward = nn.ModuleList(Recurrence(layer, level, reverse=True) for level in reverse)
        self.dropout = nn.Dropout(layer.dropout) if layer.dropout and layer.num_layers > 1 else None

    def flatten_parameters(self) -> None:
        """Does nothing: networks call it for graphics processors."""

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """Takes (samples, steps, in), or steps first; returns the output and the state after the last step.

        Of the cells of an `nn.LSTM` that state holds none.
        """
        if not all(map(_is_zero, hx if isinstance(hx, tuple | list) else (hx,))):
            raise BrodmannError(
                "A recurrent layer cannot be converted with a state to begin with that is not of torch.zeros: leave it "
                "out."
            )
        last, x = [], input
        if not self.batch_first:
            x = x.transpose(0, 1)
        for number, onward in enumerate(self.onward):
            if number and self.dropout is not None:
                x = self.dropout(x)
            y = onward(x)
            last.append(y[:, -1])
            if self.backward:
                reverse = self.backward[number](x.flip(1)).flip(1)
                last.append(reverse[:, 0])
                y = torch.cat((y, reverse), -1)
            x = y
        after = torch.stack(last)
        if not self.batch_first:
            x = x.transpose(0, 1)
        return x, (after, _Cells()) if self.mode == "LSTM" else after


class RecurrentCell(nn.Module):
    """As `nn.RNNCell`, `nn.GRUCell` and `nn.LSTMCell`: one step, whose two maps may stand in a network many times."""

    def __init__(self, plain: Any) -> None:
        """Takes the weights of a cell."""
        super().__init__()
        self.input_size, self.hidden_size = plain.input_size, plain.hidden_size
        self.inputs, self.states = (
            nn.Linear(weight.shape[1], weight.shape[0], bias=plain.bias, dtype=weight.dtype)
            for weight in (plain.weight_ih, plain.weight_hh)
        )
        self.inputs.weight, self.states.weight = plain.weight_ih, plain.weight_hh
        if plain.bias:
            self.inputs.bias, self.states.bias = plain.bias_ih, plain.bias_hh
        kind: Any = type(plain)
        self.cell = CELLS_OF[kind]() if kind is not nn.RNNCell else Elman(getattr(torch, plain.nonlinearity))

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Takes (samples, in), and the state before, (samples, units), or for an `nn.LSTMCell` both."""
        given = hx if isinstance(hx, tuple | list) else (hx,) * self.cell.states
        # Zeros that come from the input, as all values between layers do.
        zeros = (input[:, :1] * 0.0).expand(-1, self.hidden_size)
        state = tuple(zeros if _is_zero(part) else part for part in given)
        after = self.cell(self.inputs(input), self.states(state[0]), state)
        return after if self.cell.states > 1 else after[0]


class _Cells:
    """The cells of an `nn.LSTM` after the last step, which a `Recurrent` does not return."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, index: Any) -> Any:
        raise BrodmannError(
            "The cells of an nn.LSTM after the last step cannot be converted: read its output, or its state h."
        )


def _is_zero(state: Any) -> bool:
    """Whether a state to begin with is that which is taken where there is none."""
    if isinstance(state, fx.Proxy):
        node = state.node
        while node.target in ("to", "detach", "requires_grad_", "double", "float"):
            (node, *_) = node.all_input_nodes
        name = node.args[0] if node.target is made else name_of(node)
        return name in ("zeros", "zeros_like", "new_zeros")
    return state is None or (isinstance(state, Tensor) and not bool(state.any()))
