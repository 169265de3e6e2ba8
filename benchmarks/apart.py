"""How far a model under autograd and what it is converted to come apart: as both learn, and as models again."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import Network, to_torch
from brodmann.several import called_with


def apart(model: nn.Module, network: Network, batches: Iterable[tuple[Any, Tensor]], lr: float) -> float:
    """Returns by how much their losses differ at most, relatively; NaN once one of them is.

    Args:
        model: Learns by plain SGD, of the mean cross-entropy over samples and steps.
        network: Learns by the same.
        batches: Inputs, one tensor or several, and classes (samples, ...).
        lr: Learning rate of both.
    """
    optimiser = torch.optim.SGD(model.parameters(), lr=lr)
    largest = 0.0
    for x, y in batches:
        loss = functional.cross_entropy(called_with(model, x).flatten(0, -2), y.flatten())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        difference = abs(float(network.learn(x, y, lr=lr)) / loss.item() - 1.0)
        if math.isnan(difference):
            return difference
        largest = max(largest, difference)
    return largest


def back(network: Network, before: nn.Module, learned: nn.Module, sample: Any) -> float:
    """Returns by how much parameters that `to_torch` brings back differ at most from those that autograd has moved.

    Relative to the largest of all.

    Args:
        network: Has learned as ``learned`` has, see `apart`.
        before: The model that both began as.
        learned: The same as autograd has moved it.
        sample: A few samples, as the conversion was told.
    """
    pairs = list(zip(to_torch(network, before, sample).parameters(), learned.parameters(), strict=True))
    return max(float((ours - theirs).abs().max()) for ours, theirs in pairs) / max(
        float(theirs.abs().max()) for _, theirs in pairs
    )
