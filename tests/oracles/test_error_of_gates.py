"""The error of gates, which goes down through routers that have feedback; see also `test_backpropagation`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from brodmann import (
    Adam,
    AreaLinear,
    BrodmannError,
    Convolution,
    Layer,
    Local,
    Network,
    Patches,
    Rates,
    Routed,
    Router,
    Sequential,
    from_torch,
    mlp,
)
from brodmann.builders import FEEDBACKS
from brodmann.feedback import KolenPollack, Transpose
from brodmann.mirror import mirror_weights

from .reference import Reference

DOWN = {"areas": 4, "gated": True, "routing": "layer", "router": {"feedback": "kolen-pollack"}}


def batch(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.randn(12, 5), torch.randint(0, 3, (12,))


def of_one_route() -> Layer:
    """Builds a routed body of which one of three layers has no gate."""
    parts = {"areas": 4, "router": None, "feedback": Transpose, "update": Adam()}
    layers = (AreaLinear(6, 6, gated=gated, **parts) for gated in (True, False, True))
    first = AreaLinear(5, 6, areas=1, feedback=None, update=Adam())
    return Sequential(first, Routed(Router(6, 4, feedback=Transpose, update=Adam()), Sequential(*layers)))


def converted() -> Layer:
    """Builds a converted model with a part whose two maps follow one route."""
    inside = nn.Sequential(nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 6))
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), inside, nn.Linear(6, 3))
    own = {"areas": 4, "gated": True, "routing": "module", "router": {"feedback": "transpose"}}
    return from_torch(model, (5,), areas=1, feedback="transpose", layers={"2": own})


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("body", [of_one_route, converted])
def test_it_comes_from_the_layers_with_a_gate_alone(body: object) -> None:
    torch.manual_seed(0)
    network = Network(body())  # type: ignore[operator]
    reference = Reference(network)
    for step in range(6):
        x, target = batch(step)
        torch.testing.assert_close(network.learn(x, target, lr=0.05), reference.step(x, target, 0.05))
    lowest = next(part for part in network.modules() if isinstance(part, AreaLinear))
    assert lowest.shared is not None
    torch.testing.assert_close(lowest.shared.value[0], reference.parts[lowest, "W0"].value.detach())


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("routing", ["module", "network"])
def test_a_part_that_is_gated_once_is_an_expert_of_a_mixture(routing: str) -> None:
    """Areas start as copies of the model's maps: the part returns what these do, times the gate."""
    torch.manual_seed(0)
    inside = nn.Sequential(nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 6))
    own = {"areas": 4, "shared": "off", "gated": "last"}
    if routing == "module":
        body = from_torch(nn.Sequential(inside), (6,), areas=1, layers={"0": own | {"routing": "module"}})
    else:
        body = from_torch(inside, (6,), routing="network", **own)  # type: ignore[arg-type]
    (router,) = (part for part in body.modules() if isinstance(part, Router))
    x = torch.randn(9, 6)
    torch.testing.assert_close(body(x), router.route(x).gate[:, None] * inside(x))
    assert [part.gated for part in body.modules() if isinstance(part, AreaLinear)] == [False, True]


def test_of_layers_with_routers_of_their_own_each_is_the_last() -> None:
    layers = [part for part in mlp(5, 3, routing="layer", gated="last").modules() if isinstance(part, AreaLinear)]
    assert [layer.gated for layer in layers] == [True, True]


def routers_above(network: Network) -> list[Router]:
    return [part for part in network.modules() if isinstance(part, Router) and part.feedback is not None]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("rates", "apart"), [(Rates(), True), (Rates(feedback=0.0), False), (Rates(projection=0.0), True)]
)
def test_a_projection_and_its_feedback_move_by_the_same_steps(rates: Rates, apart: bool) -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, width=6, depth=3, update=Adam(), **DOWN), rates=rates)
    pairs = [(router.projection, router.feedback.shared) for router in routers_above(network)]  # type: ignore[union-attr]
    assert len(pairs) == 2
    before = [(p.value.clone(), q.value.clone()) for p, q in pairs]
    for step in range(4):
        network.learn(*batch(step))
    for (p, q), (old_p, old_q) in zip(pairs, before, strict=True):
        assert torch.equal(p.value, old_p) == (rates.projection == 0)
        assert torch.equal(q.value, old_q) == (rates.projection == 0 or rates.feedback == 0)
        if apart:  # what a pair without decay keeps
            torch.testing.assert_close(p.value - q.value, old_p - old_q)


