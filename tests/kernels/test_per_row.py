"""Oracle: what is computed row by row (nearest prototypes, gates, losses, norms) equals pure PyTorch."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann import CrossEntropy, RMSNorm, Router
from brodmann.kernels import library, per_row

from ..settings import using_threads
from .parts import needs_kernels


@needs_kernels
@settings(max_examples=80)
@given(
    rows=st.integers(0, 20),
    cells=st.integers(1, 200),
    dimension=st.integers(1, 40),
    number=st.sampled_from([torch.float32, torch.float64]),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_the_nearest_prototype_is_the_first_of_equals(
    rows: int, cells: int, dimension: int, number: torch.dtype, threads: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Small integers: their products are exact, and many are equal.
    u = torch.randint(-2, 3, (rows, dimension), generator=generator).to(number)
    prototypes = torch.randint(-2, 3, (cells, dimension), generator=generator).to(number)
    with using_threads(threads):
        assert torch.equal(per_row.nearest(u, prototypes), (u @ prototypes.t()).argmax(1))


@needs_kernels
@settings(max_examples=80)
@given(
    rows=st.integers(0, 50),
    cells=st.integers(1, 200),
    dimension=st.integers(1, 40),
    temperature=st.sampled_from([0.01, 0.3, 10.0]),
    size=st.sampled_from([1e-6, 1.0, 1e6]),
    number=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_what_a_projection_learns_equals_pure_pytorch(
    rows: int, cells: int, dimension: int, temperature: float, size: float, number: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    router = Router(dimension, cells, dimension=dimension, temperature=temperature).to(number)
    x = size * torch.randn(rows, dimension, generator=generator, dtype=number)
    x[::3] = 0  # no direction
    route = router.route(x)
    gate_error = torch.randn(rows, generator=generator, dtype=number)
    found = per_row.gate_down(route.u, router.prototypes, route.cell, gate_error, temperature)
    assert found is not None
    with library.switched_off():
        expected = route.gate_down(gate_error)
    tolerance = 1e-4 if number == torch.float32 else 1e-11
    scale = temperature * route.u.norm(dim=1, keepdim=True)  # of 1 / (tau |u|) are the terms, which may cancel
    torch.testing.assert_close(found * scale, expected * scale, rtol=tolerance, atol=tolerance)
    assert not found[::3].any()


@needs_kernels
@settings(max_examples=80)
@given(
    leading=st.sampled_from([(1,), (7,), (16,), (3, 4)]),
    classes=st.integers(1, 40),
    smoothing=st.sampled_from([0.0, 0.1]),
    size=st.sampled_from([1.0, 100.0]),
    number=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_the_loss_equals_that_of_pure_pytorch(
    leading: tuple[int, ...], classes: int, smoothing: float, size: float, number: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    output = size * torch.randn(classes, *leading, generator=generator, dtype=number).movedim(0, -1)  # strided
    target = torch.randint(0, classes, leading, generator=generator)
    cross_entropy = CrossEntropy(smoothing)
    found = per_row.cross_entropy(output, target, smoothing)
    assert found is not None
    loss, error = found
    with library.switched_off():
        expected = cross_entropy.value_and_error(output, target)
    tolerance = 1e-5 if number == torch.float32 else 1e-13
    torch.testing.assert_close(loss, expected[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(error, expected[1], rtol=tolerance, atol=tolerance)


@needs_kernels
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_a_loss_that_is_not_finite_is_so_in_both(bad: float, place: int) -> None:
    output, target = torch.zeros(3, 4), torch.tensor([0, 0, 0])
    output[1, place] = bad
    loss, error = CrossEntropy().value_and_error(output, target)
    with library.switched_off():
        expected = CrossEntropy().value_and_error(output, target)
    torch.testing.assert_close(loss, expected[0], equal_nan=True)
    torch.testing.assert_close(error, expected[1], equal_nan=True)


def test_a_target_on_another_device_is_not_read() -> None:
    output, target = torch.randn(6, 3), torch.zeros(6, dtype=torch.int64)
    assert per_row.cross_entropy(output, target, 0.0) is not None
    assert per_row.cross_entropy(output, target.to("meta"), 0.0) is None


@needs_kernels
@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    number=st.sampled_from([torch.float32, torch.float64]),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
)
def test_the_norm_and_its_error_equal_autograds(shape: list[int], number: torch.dtype, scale: float) -> None:
    x = (scale * torch.randn(shape, dtype=number)).requires_grad_()
    error = torch.randn(shape, dtype=number)
    y, pull_back = RMSNorm().with_pull_back(x.detach())
    expected = RMSNorm()(x)
    (below,) = torch.autograd.grad(expected, x, error)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if number == torch.float32 else {"rtol": 1e-10, "atol": 1e-11}
    torch.testing.assert_close(y, expected.detach(), **tolerance)
    size = (error * (x.detach().square().mean(-1, keepdim=True) + 1e-6).rsqrt()).abs().max()  # what it is the rest of
    torch.testing.assert_close(pull_back(error) / size, below / size, **tolerance)
