"""Properties of grouping, routing, storage, splitting and merging, on drawn shapes and values."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann import (
    SGD,
    Adam,
    AreaLinear,
    Context,
    KolenPollack,
    Local,
    Network,
    Rates,
    Residual,
    RMSNorm,
    Routed,
    Router,
    Sequential,
)
from brodmann.areas import AreaMap, Slab
from brodmann.feedback import Direct, FixedRandom, Shape, Signal
from brodmann.kernels import Groups
from brodmann.layer import Layer

few = settings(max_examples=40)


def learn(layer: Layer, rows: int = 40, lr: float = 0.1) -> None:
    y, trace = layer.trace(torch.randn(rows, 5), Context(lr=lr))
    layer.learn(trace, torch.randn_like(y), Context(lr=lr))


@few
@given(area=st.lists(st.integers(0, 6), max_size=30))
def test_groups_sort_by_area_and_come_back(area: list[int]) -> None:
    chosen = torch.tensor(area, dtype=torch.int64)
    groups = Groups.of(chosen, 7)
    rows = torch.arange(len(area) * 2).reshape(-1, 2)
    assert torch.equal(groups.unsort(groups.sort(rows)), rows)
    ordered = groups.sort(chosen)
    assert [index for index, _, _ in groups.segments] == sorted(set(area))
    assert sum(stop - start for _, start, stop in groups.segments) == len(area)
    for index, start, stop in groups.segments:
        assert stop > start
        assert (ordered[start:stop] == index).all()


def test_a_single_group_holds_every_row_and_an_empty_batch_none() -> None:
    assert Groups.single(3).segments == ((0, 0, 3),)
    assert Groups.single(0).segments == ()
    assert Groups.of(torch.tensor([4, 4]), 7).segments == ((4, 0, 2),)
    assert Groups.of(torch.tensor([4, 4]), 7).whole.segments == ((0, 0, 2),)


def test_groups_without_some_areas_leave_every_row_where_it_lies() -> None:
    two = Groups.of(torch.tensor([4, 2, 4, 1]), 7).without([2, 5])
    assert two.segments == ((1, 0, 1), (4, 1, 3))
    assert two.order.tolist() == [3, 0, 2, 1]
    assert two.without({1, 4}).segments == ()
    assert Groups.single(3).without([0]).segments == ()


@few
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_routing_asks_for_the_direction_alone(seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    router = Router(6, 5, cells=9).double()
    x = torch.randn(20, 6, dtype=torch.float64)
    route, scaled = router.route(x), router.route(x * scale)
    assert torch.equal(route.cell, scaled.cell)
    torch.testing.assert_close(route.gate, scaled.gate)


def test_a_sample_of_zeros_takes_cell_0_whatever_the_balance_and_moves_nothing() -> None:
    router = Router(6, 5, balance_rate=0.1)
    router.balance[3] = 10.0
    x = torch.zeros(4, 6)
    route = router.route(x)
    assert route.cell.tolist() == [0] * 4
    before = router.projection.value.clone()
    route.gate_error.fill_(1.0)
    router.learn(route, lr=1.0)
    assert torch.equal(router.projection.value, before)


def test_the_balance_counts_cells_and_moves_by_its_rate() -> None:
    torch.manual_seed(0)
    router = Router(6, 2, cells=4, balance_rate=0.25, learned=False)
    before = router.projection.value.clone()
    route = router.route(torch.randn(30, 6))
    route.gate_error.fill_(1.0)
    router.learn(route, lr=1.0)
    load = torch.bincount(route.cell, minlength=4)
    assert torch.equal(router.balance, 0.25 * torch.sign(7.5 - load))
    assert torch.equal(router.projection.value, before)


def test_defaults_of_a_router() -> None:
    torch.manual_seed(0)
    assert Router(6, 5).cells == 5
    assert Router(6, 5).partition.tolist() == [0, 1, 2, 3, 4]
    assert Router(6, 3, cells=7).partition.tolist() == [0, 1, 2, 0, 1, 2, 0]
    manual = Router(6, 5, partition="manual")
    assert manual.cells == 20
    assert set(manual.partition.tolist()) == {0}
    router = Router(400, 5, dimension=300)
    assert router.learned
    assert router.projection.value.std() == pytest.approx(400**-0.5, rel=0.02)
    torch.testing.assert_close(router.prototypes.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("bias", [True, False])
def test_an_area_map_computes_its_own_maps_with_and_without_bias(bias: bool) -> None:
    torch.manual_seed(0)
    map_ = AreaMap(4, torch.randn(3, 5), torch.randn(3) if bias else None, SGD())
    x, delta, area = torch.randn(12, 5), torch.randn(12, 3), torch.arange(12) % 3
    groups = Groups.of(area, 4)
    map_.learn(delta, x, groups, lr=0.1, decay=0.0)
    assert map_.existing == 3
    assert int(map_.slot[3]) == 0
    expected = torch.stack([x[i] @ map_.weight.value[map_.slot[area[i]]].T for i in range(12)])
    if map_.weight.bias is not None:
        expected += map_.weight.bias.value[map_.slot[area]]
    torch.testing.assert_close(map_(x, area), expected)
    torch.testing.assert_close(map_.product(x, groups), expected)


def test_a_slab_keeps_what_it_has_and_starts_new_slots_from_the_origin() -> None:
    torch.manual_seed(0)
    slab = Slab(torch.randn(2, 3, 4), Adam())
    for slot in (0, 1):
        slab.learn(torch.randn(5, 3), torch.randn(5, 4), Groups.of(torch.full((5,), slot), 2), 0.1, 0.0)
    before = {name: tensor.clone() for name, tensor in slab.tensors().items()}
    slab.resize(4)
    for name, tensor in slab.tensors().items():
        assert torch.equal(tensor[:2], before[name])
        fresh = before["value"][:1].expand(2, 3, 4) if name == "value" else torch.zeros_like(tensor[2:])
        assert torch.equal(tensor[2:], fresh)


def test_merging_takes_the_mean_reports_the_distance_and_frees_memory() -> None:
    torch.manual_seed(0)
    map_ = AreaMap(4, torch.randn(3, 5), torch.zeros(3), Adam())
    for area in (0, 1, 1, 2):
        map_.learn(torch.randn(4, 3), torch.randn(4, 5), Groups.of(torch.full((4,), area), 4), lr=0.1, decay=0.0)
    slabs = {"weight": map_.weight, "bias": map_.weight.bias}
    before = {
        (kind, name): tensor[map_.slot].clone()
        for kind, slab in slabs.items()
        for name, tensor in slab.tensors().items()
    }
    apart = map_.merge(0, 1)
    a, b = before["weight", "value"][:2]
    assert apart == pytest.approx(float((a - b).norm() / (a.norm() + b.norm())))
    for (kind, name), old in before.items():
        new = slabs[kind].tensors()[name][map_.slot]
        expected = old[1] if name == "steps" else (old[0] + old[1]) / 2
        torch.testing.assert_close(new[0], expected)
        assert torch.equal(new[2], old[2])
    assert map_.existing == 2
    assert int(map_.slot[1]) == 0
    assert int(map_.slot[3]) == 0


def test_merging_areas_that_nobody_chose_changes_nothing() -> None:
    map_ = AreaMap(3, torch.zeros(3, 5), None, SGD())
    assert map_.merge(0, 1) == 0.0
    assert map_.existing == 0
    map_.learn(torch.randn(4, 3), torch.randn(4, 5), Groups.single(4), lr=0.1, decay=0.0)
    before = map_.weight.value[map_.slot[0]].clone()
    assert map_.merge(0, 1) == 1.0  # with one that is still at zero: as far apart as can be, and half of it
    torch.testing.assert_close(map_.weight.value[map_.slot[0]], before / 2)
    assert map_.existing == 1


def test_a_split_takes_the_cells_that_it_is_told_to() -> None:
    torch.manual_seed(0)
    manual = {"partition": "manual", "cells": 6}
    layer = AreaLinear(5, 3, areas=3, router=functools.partial(Router, **manual))
    assert layer.split(0, [4]) == 1
    assert layer.router.partition.tolist() == [0, 0, 0, 0, 1, 0]
    routed = Routed(Router(5, 3, **manual), AreaLinear(5, 3, areas=3, router=None))
    assert routed.split(0, [2, 4]) == 1
    assert routed.router.partition.tolist() == [0, 0, 1, 0, 1, 0]
    assert routed.split(0) == 2
    assert routed.router.partition.tolist() == [0, 0, 1, 2, 1, 2]
    assert routed.merge(2, 1) == 0.0  # nobody has learned anything yet
    assert routed.router.partition.tolist() == [0, 0, 2, 2, 2, 2]
    for cells in (torch.tensor([3]), {3}, [3] * 20, range(3, 4)):
        again = Routed(Router(5, 3, **manual), AreaLinear(5, 3, areas=3, router=None))
        assert again.split(0, cells) == 1
        assert again.router.partition.tolist() == [0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("options", [{"shared": "off"}, {"feedback": functools.partial(KolenPollack, per_area=True)}])
def test_a_layer_with_one_area_has_nothing_to_split(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    single = AreaLinear(5, 5, areas=1, **options)
    body = Sequential(AreaLinear(5, 5, areas=3, router=None), single, AreaLinear(5, 5, areas=3, router=None))
    routed = Routed(Router(5, 3, partition="manual"), body)
    learn(routed)
    before, x = {name: value.clone() for name, value in single.state_dict().items()}, torch.randn(9, 5)
    out = routed(x)
    assert routed.split(0) == 1
    torch.testing.assert_close(routed(x), out)
    routed.merge(0, 1)
    assert all(torch.equal(value, before[name]) for name, value in single.state_dict().items())


def test_areas_are_split_and_merged_while_weights_ask_for_gradients() -> None:
    torch.manual_seed(0)
    routed = Routed(Router(5, 3, partition="manual"), AreaLinear(5, 5, areas=3, router=None))
    learn(routed)
    routed.requires_grad_()
    assert routed.split(0) == 1
    routed.merge(0, 1)
    assert all(parameter.requires_grad for parameter in routed.parameters())


def test_splitting_leaves_layers_with_a_router_of_their_own_alone() -> None:
    torch.manual_seed(0)
    path = functools.partial(KolenPollack, per_area=True)
    inner, outer = AreaLinear(5, 5, areas=3, feedback=path), AreaLinear(5, 5, areas=3, router=None, feedback=path)
    nested = Routed(Router(5, 3), AreaLinear(5, 5, areas=3, router=None))
    routed = Routed(Router(5, 3, partition="manual"), Sequential(inner, nested, outer))
    learn(routed)
    apart = [inner.areas, inner.feedback.areas, nested.body.areas]
    own = [map_.weight.value.clone() for map_ in apart]
    routed.split(0)
    assert all(torch.equal(map_.weight.value, before) for map_, before in zip(apart, own, strict=True))
    for map_ in (outer.areas, outer.feedback.areas):
        assert map_.slot.tolist() == [1, 2, 0]
        assert torch.equal(map_.weight.value[1], map_.weight.value[2])


def shape(shared: bool, **options: int) -> Shape:
    return Shape(options.get("inputs", 5), options.get("outputs", 3), 4, shared, None, SGD())


def signal(x: torch.Tensor, delta: torch.Tensor, part_delta: torch.Tensor) -> Signal:
    return Signal(x, delta, part_delta, Groups.single(len(x)), None, None, None)


def test_feedback_starts_at_the_scale_of_the_forward_weights() -> None:
    torch.manual_seed(0)
    wide = shape(True, inputs=400, outputs=300)
    for matrix in (FixedRandom(wide).matrix, KolenPollack(wide).shared.value, Direct(wide, outputs=300).matrix):
        assert matrix.std() == pytest.approx(400**-0.5, rel=0.02)
        assert abs(float(matrix.mean())) < 1e-3


@pytest.mark.parametrize("per_area", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_kolen_pollack_follows_the_part_that_it_is_paired_with(shared: bool, per_area: bool) -> None:
    torch.manual_seed(0)
    path = KolenPollack(shape(shared), per_area=per_area)
    assert (path.shared is None) == (per_area and not shared)
    assert (path.areas is None) == (not per_area)
    x, delta, part = torch.randn(6, 5), torch.randn(6, 3), torch.randn(6, 3)
    common = None if path.shared is None else path.shared.value[0].clone()
    own = None if path.areas is None else path.areas.weight.value[0].clone()
    if own is not None:
        assert bool(own.any()) == (not shared)
    below = torch.zeros(6, 5)
    driver = delta if shared else part
    if common is not None:
        below = driver @ common
    if own is not None:
        below = below + part @ own
    torch.testing.assert_close(path.error(signal(x, delta, part)), below)


@pytest.mark.parametrize("shared", ["learned", "frozen", "off"])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("per_area", [False, True])
@pytest.mark.parametrize("shared_rate", [1.0, 0.0])
def test_kolen_pollack_receives_the_factors_of_the_part_that_it_is_paired_with(
    shared: str, gated: bool, per_area: bool, shared_rate: float
) -> None:
    torch.manual_seed(0)
    path = functools.partial(KolenPollack, per_area=per_area)
    layer = AreaLinear(5, 3, areas=4, shared=shared, gated=gated, feedback=path, update=SGD(decay=0.5), pooling=0.3)
    x, delta = torch.randn(20, 5), torch.randn(20, 3)
    before = None if layer.feedback.shared is None else layer.feedback.shared.value[0].clone()
    origin = None if layer.feedback.areas is None else layer.feedback.areas.weight.value[0].clone()
    _, trace = layer.trace(x, Context())
    layer.learn(trace, delta, Context(lr=0.1, rates=Rates(shared=shared_rate, areas=2.0, feedback=0.5)))
    part = delta * trace.route.gate[:, None] if gated else delta
    if before is not None:
        driver, decay = (delta, 0.5) if shared == "learned" else (part, 0.8)
        torch.testing.assert_close(layer.feedback.shared.value[0], (1 - 0.05 * decay) * before - 0.05 * driver.T @ x)
    if origin is not None:
        for area in trace.route.area.unique().tolist():
            rows, slot = trace.route.area == area, layer.feedback.areas.slot[area]
            expected = (1 - 0.1 * 0.8) * origin - 0.1 * part[rows].T @ x[rows]
            torch.testing.assert_close(layer.feedback.areas.weight.value[slot], expected)


def test_defaults_of_a_layer() -> None:
    torch.manual_seed(0)
    layer = AreaLinear(400, 300, update=Adam())
    assert (layer.budget, layer.gated, layer.pooling, layer.shared_mode) == (16, False, 0.0, "learned")
    assert layer.shared.value.std() == pytest.approx(400**-0.5, rel=0.02)
    assert not layer.areas.weight.value.any()
    assert isinstance(layer.feedback, KolenPollack)
    assert layer.router.projection.update_rule == Adam()
    assert AreaLinear(4, 4, areas=2).router.areas == 2
    assert AreaLinear(4, 4, areas=1).router is None
    assert Residual(layer).alpha == 1.0


def test_the_router_learns_nothing_where_nothing_asks_for_it() -> None:
    torch.manual_seed(0)
    for options, kept in (({}, True), ({"learned": False}, False), ({"learned": False, "balance_rate": 0.1}, False)):
        layer = AreaLinear(5, 3, areas=4, router=functools.partial(Router, **options))
        _, trace = layer.trace(torch.randn(6, 5), Context())
        assert (trace.own is not None) == kept
        layer.learn(trace, torch.ones(6, 3), Context(lr=0.1))
        assert layer.router.balance.any() == ("balance_rate" in options)
        routed = Routed(Router(5, 4, **options), AreaLinear(5, 3, areas=4, router=None))
        _, (_, trace) = routed.trace(torch.randn(6, 5), Context())
        assert (trace.own is not None) == kept


@pytest.mark.usefixtures("double")
def test_norm_has_a_mean_square_of_one() -> None:
    torch.manual_seed(0)
    x = 3 + torch.randn(4, 7)
    expected = torch.stack([row / (row.square().mean() + 1e-6).sqrt() for row in x])
    torch.testing.assert_close(RMSNorm()(x), expected)
    torch.testing.assert_close(RMSNorm()(torch.zeros(1, 7)), torch.zeros(1, 7))


def test_dropout_draws_while_learning_only_and_its_error_takes_the_same_mask() -> None:
    torch.manual_seed(0)
    layer = Local(torch.nn.Dropout(0.5))
    x = torch.ones(200, 5)
    assert torch.equal(layer(x), x)
    y, trace = layer.trace(x, Context())
    assert 0.4 < float((y == 0).float().mean()) < 0.6
    assert torch.equal(layer.learn(trace, torch.ones_like(x), Context()), y)  # 0 or 2, as the output
    assert torch.equal(layer(x), x)
    layer.train()
    assert torch.equal(layer(x), x)


def test_inference_tensors_pass_through_any_operation() -> None:
    torch.manual_seed(0)
    layer = Local(torch.tanh)
    with torch.inference_mode():
        x, error = torch.randn(3, 4), torch.randn(3, 4)
        y, trace = layer.trace(x, Context())
        below = layer.learn(trace, error, Context())
    torch.testing.assert_close(below, error * (1 - y.square()))
    assert not below.is_inference()


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("bias", [True, False])
def test_autograd_through_inference_is_exact_for_those_who_ask(bias: bool) -> None:
    torch.manual_seed(0)
    map_ = AreaMap(4, torch.randn(3, 5), torch.randn(3) if bias else None, SGD())
    area = torch.tensor([0, 2, 2, 1, 0, 2])
    map_.learn(torch.randn(6, 3), torch.randn(6, 5), Groups.of(area, 4), lr=0.1, decay=0.0)
    parameters = [slab.value.requires_grad_() for slab in (map_.weight, map_.weight.bias) if slab is not None]
    x = torch.randn(6, 5, requires_grad=True)
    found = torch.autograd.grad((map_(x, area) ** 2).sum(), [x, *parameters])
    out = torch.einsum("ni,noi->no", x, map_.weight.value[map_.slot[area]])
    out = out if map_.weight.bias is None else out + map_.weight.bias.value[map_.slot[area]]
    for ours, theirs in zip(found, torch.autograd.grad((out**2).sum(), [x, *parameters]), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_balance_is_added_to_the_cosine_whatever_the_length_of_the_projection() -> None:
    torch.manual_seed(0)
    router = Router(6, 5, balance_rate=0.1)
    router.balance.copy_(torch.randn(5))
    x = torch.randn(60, 6) * torch.logspace(-2, 2, 60)[:, None]
    u = x @ router.projection.value[0].t()
    cosine = torch.nn.functional.cosine_similarity(u[:, None], router.prototypes[None], dim=-1)
    assert torch.equal(router.route(x).cell, (cosine + router.balance).argmax(1))
    assert not torch.equal(router.route(x).cell, cosine.argmax(1))


def test_plain_descent_keeps_no_state() -> None:
    assert SGD().state_shapes((3, 4)) == {}
    assert SGD(momentum=0.5).state_shapes((3, 4)) == {"velocity": (3, 4)}


def test_areas_that_come_to_exist_move_none_of_those_before() -> None:
    map_ = AreaMap(6, torch.zeros(3, 5), torch.zeros(3), SGD())
    map_.allocate(torch.tensor([2]))
    places = map_.weight.value.data_ptr(), map_.weight.bias.value.data_ptr()
    map_.allocate(torch.arange(6))
    assert map_.existing == 6
    assert (map_.weight.value.data_ptr(), map_.weight.bias.value.data_ptr()) == places


def test_two_areas_are_areas_and_biases_have_a_number_for_each_output() -> None:
    layer = AreaLinear(4, 3, areas=2)
    assert layer.areas is not None
    assert layer.shared.bias.value.shape == (1, 3)
    assert layer.areas.weight.bias.value.shape == (1, 3)  # the origin alone
    assert AreaLinear(4, 3, areas=1).areas is None


@pytest.mark.parametrize(("start_scale", "weights", "feedback"), [(1.0, 1.0, 1.0), (0.1, 0.1, 0.1), (0.0, 0.0, 1.0)])
def test_weights_and_feedback_start_at_the_scale_that_is_asked_for(
    start_scale: float, weights: float, feedback: float
) -> None:
    torch.manual_seed(0)
    layer = AreaLinear(400, 300, areas=2, start_scale=start_scale)
    assert float(layer.shared.value.std() * 20) == pytest.approx(weights, rel=0.02)
    assert float(layer.feedback.shared.value.std() * 20) == pytest.approx(feedback, rel=0.02)


@pytest.mark.parametrize("scale", [0.2, 3.0])
def test_feedback_starts_at_the_scale_of_a_map_that_is_given(scale: float) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(400, 300)
    torch.nn.init.normal_(linear.weight, std=scale / 20)
    layer = AreaLinear(400, 300, areas=1, start=linear)
    assert float(layer.feedback.shared.value.std() * 20) == pytest.approx(scale, rel=0.02)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("rate", [0.0, 0.25, 2.0])
def test_the_rate_of_the_shared_part_multiplies_its_step(rate: float) -> None:
    moves = []
    for chosen in (1.0, rate):
        torch.manual_seed(0)
        network = Network(Sequential(AreaLinear(5, 3, areas=4, feedback=None)), rates=Rates(shared=chosen))
        slabs = network.body.layers[0].shared, network.body.layers[0].shared.bias
        before = [slab.value.clone() for slab in slabs]
        network.learn(torch.randn(8, 5), torch.randint(0, 3, (8,)), lr=0.1)
        moves.append([slab.value - old for slab, old in zip(slabs, before, strict=True)])
    for one, other in zip(*moves, strict=True):
        torch.testing.assert_close(other, rate * one)
