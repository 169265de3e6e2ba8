"""Cells of recurrent layers, compiled: the next state, and how errors go back through it, see `LSTM` and `GRU`.

``below`` and ``before`` are the outputs of both maps, (rows, gates * units); every part of a state is (rows, units).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..autograd import followed
from .library import NUMBERS, active, call

State = tuple[Tensor, ...]
"""Tensors that go from step to step, (batch, units) each; the first is the output of the step."""
PullBack = Callable[[State], tuple[Tensor, Tensor, tuple[Tensor | None, ...]]]
"""Takes the errors of a state; returns those of ``below``, ``before`` and the state before, see `layers.cells.Cell`.

If a part of the state before has no effect except through ``before``, its error may be None, which stands for zeros.
"""


def takes(gates: int, below: Tensor, before: Tensor, state: State) -> bool:
    """Whether the kernels compute a cell of so many gates from these.

    They do for plain tensors on the CPU, of one dtype, if nothing follows what PyTorch does.
    """
    if type(below) is not Tensor or below.dtype not in (torch.float32, torch.float64) or below.ndim != 2:
        return False
    rows, units = len(below), below.shape[1] // gates
    for part, width in ((below, gates * units), (before, gates * units), *((part, units) for part in state)):
        if type(part) is not Tensor or part.shape != (rows, width) or part.dtype != below.dtype or not part.is_cpu:
            return False
    return active() and not followed(below, before, *state)


def lstm(below: Tensor, before: Tensor, state: State) -> tuple[State, PullBack]:
    """Returns ``(h, c)``, and what pulls errors back."""
    below, before, c_before = _rows(below), before.contiguous(), state[1].contiguous()
    gates, (h, c, squashed) = torch.empty_like(before), (torch.empty_like(c_before) for _ in range(3))
    name, sizes = NUMBERS[c.dtype], (torch.get_num_threads(), *c.shape)
    call("lstm_" + name, *sizes, below, below.stride(0), before, c_before, gates, c, squashed, h)

    def pull_back(errors: State) -> tuple[Tensor, Tensor, tuple[None, Tensor]]:
        of_h, of_c = (_like(c, error) for error in errors)
        of_gates, of_c_before = torch.empty_like(gates), torch.empty_like(c)
        call("lstm_down_" + name, *sizes, of_h, of_c, gates, c_before, squashed, of_gates, of_c_before)
        return of_gates, of_gates, (None, of_c_before)

    return (h, c), pull_back


def gru(below: Tensor, before: Tensor, state: State) -> tuple[State, PullBack]:
    """Returns ``(h,)``, and what pulls errors back."""
    below, before, h_before = _rows(below), before.contiguous(), state[0].contiguous()
    gates, h = torch.empty_like(before), torch.empty_like(h_before)
    name, sizes = NUMBERS[h.dtype], (torch.get_num_threads(), *h.shape)
    call("gru_" + name, *sizes, below, below.stride(0), before, h_before, gates, h)

    def pull_back(errors: State) -> tuple[Tensor, Tensor, tuple[Tensor]]:
        of_h = _like(h, errors[0])
        of_below, of_before, of_h_before = torch.empty_like(gates), torch.empty_like(gates), torch.empty_like(h)
        call("gru_down_" + name, *sizes, of_h, gates, before, h_before, of_below, of_before, of_h_before)
        return of_below, of_before, (of_h_before,)

    return (h,), pull_back


def _rows(below: Tensor) -> Tensor:
    """Returns a step of a sequence as it lies, (rows, n), if the numbers of each row are neighbours."""
    return below if below.stride(1) == 1 else below.contiguous()


def _like(part: Tensor, error: Tensor) -> Tensor:
    """Returns an error in the form of the part of the state that it is of: a kernel would read past its end."""
    return error.to(part).expand_as(part).contiguous()