def test_the_lowest_layer_sends_none() -> None:
    routers = [part for part in mlp(5, 3, width=6, depth=3, **DOWN).modules() if isinstance(part, Router)]
    assert [router.feedback is None for router in routers] == [True, False, False]
    routed = mlp(5, 3, width=6, **DOWN | {"routing": "network"})
    assert isinstance(routed, Routed)
    assert routed.router.feedback is None


def test_a_network_of_a_file_goes_on_with_it(tmp_path: Path) -> None:
    network = Network(mlp(5, 3, width=6, depth=3, **DOWN))
    network.learn(*batch())
    network.save(tmp_path / "network.safetensors")
    again = Network.load(tmp_path / "network.safetensors")
    assert len(routers_above(again)) == 2
    for step in range(3):
        assert torch.equal(network.learn(*batch(step)), again.learn(*batch(step)))


def test_a_mirror_sets_it() -> None:
    network = Network(mlp(5, 3, width=6, depth=3, **DOWN))
    mirror_weights(network)
    for router in routers_above(network):
        path = router.feedback
        assert isinstance(path, KolenPollack)
        assert path.shared is not None
        given = (part.value.flatten() for part in (router.projection, path.shared))
        assert float(torch.cosine_similarity(*given, dim=0)) > 0.95


@pytest.mark.parametrize("path", ["kolen-pollack", "kolen-pollack-noisy", "random"])
def test_beside_a_fixed_projection_what_would_never_align_with_it_is_refused(path: str) -> None:
    with pytest.raises(BrodmannError, match="starts apart from the projection, and as that does not learn"):
        mlp(5, 3, width=6, depth=3, **DOWN | {"router": {"feedback": path, "learned": False}})


@pytest.mark.parametrize("path", ["kolen-pollack-mirrored", "kolen-pollack-equal", "transpose", "sign"])
def test_beside_a_fixed_projection_what_starts_aligned_with_it_sends_its_error(path: str) -> None:
    torch.manual_seed(0)
    router = Router(5, 4, learned=False, feedback=FEEDBACKS[path])
    route = router.route(torch.randn(64, 5))
    gate_error = torch.randn(64)
    sent = router.error_below(route, gate_error)
    true = route.gate_down(gate_error) @ router.projection.value[0]
    assert float(torch.cosine_similarity(sent.flatten(), true.flatten(), dim=0)) > 0.7


def test_beside_a_fixed_projection_feedback_stays_where_it_is() -> None:
    torch.manual_seed(0)
    router = {"feedback": "kolen-pollack-mirrored", "learned": False}
    network = Network(mlp(5, 3, width=6, depth=3, **DOWN | {"router": router}), lr=0.1)
    paths = [part.feedback.shared for part in routers_above(network)]  # type: ignore[union-attr]
    before = [path.value.clone() for path in paths]
    for step in range(3):
        network.learn(*batch(step))
    assert len(paths) == 2
    assert all(torch.equal(path.value, old) for path, old in zip(paths, before, strict=True))


def test_a_convolution_adds_it_up_by_patches() -> None:
    torch.manual_seed(0)
    router = partial(Router, feedback=Transpose)
    maps = [
        AreaLinear(18, 4, areas=3, gated=True, feedback=KolenPollack, router=partial(router, **own))
        for own in ({}, {"feedback": None})
    ]
    maps[1].load_state_dict(maps[0].state_dict(), strict=False)
    x, error = torch.randn(2, 5, 5, 2), torch.randn(2, 3, 3, 4)
    below = []
    for layer in maps:
        layer.areas.weight.value[0].normal_(generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr]
        network = Network(Sequential(Local(nn.Identity()), Convolution(Patches(3), layer)), lr=0.0)
        step = network.trace(x)
        below.append(step.learn(error))
    route = maps[0].router.route(Patches(3)(x).flatten(0, 2))  # type: ignore[union-attr]
    own = maps[0].areas.product(route.x, route.groups)  # type: ignore[union-attr]
    of_rows = route.gate_down((error.flatten(0, 2) * own).sum(1)) @ route.router.projection.value[0]
    torch.testing.assert_close(below[0] - below[1], Patches(3).added_up(of_rows.view(2, 3, 3, 18), (2, 5, 5, 2)))
