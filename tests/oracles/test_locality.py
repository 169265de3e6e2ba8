"""Oracles of locality: no graph, no touch of areas that nobody chose, exclusivity, invariances, state."""

from __future__ import annotations

import copy
import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from brodmann import SGD, Adam, AreaLinear, Context, Muon, Network, Rates, Routed, Router, mlp, residual_mlp
from brodmann.network import routers

from ..pairs import pairwise
from .cases import LAYERS, PATHS, RULES
from .copies import assert_same_state

BUILDERS = {"mlp": mlp, "residual_mlp": residual_mlp}


def tensors_in(thing: Any) -> list[Tensor]:
    if isinstance(thing, Tensor):
        return [thing]
    if isinstance(thing, list | tuple):
        return [tensor for part in thing for tensor in tensors_in(part)]
    return (
        [tensor for part in vars(thing).values() for tensor in tensors_in(part)] if hasattr(thing, "__dict__") else []
    )


def steps(network: Network, count: int, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        x = torch.randn(12, 5, generator=generator)
        network.learn(x, torch.randint(0, 3, (12,), generator=generator), lr=0.02)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("layer", LAYERS)
def test_no_tensor_that_leaves_a_method_has_a_graph(path: str, layer: str) -> None:
    torch.manual_seed(0)
    network = Network(residual_mlp(5, 3, depth=4, width=6, feedback=path, **LAYERS[layer]))
    context = Context(lr=0.1, output_error=torch.randn(8, 3))
    x = torch.randn(8, 5, requires_grad=True)
    output, trace = network.body.trace(x, context)
    loss, learned = network.learn_with_output(x.detach(), torch.zeros(8, dtype=torch.long))
    upper = Network(residual_mlp(5, 3, depth=4, width=6, feedback=path, lowest=False, **LAYERS[layer]))
    errors = [*upper.learn_with_error(x, torch.zeros(8, dtype=torch.long))]
    if not isinstance(network.body, Routed):
        block = network.body.layers[1]
        _, inner = block.trace(torch.randn(8, 6), context)
        errors.append(block.learn(inner, torch.randn(8, 6), context))
    for tensor in [output, loss, learned, *tensors_in(trace), *errors]:
        assert tensor.grad_fn is None
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in network.parameters())


@pairwise(rule=RULES, path=PATHS, shared=["learned", "frozen", "off"])
def test_areas_that_no_sample_chose_stay_bit_for_bit(rule: str, path: str, shared: str) -> None:
    torch.manual_seed(0)
    network = Network(
        mlp(
            5,
            3,
            depth=2,
            width=6,
            areas=6,
            routing="layer",
            feedback=path,
            shared=shared,
            update=RULES[rule],
            pooling=0.1,
        )
    )
    steps(network, 8)
    layer = network.area_layers()[1][1]
    before = copy.deepcopy(network)
    x = torch.randn(2, 5)
    hidden = torch.relu(network.body.layers[0](x))
    chosen = set(layer.router.route(hidden).area.tolist())
    network.learn(x, torch.zeros(2, dtype=torch.long), lr=0.1)
    old = before.area_layers()[1][1]
    assert len(chosen) < 6
    for area in range(6):
        slot, was = int(layer.areas.slot[area]), int(old.areas.slot[area])
        moved = [
            not torch.equal(tensor[slot], earlier[was])
            for slab, other in (
                (layer.areas.weight, old.areas.weight),
                (layer.areas.weight.bias, old.areas.weight.bias),
            )
            for tensor, earlier in zip(slab.tensors().values(), other.tensors().values(), strict=True)
        ]
        assert any(moved) == (area in chosen)


@pytest.mark.parametrize("shared", ["frozen", "off"])
@pytest.mark.parametrize("path", ["kolen-pollack", "random", "transpose"])
def test_exclusive_mode_keeps_the_outputs_of_other_cells(shared: str, path: str) -> None:
    torch.manual_seed(0)
    body = mlp(5, 3, depth=3, width=8, areas=5, feedback=path, shared=shared, routing="network")
    network = Network(body, rates=Rates(projection=0.0))
    steps(network, 5)
    x = torch.randn(200, 5)
    area = network.body.router(x).area
    before = [network(x[area == g]) for g in range(5)]
    learned = x[area == 0]
    network.learn(learned, torch.zeros(len(learned), dtype=torch.long), lr=0.1)
    for g in range(1, 5):
        assert torch.equal(network(x[area == g]), before[g])
    assert not torch.equal(network(learned), before[0])


