"""Protected areas: they compute and send errors down as before, and nothing that is theirs moves."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from brodmann import SGD, Adam, BrodmannError, Network, Rates, mlp, residual_mlp, stream_mlp
from brodmann.areas import AreaMap
from brodmann.feedback import Feedback, Shape, Signal
from brodmann.network import routers
from brodmann.routing import Conflict
from brodmann.routing.conflict import SIZE
from brodmann.telemetry import area_choices
from brodmann.training import Schedule, Trainer
from brodmann.updates import Factors


class Predicting(Feedback):
    """Each area's map learns to predict errors, beside those of all rows: its products are of protected areas too."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.guess = AreaMap(shape.areas, shape.stored(shape.draw()), None, shape.update)

    def error(self, signal: Signal) -> Tensor:
        below = torch.zeros_like(signal.x)
        self.guess.add_error(below, signal.delta, signal.groups)
        return below

    def learn(self, signal: Signal, lr: float, decay: float, area_lr: float, area_decay: float) -> None:
        guessed = self.guess.product(signal.x, signal.groups)
        self.guess.learn(guessed - guessed.mean(0) - signal.delta, signal.x, signal.groups, area_lr, area_decay)


X, Y = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
NETWORKS: dict[str, Any] = {
    "one route": lambda **options: mlp(5, 3, width=6, areas=4, **options),
    "a route in each layer": lambda **options: mlp(5, 3, width=6, areas=4, routing="layer", **options),
    "feedback per area": lambda **options: residual_mlp(
        5, 3, depth=4, width=6, areas=4, feedback="kolen-pollack-per-area", **options
    ),
    "feedback that multiplies as it learns": lambda **options: mlp(
        5, 3, width=6, areas=4, feedback=Predicting, **options
    ),
    "pooled": lambda **options: mlp(5, 3, width=6, areas=4, pooling=0.1, **options),
}


def of_area(network: Network, area: int) -> list[Tensor]:
    """Returns copies of all that an area holds: maps, biases, feedback, state of the rule."""
    maps = [part for part in network.modules() if isinstance(part, AreaMap)]
    return [
        tensor[int(part.slot[area])].clone()
        for part in maps
        for slab in part.weight.slabs()
        for tensor in slab.tensors().values()
    ]


@pytest.mark.parametrize("rule", [SGD(momentum=0.9, decay=0.1), Adam(decay=0.1)], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_protected_area_stays_bit_for_bit_and_all_else_moves_as_if_it_did_not(name: str, rule: Any) -> None:
    torch.manual_seed(0)
    network = Network(NETWORKS[name](update=rule))
    for _ in range(3):
        network.learn(X, Y)
    for choices in area_choices(network, X).values():
        assert len(choices.unique()) > 1
    kept = int(next(iter(area_choices(network, X).values())).mode().values)
    free = copy.deepcopy(network)
    network.protected_areas = [kept]
    before = of_area(network, kept)
    assert float(network.learn(X, Y)) == float(free.learn(X, Y))
    assert all(torch.equal(one, other) for one, other in zip(of_area(network, kept), before, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(of_area(free, kept), before, strict=True))
    for area in set(range(4)) - {kept}:
        assert all(
            torch.equal(one, other) for one, other in zip(of_area(network, area), of_area(free, area), strict=True)
        )
    network.protected_areas = iter([])
    network.learn(X, Y)
    assert not all(torch.equal(one, other) for one, other in zip(of_area(network, kept), before, strict=True))


@dataclass(frozen=True)
class Told(SGD):
    """Plain descent that remembers how many rows it was given."""

    rows: list[int] = field(default_factory=list, kw_only=True, compare=False)

    def apply(self, weight: Tensor, state: dict[str, Tensor], factors: Factors, lr: float, decay: float) -> None:
        self.rows.append(len(factors.delta))
        super().apply(weight, state, factors, lr, decay)


def test_rows_of_protected_areas_never_reach_the_rule() -> None:
    torch.manual_seed(0)
    rule = Told()
    options: dict[str, Any] = {"shared": "off", "feedback": "kolen-pollack-per-area", "router": {"learned": False}}
    network = Network(mlp(5, 3, width=6, areas=4, update=rule, **options), lr=0.1)
    (choices,) = area_choices(network, X).values()
    kept = int(choices.mode().values)
    network.protected_areas = [kept]
    network.learn(X, Y)
    tensors = 2 + 2 + 1  # maps and biases of two layers, and feedback maps of one
    assert sum(rule.rows) == tensors * int((choices != kept).sum())


@pytest.mark.parametrize("rule", [SGD(momentum=0.9), Adam(), Told()], ids=["sgd", "adam", "own"])
def test_where_every_area_is_protected_what_they_share_learns_alone(rule: Any) -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, width=6, areas=4, update=rule))
    with pytest.warns(UserWarning, match="so that none learns"):
        network.protected_areas = range(4)
    before = [of_area(network, area) for area in range(4)]
    shared = [layer.shared.value.clone() for _, layer in network.area_layers()]
    network.learn(X, Y)
    for area in range(4):
        assert all(torch.equal(one, two) for one, two in zip(of_area(network, area), before[area], strict=True))
    assert not any(
        torch.equal(layer.shared.value, old) for (_, layer), old in zip(network.area_layers(), shared, strict=True)
    )


