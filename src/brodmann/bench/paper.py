"""The published protocol: initial values that are the same numbers for every method."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..baselines import Backpropagation
from ..feedback import KolenPollack
from ..network import Network


@torch.no_grad()
def initialise(learner: Network | Backpropagation, seed: int) -> None:
    """Draws every map as He et al. (2015) do, normal with variance ``2 / in``, biases zero.

    Dense networks, shared parts and, if there is no shared part, the origin of the areas take the same numbers.
    Feedback weights are drawn independently, normal with variance ``1 / in``.

    Args:
        learner: A network of two or more plain layers.
        seed: Seed of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    for weight in _maps(learner):
        drawn = torch.randn(weight.shape[-2:], generator=generator) * (2.0 / weight.shape[-1]) ** 0.5
        weight.copy_(drawn.to(weight.dtype))
    for part in learner.modules():
        if isinstance(part, KolenPollack) and part.shared is not None:
            back = part.shared.value
            back.copy_(torch.randn(back.shape, generator=generator) / back.shape[-1] ** 0.5)


def _maps(learner: Network | Backpropagation) -> list[Tensor]:
    if isinstance(learner, Backpropagation):
        return [part.weight for part in learner.modules() if isinstance(part, nn.Linear)]
    maps: list[Tensor] = []
    for _, layer in learner.area_layers():
        if layer.shared is not None:
            maps.append(layer.shared.value)
        else:
            assert layer.areas is not None
            maps.append(layer.areas.weight.value)
    return maps
