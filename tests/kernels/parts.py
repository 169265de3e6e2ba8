"""What the tests of the kernels share: drawn batches, update rules, and what counts as equal."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import example
from hypothesis import strategies as st
from torch import Tensor

from brodmann import SGD, Adam
from brodmann.kernels.build import build

needs_kernels = pytest.mark.skipif(build().library is None, reason=f"no compiled kernels here: {build().why}")
RULES = [SGD(), SGD(decay=0.3), SGD(momentum=0.9, decay=0.1), Adam(), Adam(decay=0.3, beta1=0.8)]


@dataclass
class Case:
    """A drawn batch: shapes that divide nothing, empty areas, hot areas, one row, none; rows that lie apart or not."""

    x: Tensor
    delta: Tensor
    area: Tensor
    weight: Tensor
    bias: Tensor
    slot: Tensor
    areas: int

    def __repr__(self) -> str:
        counts = torch.bincount(self.area, minlength=self.areas).tolist()
        return f"rows per area {counts}, weight {tuple(self.weight.shape)} {self.weight.dtype}"


def case_of(
    counts: Sequence[int], inputs: int, outputs: int, number: torch.dtype, *, seed: int = 0, apart: bool = False
) -> Case:
    """Returns a case with so many rows in each area; `number` is that of the weights. See `Case` for `apart`."""
    generator = torch.Generator().manual_seed(seed)
    areas, rows = len(counts), sum(counts)
    area = torch.repeat_interleave(torch.arange(areas), torch.tensor(counts))[torch.randperm(rows, generator=generator)]
    of_rows = torch.float32 if number == torch.bfloat16 else number

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(of_rows)

    x, delta = normal(rows, inputs), normal(rows, outputs)
    if apart:
        x, delta = normal(rows, 2 * inputs)[:, ::2], normal(outputs, rows).t()
    weight = normal(areas + 1, outputs, inputs).to(number)
    slot = torch.randperm(areas, generator=generator) + 1
    return Case(x, delta, area, weight, normal(areas + 1, outputs), slot, areas)


@st.composite
def cases(draw: st.DrawFn, bfloat16: bool = False) -> Case:
    areas, inputs, outputs = draw(st.integers(1, 6)), draw(st.integers(1, 150)), draw(st.integers(1, 150))
    counts = draw(st.lists(st.sampled_from([0, 1, 2, 4, 5, 8, 9, 15, 16, 31, 50]), min_size=areas, max_size=areas))
    number = torch.bfloat16 if bfloat16 else draw(st.sampled_from([torch.float32, torch.float64]))
    return case_of(counts, inputs, outputs, number, seed=draw(st.integers(0, 1000)), apart=draw(st.booleans()))


def also_long(*numbers: torch.dtype, **others: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds what is longer than one tile of inputs, one block of terms, one block of rows, for few rows and many."""
    shapes = [((3,), 600, 20), ((17,), 600, 20), ((17,), 1100, 20), ((3, 60), 20, 1100), ((1100, 2), 30, 20)]
    shapes += [((17,), 1100, 40), ((3, 20), 40, 1100), ((3, 5, 8), 300, 200)]  # which threads share
    shapes += [((8000,), 80, 80), ((0, 8000), 60, 110), ((2000, 0, 700, 900), 40, 30)]  # which a BLAS does

    def add(test: Callable[..., None]) -> Callable[..., None]:
        for shape, number in itertools.product(shapes, numbers):
            test = example(case=case_of(*shape, number), **others)(test)
        return test

    return add


def close(found: Tensor, expected: Tensor, terms: int) -> None:
    tolerance = 1e-5 if found.dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * (1 + terms**0.5))
