"""The error pass holds no gradient buffers: by PyTorch's own record of its allocator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from brodmann import SGD, Adam, BrodmannError, Context, Network, UpdateRule, mlp, residual_mlp
from brodmann.areas import Slab
from brodmann.areas.pages import ask_for_large_pages
from brodmann.telemetry import class_conflict

IN, WIDTH, ROWS = 300, 200, 32


def peak_bytes(step: Callable[[], object]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def peak_inside_learn(areas: int, update: UpdateRule) -> int:
    torch.manual_seed(0)
    network = Network(mlp(IN, 10, width=WIDTH, areas=areas, shared="off", update=update, router={"learned": False}))
    x, y = torch.randn(ROWS, IN), torch.randint(0, 10, (ROWS,))
    network.learn(x, y, lr=1e-30)  # gives memory to the areas that this batch chooses, and keeps the choice
    context = Context(lr=1e-3)
    output, trace = network.body.trace(x, context)
    error, _ = network.output_error(output, y)
    return peak_bytes(lambda: network.body.learn(trace, error, context))


@pytest.mark.parametrize(("update", "scratch"), [(SGD(), 0), (SGD(momentum=0.9), 0), (Adam(), 4 * IN * WIDTH)])
@pytest.mark.parametrize("areas", [4, 64])
def test_learning_needs_one_areas_scratch_and_the_errors(areas: int, update: UpdateRule, scratch: int) -> None:
    # Two errors of the hidden layer, as they came and sorted by area, small change, and the usefulness of every choice.
    errors = 2 * 4 * ROWS * (WIDTH + 10) + 4096 + 4 * ROWS
    assert 0 < peak_inside_learn(areas, update) <= scratch + errors


def test_many_layers_need_the_memory_of_few() -> None:
    """Of 64 blocks, 8 inputs and the traces of 8 blocks: two tensors each, and a few more in passing."""
    learners = [
        Network(residual_mlp(50, 10, depth=66, width=50, areas=1, update=SGD(), recompute=recompute), lr=1e-3)
        for recompute in (False, True)
    ]
    x, y = torch.randn(100, 50), torch.randint(10, (100,))
    plain, lean = (peak_bytes(lambda learner=learner: learner.learn(x, y)) / x.nbytes for learner in learners)
    assert 128 <= plain <= 140
    assert lean <= 34


def test_measuring_the_conflict_of_classes_takes_memory_in_proportion_to_samples() -> None:
    network, x, y = Network(mlp(6, 3, width=8, areas=4)), torch.randn(1000, 6), torch.randint(0, 3, (1000,))
    parts = [(x[:count], y[:count]) for count in (500, 1000)]
    half, whole = (peak_bytes(lambda part=part: class_conflict(network, *part)) for part in parts)
    assert whole < 2.1 * half


def test_large_pages_are_asked_for_and_change_no_number() -> None:
    room = torch.empty(3, 1024, 1024)
    room[0] = 1.0
    ask_for_large_pages(room)  # the system may refuse: the machine decides
    assert bool((room[0] == 1.0).all())
    assert not ask_for_large_pages(torch.empty(4))  # too small to hold one


def test_room_is_not_written_in_pytorchs_deterministic_mode_either(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        slab = Slab(torch.zeros(1, 1024, 1024), SGD(), reserve=10**6)  # 4 TB
        slab.resize(2)
    finally:
        torch.use_deterministic_algorithms(before)
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    assert slab.value.shape == (2, 1024, 1024)


def test_no_room_at_all_is_said() -> None:
    slab = Slab(torch.zeros(1, 64, 64), SGD(), reserve=2)
    with pytest.raises(
        BrodmannError, match="There is not enough memory for 1000000000000 areas of 64 x 64 weights: use fewer"
    ):
        slab.resize(10**12)


def test_room_that_the_system_does_not_promise_grows_as_it_fills() -> None:
    slab = Slab(torch.randn(1, 64, 64), SGD(momentum=0.9), reserve=10**15)
    first = slab.value[0].clone()
    for slots in (2, 3, 9):
        slab.resize(slots)
        slab.value[slots - 1].fill_(slots)
    assert torch.equal(slab.value[0], first)
    assert [float(slab.value[index].mean()) for index in (1, 2, 8)] == [2.0, 3.0, 9.0]
    assert slab.velocity.shape == slab.value.shape
