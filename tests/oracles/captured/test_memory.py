"""Programs fuse operations and use memory again, and what they return is the caller's own."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import torch
from torch import nn

from brodmann import AreaLinear, Captured, Graph, Network, residual_mlp
from brodmann.kernels.fusion import fuse
from brodmann.recording import Recorder

from ..cases import PATHS
from .parts import Pair, network_of

BY_KERNELS = {"kolen-pollack", "kolen-pollack-per-area", "kolen-pollack-mirrored", "kolen-pollack-equal"}
BY_KERNELS |= {"kolen-pollack-noisy", "transpose"}
"""Paths whose error a kernel adds up, the last one to write it."""


@pytest.mark.parametrize("feedback", PATHS)
def test_a_relu_is_computed_by_the_kernels_of_the_maps_beside_it(feedback: str) -> None:
    network = network_of(depth=2, shared="off", router={"learned": False}, feedback=feedback)
    recorder = Recorder(network.state_dict().values())
    x, y = torch.randn(8, 5), torch.randint(3, (8,))
    network.learn(x, y)  # areas have memory from now on
    with torch.no_grad(), recorder.listening():
        loss = network.learn(x, y)
    fuse(recorder, loss)
    dropped = [call.function.__name__ for call in recorder.calls if call.dropped]
    assert dropped == ["relu.default"] + ["threshold_backward.default"] * (feedback in BY_KERNELS)


def test_what_somebody_else_reads_is_not_fused() -> None:
    torch.manual_seed(0)
    nodes = {"map": (AreaLinear(5, 3, areas=1, feedback=None), "input"), "relu": (nn.ReLU(), "map")}
    for output in ({"both": (torch.add, "relu", "map")}, {"late": (torch.sub, "map", "relu")}):
        assert Pair(Network(Graph({**nodes, **output}))).learn().captured


def test_deep_networks_use_memory_again() -> None:
    def room(depth: int) -> int:
        torch.manual_seed(0)
        step = Captured(Network(residual_mlp(32, 3, depth=depth, width=32, areas=1)))
        for _ in range(3):
            step.learn(torch.randn(64, 32), torch.randint(3, (64,)), lr=0.01)
        assert step.is_captured
        return step.memory

    assert room(34) - room(18) <= 2.5 * (room(18) - room(10))  # which grows by traces alone, not by all it computes
    assert room(34) < 34 * 4 * 64 * 32 * 4


def test_results_are_the_callers() -> None:
    pair = Pair(network_of()).learn()
    x, y = torch.randn(8, 5), torch.randint(3, (8,))
    loss, output = pair.step.learn_with_output(x, y)
    kept = loss.clone(), output.clone()
    pair.step.learn(torch.randn(8, 5), y)
    assert torch.equal(loss, kept[0])
    assert torch.equal(output, kept[1])


def test_threads_do_not_write_into_each_others_results() -> None:
    network = network_of(width=64)
    captured, batches = Captured(network), [torch.randn(64, 5) for _ in range(2)]
    expected = [network(x) for x in batches]
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(lambda k: torch.equal(captured(batches[k]), expected[k]), k) for k in [0, 1] * 300]
    assert all(job.result() for job in jobs)


@pytest.mark.parametrize("copy", [deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copied", "pickled"])
def test_a_copy_learns_by_itself(copy: Callable[[Captured], Captured]) -> None:
    pair = Pair(network_of()).learn()
    other = copy(pair.step)
    for _ in range(4):
        other.learn(torch.randn(8, 5), torch.randint(3, (8,)))
    assert other.is_captured
    assert not torch.equal(next(other.network.parameters()), next(pair.network.parameters()))
    pair.check()
    pair.learn()
