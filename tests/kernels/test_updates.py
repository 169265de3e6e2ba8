"""Oracle: weights and moments move as in pure PyTorch."""

from __future__ import annotations

import platform
from contextlib import nullcontext

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brodmann import SGD, Adam, BrodmannError, Network, UpdateRule, mlp
from brodmann.areas import Slab
from brodmann.kernels import Groups, Served, library, operations
from brodmann.kernels.native import Native

from ..settings import using_threads
from .parts import RULES, Case, also_long, cases, close, needs_kernels


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


@pytest.mark.parametrize("shape", [(3, 400), (1, 400), (400, 300), (1, 300, 400)])
@pytest.mark.parametrize("compiled", [True, False])
def test_a_gradient_of_another_shape_moves_nothing(shape: tuple[int, ...], compiled: bool) -> None:
    """A kernel would read past the end of a smaller one, and take one that is transposed as if it were not."""
    slab = Slab(torch.ones(1, 300, 400), SGD())
    with nullcontext() if compiled else library.switched_off(), pytest.raises(BrodmannError) as caught:
        slab.move(torch.ones(shape), 0.05, 0.0)
    assert str(caught.value) == (
        f"Expected one slot and a gradient of its shape (300, 400), got 1 and {shape}. A gradient (out, in) is "
        "delta.t() @ x; several slots move by `learn`."
    )
    assert torch.equal(slab.value, torch.ones(1, 300, 400))


def test_a_gradient_does_not_move_the_first_of_several_slots() -> None:
    slab = Slab(torch.ones(2, 3, 4), SGD())
    with pytest.raises(BrodmannError, match="Expected one slot and a gradient of its shape"):
        slab.move(torch.ones(3, 4), 0.05, 0.0)
    assert torch.equal(slab.value, torch.ones(2, 3, 4))


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
