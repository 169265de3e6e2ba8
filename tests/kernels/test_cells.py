"""Oracle: compiled cells of recurrent layers, forward and back, equal their formulas under autograd."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from brodmann.kernels import library
from brodmann.layers import GRU, LSTM, Cell

from ..settings import using_threads
from .parts import needs_kernels

CELLS: dict[str, Cell] = {"LSTM": LSTM(), "GRU": GRU()}


def drawn(cell: Cell, rows: int, units: int, size: float = 1.0, number: torch.dtype = torch.float32) -> list[Tensor]:
    """Returns ``below``, a step of a longer sequence, ``before``, and all parts of a state."""
    sequence = size * torch.randn(rows, 3, cell.gates * units, dtype=number)
    before = size * torch.randn(rows, cell.gates * units, dtype=number)
    return [sequence[:, 1], before, *(size * torch.randn(rows, units, dtype=number) for _ in range(cell.states))]


def passed(how: Any, cell: Cell, given: list[Tensor]) -> list[Tensor]:
    """Returns the next state, and what some errors of it become on their way back."""
    below, before, *state = given
    after, pull_back = how(cell, below, before, tuple(state))
    of_below, of_before, of_state = pull_back(tuple(torch.cos(3 * part) for part in after))
    nothing = torch.zeros_like(after[0])  # for which a cell may return None
    return [*after, of_below, of_before, *(nothing if part is None else part for part in of_state)]


@needs_kernels
@settings(max_examples=60)
@given(
    name=st.sampled_from(list(CELLS)),
    rows=st.integers(0, 9),
    units=st.integers(1, 70),
    size=st.sampled_from([1e-3, 1.0, 30.0]),
    number=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_a_cell_and_its_errors_equal_autograds(
    name: str, rows: int, units: int, size: float, number: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    cell = CELLS[name]
    given = drawn(cell, rows, units, size, number)
    expected = passed(Cell.with_pull_back, cell, given)
    found = passed(type(cell).with_pull_back, cell, given)
    with library.switched_off():
        plain = passed(type(cell).with_pull_back, cell, given)
    tolerance = (2e-6 if number == torch.float32 else 1e-14) * (1 + size)
    for one, other, truth in zip(found, plain, expected, strict=True):
        torch.testing.assert_close(one, truth, rtol=10 * tolerance, atol=tolerance)
        torch.testing.assert_close(other, truth, rtol=10 * tolerance, atol=tolerance)


@needs_kernels
@pytest.mark.parametrize("number", [torch.float32, torch.float64])
def test_small_numbers_keep_equal_digits(number: torch.dtype) -> None:
    torch.manual_seed(0)
    below, before, h, c = drawn(LSTM(), 4, 20, 1e-6, number)
    found = LSTM()(below, before, (h, torch.zeros_like(c)))
    with library.switched_off():
        expected = LSTM()(below, before, (h, torch.zeros_like(c)))
    torch.testing.assert_close(found, expected, rtol=1e-5 if number == torch.float32 else 1e-13, atol=0.0)


@needs_kernels
@pytest.mark.parametrize("name", CELLS)
def test_what_is_not_finite_is_equal_too(name: str) -> None:
    cell = CELLS[name]
    bad = torch.tensor([math.nan, math.inf, -math.inf, 200.0, -200.0, 0.0])
    below = bad.repeat(cell.gates)[torch.randperm(6 * cell.gates)][None]
    state = (torch.ones(1, 6),) * cell.states
    found = cell(below, torch.zeros_like(below), state)
    with library.switched_off():
        expected = cell(below, torch.zeros_like(below), state)
    torch.testing.assert_close(found, expected, equal_nan=True)


@needs_kernels
@pytest.mark.parametrize("name", CELLS)
def test_threads_give_equal_bits(name: str) -> None:
    torch.manual_seed(0)
    given = drawn(CELLS[name], 41, 400)
    found = []
    for threads in (1, 3):
        with using_threads(threads):
            found.append(passed(type(CELLS[name]).with_pull_back, CELLS[name], given))
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("name", CELLS)
def test_errors_of_another_size_are_refused(name: str) -> None:
    cell = CELLS[name]
    below, before, *state = drawn(cell, 4, 20)
    _, pull_back = cell.with_pull_back(below, before, tuple(state))
    with pytest.raises(RuntimeError, match="size"):
        pull_back((torch.ones(3, 20),) * cell.states)
