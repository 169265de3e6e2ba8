"""Oracle: weights in bfloat16 are summed in float32 and rounded to a neighbour, at random."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from brodmann import SGD, UpdateRule
from brodmann.areas import Slab
from brodmann.kernels import Groups, Served, library, pure
from brodmann.kernels.native import Native

from ..settings import using_threads
from .parts import RULES, Case, also_long, cases, close, needs_kernels


def as_multiplied(rows: Tensor, paired: int = 0) -> Tensor:
    """What the kernels multiply bfloat16 weights with: rounded rows, where the processor has instructions for pairs."""
    return rows.bfloat16().float() if library.multiplies_bfloat16() and paired % 2 == 0 else rows


@needs_kernels
@settings(max_examples=60)
@given(case=cases(bfloat16=True), rule=st.sampled_from(RULES), threads=st.sampled_from([1, 2]))
@also_long(torch.bfloat16, rule=RULES[2], threads=2)
def test_bfloat16_storage_sums_in_float32_and_rounds_to_a_neighbour(case: Case, rule: UpdateRule, threads: int) -> None:
    groups = Groups.of(case.area, case.areas)
    inputs = case.weight.shape[2]
    served, wide, compiled, plain = Served(groups, case.slot), case.weight.float(), Native(), pure.Pure()
    with using_threads(threads):
        found = compiled.forward(case.weight, case.bias, served, case.x)
        # Weights of an odd number of inputs do not begin at a pair: rows stay float32.
        close(found, plain.forward(wide, case.bias, served, as_multiplied(case.x, inputs)), inputs)
        below = torch.ones(case.x.shape), torch.ones(case.x.shape)
        compiled.add_error(case.weight, served, case.delta, below[0])
        plain.add_error(wide, served, as_multiplied(case.delta), below[1])
        close(*below, case.weight.shape[1])
        exact = Slab(wide.clone(), rule)
        exact.learn(as_multiplied(case.delta), as_multiplied(case.x), groups, 0.05, 0.2, case.slot)
        stored = Slab(case.weight.clone(), rule)
        assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in stored.states().values())
        stored.learn(case.delta, case.x, groups, 0.05, 0.2, case.slot)
    # One unit in the last of 8 bits, whichever way it was rounded.
    limit = exact.value.abs() * 2**-7 + 1e-4
    assert ((stored.value.float() - exact.value).abs() <= limit).all()
    for name, tensor in stored.states().items():
        close(tensor, getattr(exact, name), len(case.x))


@settings(max_examples=20)
@given(case=cases(bfloat16=True), rule=st.sampled_from(RULES))
def test_bfloat16_storage_in_pure_pytorch_rounds_to_a_neighbour(case: Case, rule: UpdateRule) -> None:
    groups = Groups.of(case.area, case.areas)
    exact, stored = Slab(case.weight.float(), rule), Slab(case.weight.clone(), rule)
    with library.switched_off():
        for slab in (exact, stored):
            slab.learn(case.delta, case.x, groups, 0.05, 0.2, case.slot)
    assert ((stored.value.float() - exact.value).abs() <= exact.value.abs() * 2**-7 + 1e-4).all()


@needs_kernels
def test_a_known_gradient_is_rounded_to_a_neighbour_in_bfloat16() -> None:
    start, gradient = torch.randn(1, 7, 33).bfloat16(), torch.randn(7, 33)
    slab = Slab(start.clone(), SGD())
    slab.move(gradient, 0.05, 0.2)
    exact = start.float() * (1 - 0.05 * 0.2) - 0.05 * gradient
    assert ((slab.value.float() - exact).abs() <= exact.abs() / 128).all()


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_kernels), False])
def test_small_updates_survive_in_bfloat16_on_average(compiled: bool) -> None:
    torch.manual_seed(0)
    slab = Slab(torch.ones(1, 64, 64, dtype=torch.bfloat16), SGD())
    delta, x = torch.ones(1, 64), torch.ones(1, 64)
    for _ in range(100):  # each far below half a unit in the last place of 1.0
        with nullcontext() if compiled else library.switched_off():
            slab.learn(delta, x, Groups.single(1), 1e-3, 0.0)
    assert float(slab.value.float().mean()) == pytest.approx(0.9, abs=0.003)


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_kernels), False])
def test_what_is_not_finite_stays_so_when_rounded(compiled: bool) -> None:
    every_bit = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32)  # no number either
    gradient = torch.tensor([torch.inf, -torch.inf, torch.nan, every_bit, 0.0]).repeat(64, 1).t()
    slab = Slab(torch.ones(1, 5, 64, dtype=torch.bfloat16), SGD())
    with nullcontext() if compiled else library.switched_off():
        slab.move(gradient, 1.0, 0.0)
    expected = torch.tensor([-torch.inf, torch.inf, torch.nan, torch.nan, 1.0]).repeat(64, 1).t()
    assert torch.equal(slab.value[0].float().nan_to_num(7.0), expected.nan_to_num(7.0))


@needs_kernels
@pytest.mark.parametrize("rows", [1, 40])  # few and many: they go different ways
def test_neighbours_are_rounded_by_random_bits_of_their_own(rows: int) -> None:
    slab = Slab(torch.ones(1, 64, 64, dtype=torch.bfloat16), SGD())
    slab.learn(torch.full((rows, 64), 1 / rows), torch.ones(rows, 64), Groups.single(rows), 2.0**-9, 0.0)
    went_down = slab.value[0] < 1.0  # about half of them: the exact value lies midway
    assert 0.4 < float(went_down.float().mean()) < 0.6
    assert not torch.equal(went_down[:, :16], went_down[:, 16:32])
    assert not torch.equal(went_down[0], went_down[1])
