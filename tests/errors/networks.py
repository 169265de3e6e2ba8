"""What is said of networks, their rates, and what they are given."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from brodmann import AreaLinear, Network, Rates, Sequential, mlp, stream_mlp


def misfit(areas: int = 1, shared: str = "learned") -> Network:
    layers = AreaLinear(4, 5, areas=1), AreaLinear(6, 2, areas=areas, shared=shared)
    return Network(Sequential(*layers))


OTHER_NUMBERS = (
    "Expected an input of torch.float32, the dtype of the weights, got {}: convert it with x.to(torch.float32), or "
    "the network with .to(...)."
)

CASES: list[tuple[Callable[[], object], str]] = [
    (
        lambda: Network(nn.Linear(4, 2)),  # type: ignore[arg-type]
        "The body of a Network is a Linear, which cannot learn: wrap parameter-free operations in Local, use "
        "AreaLinear for linear maps, or convert a whole network with from_torch.",
    ),
    (
        lambda: Network(mlp(4, 2), 0.1),  # type: ignore[arg-type]
        "Expected a loss such as CrossEntropy() or MeanSquaredError(), got 0.1.",
    ),
    (
        lambda: Network(mlp(4, 2, areas=1), rates={"areas": 1.0}),  # type: ignore[arg-type]
        "Expected rates to be Rates(...), got {'areas': 1.0}.",
    ),
    (lambda: Network(mlp(4, 2), lr=10**400), "Expected lr to be a number of at least 0, got " + str(10**400) + "."),
    (
        lambda: Network(mlp(4, 2), lr=np.float16("inf")),
        "Expected lr to be a number of at least 0, got np.float16(inf).",
    ),
    (lambda: Network(mlp(4, 2), clip=math.nan), "Expected clip to be a number above 0, got nan."),
    (lambda: setattr(Network(mlp(4, 2)), "clip", -1.0), "Expected clip to be a number above 0, got -1.0."),
    (lambda: Rates(shared=math.nan), "Expected shared to be a number of at least 0, got nan."),
    (lambda: Rates(areas=-1.0), "Expected areas to be a number of at least 0, got -1.0."),
    (lambda: Rates(layers={"a": -1.0}), "Expected the rate of 'a' to be a number of at least 0, got -1.0."),
    (lambda: Rates(layers={0: 0.5}), "Expected layers to be a dictionary of names and rates, got {0: 0.5}."),  # type: ignore[dict-item]
    (lambda: Rates(layers=0.5), "Expected layers to be a dictionary of names and rates, got 0.5."),  # type: ignore[arg-type]
    (
        lambda: Network(mlp(4, 2, areas=1), rates=Rates(layers={"layers.9": 0.0})),
        "Unknown layer 'layers.9'. Did you mean 'layers.2'? Choose one of: layers.0, layers.2.",
    ),
    (
        lambda: setattr(Network(mlp(4, 2)).merged(), "rates", Rates(layers={"body": 0.5})),
        "No layer of this network learns (after merged(), none does): leave rates out.",
    ),
    (lambda: Network(mlp(4, 2))(torch.zeros(3, 4).double()), OTHER_NUMBERS.format("torch.float64")),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(3, 4).double(), torch.zeros(3, dtype=torch.int64)),
        OTHER_NUMBERS.format("torch.float64"),
    ),
    (
        lambda: Network(mlp(4, 2))(torch.zeros(3, 5)),
        "Expected an input of shape (..., 4), got (3, 5) at layer 'body.router'.",
    ),
    (  # the size that was chosen, not that with the input of ones
        lambda: Network(stream_mlp(36, 2, width=4, areas=2))(torch.zeros(3, 6, 6)),
        "Expected an input of shape (..., 36), got (3, 6, 6).",
    ),
    (
        lambda: Network(stream_mlp(6, 2, width=4, areas=1)).learn(torch.zeros(3, 5), torch.zeros(3).long()),
        "Expected an input of shape (..., 6), got (3, 5).",
    ),
    (lambda: misfit()(torch.zeros(3, 4)), "Expected an input of shape (..., 6), got (3, 5) at layer 'body.layers.1'."),
    (
        lambda: misfit(areas=2, shared="off").learn(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64)),
        "Expected an input of shape (..., 6), got (3, 5) at layer 'body.layers.1'.",
    ),
    (
        lambda: misfit(shared="off").learn(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64)),
        "Expected an input of shape (..., 6), got (3, 5) at layer 'body.layers.1'.",
    ),
    (
        lambda: Network(mlp(4, 2))(torch.tensor(1.0)),
        "Expected an input of shape (..., 4), or (samples, ...) of 4 numbers each, got ().",
    ),
    (
        lambda: Network(mlp(4, 2))(np.zeros((3, 4), dtype=np.float32)),
        "Expected x to be a tensor, got ndarray: convert it with torch.as_tensor(...).",
    ),
    (lambda: Network(mlp(4, 2))([1, 2]), "Expected x to be a tensor, got list: convert it with torch.as_tensor(...)."),
    (
        lambda: Network(mlp(4, 2))(torch.zeros(3, 4).to_sparse()),
        "Expected x to be dense, got torch.sparse_coo: convert it with .to_dense().",
    ),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(3, 4).to_sparse(), torch.zeros(3, dtype=torch.int64)),
        "Expected x to be dense, got torch.sparse_coo: convert it with .to_dense().",
    ),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64), lr=-1.0),
        "Expected lr to be a number of at least 0, got -1.0.",
    ),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)),
        "Cannot learn from an empty batch: expected at least one sample.",
    ),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(3, 4), [0, 1, 1]),  # type: ignore[arg-type]
        "Expected target to be a tensor, got list: convert it with torch.as_tensor(...).",
    ),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(3, 4), torch.zeros(3, dtype=torch.long), torch.ones(2)),
        "Expected a weight for each sample, got 2 for 3 samples.",
    ),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(3, 4), torch.zeros(2, dtype=torch.long)),
        "Expected as many targets as samples, got 2 for 3.",
    ),
    (
        lambda: Network.load("nowhere.safetensors"),
        "nowhere.safetensors",
    ),
    (lambda: Network.load("."), ". is a folder: expected a file written by brodmann."),
]
