"""Modules of a converted network whose maps follow one route."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import AreaLinear, BrodmannError, Layer, Network, Residual, Sequential, from_torch
from brodmann.feedback import KolenPollack
from brodmann.layers import Routed
from brodmann.routing import Router

from ..captured.parts import GROWING, Pair
from .test_choices import Model, batch, model


def together(**settings: Any) -> dict[str, Any]:
    return {"routing": "module", "areas": 4, **settings}


def routed(body: nn.Module) -> Iterator[Routed]:
    return (part for part in body.modules() if isinstance(part, Routed))


def budgets(body: nn.Module) -> list[int]:
    return [part.budget for part in body.modules() if isinstance(part, AreaLinear)]


def by_hand(theirs: Model, **settings: Any) -> Layer:
    """Stacks the model from parts, of which the experts are converted by themselves, each with one route."""
    blocks: list[Layer] = []
    for block in theirs.blocks:
        below = (from_torch(block[part], (6,), areas=1, lowest=False) for part in ("norm", "mix"))
        expert = from_torch(block["expert"], (6,), areas=4, lowest=False, **settings)
        blocks.append(Residual(Sequential(*below, expert)))
    readout = from_torch(theirs.readout, (6,), areas=1, lowest=False)
    return Sequential(from_torch(theirs.stem, (5,), areas=1), *blocks, readout)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"gated": True},
    {"shared": "off"},
    {"shared": "off", "gated": True, "feedback": partial(KolenPollack, start="equal", per_area=True)},
    {"shared": "off", "router": {"balance_rate": 0.01, "dimension": 3}},
    {"router": GROWING},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_it_is_what_one_stacks_by_hand(settings: dict[str, Any]) -> None:
    whole = Network(from_torch(model(), areas=1, layers={"blocks.*.expert": together(**settings)}))
    stacked = Network(by_hand(model(), **settings))
    for ours, theirs in zip(routed(whole), routed(stacked), strict=True):
        theirs.router.load_state_dict(ours.router.state_dict())
    for _ in range(5):
        torch.testing.assert_close(whole.learn(*batch(), lr=0.03), stacked.learn(*batch(), lr=0.03))
    torch.testing.assert_close(whole(batch()[0]), stacked(batch()[0]))
    for ours, theirs in zip(routed(whole), routed(stacked), strict=True):
        torch.testing.assert_close(ours.router.projection.value, theirs.router.projection.value)


def test_at_first_it_computes_what_the_model_does_whatever_the_area() -> None:
    theirs = model()
    body = from_torch(theirs, areas=1, layers={"blocks.0.expert": together(gated=True), "stem": {"areas": 3}})
    assert budgets(body) == [3, 1, 4, 4, 1, 1, 1, 1]
    torch.testing.assert_close(body(batch()[0]), theirs(batch()[0]).detach())


def test_captured_steps_are_ordinary_ones() -> None:
    layers = {"blocks.*.expert": together(shared="off")}
    pair = Pair(Network(from_torch(model(), areas=3, routing="layer", layers=layers))).learn()
    assert pair.captured, pair.step.refusal


class Watched(Router):
    """A router that keeps the shape of what it routed last."""

    def choose(self, x: Tensor) -> Any:
        self.last = tuple(x.shape)
        return super().choose(x)


class Convolutions(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.relu(self.one(x)))


class Flat(nn.Module):
    """Maps of tokens that lie one after the other, as those of experts often do."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.relu(self.one(x.reshape(-1, 6)))).view(x.shape)