def test_what_a_protected_area_answers_stays_where_nothing_else_serves_its_samples() -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, width=6, areas=4, shared="off", update=Adam()), rates=Rates(projection=0.0))
    (choices,) = area_choices(network, X).values()
    kept = int(choices.mode().values)
    network.protected_areas = [kept]
    assert not any(bool(part.slot[kept]) for part in network.modules() if isinstance(part, AreaMap))  # never chosen yet
    before = network(X)
    for _ in range(3):
        network.learn(X, Y)
    after = network(X)
    assert torch.equal(after[choices == kept], before[choices == kept])
    assert not torch.equal(after[choices != kept], before[choices != kept])


def test_recursive_least_squares_leaves_protected_areas_alone() -> None:
    torch.manual_seed(0)
    network = Network(stream_mlp(5, 3, width=6, areas=4, novelty=0.5))
    network.learn(X, Y)
    (choices,) = area_choices(network, X).values()
    kept = choices.mode().values
    network.protected_areas = [kept]  # a number, as a tensor
    before = network(X)
    network.learn(X.flip(1), Y)
    (now,) = area_choices(network, X).values()
    same = (choices == kept) & (now == kept)
    assert same.any()
    assert torch.equal(network(X)[same], before[same])


def test_files_and_checkpoints_know_what_is_protected(tmp_path: Path) -> None:
    network = Network(mlp(5, 3, width=6, areas=4, routing="layer"))
    network.protected_areas = {"layers.2": [1, 3]}
    assert network.protected_areas == {"layers.2": [1, 3]}
    network.save(tmp_path / "network.safetensors")
    assert Network.load(tmp_path / "network.safetensors").protected_areas == {"layers.2": [1, 3]}
    Trainer(network, (X, Y), schedule=Schedule(epochs=1), folder=tmp_path / "run").run()
    other = Network(mlp(5, 3, width=6, areas=4, routing="layer"))
    Trainer(other, (X, Y), schedule=Schedule(epochs=1), folder=tmp_path / "run").resume()
    assert other.protected_areas == {"layers.2": [1, 3]}


def test_protected_areas_do_not_split_by_themselves_and_are_not_merged() -> None:
    torch.manual_seed(0)
    split = []
    for protected in ([], [0]):
        network = Network(
            mlp(2, 2, width=8, areas=4, router={"partition": "growing", "conflict": {"evidence": 200}}, update=Adam())
        )
        with pytest.warns(UserWarning, match="so that none learns") if protected else nullcontext():
            network.protected_areas = protected
        for _ in range(60):
            x = torch.randn(64, 2)
            network.learn(x, ((x[:, 0] > 0) ^ (x[:, 1] > 0)).long(), lr=0.01)
        split.append(len(network.body.router.partition.unique()) > 1)
    assert split == [True, False]
    manual = Network(mlp(5, 3, width=6, areas=4, router={"partition": "manual"}))
    manual.protected_areas = [1]  # which has no cells, and is given none
    new = manual.body.split(0)
    assert new == 2
    manual.protected_areas = [new]
    with pytest.raises(BrodmannError, match=f"Cannot merge areas 0 and {new}: one of them is protected."):
        manual.body.merge(0, new)


