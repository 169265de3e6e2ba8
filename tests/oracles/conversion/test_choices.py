"""Settings of single layers of a converted network, by the names that the model gives them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import Adam, AreaLinear, BrodmannError, Constant, Network, Rates, from_torch, to_torch
from brodmann.feedback import Feedback, FixedRandom, KolenPollack, SignSymmetric, Transpose
from brodmann.layers import Convolution

from ..captured.parts import Pair
from ..copies import assert_same_state


class Expert(nn.Module):
    """A map by a parameter of its own, and one by a module."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Parameter(torch.randn(6, 12) / 3), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(torch.relu(x @ self.wide))


class Model(nn.Module):
    """Two residual blocks with a norm, between a map and a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.readout = nn.Linear(5, 6), nn.Linear(6, 3)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"norm": nn.LayerNorm(6), "mix": nn.Linear(6, 6), "expert": Expert()}) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block["expert"](block["mix"](block["norm"](x)))
        return self.readout(x)


MAPS = ["stem", *(f"blocks.{block}.{part}" for block in "01" for part in ("mix", "expert", "expert.narrow")), "readout"]
"""Every map by its name; ``expert`` is the one by a parameter."""


def model() -> Model:
    torch.manual_seed(0)
    return Model()


def batch() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(32, 5, generator=draw), torch.randint(0, 3, (32,), generator=draw)


def converted(**settings: Any) -> Network:
    torch.manual_seed(2)
    return Network(from_torch(model(), **settings))


def maps(network: Network) -> dict[str, AreaLinear]:
    """Returns the maps under the names in `MAPS`."""
    return dict(zip(MAPS, (part for part in network.modules() if isinstance(part, AreaLinear)), strict=True))


def test_only_layers_of_a_name_and_what_they_hold_follow_its_settings() -> None:
    found = maps(converted(areas=1, layers={"blocks.*.expert": {"areas": 4}, "readout": {"feedback": "random"}}))
    assert [name for name, part in found.items() if part.budget == 4] == [name for name in MAPS if "expert" in name]
    assert [name for name, part in found.items() if isinstance(part.feedback, FixedRandom)] == ["readout"]


def test_of_several_names_the_one_that_says_most_decides_alone() -> None:
    layers: dict[str, dict[str, Any]] = {
        "*": {"feedback": "sign"},
        "blocks.0": {"feedback": "transpose"},
        "blocks.0.expert.narrow": {"areas": 4},
    }
    found = maps(converted(areas=1, feedback="kolen-pollack", layers=layers))
    paths: dict[str, type[Feedback]] = {
        name: Transpose if name.startswith("blocks.0") else SignSymmetric for name in MAPS[1:]
    }
    paths["blocks.0.expert.narrow"] = KolenPollack  # what the network has, where its own settings say nothing
    assert {name: type(part.feedback) for name, part in found.items()} == {"stem": type(None), **paths}
    assert found["blocks.0.expert.narrow"].budget == 4
    assert found["blocks.0.mix"].budget == 1


@pytest.mark.parametrize("areas", [1, 4])
def test_settings_for_every_layer_are_those_of_the_network(areas: int) -> None:
    settings: dict[str, Any] = {"feedback": "kolen-pollack", "shared": "frozen", "storage": "bfloat16"}
    pair = [converted(areas=areas, **settings), converted(areas=areas, layers={"*": settings})]
    for network in pair:
        torch.manual_seed(3)  # of stochastic rounding
        for _ in range(3):
            network.learn(*batch(), lr=0.1)
    assert_same_state(*pair)


@pytest.mark.parametrize("areas", [1, 3])
def test_areas_of_their_own_number_route_their_own_rows(areas: int) -> None:
    network = converted(areas=areas, layers={"blocks.1": {"areas": 4}})
    assert [name for name, part in maps(network).items() if part.router is not None] == MAPS[4:7]
    before = {name: copy.deepcopy(part.router) for name, part in maps(network).items()}
    for _ in range(3):
        network.learn(*batch())
    for name in MAPS[4:7]:
        router, was = maps(network)[name].router, before[name]
        assert router is not None
        assert was is not None
        assert not torch.equal(router.projection.value, was.projection.value)


def test_norms_and_convolutions_follow_settings_too() -> None:
    decayed = converted(areas=1, layers={"blocks.0.norm": {"update": Adam(decay=0.5)}})
    rules = [part.update_rule for part in decayed.modules() if isinstance(part, Constant)]
    assert [rule.decay for rule in rules] == [0.5, 0.5, 0.0, 0.0]
    images = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    body = from_torch(images, (1, 8, 8), areas=1, layers={"2": {"areas": 4, "feedback": "random"}})
    first, second = (part.map for part in body.modules() if isinstance(part, Convolution))
    assert (first.budget, second.budget, type(second.feedback)) == (1, 4, FixedRandom)


def test_captured_steps_are_ordinary_ones() -> None:
    layers: Any = {"blocks.*.expert": {"areas": 4}, "readout": {"areas": 1, "feedback": "transpose"}}
    pair = Pair(converted(areas=3, layers=layers)).learn()
    assert pair.captured, pair.step.refusal


def test_what_layers_of_one_area_have_learned_goes_back() -> None:
    network = converted(areas=1, layers={"blocks.*": {"feedback": "random", "shared": "off"}})
    network.rates = Rates(layers={"nodes.readout": 0.5})
    for _ in range(3):
        network.learn(*batch())
    back = to_torch(network, model())
    torch.testing.assert_close(back(batch()[0]).detach(), network(batch()[0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": ["readout"]}, r"Expected layers to be a dictionary of settings for layers by name, such as \{"),
        ({"layers": {3: {"areas": 1}}}, "keys are names, got the key 3"),
        ({"layers": {"readout": 4}}, r"Expected layers\['readout'\] to be a dictionary of settings, got int"),
        ({"layers": {"readout": {"area": 4}}}, r"Unknown setting of layers\['readout'\] 'area'. Did you mean 'areas'"),
        ({"layers": {"reedout": {"areas": 1}}}, "Unknown layer of the model 'reedout'. Did you mean 'readout'"),
        ({"layers": {"readout": {"areas": 0}}}, "Expected areas to be a whole number of at least 1, got 0"),
        ({"layers": {"readout": {"feedback": "rndom"}}}, "Unknown feedback 'rndom'. Did you mean 'random'"),
        (
            {"areas": 4, "layers": {"readout": {"areas": 3, "routing": "network"}}},
            r"layers\['readout'\] asks for 3 areas that follow the network's route, which has 4: .* routing=\"layer\"",
        ),
        (
            {"areas": 4, "routing": "layer", "layers": {"readout": {"routing": "network"}}},
            "follow the network's route, which does not exist",
        ),
    ],
)
def test_what_cannot_be_chosen_is_said(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BrodmannError, match=message):
        converted(**settings)


def test_direct_feedback_of_a_single_layer_needs_one_output_too() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below, self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.relu(self.below(x))
            return self.one(h), self.two(h)

    with pytest.raises(BrodmannError, match="Direct feedback needs one output, but the model has 2"):
        from_torch(Two(), (4,), areas=1, layers={"one": {"feedback": "direct"}})


def test_a_layer_in_several_places_follows_the_settings_of_its_name() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.again, self.readout = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.readout(torch.relu(self.again(torch.relu(self.again(x)))))

    body = from_torch(Twice(), (4,), areas=1, layers={"again": {"areas": 4}})
    assert [part.budget for part in body.modules() if isinstance(part, AreaLinear)] == [4, 1]