class Pointwise(nn.Module):
    """A map of all channels at every step of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x.transpose(1, 2).reshape(-1, 3)).view(-1, 5, 3).transpose(1, 2)


@pytest.mark.parametrize(
    ("part", "shape", "chooses"),
    [
        (nn.Linear(6, 6), (5, 6), (8 * 5, 6)),  # each token
        (Flat(), (5, 6), (8 * 5, 6)),
        (nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True), (5, 6), (8 * 5, 6)),
        (Convolutions(), (3, 4, 4), (8, 48)),  # each image
        (nn.Linear(6, 6), (4, 5, 6), (8, 120)),
        (nn.Conv1d(3, 3, 3, padding=1), (3, 5), (8, 15)),  # each sequence
        (Pointwise(), (3, 5), (8, 15)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_rows_choose_if_all_maps_read_them_else_samples(
    part: nn.Module, shape: tuple[int, ...], chooses: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Tanh(), part, nn.Tanh()).eval()
    network = Network(from_torch(theirs, shape, areas=1, layers={"1": together(router=Watched)}), nn.MSELoss())
    x = torch.randn(8, *shape)
    expected = theirs(x).detach()
    torch.testing.assert_close(network(x), expected.movedim(1, -1) if x.ndim == 4 else expected)
    network.learn(x, torch.randn_like(network(x)))
    (route,) = routed(network)
    assert isinstance(route.router, Watched)
    assert route.router.last == chooses


def test_tokens_choose_in_sequences_of_any_length() -> None:
    theirs = nn.Sequential(nn.Linear(6, 6), Flat())
    body = from_torch(theirs, (5, 6), areas=1, layers={"1": together()})
    for length in (3, 7):
        x = torch.randn(2, length, 6)
        torch.testing.assert_close(body(x), theirs(x).detach())


def test_a_recurrent_layer_chooses_for_a_sequence() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read, self.readout = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.readout(self.read(x)[0][:, -1])

    theirs = Last()
    network = Network(from_torch(theirs, (5, 3), areas=1, layers={"read": together()}))
    x, y = torch.randn(8, 5, 3), torch.randint(0, 2, (8,))
    torch.testing.assert_close(network(x), theirs(x).detach())
    losses = [float(network.learn(x, y, lr=0.03)) for _ in range(20)]
    assert losses[-1] < losses[0]
    assert [part.router.projection.value.shape[-1] for part in routed(network)] == [15]


def test_settings_inside_hold_there() -> None:
    layers: dict[str, Any] = {"blocks.*.expert": together(), "blocks.0.expert.narrow": together(areas=3)}
    layers["blocks.1.expert.narrow"] = {"areas": 2}
    network = Network(from_torch(model(), areas=1, layers=layers))
    assert budgets(network) == [1, 1, 4, 3, 1, 4, 2, 1]
    names = [name for name, part in network.named_modules() if isinstance(part, Routed)]
    assert names == [f"body.nodes.blocks_{end}" for end in ("0_expert", "0_expert.body.layers.2", "1_expert")]
    network.learn(*batch())


def test_modules_of_one_area_need_no_route() -> None:
    theirs = model()
    theirs.blocks[1]["expert"].requires_grad_(requires_grad=False)
    layers: dict[str, Any] = {"blocks.0.expert": together(areas=1), "blocks.1.expert": together()}
    assert not [*routed(from_torch(theirs, areas=1, layers={**layers, "blocks.*.norm": together()}))]


class Tokens(nn.Module):
    """A module of tokens, one of steps that come before samples, and a readout that is a table of tokens, too."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.tokens = nn.Embedding(7, 4), nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4))
        self.turned = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0)
        self.readout = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 7, bias=False))
        self.readout[1].weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.table(x) + self.tokens(x)
        return self.readout(self.turned(x.transpose(0, 1)).transpose(0, 1))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("readout", "'readout' cannot follow one route: expected one tensor that it reads .* got 2 and 1"),
        ("tokens", "'tokens' cannot follow one route: it reads whole numbers, which have no direction"),
        ("turned", "'turned' cannot follow one route: samples do not lie in the first dimension"),
    ],
)
def test_modules_that_cannot_follow_one_route_are_named(name: str, message: str) -> None:
    with pytest.raises(BrodmannError, match=message + '.*choose routing="layer"'):
        from_torch(Tokens(), torch.randint(0, 7, (3, 5)), areas=1, layers={name: together()})


def test_a_module_of_several_values_cannot_follow_one_route() -> None:
    with pytest.raises(BrodmannError, match="'blocks' cannot follow one route: expected one .* got 2 and 2"):
        from_torch(model(), areas=1, layers={"blocks": together()})


def test_it_is_a_setting_of_modules() -> None:
    with pytest.raises(BrodmannError, match='routing="module" is a setting of single modules: name them, as in layers'):
        from_torch(model(), areas=4, routing="module")