def test_a_protected_area_takes_no_split_from_another() -> None:
    """Both are in conflict, and there is room for one split."""
    conflict = Conflict(4, evidence=8, opposition=0.5, certainty=1e-3)
    cell = torch.arange(4).repeat_interleave(2)
    pulls = torch.tensor([1.0, -1, 1, -1])[:, None] * torch.eye(SIZE)[0]
    for _ in range(2):
        conflict.add(cell, pulls[cell] / 8)
        found = conflict.end_window(torch.tensor([0, 0, 1, 1]), room=1, unsplit={0})
    assert [area for area, _ in found] == [1]


def test_no_new_sample_recruits_a_protected_area() -> None:
    torch.manual_seed(0)
    network = Network(stream_mlp(5, 3, width=6, areas=4, novelty=0.9))
    network.protected_areas = [2]
    network.learn(X, Y)
    router = network.body.router
    assert router.prototypes.any(1).tolist() == [True, True, False, True]
    assert not router.recruits


@pytest.mark.parametrize("kept", [0, 2, 3])
def test_once_no_longer_protected_an_area_takes_new_samples_again(kept: int) -> None:
    torch.manual_seed(0)
    network = Network(stream_mlp(5, 3, width=6, areas=4, novelty=0.9))
    router = network.body.router
    network.protected_areas = [kept]
    network.learn(X, Y)
    assert not router.recruits
    network.protected_areas = []
    assert router.recruits
    network.learn(X, Y)
    assert not router.recruits
    assert router.prototypes.any(1).all()


@pytest.mark.parametrize(
    ("areas", "message"),
    [
        ([4], r"Expected areas from 0 to 3, such as \[0, 1\], got \[4\]."),
        ([-1], "Expected areas from 0 to 3"),
        ("01", "Expected areas from 0 to 3"),
        (0, "Expected areas from 0 to 3"),
        ([0.5], "Expected areas from 0 to 3"),
        (iter([1, 4]), "Expected areas from 0 to 3"),
        ({"layers.1": [0]}, "layers.1"),
        ({"layers.0": [0], "layers.2": [4]}, "Expected areas from 0 to 3"),
    ],
)
def test_areas_that_are_not_there_are_refused_and_nothing_changes(areas: Any, message: str) -> None:
    network = Network(mlp(5, 3, width=6, areas=4, routing="layer"))
    network.protected_areas = [2]
    with pytest.raises(BrodmannError, match=message):
        network.protected_areas = areas
    assert [router.protected for _, router in routers(network)] == [{2}, {2}]


def test_the_one_route_of_a_network_is_called_router_and_was_nameless_in_earlier_files() -> None:
    network = Network(mlp(5, 3, width=6, areas=4))
    for name in ("", "router"):
        network.protected_areas = {name: [1]}
        assert network.protected_areas == {"router": [1]}
    with pytest.raises(BrodmannError, match="Unknown layer with a router 'body'. Choose one of: router."):
        network.protected_areas = {"body": [1]}


def test_where_no_area_is_left_to_learn_a_warning_says_so() -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, width=6, areas=4))
    with pytest.warns(UserWarning, match=r"can go to is protected, \[0, 1, 2, 3\], so that none learns"):
        network.protected_areas = range(4)
    stream = Network(stream_mlp(5, 3, width=6, areas=4, novelty=0.9))
    stream.protected_areas = [0, 1, 2]  # a new sample may take the last
    stream.learn(X, Y)
    with pytest.warns(UserWarning, match=r"protected, \[0, 1, 2, 3\], so"):
        stream.protected_areas = range(4)


def test_where_every_layer_has_one_area_there_is_nothing_to_protect() -> None:
    network = Network(mlp(5, 3, width=6, areas=1))
    with pytest.raises(BrodmannError, match="Every layer of this network has one area: freeze layers instead"):
        network.protected_areas = [0]
    assert network.protected_areas == {}
