"""Oracle: the compiled kernels equal pure PyTorch on drawn shapes, and what they do not know goes the way of it."""

from __future__ import annotations

import itertools
import math
import platform
import subprocess
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from brodmann import SGD, Adam, AreaLinear, BrodmannError, CrossEntropy, Network, RMSNorm, Router, UpdateRule, mlp
from brodmann.areas import Slab
from brodmann.kernels import Groups, Served, library, operations, per_row, pure
from brodmann.kernels.build import FLAGS, SOURCE, build, find_compiler
from brodmann.kernels.native import Native
from brodmann.updates import Factors

from .settings import using_threads

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


@needs_kernels
@settings(max_examples=80)
@given(case=cases(), rule=st.sampled_from(RULES))
@also_long(torch.float32, torch.float64, rule=RULES[2])
def test_updates_equal_pure_pytorch_and_touch_nothing_else(case: Case, rule: UpdateRule) -> None:
    groups = Groups.of(case.area, case.areas)
    results = []
    for compiled in (True, False):
        weight, bias = Slab(case.weight.clone(), rule), Slab(case.bias.clone(), rule)
        with nullcontext() if compiled else library.switched_off():
            for _ in range(3):
                targets = [weight.target(0.05, 0.2)]
                how = operations(weight.value, case.x)
                served = Served(groups, case.slot)
                how.update(rule, targets, served, case.delta, case.x, bias=bias.target(0.1, 0.3))
        results.append({**weight.tensors(), **{"bias " + name: t for name, t in bias.tensors().items()}})
    untouched = sorted(set(range(case.areas + 1)) - set(case.slot[groups.present].tolist()))
    for name, found in results[0].items():
        close(found, results[1][name], 3 * len(case.x))
        start = case.weight if name == "value" else case.bias if name == "bias value" else torch.zeros_like(found)
        assert torch.equal(found[untouched], start[untouched])


@needs_kernels
@settings(max_examples=40)
@given(case=cases(), rule=st.sampled_from(RULES), count=st.integers(1, 3))
@also_long(torch.float32, rule=RULES[-1], count=2)
def test_weights_that_move_together_move_as_if_alone(case: Case, rule: UpdateRule, count: int) -> None:
    groups, rates = Groups.of(case.area, case.areas), [0.05, 0.1, 0.02][:count]
    together, alone = ([Slab(case.weight * k, rule) for k in range(1, count + 1)] for _ in range(2))
    for _ in range(2):
        targets = [slab.target(lr, 0.2) for slab, lr in zip(together, rates, strict=True)]
        Native().update(rule, targets, Served(groups, case.slot), case.delta, case.x)
        for slab, lr in zip(alone, rates, strict=True):
            slab.learn(case.delta, case.x, groups, lr, 0.2, case.slot)
    for one, other in zip(together, alone, strict=True):
        for name, found in one.tensors().items():
            close(found, other.tensors()[name], 3 * len(case.x))


@needs_kernels
@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    number=st.sampled_from([torch.float32, torch.float64]),
    rule=st.sampled_from(RULES),
)
@example(shape=[300, 301], number=torch.float32, rule=RULES[-1])  # more than one piece, for several threads
def test_a_known_gradient_moves_weights_as_in_pure_pytorch(
    shape: list[int], number: torch.dtype, rule: UpdateRule
) -> None:
    start, results = torch.randn(1, *shape, dtype=number), []
    gradients = [torch.randn(shape, dtype=number) for _ in range(3)]
    for compiled in (True, False):
        slab = Slab(start.clone(), rule)
        with nullcontext() if compiled else library.switched_off():
            for gradient in gradients:
                slab.move(gradient, 0.05, 0.2)
        results.append(slab.tensors())
    for name, found in results[0].items():
        close(found, results[1][name], 1)


def test_a_gradient_of_another_size_is_not_read_past_its_end() -> None:
    slab = Slab(torch.ones(1, 300, 400), SGD())
    with pytest.raises(RuntimeError, match="size of tensor"):
        slab.move(torch.ones(3, 400), 0.05, 0.0)
    slab.move(torch.ones(1, 400), 0.05, 0.0)  # for all outputs, as PyTorch has it
    assert torch.equal(slab.value, torch.full((1, 300, 400), 0.95))


@needs_kernels
def test_a_known_gradient_is_rounded_to_a_neighbour_in_bfloat16() -> None:
    start, gradient = torch.randn(1, 7, 33).bfloat16(), torch.randn(7, 33)
    slab = Slab(start.clone(), SGD())
    slab.move(gradient, 0.05, 0.2)
    exact = start.float() * (1 - 0.05 * 0.2) - 0.05 * gradient
    assert ((slab.value.float() - exact).abs() <= exact.abs() / 128).all()


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


