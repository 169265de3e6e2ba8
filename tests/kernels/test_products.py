"""Oracle: forward products and errors on their way down equal pure PyTorch."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann import SGD, AreaLinear, BrodmannError
from brodmann.areas import Slab
from brodmann.kernels import Groups, Served, library, pure
from brodmann.kernels.native import Native

from ..settings import using_threads
from .parts import Case, also_long, case_of, cases, close, needs_kernels


@needs_kernels
@settings(max_examples=80)
@given(case=cases(), threads=st.sampled_from([1, 2]))
@also_long(torch.float32, torch.float64, threads=2)
def test_forward_and_error_equal_pure_pytorch(case: Case, threads: int) -> None:
    groups = Groups.of(case.area, case.areas)
    with library.switched_off():
        again = Groups.of(case.area, case.areas)
    assert again.segments == groups.segments
    assert (groups.order is None and again.order is None) or torch.equal(groups.order, again.order)
    compiled, plain = Native(), pure.Pure()
    with using_threads(threads):
        for slot, bias, beside in (
            (case.slot, case.bias, None),
            (None, None, case.delta),
            (None, case.bias, case.delta),
        ):
            served = Served(groups, slot)
            found, expected = (
                how.forward(case.weight, bias, served, case.x, beside=beside) for how in (compiled, plain)
            )
            close(found, expected, case.weight.shape[2])
            below = torch.ones(case.x.shape, dtype=case.x.dtype), torch.ones(case.x.shape, dtype=case.x.dtype)
            compiled.add_error(case.weight, served, case.delta, below[0])
            plain.add_error(case.weight, served, case.delta, below[1])
            close(*below, case.weight.shape[1])


@needs_kernels
def test_errors_are_added_to_rows_that_lie_apart() -> None:
    case = case_of([3, 0, 4], 6, 5, torch.float64)
    groups = Groups.of(case.area, case.areas)
    start = torch.randn(6, 7, dtype=torch.float64).t()
    ours, theirs = start.clone(memory_format=torch.preserve_format), start.contiguous()
    assert not ours.is_contiguous()
    for how, below in ((Native(), ours), (pure.Pure(), theirs)):
        how.add_error(case.weight, Served(groups, case.slot), case.delta, below)
    torch.testing.assert_close(ours, theirs)


def test_a_slab_of_one_serves_all_rows_whatever_their_areas() -> None:
    torch.manual_seed(0)
    groups, x, delta = Groups.of(torch.tensor([0, 2, 2, 0, 1, 0]), 3), torch.randn(6, 4), torch.randn(6, 3)
    found = []
    for rows in (groups, Groups.single(6)):
        slab, below = Slab(torch.ones(1, 3, 4), SGD(), torch.ones(1, 3)), torch.zeros(6, 4)
        slab.add_error(below, delta, rows)
        slab.learn(delta, x, rows, 0.1, 0.0)
        found.append((slab.product(x, rows), below, slab.value))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("apart", [{1}, {0, 1, 2}])
@pytest.mark.parametrize("number", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_kernels), False])
def test_rows_that_learning_leaves_out_compute_like_all_others(
    compiled: bool, number: torch.dtype, apart: set[int]
) -> None:
    case = case_of([9, 40, 3], 64, 40, number)
    with nullcontext() if compiled else library.switched_off():
        groups = Groups.of(case.area, case.areas)
        found = []
        for rows in (groups, groups.without(apart)):
            slab, below = Slab(case.weight, SGD(), case.bias), torch.zeros_like(case.x)
            slab.add_error(below, case.delta, rows, case.slot)
            found.append((slab.product(case.x, rows, case.slot), below))
        with pytest.raises(BrodmannError, match=r"Expected areas from 0 to 2, got \[3\]."):
            groups.without({3})
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_a_bias_of_another_kind_of_number_is_converted() -> None:
    torch.manual_seed(0)
    layer = AreaLinear(64, 32, areas=1)
    layer.shared.bias.value.normal_()  # type: ignore[union-attr]
    x = torch.randn(5, 64)
    expected = layer(x)
    torch.testing.assert_close(layer.bfloat16()(x), expected, rtol=0.05, atol=0.05)
