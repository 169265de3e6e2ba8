"""Floating-point operations of one sample, counted from the sizes of the maps."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ..baselines import Backpropagation
from ..feedback import Direct, Feedback, KolenPollack, LeastChange, Transpose
from ..layers import AreaLinear
from ..network import Network, routers
from ..network.hooks import watched
from ..routing import Router


def learning_operations(learner: Network | Backpropagation, sample: Tensor) -> int:
    """Counts the floating-point operations of learning from one sample; a multiply-add is two.

    Products with weights are counted: forward, error down, update, and those of feedback weights and routers.
    Activations, biases, losses and the optimiser's own arithmetic, which is spent once per weight and batch, are not;
    nor is a `Product`.

    Args:
        learner: Left as it is.
        sample: (1, ...), which shows how many rows come to each map: one, or as many as there are patches or steps.
    """
    rows = _rows(learner, sample)
    if isinstance(learner, Backpropagation):
        return _of_dense(rows)
    total = sum(rows[layer] * _of_areas(layer) for _, layer in learner.area_layers())
    for _, router in routers(learner):
        numbers = router.projection.value.numel() + router.prototypes.numel()
        down = _of_feedback(router.feedback, 2 * router.projection.value.numel(), 1)
        total += rows[router] * (2 * numbers * (1 + router.learned) + down)
    return total


@torch.no_grad()
def _rows(learner: nn.Module, sample: Tensor) -> dict[nn.Module, int]:
    """Returns how many rows of outputs every map makes of a sample, and how many a router routes, in their order.

    A part that is called several times, such as at each step of a sequence, has the rows of all calls.
    """
    rows: dict[nn.Module, int] = {}

    def keep(_: str, layer: nn.Module, x: Tensor, output: Any) -> None:
        if isinstance(layer, Router):
            count = len(x)
        else:
            features = layer.out_features if isinstance(layer, nn.Linear | AreaLinear) else layer.out_channels
            count = output.numel() // cast(int, features)
        rows[layer] = rows.get(layer, 0) + count

    kinds = nn.Linear | nn.Conv2d | AreaLinear | Router
    with watched([(name, part) for name, part in learner.named_modules() if isinstance(part, kinds)], keep):
        learner(sample)
    return rows


def _of_dense(rows: dict[nn.Module, int]) -> int:
    total = 0
    below_learns = False
    for part, count in rows.items():
        weight = cast(Tensor, part.weight)
        learns = weight.requires_grad
        total += 2 * count * weight.numel() * (1 + learns + (learns and below_learns))
        below_learns = below_learns or learns
    return total


def _of_areas(layer: AreaLinear) -> int:
    one = 2 * layer.in_features * layer.out_features
    parts = (layer.shared is not None) + (layer.areas is not None)
    gradients = (layer.shared_mode == "learned") + (layer.areas is not None)
    return one * (parts + gradients) + _of_feedback(layer.feedback, one, parts)


def _of_feedback(path: Feedback | None, one: int, parts: int) -> int:
    if isinstance(path, LeastChange):
        return _of_feedback(path.path, one, parts)
    if path is None:
        return 0
    if isinstance(path, Direct):
        return 2 * path.matrix.numel() // path.rows  # its matrix has a part for each row
    if isinstance(path, KolenPollack):
        maps = (path.shared is not None) + (path.areas is not None)
        followers = path.follower is not None  # it moves by the gradient of the shared part
        return one * (2 * maps - followers)
    return one * parts if isinstance(path, Transpose) else one
