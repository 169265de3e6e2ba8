"""Routers of one's own: what they choose, how builders take them, and what the rows of a route must be."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import (
    Adam,
    AreaLinear,
    BrodmannError,
    CheckpointError,
    Context,
    Local,
    Network,
    Routed,
    Router,
    Sequential,
    from_torch,
    mlp,
)
from brodmann.kernels import Groups
from brodmann.kernels.library import switched_off
from brodmann.network import routers
from brodmann.routing import Recruiting, Route
from brodmann.telemetry import area_choices

from .parts import X, Y, each_of, message_of


def picking(pick: Callable[[Tensor], Any], kind: type[Router] = Router) -> type[Router]:
    """A router whose choice is `pick`'s."""

    class Picking(kind):  # type: ignore[misc, valid-type]
        def choose(self, x: Tensor) -> Any:
            return pick(x)

    return Picking


def routed(router: type[Router], areas: int = 4, **settings: Any) -> Network:
    torch.manual_seed(0)
    body = Sequential(
        AreaLinear(6, 5, areas=areas, router=None, feedback=None, update=Adam()),
        Local(nn.ReLU()),
        AreaLinear(5, 3, areas=areas, router=None, update=Adam()),
    )
    return Network(Routed(router(6, areas, **settings), body))


def by_sign(x: Tensor) -> Tensor:
    return (x[:, 0] > 0).long()


@pytest.mark.parametrize("learned", [True, False])
def test_a_choice_of_ones_own_serves_inference_and_learning(learned: bool) -> None:
    network = routed(picking(by_sign), learned=learned)
    before = network(X)
    positive = X[:, 0] > 0
    network.learn(X[positive], Y[positive], lr=0.01)
    (area,) = area_choices(network, X).values()
    assert torch.equal(area, by_sign(X))
    assert not torch.equal(network(X)[positive], before[positive])
    existing = {int(slot) for slot in network.body.body.layers[0].areas.slot.nonzero()[:, 0]}
    assert existing == {1}  # nobody chose area 0
    own = AreaLinear(6, 3, areas=4, router=picking(by_sign))
    assert own(X).shape == (20, 3)


def test_a_choice_of_ones_own_serves_transforms() -> None:
    network = routed(picking(by_sign))
    network.learn(X, Y)
    alone = torch.func.vmap(lambda sample: network(sample[None])[0])(X)
    torch.testing.assert_close(alone, network(X))


@pytest.mark.parametrize("routing", ["network", "layer"])
@pytest.mark.parametrize("make", [mlp, lambda *sizes, **options: from_torch(nn.Linear(*sizes), **options)])
def test_builders_take_a_router_of_ones_own(make: Any, routing: str, tmp_path: Path) -> None:
    build = partial(make, 6, 3, areas=2, routing=routing, router=partial(picking(by_sign), learned=False))
    network = Network(build())
    network.learn(X, Y)
    assert all(torch.equal(area, by_sign(X)) for area in list(area_choices(network, X).values())[:1])
    assert not any(router.learned for _, router in routers(network))
    network.save(tmp_path / "own.safetensors")  # like any body that is no data
    with pytest.raises(CheckpointError, match="pass a body built by the same code"):
        Network.load(tmp_path / "own.safetensors")
    assert torch.equal(Network.load(tmp_path / "own.safetensors", build())(X), network(X))
    with pytest.raises(BrodmannError, match="Expected router to build a Router, got Linear"):
        make(6, 3, areas=2, routing=routing, router=lambda size, areas, update: nn.Linear(size, areas))
    with pytest.raises(BrodmannError, match="Expected router to be a dictionary .*, or a class .*, got Router"):
        make(6, 3, areas=2, routing=routing, router=Router(6, 2))


class Bending(Router):
    """Learns from rows that it has changed: those of the user, or of the layer below."""

    def learn(self, route: Route, lr: float, weight: Tensor | None = None) -> None:
        route.x.sub_(1.0)
        super().learn(route, lr, weight)


