"""Oracles of areas that split where their samples pull in opposite directions."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from brodmann import Adam, AreaLinear, Context, Graph, Layer, MeanSquaredError, Network, Routed, Router, mlp
from brodmann.layers.steering import Steering
from brodmann.network import routers
from brodmann.routing.conflict import SIZE, Conflict, sketch

from ..pairs import diagonal


def test_sketches_have_the_inner_products_of_the_gradients_on_average() -> None:
    torch.manual_seed(0)
    delta, x = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    found = torch.zeros(3, 3, dtype=torch.float64)
    places = 400
    for place in range(places):
        sketches = sketch(delta, x, place)
        found += sketches @ sketches.t() / SIZE / places
    exact = (delta @ delta.t()) * (x @ x.t())
    assert float((found - exact).norm() / exact.norm()) < 0.05


def test_layers_of_equal_size_do_not_share_their_signs_and_each_keeps_its_own() -> None:
    delta, x = torch.ones(1, 4), torch.ones(1, 6)
    assert torch.equal(sketch(delta, x, 1), sketch(delta, x, 1))
    assert not torch.equal(sketch(delta, x, 1), sketch(delta, x, 2))
    state = torch.random.get_rng_state()
    sketch(torch.ones(1, 5), torch.ones(1, 7), 3)
    assert torch.equal(torch.random.get_rng_state(), state)


def window(conflict: Conflict, pulls: Tensor, noise: float, rows: int = 2048) -> list[tuple[int, list[int]]]:
    """One window of samples spread over the cells, whose sketches scatter about those of their cell (cells, SIZE)."""
    cell = torch.arange(rows) % len(pulls)
    conflict.add(cell, (pulls[cell] + noise * torch.randn(rows, SIZE)) / rows)
    return conflict.end_window(torch.zeros(len(pulls), dtype=torch.int64), room=1)


@pytest.mark.parametrize("seed", range(5))
def test_opposed_cells_are_parted_and_only_after_a_second_window(seed: int) -> None:
    torch.manual_seed(seed)
    direction = torch.randn(SIZE)
    side = torch.tensor([1.0, -1, -1, 1, 1, -1, 1, -1])
    conflict = Conflict(8)
    assert window(conflict, side[:, None] * direction, 3.0) == []
    ((area, cells),) = window(conflict, side[:, None] * direction, 3.0)
    assert area == 0
    assert len({float(side[cell]) for cell in cells}) == 1
    assert len(cells) == 4


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("common", [0.0, 1.0])
def test_cells_without_conflict_stay_together(seed: int, common: float) -> None:
    torch.manual_seed(seed)
    pulls = common * torch.randn(SIZE).expand(8, SIZE)
    conflict = Conflict(8)
    assert [window(conflict, pulls, 3.0) for _ in range(6)] == [[]] * 6


@pytest.mark.parametrize("strength", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_an_area_splits_exactly_where_its_tension_is_above_one(strength: float) -> None:
    torch.manual_seed(0)
    pulls = strength * torch.tensor([1.0, -1, 1, -1])[:, None] * torch.randn(SIZE)
    conflict = Conflict(4)
    assert window(conflict, pulls, 3.0) == []
    assert float(conflict.tension) == 0.0  # nothing was judged yet
    for _ in range(3):
        assert bool(window(conflict, pulls, 3.0)) == (float(conflict.tension) > 1)
    assert (float(conflict.tension) > 1) == (strength >= 0.5)


def test_tension_is_the_smaller_of_opposition_and_certainty_over_their_thresholds() -> None:
    # Two cells of n and m samples pull by one and minus one along one number of the sketch: -(a . b) = n m, |S| = 1.
    def tension(n: int, m: int, **thresholds: float) -> float:
        conflict = Conflict(2, evidence=n + m, **thresholds)
        cell = torch.tensor([0] * n + [1] * m)
        pulls = torch.nn.functional.one_hot(torch.zeros(n + m, dtype=torch.int64), SIZE) * (1.0 - 2 * cell[:, None])
        for _ in range(2):
            conflict.add(cell, pulls / (n + m))
            conflict.end_window(torch.zeros(2, dtype=torch.int64), room=1)
        return float(conflict.tension)

    assert tension(30, 20, opposition=0.5, certainty=1.0) == pytest.approx(2.0)
    assert tension(30, 20, opposition=0.01, certainty=4.0) == pytest.approx(600**0.5 / 4)

    assert tension(8, 8) == pytest.approx(2.0)  # the default certainty, 4
    assert tension(5000, 5000, certainty=1.0) == pytest.approx(1 / 0.03)  # the default opposition


@pytest.mark.parametrize(("opposition", "splits"), [(2 / 3, True), (1.0, False)])
def test_an_area_splits_above_a_tension_of_one(opposition: float, splits: bool) -> None:
    conflict = Conflict(2, evidence=8, opposition=opposition, certainty=1e-3)
    cell = torch.tensor([0] * 4 + [1] * 4)
    pulls = torch.nn.functional.one_hot(torch.zeros(8, dtype=torch.int64), SIZE) * (1.0 - 2 * cell[:, None])
    for _ in range(2):
        conflict.add(cell, pulls / 8)
        found = conflict.end_window(torch.zeros(2, dtype=torch.int64), room=1)
    assert float(conflict.tension) == pytest.approx(1 / opposition)
    assert bool(found) == splits


def test_batches_of_all_sizes_count_alike() -> None:
    cell, pulls = torch.arange(30) % 4, torch.randn(30, SIZE)
    whole, parts = Conflict(4), Conflict(4)
    whole.add(cell, pulls / 30)
    for rows in (slice(0, 10), slice(10, 30)):
        parts.add(cell[rows], pulls[rows] / len(pulls[rows]))
    torch.testing.assert_close(parts.pull, whole.pull)
    torch.testing.assert_close(parts.square, whole.square)
    torch.testing.assert_close(whole.pull[1], pulls[cell == 1].sum(0))


def parted(counts: list[int], means: Tensor, areas: list[int]) -> list[set[int]]:
    """Which cells of each area would stay and leave, after a window of so many samples of each cell's mean pull."""
    conflict = Conflict(len(counts), evidence=sum(counts))
    cell = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    conflict.add(cell, means[cell] / len(cell))
    partition = torch.tensor(areas)
    conflict.end_window(partition, room=7)
    sides = [
        {int(c) for c in ((partition == area) & (conflict.apart == leaving)).nonzero()[:, 0]}
        for area in sorted(set(areas))
        for leaving in (False, True)
    ]
    return sorted(sides, key=sorted)