@pytest.mark.parametrize("layer", LAYERS)
def test_the_same_seed_gives_the_same_bits(layer: str) -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(Network(mlp(5, 3, width=6, dropout=0.2, **LAYERS[layer])))
        steps(networks[-1], 4)
    assert_same_state(*networks)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("layer", LAYERS)
def test_the_order_of_samples_does_not_matter(layer: str) -> None:
    torch.manual_seed(0)
    first = Network(mlp(5, 3, width=6, feedback="direct", **LAYERS[layer]))
    second = copy.deepcopy(first)
    x, y, order = torch.randn(20, 5), torch.randint(0, 3, (20,)), torch.randperm(20)
    for _ in range(3):
        first.learn(x, y, lr=0.01)
        second.learn(x[order], y[order], lr=0.01)
    torch.testing.assert_close(first(x), second(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("layer", LAYERS)
def test_forward_and_trace_compute_the_same(builder: str, layer: str) -> None:
    torch.manual_seed(0)
    network = Network(BUILDERS[builder](5, 3, depth=4, width=6, **LAYERS[layer]))
    steps(network, 4)
    x = torch.randn(2, 4, 5)
    torch.testing.assert_close(network(x), network.body.trace(x, Context())[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(network(x)[1], network(x[1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", ["kolen-pollack", "kolen-pollack-per-area", "direct"])
def test_inference_mode_deepcopy_and_loading_change_nothing(rule: str, path: str) -> None:
    def fresh() -> Network:
        torch.manual_seed(0)
        return Network(
            residual_mlp(
                5, 3, depth=4, width=6, areas=4, routing="layer", feedback=path, update=RULES[rule], activation="gelu"
            )
        )

    plain, mixed = fresh(), fresh()
    for round_ in range(4):
        steps(plain, 2, seed=round_)
        with torch.inference_mode(round_ % 2 == 0):
            steps(mixed, 2, seed=round_)
        mixed = copy.deepcopy(mixed)
        other = fresh()  # has no areas yet: loading makes room
        other.load_state_dict(mixed.state_dict(), strict=True)
        mixed = other.to(torch.float64).to(torch.float32)
    assert_same_state(plain, mixed)


def test_a_state_with_fewer_areas_shrinks_the_slabs() -> None:
    torch.manual_seed(0)
    small = Network(mlp(5, 3, width=6, areas=4, routing="layer"))
    large = copy.deepcopy(small)
    steps(large, 8)
    large.load_state_dict(small.state_dict())
    assert_same_state(small, large)


@pytest.mark.parametrize("layer", ["areas", "areas, gated", "areas, shared part off", "areas, more cells"])
@pytest.mark.parametrize("rule", ["sgd", "adam decay"])
def test_splitting_changes_no_output_and_copies_the_state(layer: str, rule: str) -> None:
    torch.manual_seed(0)
    options = {**LAYERS[layer], "areas": 4, "router": {"partition": "manual", "cells": 12}}
    network = Network(mlp(5, 3, width=6, feedback="kolen-pollack-per-area", update=RULES[rule], **options))
    steps(network, 6)
    x = torch.randn(64, 5)
    before = network(x)
    for _, part in network.area_layers():
        new = part.split(0)
        assert new == 1
        for name, tensor in part.areas.weight.tensors().items():
            assert torch.equal(tensor[int(part.areas.slot[0])], tensor[int(part.areas.slot[1])]), name
    torch.testing.assert_close(network(x), before, rtol=1e-6, atol=1e-7)
    same = network(x)
    steps(network, 3)
    assert not torch.equal(network(x), same)
    distances = [part.merge(0, 1) for _, part in network.area_layers()]
    assert all(0 <= distance <= 1 for distance in distances)
    assert max(distances) > 0
    assert all(part.areas.existing == 1 for _, part in network.area_layers())
    assert set(network.area_layers()[0][1].router.partition.tolist()) == {0}


def test_merging_equal_areas_changes_nothing() -> None:
    torch.manual_seed(0)
    body = mlp(5, 3, width=6, areas=4, routing="network", update=Adam(), router={"partition": "manual"})
    network = Network(body)
    steps(network, 5)
    x = torch.randn(32, 5)
    before = network(x)
    network.body.split(0, [3, 5, 9])
    assert network.body.merge(0, 1) == 0.0
    torch.testing.assert_close(network(x), before)


@pytest.mark.parametrize("routing", ["layer", "network"])
def test_merging_tells_how_far_apart_the_maps_were_whatever_their_feedback(routing: str) -> None:
    torch.manual_seed(0)
    options = {"areas": 2, "routing": routing, "shared": "off", "feedback": "kolen-pollack-per-area", "update": SGD()}
    network = Network(mlp(5, 3, width=6, **options))
    steps(network, 4)
    layers = [layer for _, layer in network.area_layers()]
    distances = []
    for layer in layers:
        first, second = layer.areas.weight.value[layer.areas.slot]
        distances.append(float((first - second).norm() / (first.norm() + second.norm())))
    layers[-1].feedback.areas.weight.value[1].mul_(-1)  # as far apart as can be
    if routing == "layer":
        assert [layer.merge(0, 1) for layer in layers] == pytest.approx(distances)
    else:
        assert network.body.merge(0, 1) == pytest.approx(max(distances))


def test_merging_two_areas_leaves_the_others_as_they_were() -> None:
    torch.manual_seed(0)
    layer = AreaLinear(5, 3, areas=6)
    for _ in range(5):
        y, trace = layer.trace(torch.randn(40, 5), Context(lr=0.1))
        layer.learn(trace, torch.randn_like(y), Context(lr=0.1))
    x = torch.randn(100, 5)
    area = layer.router(x).area
    first, second = (int(g) for g in layer.areas.slot.argsort()[:2])  # their slots lie before the others'
    others = (area != first) & (area != second)
    before = layer(x)
    assert layer.areas.existing >= 4
    layer.merge(first, second)
    torch.testing.assert_close(layer(x)[others], before[others])


def test_float64_and_single_areas_inside_a_routed_body_survive_saving(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, areas=4, width=6)).double()
    x = torch.randn(9, 5, dtype=torch.float64)
    network.learn(x, torch.zeros(9, dtype=torch.long), lr=0.1)
    network.save(tmp_path / "network.safetensors")
    assert torch.equal(Network.load(tmp_path / "network.safetensors")(x), network(x))
    layer = AreaLinear(5, 5, areas=1, shared="off", gated=True, router=None).double()
    routed = Routed(Router(5, 4), layer).double()
    torch.testing.assert_close(routed(x), routed.trace(x, Context())[0])


def test_rates_freeze_parts() -> None:
    torch.manual_seed(0)
    network = Network(
        mlp(5, 3, width=6, areas=4, routing="layer"), rates=Rates(shared=0, areas=1, projection=0, feedback=0)
    )
    steps(network, 2)
    before = copy.deepcopy(network)
    steps(network, 2)
    for (_, ours), (_, old) in zip(network.area_layers(), before.area_layers(), strict=True):
        assert torch.equal(ours.shared.value, old.shared.value)
        assert torch.equal(ours.router.projection.value, old.router.projection.value)
        assert not torch.equal(ours.areas.weight.value, old.areas.weight.value)
    feedback = network.area_layers()[1][1].feedback
    assert torch.equal(feedback.shared.value, before.area_layers()[1][1].feedback.shared.value)


@pytest.mark.parametrize("routing", ["layer", "network"])
def test_the_rate_of_a_layer_is_that_of_all_it_holds(routing: str) -> None:
    """Frozen: nothing in it moves. Slowed under SGD: all in it moves by that share. Others: as before."""
    torch.manual_seed(0)
    body = mlp(5, 3, depth=3, width=6, areas=4, routing=routing, update=SGD(), readout_scale=1.0)
    Network(body).allocate()
    before = {name: value.clone() for name, value in body.state_dict().items()}
    x, y = torch.randn(32, 5), torch.arange(32) % 3
    moved = []
    for rate in (1.0, 0.5, 0.0):
        network = Network(copy.deepcopy(body), lr=0.1)
        name, _ = network.area_layers()[1]
        network.rates = Rates(layers={name: rate})
        network.learn(x, y)
        moved.append(
            {key: value - before[key] for key, value in network.body.state_dict().items() if value.is_floating_point()}
        )
    for key, whole in moved[0].items():
        inside = key.startswith(name + ".")
        for change, rate in zip(moved[1:], (0.5, 0.0), strict=True):
            torch.testing.assert_close(change[key], rate * whole if inside else whole)
    assert any(key.startswith(name + ".") and whole.any() for key, whole in moved[0].items())


@pytest.mark.parametrize("routing", ["layer", "network"])
@pytest.mark.parametrize("areas", [1, 4])
def test_names_of_layers_serve_whether_a_route_wraps_them_or_not(areas: int, routing: str) -> None:
    network = Network(mlp(5, 3, depth=3, width=6, areas=areas, routing=routing))
    names = [name for name, _ in network.area_layers()]
    for part in ("layers.2", "body.layers.2"):
        rates = Rates(layers={"layers": 0.5, "body.layers.0": 0.25, part: 0.0})
        network.rates = rates
        assert [rates.of_layer(name) for name in names] == [0.25, 0.0, 0.5]


def test_rates_of_layers_belong_to_their_network_not_to_the_body() -> None:
    torch.manual_seed(0)
    frozen = Network(mlp(5, 3, width=6, areas=1), rates=Rates(layers={"layers": 0.0}))
    Network(frozen.body)
    twin = copy.deepcopy(frozen)
    before = copy.deepcopy(frozen.state_dict())
    for network in (frozen, twin):
        network.learn(torch.randn(8, 5), torch.arange(8) % 3)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("routing", ["layer", "network"])
def test_the_balance_moves_also_where_the_projection_is_frozen_by_rate(routing: str) -> None:
    torch.manual_seed(0)
    body = mlp(5, 3, width=8, areas=4, routing=routing, router={"balance_rate": 0.1})
    network = Network(body, rates=Rates(projection=0.0))
    before = [router.projection.value.clone() for _, router in routers(network)]
    network.learn(torch.randn(9, 5), torch.randint(0, 3, (9,)), lr=0.1)
    for (_, router), projection in zip(routers(network), before, strict=True):
        assert router.balance.any()
        assert torch.equal(router.projection.value, projection)


def test_balance_spreads_the_choice_and_never_touches_the_gate() -> None:
    torch.manual_seed(0)
    layer = AreaLinear(5, 3, areas=8, router=functools.partial(Router, balance_rate=0.05))
    x = torch.randn(256, 5) + 3.0
    counts = torch.bincount(layer.router.route(x).area, minlength=8)
    gates = layer.router.route(x).probabilities
    for _ in range(100):
        y, trace = layer.trace(x, Context(lr=1e-30))
        layer.learn(trace, torch.zeros_like(y), Context(lr=1e-30))
    after = layer.router.route(x)
    assert torch.bincount(after.area, minlength=8).max() < counts.max()
    torch.testing.assert_close(after.probabilities, gates)


@pytest.mark.parametrize(
    ("options", "rates", "expected"),
    [
        ({"update": Adam()}, Rates(), 0.1),
        ({"update": Muon()}, Rates(), 0.1),
        ({"update": Adam()}, Rates(areas=1.0), 1.0),
        ({"update": Adam()}, Rates(shared=0.0), 1.0),
        ({"update": Adam(), "shared": "off"}, Rates(), 1.0),
        ({"update": Adam(), "shared": "frozen"}, Rates(), 1.0),
        ({"update": Adam(), "router": {"partition": "growing"}}, Rates(), 1.0),
        ({"update": SGD()}, Rates(), 1.0),
    ],
)
@pytest.mark.parametrize("routing", ["network", "layer"])
def test_areas_are_slow_beside_a_learning_shared_part_under_adam(
    routing: str, options: dict, rates: Rates, expected: float
) -> None:
    networks = []
    for areas in (rates, dataclasses.replace(rates, areas=expected)):
        torch.manual_seed(0)
        body = mlp(5, 3, width=6, areas=4, routing=routing, feedback="kolen-pollack-per-area", **options)
        networks.append(Network(body, rates=areas))
        steps(networks[-1], 3)
    assert_same_state(*networks)


def test_feedback_maps_per_area_keep_step_with_their_areas() -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, width=6, areas=4, update=Adam(), feedback="kolen-pollack-per-area"))
    steps(network, 4)
    readout = network.area_layers()[1][1]
    own, paired = readout.areas, readout.feedback.areas  # both start at zero beside a shared part
    assert own.weight.value.any()
    assert torch.equal(own.slot, paired.slot)
    assert torch.equal(own.weight.value, paired.weight.value)
