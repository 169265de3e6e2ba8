"""Builders: the sizes that they take, where they are registered, and how they stand on each other."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from brodmann import (
    SGD,
    AreaLinear,
    BrodmannError,
    CheckpointError,
    Local,
    Network,
    Sequential,
    convnet,
    mlp,
    residual_mlp,
    stream_mlp,
)
from brodmann.baselines import Backpropagation
from brodmann.builders import BUILDERS, design
from brodmann.updates import UPDATES


@pytest.mark.parametrize("builder", [mlp, stream_mlp])
def test_every_hidden_layer_may_have_a_width_of_its_own(builder: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Network(builder(5, 3, width=(7, 4), areas=2))
    assert [layer.out_features for _, layer in network.area_layers()] == [7, 4, 3]
    x, y = torch.randn(16, 5), torch.randint(0, 3, (16,))
    network.learn(x, y)
    network.save(tmp_path / "n.safetensors")
    for again in (
        Network.load(tmp_path / "n.safetensors"),
        Network.load(tmp_path / "n.safetensors", body=builder(5, 3, width=[np.int8(7), 4], areas=2)),
    ):
        assert again.design == network.design
        assert torch.equal(network(x), again(x))
    with pytest.raises(CheckpointError, match=r"its width is \[7, 4\], but that of the body is \[7, 5\]"):
        Network.load(tmp_path / "n.safetensors", body=builder(5, 3, width=(7, 5), areas=2))


@pytest.mark.parametrize("make", [mlp, stream_mlp, Backpropagation])
def test_equal_widths_are_one_width(make: Any) -> None:
    torch.manual_seed(0)
    one = make(5, 3, depth=3, width=6).state_dict()
    for depth in ({}, {"depth": 3}):
        torch.manual_seed(0)
        assert all(map(torch.equal, one.values(), make(5, 3, width=[6, 6], **depth).state_dict().values()))


@pytest.mark.parametrize(
    ("builder", "sizes"),
    [
        (mlp, {"in_features": 127, "depth": 3, "width": 64, "router": {"dimension": 64, "cells": 64}}),
        (residual_mlp, {"in_features": 20, "depth": 4, "width": 64}),
        (stream_mlp, {"in_features": 127, "width": 127, "dimension": 64}),
        (convnet, {"shape": (3, 16, 16), "channels": [16, 64], "size": 3, "pool": 2}),
        (mlp, {"in_features": 127, "width": (127, 64)}),
        (Backpropagation, {"in_features": 20, "depth": 3, "width": 64}),
        (Backpropagation, {"in_features": 127, "width": [127, 64]}),
        (Backpropagation, {"in_features": 64, "shape": [1, 8, 8], "channels": [64, 100]}),
    ],
)
def test_sizes_may_be_small_numbers_of_numpy(builder: Any, sizes: dict[str, Any]) -> None:
    def small(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: small(part) for name, part in value.items()}
        return np.int8(value) if isinstance(value, int) else type(value)(map(small, value))

    sizes = {"outputs": 10, **sizes} if builder is Backpropagation else {"outputs": 10, "areas": 64, **sizes}
    with warnings.catch_warnings(action="error"):
        torch.manual_seed(0)
        one = builder(**sizes)
        torch.manual_seed(0)
        other = builder(**small(sizes))
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    if builder is not Backpropagation:
        assert Network(other).design == Network(one).design
        assert repr(other) == repr(one)


def test_a_registered_builder_needs_no_rule(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def pair(size: int) -> Sequential:
        return Sequential(AreaLinear(5, size, areas=1, feedback=None), AreaLinear(size, 3, areas=1))

    monkeypatch.setitem(BUILDERS, "pair", pair)
    network = Network.from_design(design("pair", None, size=4))
    network.save(tmp_path / "n.safetensors")
    x = torch.randn(6, 5)
    assert torch.equal(Network.load(tmp_path / "n.safetensors")(x), network(x))


def test_a_rule_is_found_under_whatever_name_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(SGD):
        pass

    monkeypatch.setitem(UPDATES, "my-rule", Mine)
    assert Network.from_design(design("mlp", Mine(), in_features=4, outputs=2)).lr == 0.3


@pytest.mark.parametrize(
    "make",
    [
        mlp,
        residual_mlp,
        lambda inputs, outputs, **options: convnet((1, 4, inputs // 4), outputs, channels=(2,), **options),
    ],
)
def test_builders_stand_on_top_of_each_other(make: Any, tmp_path: Path) -> None:
    """Below, everything moves as well; the design says where the body may stand."""
    torch.manual_seed(0)
    lower, options = mlp(5, 16, width=4, areas=2), {"areas": 2}
    with pytest.raises(BrodmannError, match=r"Layer 2 .* sends no error down.*give a builder lowest=False"):
        Sequential(lower, Local(nn.Tanh()), make(16, 3, **options))
    upper = make(16, 3, lowest=False, **options)
    network = Network(Sequential(lower, Local(nn.Tanh()), upper))
    before = copy.deepcopy(lower.state_dict())
    network.learn(torch.randn(16, 5), torch.randint(0, 3, (16,)))
    weights = [f"body.layers.{index}.shared.value" for index in (0, 2)]
    assert not any(torch.equal(before[name], lower.state_dict()[name]) for name in weights)
    Network(upper).save(tmp_path / "upper.safetensors")
    again = Network.load(tmp_path / "upper.safetensors")
    assert again.body.sends_down
    with pytest.raises(CheckpointError, match="its lowest is False, but that of the body is True"):
        Network.load(tmp_path / "upper.safetensors", body=make(16, 3, **options))
