"""PyTorch networks of every form that is converted, each small enough for an oracle in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import Network

from .attention import (
    Asking,
    Attending,
    CrossAttending,
    Decoding,
    Encoding,
    Interleaved,
    Language,
    Repeated,
    Scaled,
    Shifted,
    StepsFirst,
)
from .convolutions import (
    ChannelsBehind,
    Concatenating,
    Folding,
    Frames,
    Iterated,
    Residual,
    Restoring,
    batched,
    convolutional,
    grouped,
    sequences,
)
from .maps import Bags, Buffers, Folded, Mixture, Paired, Switched, Writing, Written, dense, own_maps
from .recurrent import Stepping, Translating
from .sizes import CLASSES

MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (dense, (6,)),
    "convolutional": (convolutional, (81,)),
    "images": (lambda: nn.Sequential(*list(convolutional())[1:]), (1, 9, 9)),
    "residual": (partial(Residual, partial(nn.GroupNorm, 2)), (2, 6, 6)),
    "concatenating": (Concatenating, (1, 6, 6)),
    "attending": (Attending, (5, 4)),
    "encoding": (Encoding, (5, 8)),
    "encoding, norm first": (partial(Encoding, norm_first=True, activation="gelu"), (5, 8)),
    "cross attending": (partial(CrossAttending, torch.ones(5, 5).triu(1).bool()), (5, 4)),
    "cross attending, summands": (partial(CrossAttending, torch.linspace(-1, 1, 25).view(5, 5)), (5, 4)),
    "channels behind": (ChannelsBehind, (2, 5, 5)),
    "sequences": (sequences, (2, 8)),
    "frames": (Frames, (3, 2, 5, 5)),
    "restoring": (Restoring, (1, 8, 7)),
    "grouped": (grouped, (2, 5, 6)),
    "folding": (Folding, (1, 7, 7)),
    "written": (Written, (4,)),
    "scaled": (Scaled, (5, 4)),
    "switched": (Switched, (4,)),
    "buffers": (Buffers, (5, 4)),
    "mixture": (Mixture, (5, 4)),
    "asking": (Asking, (5, 4)),
    "shifted windows": (Shifted, (2, 4, 4)),
    "batched": (batched, (2, 5, 5)),
    "language": (Language, (5,)),
    "writing": (Writing, (4,)),
    "decoding": (Decoding, (5,)),
    "folded": (Folded, (1, 4, 4)),
    "repeated": (Repeated, (5, 8)),
    "interleaved": (Interleaved, (5, 8)),
    "iterated": (Iterated, (2, 5, 5)),
    "stepping": (Stepping, (4, 4)),
    "translating": (Translating, (5, 4)),
    "steps first": (StepsFirst, (5, 4)),
    "paired": (Paired, (6,)),
    "bags": (Bags, (5,)),
    "own maps": (own_maps, (6,)),
}
"""Name -> what builds it, the shape of a sample."""
OF_TOKENS = ("language", "decoding", "bags")


def samples(name: str, count: int) -> Tensor:
    """Returns random samples for a model."""
    shape = count, *MODELS[name][1]
    return torch.randint(1, 9, shape) if name in OF_TOKENS else torch.randn(shape)


def described(name: str) -> Any:
    """Returns what `from_torch` is told of samples."""
    return samples(name, 2) if name in OF_TOKENS else MODELS[name][1]


def routes(name: str) -> list[str]:
    """Returns the routings that a model takes: one route for all layers needs numbers to choose by."""
    return ["layer"] if name in OF_TOKENS else ["network", "layer"]


def batches(name: str, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields so many batches of samples for a model, and their classes."""
    for _ in range(count):
        yield samples(name, 16), torch.randint(0, CLASSES, (16,))


def learn_beside(
    network: Network, model: nn.Module, optimiser: torch.optim.Optimizer, data: Iterable[tuple[Tensor, Tensor]]
) -> None:
    """Lets a network and a model under autograd learn from the same batches, with losses that agree to 1e-10."""
    for x, y in data:
        optimiser.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        assert float(network.learn(x, y)) == pytest.approx(loss.item(), abs=1e-10)