def test_cells_are_parted_by_their_mean_pulls_each_with_the_weight_of_its_samples() -> None:
    axes = torch.eye(SIZE)
    # Whatever all have in common, and however many samples a cell has.
    means = 5 * axes[0] + torch.tensor([1.0, -1, 1, -1])[:, None] * axes[1]
    assert parted([100, 400, 30, 7], means, [0] * 4) == [{0, 2}, {1, 3}]
    # Two samples that are far apart decide nothing against hundreds.
    means = torch.stack([10 * axes[2], -10 * axes[2], axes[1] + 0.01 * axes[2], -axes[1] + 0.01 * axes[2]])
    first, second = parted([1, 1, 400, 400], means, [0] * 4)
    assert len({2, 3} & first) == len({2, 3} & second) == 1


def test_every_area_is_parted_for_itself() -> None:
    axes = torch.eye(SIZE)
    side = torch.tensor([1.0, 1, -1, 1, -1])[:, None]
    # Area 0 has one cell alone, area 1 two cells of one sample each.
    assert parted([5, 1, 1, 3, 3], side * axes[1], [0, 1, 1, 2, 2]) == [set(), {0}, {1}, {2}, {3}, {4}]


def test_a_parting_whose_side_met_no_sample_is_left_and_the_others_judged() -> None:
    conflict = Conflict(4, evidence=8, opposition=0.5, certainty=1e-3)
    pulls = torch.tensor([1.0, -1, 1, -1])[:, None] * torch.eye(SIZE)[0]
    partition = torch.tensor([0, 0, 1, 1])
    for cells in ([0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 0, 2, 2, 3, 3]):
        cell = torch.tensor(cells)
        conflict.add(cell, pulls[cell] / 8)
        found = conflict.end_window(partition, room=3)
    assert [area for area, _ in found] == [1]