def computed_by(threads: int, case: Case, rule: UpdateRule) -> list[Tensor]:
    """Returns what every operation makes of a case."""
    served = Served(Groups.of(case.area, case.areas), case.slot)
    weight, other, bias = (Slab(start.clone(), rule) for start in (case.weight, 2 * case.weight, case.bias))
    known, prototypes = Slab(case.weight[:1].clone(), rule), case.weight[0].to(case.x.dtype)
    below, native = case.x.clone(), Native()
    torch.manual_seed(0)  # decides how bfloat16 is rounded
    with using_threads(threads):
        out = native.forward(case.weight, case.bias, served, case.x, beside=case.delta)
        native.add_error(case.weight, served, case.delta, below)
        for _ in range(2):
            targets = [weight.target(0.05, 0.2), other.target(0.1, 0.2)]
            native.update(rule, targets, served, case.delta, case.x, bias=bias.target(0.1, 0.3))
            known.move(prototypes.sin(), 0.05, 0.2)
        cell = per_row.nearest(case.x, prototypes)
        of_gate = per_row.gate_down(case.x, prototypes, cell, case.x.sum(1), 0.3)
        norm, pull_back = RMSNorm().with_pull_back(case.x)
        found = [out, below, cell, of_gate, norm, pull_back(below)]
    moved = [part for slab in (weight, other, bias, known) for part in slab.tensors().values()]
    return [part for part in (*found, *moved) if part is not None]


@needs_kernels
@settings(max_examples=40)
@given(case=cases() | cases(bfloat16=True), rule=st.sampled_from(RULES))
@example(case=case_of((9, 0, 3, 200, 30, 17, 25, 16), 130, 70, torch.float32), rule=RULES[3])  # a hot area, shared
@example(case=case_of((15,), 1100, 9, torch.float32), rule=RULES[3])
@example(case=case_of((3, 120), 9, 1100, torch.bfloat16), rule=RULES[2])
@example(case=case_of((1100,), 17, 33, torch.float64), rule=RULES[4])
@example(case=case_of((3, 5, 8), 300, 200, torch.bfloat16), rule=RULES[4])
def test_results_do_not_depend_on_the_number_of_threads(case: Case, rule: UpdateRule) -> None:
    """To the last bit: compilers fuse multiplications and additions as they like, unless they are told."""
    assert all(map(torch.equal, computed_by(1, case, rule), computed_by(3, case, rule)))


@dataclass(frozen=True)
class SignDescent(UpdateRule):
    """A rule that the kernels do not know."""

    def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {}

    def apply(self, weight: Tensor, state: dict[str, Tensor], factors: Factors, lr: float, decay: float) -> None:
        weight.sub_(lr * factors.dense().sign())


def test_rules_of_ones_own_work_everywhere() -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, width=6, areas=4, update=SignDescent()))
    x, y = torch.randn(60, 5), torch.arange(60) % 3
    before = network.area_layers()[0][1].shared.value.clone()
    network.learn(x, y, lr=0.125)
    moved = (network.area_layers()[0][1].shared.value - before).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.125))


def test_other_kinds_of_number_go_the_way_of_pure_pytorch() -> None:
    assert isinstance(operations(torch.zeros(1, 2, 2, dtype=torch.float16), torch.zeros(1, 2)), pure.Pure)
    assert isinstance(operations(torch.zeros(1, 2, 2, dtype=torch.float64), torch.zeros(1, 2)), pure.Pure)
    with library.switched_off():
        assert isinstance(operations(torch.zeros(1, 2, 2), torch.zeros(1, 2)), pure.Pure)


def test_the_kernels_work_beside_another_default_device() -> None:
    network = Network(mlp(5, 3, width=8, areas=4, update=SGD()))
    x, y = torch.randn(9, 5), torch.randint(0, 3, (9,))
    torch.set_default_device("meta")
    try:
        network.learn(x, y)
        assert network(x).device.type == "cpu"
    finally:
        torch.set_default_device(None)


@needs_kernels
@pytest.mark.slow
def test_results_do_not_depend_on_threads_where_all_is_one_program(tmp_path: Path) -> None:
    """What the sanitisers drive, compiled as the kernels are: every operation, by one thread and by three."""
    compiler, program = find_compiler(), tmp_path / "driver"
    assert compiler is not None
    driver = Path(__file__).with_name("sanitise.cpp")
    subprocess.run([compiler, *FLAGS, "-w", f"-I{SOURCE.parent}", str(driver), "-o", str(program)], check=True)
    found = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "clean\n")


