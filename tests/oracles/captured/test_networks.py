"""Captured steps of every layer, body, rule, path and loss compute what ordinary ones do, bit for bit."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from brodmann import (
    RLS,
    SGD,
    Adam,
    AreaLinear,
    BinaryCrossEntropy,
    Local,
    MeanSquaredError,
    Muon,
    Network,
    Sequential,
    from_torch,
)
from brodmann.updates import UpdateRule

from ..cases import BODIES, LAYERS, PATHS, RULES
from .parts import GROWING, Pair, network_of


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("body", BODIES)
def test_every_layer_and_body(body: str, layer: str) -> None:
    pair = Pair(network_of(body, **LAYERS[layer]), own_parts=True).learn()  # functions of these tests
    assert pair.captured, pair.step.refusal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule(rule: str, dtype: torch.dtype) -> None:
    pair = Pair(network_of(update=RULES[rule]).to(dtype)).learn()
    assert pair.captured, pair.step.refusal


@pytest.mark.parametrize("rule", [Muon(), RLS()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize(
    ("body", "options"),
    [("mlp", {"storage": "bfloat16", "shared": "off"}), ("mlp", {"router": GROWING}), ("branching", {"areas": 1})],
    ids=str,
)
def test_rules_without_a_kernel_move_whatever_there_is(rule: UpdateRule, body: str, options: dict[str, Any]) -> None:
    pair = Pair(network_of(body, update=rule, **options), own_parts=True).learn()
    assert pair.captured, pair.step.refusal


@pytest.mark.filterwarnings("ignore:Every area that samples can go to is protected")
@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (Adam(decay=0.1), {"routing": "layer", "feedback": "kolen-pollack-per-area"}),
        (SGD(momentum=0.9), {"depth": 2, "storage": "bfloat16", "shared": "off"}),
        (Muon(), {"depth": 2, "router": GROWING}),
        (RLS(), {"depth": 2, "shared": "off", "pooling": 0.1}),
    ],
    ids=str,
)
def test_protected_areas_stay_as_they_are_in_captured_steps(rule: UpdateRule, options: dict[str, Any]) -> None:
    for areas, rows in (([0, 1, 4], 1), ([1, 2], 4), (range(6), 4)):  # the only sample's area is protected now and then
        network = network_of(areas=6, update=rule, **options)
        network.protected_areas = areas
        pair = Pair(network).learn(12, rows)
        assert pair.captured, pair.step.refusal


@pytest.mark.parametrize("areas", [1, 4])
@pytest.mark.parametrize("path", PATHS)
def test_every_path(path: str, areas: int) -> None:
    pair = Pair(network_of(areas=areas, feedback=path)).learn()
    assert pair.captured, pair.step.refusal


def test_areas_whose_load_is_balanced() -> None:
    pair = Pair(network_of(router={"balance_rate": 0.1})).learn()
    assert pair.captured, pair.step.refusal


def test_weights_that_are_rounded_at_random_draw_the_same_numbers() -> None:
    assert Pair(network_of(storage="bfloat16")).learn().captured


def test_dropout_draws_the_same_masks() -> None:
    assert Pair(network_of(dropout=0.4)).learn().captured


def test_dropout_whose_masks_are_drawn_again_is_not_captured() -> None:
    pair = Pair(network_of("residual_mlp", dropout=0.4, recompute=True)).learn()
    assert "random numbers are drawn from another place" in pair.step.refusal
    assert Pair(network_of("residual_mlp", recompute=True)).learn().captured


def test_losses_that_autograd_differentiates() -> None:
    network = network_of()
    network.loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    assert Pair(network).learn().captured


@pytest.mark.parametrize(
    "loss",
    [MeanSquaredError(), BinaryCrossEntropy(), nn.HuberLoss(), nn.SmoothL1Loss(), nn.SoftMarginLoss(), nn.L1Loss()],
    ids=lambda loss: type(loss).__name__,
)
@pytest.mark.filterwarnings("error:An output with one or more elements was resized")
def test_real_targets(loss: Any) -> None:
    network = network_of()
    network.loss = loss
    pair = Pair(network, real=True).learn()
    assert pair.captured, pair.step.refusal


def test_a_network_of_pytorch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ELU(), nn.Dropout(0.2), nn.Linear(6, 3))
    assert Pair(Network(from_torch(model, (5,), update=Adam()))).learn().captured


def test_a_function_whose_one_setting_is_a_tensor() -> None:
    body = Sequential(Local(partial(torch.add, other=torch.ones(5))), AreaLinear(5, 3, areas=3, feedback=None))
    pair = Pair(Network(body)).learn()
    assert pair.captured, pair.step.refusal


def test_signs_of_one_area_beside_no_shared_part() -> None:
    pair = Pair(network_of(areas=1, shared="off", feedback="sign")).learn()
    assert pair.captured, pair.step.refusal