@pytest.mark.parametrize(("budget", "areas"), [(4, [1, 2, 4, 4]), (2, [1, 2, 2, 2])])
def test_what_a_split_leaves_is_parted_in_the_very_next_window(budget: int, areas: list[int]) -> None:
    """Four pulls, two opposed pairs at right angles: first the pairs are parted, then each pair, while areas last."""
    axes = torch.eye(SIZE)
    pulls = torch.stack([axes[0] + axes[1], axes[0] - axes[1], -axes[0] + axes[2], -axes[0] - axes[2]])
    pulls[:, 1:3] *= 1.25
    router = Router(8, budget, cells=4, partition="growing", conflict={"evidence": 64})
    layer = Routed(router, AreaLinear(8, 2, areas=budget, router=None))
    conflict = router.conflict
    assert conflict is not None
    found = []
    for _ in areas:
        cell = torch.arange(64) % 4
        route = replace(router.route(torch.randn(64, 8)), cell=cell)
        route.add_pulls(pulls[cell] / 64)
        Steering(router, layer).learn([route], Context())
        found.append(len(torch.unique(router.partition)))
    assert found == areas
    sides = router.partition.tolist()
    assert (sides[0] == sides[1], sides[0] == sides[2]) == (budget == 2, False)


def test_a_training_that_diverges_ends_a_window_without_a_split() -> None:
    conflict = Conflict(2, evidence=4)
    for _ in range(2):
        conflict.add(torch.tensor([0, 0, 1, 1]), torch.full((4, SIZE), torch.nan))
        assert conflict.end_window(torch.zeros(2, dtype=torch.int64), room=1) == []


def test_a_window_closes_when_the_evidence_is_there_and_then_starts_afresh() -> None:
    conflict = Conflict(2, evidence=10)
    cell, pulls = torch.tensor([0, 0, 1]), torch.ones(3, SIZE)
    for count in (3, 6, 9):
        conflict.add(cell, pulls)
        assert conflict.end_window(torch.zeros(2, dtype=torch.int64), room=1) == []
        assert int(conflict.samples.sum()) == count
    conflict.add(cell, pulls)
    conflict.end_window(torch.zeros(2, dtype=torch.int64), room=1)
    assert int(conflict.samples.sum()) == 0
    assert not conflict.pull.any()
    assert not conflict.square.any()