@pytest.mark.parametrize(
    ("router", "method"), [(picking(lambda x: by_sign(x.sub_(1.0))), "choose"), (Bending, "learn")]
)
def test_a_router_that_changes_what_it_routes_is_told(router: type[Router], method: str) -> None:
    with pytest.raises(BrodmannError, match=rf"^\w+.{method} changed in place what it was given, which others read"):
        routed(router).learn(X.clone(), Y)


def test_the_nearest_prototype_as_a_choice_of_ones_own_changes_nothing() -> None:
    class Nearest(Router):
        def choose(self, x: Tensor) -> Tensor:
            return (x @ self.projection.value[0].t() @ self.prototypes.t()).argmax(1)

    plain, own = routed(Router), routed(Nearest)
    for _ in range(5):
        assert torch.equal(plain.learn(X, Y, lr=0.01), own.learn(X, Y, lr=0.01))
    assert torch.equal(plain(X), own(X))


@pytest.mark.parametrize(
    ("kind", "settings"), [(Router, {}), (Recruiting, {"novelty": 0.5}), (Router, {"balance_rate": 0.01})]
)
def test_a_choice_of_ones_own_has_one_gate(kind: type[Router], settings: dict[str, Any]) -> None:
    layer = AreaLinear(6, 3, areas=4, gated=True, router=partial(picking(by_sign, kind), **settings))
    with torch.no_grad():
        layer.areas.allocate(torch.arange(4))
        layer.areas.weight.value.normal_()
    out, _ = layer.trace(X, Context())
    assert torch.allclose(out, layer(X), atol=1e-6)


def test_a_choice_of_ones_own_compiles() -> None:
    network = routed(picking(by_sign))
    assert torch.allclose(torch.compile(network, backend="eager", fullgraph=True)(X), network(X), atol=1e-6)


class Careless(Router):
    """Overrides the route itself, which nothing checks before the rows are grouped."""

    area: Tensor

    def route(self, x: Tensor) -> Route:
        return replace(super().route(x), area=self.area)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("area", "message"),
    [
        (torch.arange(20) % 5, "Expected areas from 0 to 3, got 0 to 4."),
        (torch.arange(20) % 3 - 1, "Expected areas from 0 to 3, got -1 to 1."),
        (torch.zeros(20), "the area of each row, (rows,) torch.int64, got (20,) torch.float32: convert it with"),
        (torch.zeros(20).bool(), "the area of each row, (rows,) torch.int64, got (20,) torch.bool: convert it with"),
        (torch.zeros(20, 1).long(), "the area of each row, (rows,) torch.int64, got (20, 1) torch.int64"),
    ],
)
def test_areas_that_do_not_exist(area: Tensor, message: str, compiled: bool) -> None:
    network = routed(Careless)
    network.body.router.area = area
    weights = [tensor.clone() for tensor in network.state_dict().values()]
    with pytest.raises(BrodmannError) as caught, nullcontext() if compiled else switched_off():
        network.learn(X, Y)
    assert message in str(caught.value)
    assert all(map(torch.equal, weights, network.state_dict().values()))


def test_groups_of_nothing() -> None:
    assert Groups.of(torch.zeros(0, dtype=torch.int64), 3).segments == ()


CASES: list[tuple[Callable[[], object], str]] = [
    (
        lambda: routed(picking(lambda x: x[:, 0] > 0)).learn(X, Y),
        "Picking.choose should return cells, (20,) torch.int64, got (20,) torch.bool.",
    ),
    (
        lambda: routed(picking(lambda x: x))(X),
        "Picking.choose should return cells, (20,) torch.int64, got (20, 6) torch.float32.",
    ),
    (
        lambda: routed(picking(lambda x: 3)).learn(X, Y),
        "Picking.choose should return cells, (20,) torch.int64, got int.",
    ),
    (
        lambda: routed(picking(lambda x: torch.arange(20) % 5)).learn(X, Y),
        "Picking.choose should return cells from 0 to 3, got 0 to 4.",
    ),
    (
        lambda: routed(picking(lambda x: -by_sign(x)))(X),
        "Picking.choose should return cells from 0 to 3, got -1 to 0.",
    ),
    (
        lambda: AreaLinear(6, 3, areas=2, router=lambda size, areas, update: Router(size, 4, update=update)),
        "Expected router to build a Router of 2 areas, as its layer has, got 4.",
    ),
    (
        lambda: AreaLinear(6, 3, areas=2, router=lambda size, areas, update: nn.Linear(size, areas)),  # type: ignore[arg-type,return-value]
        "Expected router to build a Router, got Linear.",
    ),
    (
        lambda: AreaLinear(6, 3, areas=2, router=None)(X, Router(6, 4000).route(X)),
        "These weights serve 2 areas, but the rows choose among 4000: use a router with as many areas as the weights.",
    ),
]


