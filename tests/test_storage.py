"""Weights that are stored in bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import Adam, AreaLinear, BrodmannError, Network, Product, from_torch, mlp
from brodmann.builders import design
from brodmann.runs import RunOptions

from .oracles.cases import LAYERS, PATHS
from .settings import default_dtype


def task() -> tuple[Tensor, Tensor]:
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def stored_in(storage: str | None, layer: str, feedback: str, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    options = {**LAYERS[layer], "feedback": feedback, "storage": storage, "width": 16}
    return Network.from_design(design("mlp", Adam(), in_features=5, outputs=3, **options), lr=0.02)


@pytest.mark.parametrize(
    ("layer", "feedback"),
    [
        pytest.param(layer, path, marks=() if layer == "areas" or path == "kolen-pollack" else pytest.mark.slow)
        for layer in LAYERS
        for path in PATHS
    ],
)
def test_bfloat16_storage_learns_like_float32(layer: str, feedback: str) -> None:
    x, y = task()
    losses = {}
    for storage in (None, "bfloat16"):
        curves = []
        for seed in range(3):  # one run alone tells little: a rounded weight sends samples to other areas
            network = stored_in(storage, layer, feedback, seed)
            curves.append([float(network.learn(x, y)) for _ in range(40)])
        losses[storage] = torch.tensor(curves).mean(0)
    single, rounded = losses.values()
    assert (single[-1] - rounded[-1]).abs() < 0.15 * single[0]
    assert rounded[-1] < 0.8 * rounded[0]


@pytest.mark.parametrize("feedback", PATHS)
@pytest.mark.parametrize("layer", LAYERS)
def test_bfloat16_storage_survives_saving(layer: str, feedback: str, tmp_path: Path) -> None:
    x, y = task()
    network = stored_in("bfloat16", layer, feedback)
    losses = [network.learn(x, y) for _ in range(6)]
    assert losses[-1] < losses[0]
    kinds = {p.dtype for name, p in network.named_parameters() if name.endswith(("areas.weight.value", "shared.value"))}
    assert kinds == {torch.bfloat16}
    assert network.dtype == torch.float32
    path = tmp_path / "n.safetensors"
    network.save(path)
    again = Network.load(path)
    kinds = [[tensor.dtype for tensor in net.parameters()] for net in (again, network)]
    assert kinds[0] == kinds[1]
    assert torch.equal(again(x), network(x))
    # Rounding the merged map may send a sample that lies between two cells of a later layer to the other one.
    close = torch.isclose(network.merged()(x), network(x), rtol=0.05, atol=0.05).all(1)
    assert close.double().mean() >= 0.95


@pytest.mark.parametrize("storage", ["bfloat16", torch.bfloat16], ids=["name", "dtype"])
def test_a_storage_is_given_by_its_name_or_as_a_dtype(storage: Any, tmp_path: Path) -> None:
    network = Network(mlp(5, 3, width=6, areas=2, storage=storage))
    assert network.design["storage"] == "bfloat16"  # as files hold it
    network.save(tmp_path / "n.safetensors")
    networks = [
        Network.load(tmp_path / "n.safetensors"),
        Network(AreaLinear(4, 2, storage=storage)),
        Network(Product(torch.mul, torch.ones(3, 2), storage=storage)),
        Network(from_torch(nn.Linear(4, 2), (4,), storage=storage)),
        Network.from_design(design("mlp", None, in_features=5, outputs=3, storage=storage)),
    ]
    assert all(torch.bfloat16 in {weight.dtype for weight in network.parameters()} for network in networks)
    assert RunOptions(storage=storage) == RunOptions(storage="bfloat16")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("build", [lambda: mlp(5, 3), lambda: from_torch(nn.Linear(5, 3), (5,))])
def test_layers_are_not_built_in_a_default_dtype_in_which_they_cannot_compute(build: Any, dtype: torch.dtype) -> None:
    refusal = f"default dtype, that of new weights, is {dtype}: call"
    with default_dtype(dtype), pytest.raises(BrodmannError, match=refusal):
        build()
