"""The table that every oracle runs over: a new rule, path or layer option joins with one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import (
    RLS,
    SGD,
    Adam,
    BatchNorm,
    FixedRandom,
    Graph,
    Layer,
    Muon,
    Residual,
    Sequential,
    affine,
    convnet,
    mlp,
    residual_mlp,
)
from brodmann.builders import FEEDBACKS
from brodmann.builders.parts import Parts, activation_of
from brodmann.feedback import Signal
from brodmann.layers import GRU, LSTM, Local, Recurrent

RULES = {
    "sgd": SGD(),
    "sgd decay": SGD(decay=0.3),
    "sgd momentum": SGD(momentum=0.9, decay=0.1),
    "adam": Adam(),
    "adam decay": Adam(decay=0.3, beta1=0.8),
    "muon decay": Muon(decay=0.3, momentum=0.8),
    "rls": RLS(ridge=2.0),
    "rls decay": RLS(ridge=2.0, decay=0.3),
}
BESIDE_AUTOGRAD = pytest.mark.parametrize(
    ("rule", "optimiser"),
    [
        (SGD(momentum=0.9), partial(torch.optim.SGD, momentum=0.9)),
        (Adam(decay=0.0), partial(torch.optim.Adam, eps=1e-8)),
    ],
)
"""Runs a test with a rule and with the optimiser of PyTorch that moves by the same equation."""
PATHS = tuple(FEEDBACKS)
LAYERS: dict[str, dict[str, Any]] = {
    "one area": {"areas": 1},
    "one area, shared part off": {"areas": 1, "shared": "off"},
    "areas": {"areas": 4, "routing": "layer"},
    "areas, pooling": {"areas": 4, "routing": "layer", "pooling": 0.5},
    "areas, gated": {"areas": 4, "routing": "layer", "gated": True},
    "areas, shared part frozen": {"areas": 4, "routing": "layer", "shared": "frozen"},
    "areas, shared part off": {"areas": 4, "routing": "layer", "shared": "off"},
    "areas, shared part off, gated": {"areas": 4, "routing": "layer", "shared": "off", "gated": True},
    "areas, more cells": {"areas": 3, "routing": "layer", "router": {"cells": 7, "dimension": 3}},
    "areas, growing": {"areas": 4, "routing": "layer", "router": {"partition": "growing"}},
    "one route, growing": {"areas": 4, "routing": "network", "router": {"partition": "growing"}},
    "areas, projection frozen": {"areas": 4, "routing": "layer", "router": {"learned": False}},
    "one route": {"areas": 4, "routing": "network"},
    "one route, gated": {"areas": 4, "routing": "network", "gated": True},
    "one route, gated once": {"areas": 4, "routing": "network", "gated": "last"},
    "areas, error of gates": {"areas": 4, "routing": "layer", "gated": True, "router": {"feedback": "transpose"}},
    "one route, error of gates": {"areas": 4, "routing": "network", "gated": True, "router": {"feedback": "transpose"}},
    "tanh": {"areas": 4, "routing": "layer", "activation": "tanh"},
    "gelu": {"areas": 4, "routing": "layer", "activation": "gelu"},
}


def widening(*, areas: int, activation: str = "relu", **options: Any) -> Layer:
    """Builds a residual network whose block has a shortcut, since it widens."""
    parts = Parts(5, 3, areas, **options)
    block = Residual(Sequential(activation_of(activation), parts.layer(6, 7)), 0.5, parts.layer(6, 7))
    return parts.wrap(Sequential(parts.layer(5, 6, lowest=True), block, parts.layer(7, 3)))


def in_two(x: Tensor, weight: Tensor) -> Tensor:
    """A map of each half of the units by itself: x (rows, 2 * in), weight (2, out, in)."""
    return torch.einsum("ngi,goi->ngo", x.unflatten(-1, (2, -1)), weight).flatten(-2)


def branching(*, areas: int, activation: str = "relu", **options: Any) -> Layer:
    """Builds a network whose branches read each other and meet again, with a factor and a product in one of them."""
    parts = Parts(5, 3, areas, **options)
    nodes = {
        "left": (parts.layer(5, 6, lowest=True), "input"),
        "active": (activation_of(activation), "left"),
        "right": (parts.layer(6, 6), "active"),
        "scaled": (affine(torch.linspace(0.5, 1.5, 6), torch.zeros(6), parts.update_rule), "right"),
        "grouped": (parts.product(in_two, torch.randn(2, 3, 3)), "scaled"),
        "product": (torch.mul, "grouped", "active"),
        "beside": (lambda x, y: torch.cat((x, y), -1), "product", "left"),
    }
    return parts.wrap(Graph({**nodes, "readout": (parts.layer(12, 3), "beside")}))


def normed(*, areas: int, activation: str = "relu", **options: Any) -> Layer:
    """Builds a network whose batches are normed: with factors and summands, and without."""
    parts = Parts(5, 3, areas, **options)
    # Right above a map a norm leaves its biases an error of zero, of which Adam would make steps of rounding errors.
    lower = parts.layer(5, 6, lowest=True), activation_of(activation), BatchNorm(6, update=parts.update_rule)
    upper = parts.layer(6, 4), activation_of(activation), BatchNorm(4)
    return parts.wrap(Sequential(*lower, *upper, parts.layer(4, 3)))


def routed_inside(*, areas: int, activation: str = "relu", **options: Any) -> Layer:
    """Builds a network with a part whose two maps follow one route, whatever the others follow."""
    parts = Parts(5, 3, areas, **options)
    own = replace(parts, in_features=6, routing="network")
    part = own.wrap(Sequential(own.layer(6, 7), activation_of(activation), own.layer(7, 6)))
    return parts.wrap(Sequential(parts.layer(5, 6, lowest=True), Residual(part, 0.5), parts.layer(6, 3)))


def recurrent(*, areas: int, activation: str = "relu", **options: Any) -> Layer:
    """Builds a network that reads the features as steps of a sequence, and its last step."""
    parts = Parts(5, 3, areas, **options)
    first = Recurrent(parts.layer(1, 4 * 4, lowest=True), parts.layer(4, 4 * 4), LSTM())
    second = Recurrent(parts.layer(4, 3 * 3), parts.layer(3, 3 * 3), GRU())
    steps = Local(nn.Unflatten(1, (5, 1))), first, activation_of(activation), second
    return parts.wrap(Sequential(*steps, Local(partial(torch.select, dim=1, index=-1)), parts.layer(3, 3)))


BODIES: dict[str, Callable[..., Layer]] = {
    "mlp": partial(mlp, 5, 3, depth=3, width=6),
    "residual_mlp": partial(residual_mlp, 5, 3, depth=4, width=6),
    "widening": widening,
    "branching": branching,
    "normed": normed,
    "routed inside": routed_inside,
    "recurrent": recurrent,
    "convnet": partial(convnet, (1, 1, 5), 3, channels=(2, 3), pool=1),
}
"""Five features, three outputs."""


class Rewarded(FixedRandom):
    """A path whose matrix moves by the errors of those rows alone whose answer was right."""

    def learn(self, signal: Signal, lr: float, decay: float, area_lr: float, area_decay: float) -> None:
        assert signal.output is not None
        assert signal.target is not None
        right = signal.output.argmax(1) == signal.target.reshape(-1)
        self.matrix.sub_((signal.delta * right[:, None]).t() @ signal.x, alpha=lr)