@each_of(CASES)
def test_what_users_may_get_wrong(act: Callable[[], object], message: str) -> None:
    assert message_of(act) == message


@pytest.mark.parametrize("view", [lambda cell: torch.stack([cell, cell], 1)[:, 0], lambda cell: cell[:1].expand(20)])
def test_a_choice_may_be_a_view(view: Callable[[Tensor], Tensor]) -> None:
    networks = [routed(picking(pick)) for pick in (lambda x: view(by_sign(x)), lambda x: view(by_sign(x)).clone())]
    for _ in range(3):
        losses = [network.learn(X, Y, lr=0.1) for network in networks]
        assert losses[0] == losses[1]
    assert torch.equal(networks[0].body.router.projection.value, networks[1].body.router.projection.value)


def test_a_body_that_drops_rows_of_its_route_is_refused_by_inference_too() -> None:
    layers = Sequential(
        AreaLinear(6, 5, areas=4, router=None, feedback=None),
        Local(lambda h: h.reshape(-1, 2, 5)[:, 0]),
        AreaLinear(5, 3, areas=4, router=None),
    )
    network = Network(Routed(Router(6, 4), layers))
    for act in (lambda: network(X), lambda: network.learn(X, Y[::2].repeat(2))):
        with pytest.raises(
            BrodmannError, match="The shared route has 20 rows, but this layer got 10: keep the number of rows"
        ):
            act()
    with torch.enable_grad(), pytest.raises(BrodmannError, match="The shared route has 20 rows"):
        network(X.clone().requires_grad_())


def test_layers_inside_a_further_routed_follow_that_one() -> None:
    inner = Routed(Router(6, 2), AreaLinear(6, 6, areas=2, router=None))
    body = Sequential(
        AreaLinear(6, 6, areas=4, router=None, feedback=None), inner, AreaLinear(6, 3, areas=4, router=None)
    )
    network = Network(Routed(Router(6, 4, partition="manual"), body))
    for _ in range(3):
        network.learn(X, Y, lr=0.1)
    followed = inner.body.areas
    before = followed.weight.value.clone(), followed.slot.clone()
    x = network(X)
    network.body.split(0)
    torch.testing.assert_close(network(X), x)
    assert torch.equal(followed.weight.value, before[0])
    assert torch.equal(followed.slot, before[1])
    outer = Routed(Router(6, 4, partition="manual"), inner)  # directly, too
    outer.split(0)
    assert torch.equal(followed.weight.value, before[0])
    names = list(area_choices(network, X))
    assert names == ["router", "body.layers.1"]


def test_settings_of_conflict_reach_it() -> None:
    network = Network(mlp(6, 3, router={"partition": "growing", "conflict": {"evidence": 64, "certainty": 9.0}}))
    conflict = network.body.router.conflict
    assert (conflict.evidence, conflict.certainty, conflict.opposition) == (64, 9.0, 0.03)
    with pytest.raises(BrodmannError, match="work only with partition='growing', got partition='fixed'"):
        Router(6, 4, conflict={"evidence": 64})
    with pytest.raises(BrodmannError, match="Expected evidence to be a whole number of at least 1, got 0"):
        Router(6, 4, partition="growing", conflict={"evidence": 0})


def test_a_route_that_no_layer_would_follow_is_refused() -> None:
    with pytest.raises(BrodmannError, match="No layer of the body would follow this router: 'layers.0'"):
        Routed(Router(6, 4), Sequential(AreaLinear(6, 3, areas=4)))
    Routed(Router(6, 4), Sequential(AreaLinear(6, 6, areas=4), AreaLinear(6, 3, areas=4, router=None)))
