"""Floating-point operations of one sample, counted from the sizes of the maps."""

from __future__ import annotations

from torch import nn

from brodmann.area_linear import AreaLinear
from brodmann.baselines import Backpropagation
from brodmann.feedback import Direct, KolenPollack
from brodmann.network import Network, routers


def learning_operations(learner: Network | Backpropagation) -> int:
    """Counts the floating-point operations of learning from one sample; a multiply-add is two.

    Products with weights are counted: forward, error down, update, and those of feedback weights and routers.
    Activations, biases, losses and the optimiser's own arithmetic, which is spent once per weight and batch, are not.
    """
    if isinstance(learner, Backpropagation):
        return _of_dense(learner)
    total = sum(_of_areas(layer) for _, layer in learner.area_layers())
    for _, router in routers(learner):
        projection, prototypes = router.projection.value.numel(), router.prototypes.numel()
        total += 2 * (projection + prototypes)
        total += 2 * (projection + prototypes) if router.learned else 0
    return total


def _of_dense(learner: Backpropagation) -> int:
    maps = [part for part in learner.modules() if isinstance(part, nn.Linear)]
    total = 0
    below_learns = False
    for part in maps:
        learns = part.weight.requires_grad
        total += 2 * part.weight.numel() * (1 + learns + (learns and below_learns))
        below_learns = below_learns or learns
    return total


def _of_areas(layer: AreaLinear) -> int:
    one = 2 * layer.in_features * layer.out_features
    parts = (layer.shared is not None) + (layer.areas is not None)
    learning = (layer.shared_mode == "learned") + (layer.areas is not None)
    if layer.feedback is None:
        error = 0
    elif isinstance(layer.feedback, Direct):
        error = 2 * sum(buffer.numel() for buffer in layer.feedback.buffers())
    elif isinstance(layer.feedback, KolenPollack):
        error = 2 * one  # the error's way down, and the feedback's own update
    else:
        error = one
    return one * (parts + learning) + error