def task(kind: str, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two opposite linear maps on two half-spaces, or one map on both: samples, targets, side."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 10, generator=generator)
    y = x @ torch.randn(10, 3, generator=torch.Generator().manual_seed(99))
    side = x[:, 0] > 0
    if kind == "planted":
        y = torch.where(side[:, None], y, -y)
    return x, y + 0.3 * torch.randn(count, 3, generator=generator), side


def grown(kind: str, seed: int, routing: str, learned: bool = True) -> Network:
    torch.manual_seed(seed)
    router = {"partition": "growing", "cells": 64, "learned": learned}
    body = mlp(10, 3, depth=1, areas=16, routing=routing, router=router, update=Adam(decay=0.2))
    network = Network(body, MeanSquaredError())
    x, y, _ = task(kind, 4000, seed)
    for epoch in range(25):
        lr = 1e-2 * (1 + math.cos(math.pi * epoch / 25)) / 2
        for rows in torch.randperm(4000).split(64):
            network.learn(x[rows], y[rows], lr=lr)
    return network


def purity(network: Network, x: Tensor, side: Tensor) -> tuple[float, int]:
    """Share of samples on the side to which most of their area belongs, and the number of areas."""
    ((_, router),) = routers(network)
    area = router(x).area
    right = sum(max(int(side[area == g].sum()), int((~side[area == g]).sum())) for g in area.unique())
    return right / len(x), len(area.unique())


@diagonal(routing=["layer", "network"], seed=[0, 1])
def test_a_planted_conflict_is_found_at_its_boundary_and_a_homogeneous_task_stays_one_area(
    routing: str, seed: int
) -> None:
    x, y, side = task("planted", 2000, 1000 + seed)
    network = grown("planted", seed, routing)
    assert purity(network, x, side)[0] >= 0.95
    assert float((network(x) - y).square().mean() / y.var()) < 0.15
    x, y, side = task("homogeneous", 2000, 1000 + seed)
    network = grown("homogeneous", seed, routing)
    assert purity(network, x, side)[1] == 1
    assert float((network(x) - y).square().mean() / y.var()) < 0.02


def test_the_boundary_is_found_by_the_projection_that_learns() -> None:
    x, _, side = task("planted", 2000, 1000)
    assert purity(grown("planted", 0, "layer", learned=False), x, side)[0] < 0.8


class _AlwaysSplit(Conflict):
    def _judged(self, partition: Tensor) -> Iterator[tuple[int, list[int], float]]:
        for area in torch.unique(partition).tolist():
            own = (partition == area).nonzero()[:, 0].tolist()
            if len(own) > 1:
                yield area, own[: len(own) // 2], 2.0


@pytest.mark.parametrize("routing", ["layer", "network"])
def test_growth_changes_no_output_keeps_to_the_budget_and_goes_through_a_checkpoint(routing: str) -> None:
    torch.manual_seed(0)
    body: Layer = mlp(5, 3, width=6, areas=4, routing=routing, router={"partition": "growing"}, update=Adam())
    network = Network(body)
    x, y = torch.randn(40, 5), torch.randint(0, 3, (40,))
    network.learn(x, y)
    for part in network.modules():
        if isinstance(part, AreaLinear | Routed) and part.router is not None:
            part.router.conflict = _AlwaysSplit(part.router.cells, evidence=1)
    before = network(x)
    network.learn(x, y, lr=0.0)  # a rate of 0 freezes the partition too
    assert all(len(torch.unique(router.partition)) == 1 for _, router in routers(network))
    network.learn(x, y, lr=1e-30)  # nothing moves but the partition
    assert all(len(torch.unique(router.partition)) == 2 for _, router in routers(network))
    torch.testing.assert_close(network(x), before)
    for _ in range(4):
        network.learn(x, y, lr=1e-3)
    assert all(len(torch.unique(router.partition)) == 4 for _, router in routers(network))
    again = copy.deepcopy(network)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x), network(x))


def test_a_body_in_several_places_splits_once_all_have_moved_it() -> None:
    torch.manual_seed(0)
    layer = AreaLinear(5, 5, areas=4, router=None)
    routed = Routed(Router(5, 4, partition="growing"), layer)
    routed.router.conflict = _AlwaysSplit(routed.router.cells, evidence=1)
    start = layer.as_linear(0).weight
    network = Network(Graph({"first": (routed, "input"), "bent": (torch.tanh, "first"), "second": ("first", "bent")}))
    network.learn(torch.randn(40, 5), torch.randint(0, 5, (40,)), lr=0.1)
    first, *others = (layer.as_linear(area).weight for area in torch.unique(routed.router.partition).tolist())
    assert others
    assert all(torch.equal(other, first) for other in others)
    assert not torch.equal(first, start)


def test_a_window_goes_through_a_checkpoint_halfway() -> None:
    def fresh() -> Network:
        torch.manual_seed(0)
        router = {"partition": "growing", "cells": 64}
        return Network(mlp(10, 3, depth=1, areas=8, router=router, update=Adam()), MeanSquaredError())

    x, y, _ = task("planted", 2000, 0)
    whole, parts = fresh(), fresh()
    for step, rows in enumerate(torch.arange(2000).repeat(8).split(64)):
        whole.learn(x[rows], y[rows], lr=1e-2)
        parts.learn(x[rows], y[rows], lr=1e-2)
        if step % 20 == 7:
            other = fresh()
            other.load_state_dict(parts.state_dict())
            parts = other
    assert len(torch.unique(routers(whole)[0][1].partition)) > 1
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name


def test_a_layer_with_one_area_measures_nothing_for_the_route_around_it() -> None:
    layer, router = AreaLinear(5, 3, areas=1), Router(5, 2, partition="growing")
    x = torch.randn(4, 5)
    route = router.route(x)
    y, trace = layer.trace(x, Context(lr=0.1, route=route))
    layer.learn(trace, torch.randn_like(y), Context(lr=0.1, route=route))
    assert route.grows
    assert not route.pulls.any()