def learn_slab(slab: Slab, groups: Groups, slot: Tensor | None, delta: Tensor, x: Tensor, **others: Any) -> None:
    slab.learn(delta, x, groups, 0.1, 0.0, slot, **others)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda slab, groups, rows: learn_slab(slab, groups, None, rows[:, :3], rows),
            "Expected (rows, in) of shape (6, 4) for these weights and groups of rows, got (6, 5).",
        ),
        (
            lambda slab, groups, rows: learn_slab(slab, groups, None, rows[:, :4], rows[:, :3]),
            "Expected (rows, out) of shape (6, 3) for these weights and groups of rows, got (6, 4).",
        ),
        (
            lambda slab, groups, rows: slab.product(rows[:4, :4], groups),
            "Expected (rows, in) of shape (6, 4) for these weights and groups of rows, got (4, 4).",
        ),
        (
            lambda slab, groups, rows: slab.add_error(rows[:, :3], rows[:, :3], groups),
            "Expected (rows, in) of shape (6, 4) for these weights and groups of rows, got (6, 3).",
        ),
        (
            lambda slab, groups, rows: Slab(torch.zeros(2, 3, 4), SGD()).product(rows[:, :4], groups),
            "These weights serve 2 areas, but the rows choose among 3: use a router with as many areas as the weights.",
        ),
        (
            lambda slab, groups, rows: learn_slab(
                slab,
                groups,
                None,
                rows[:, :3],
                rows[:, :4],
                follower=Slab(torch.zeros(1, 4, 3), SGD()).target(1, 0),
            ),
            "Expected a follower of shape (1, 3, 4), like the weights that it follows, got (1, 4, 3).",
        ),
    ],
)
def test_what_kernels_would_read_past_its_end_is_refused(act: Callable[..., object], message: str) -> None:
    slab, groups = Slab(torch.zeros(1, 3, 4), SGD()), Groups.of(torch.tensor([0, 2, 2, 0, 1, 0]), 3)
    with pytest.raises(BrodmannError) as caught:
        act(slab, groups, torch.randn(6, 5))
    assert str(caught.value) == message
    assert not slab.value.any()


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


@needs_kernels
@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64", "aarch64", "arm64"), reason="unknown processor"
)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [2, 32])
def test_numbers_too_small_for_all_their_digits_count_as_zero_in_kernels_alone(rows: int, threads: int) -> None:
    small = 1e-40  # a float32 has all of its digits from 1.2e-38 on
    slab = Slab(torch.ones(1, 64, 200), Adam(), torch.ones(1, 64))
    x, still = torch.ones(rows, 200), torch.zeros(rows, 64)
    for one in slab.slabs():
        one.get_buffer("first").fill_(small)
    with using_threads(threads):
        slab.learn(still, x, Groups.single(rows), 0.1, 0.0)
    for one in slab.slabs():
        assert one.get_buffer("first").eq(0.0).all()
        assert one.value.eq(1.0).all()
    assert float(torch.full((100,), small)[7] * 1.0) > 0.0  # outside, numbers are what they were


def test_a_target_on_another_device_is_not_read() -> None:
    output, target = torch.randn(6, 3), torch.zeros(6, dtype=torch.int64)
    assert per_row.cross_entropy(output, target, 0.0) is not None
    assert per_row.cross_entropy(output, target.to("meta"), 0.0) is None


def test_a_bias_of_another_kind_of_number_is_converted() -> None:
    torch.manual_seed(0)
    layer = AreaLinear(64, 32, areas=1)
    layer.shared.bias.value.normal_()  # type: ignore[union-attr]
    x = torch.randn(5, 64)
    expected = layer(x)
    torch.testing.assert_close(layer.bfloat16()(x), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("rule", [Adam(beta2=0.99999999), Adam(beta1=0.9999999)])
def test_moments_that_hardly_move_are_not_rounded_away(rule: Adam) -> None:
    def weights() -> torch.Tensor:
        torch.manual_seed(0)
        learner = Network(mlp(8, 4, depth=1, areas=1, update=rule), lr=1e-2)
        for _ in range(3):
            learner.learn(torch.randn(9, 8), torch.randint(0, 4, (9,)))
        return learner(torch.eye(8))

    compiled = weights()
    with library.switched_off():
        torch.testing.assert_close(compiled, weights())
