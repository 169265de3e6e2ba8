"""A copy of a network, to look into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from ..generators import undisturbed
from ..layers import BatchNorm, Local
from ..network import Network, copy_of
from ..network.hooks import watched


@contextmanager
def quiet_copy(network: Network) -> Iterator[Network]:
    """Yields a copy for steps at rate 0, whose inference computes as learning does; generators stay as they were.

    It draws nothing, has no clip, and norms that learn normalise by the batch at inference too.
    """
    device = next((parameter.device for parameter in network.parameters()), None)
    with torch.inference_mode(False), undisturbed(device):
        twin = copy_of(network)
        twin.clip = None
        for part in twin.modules():
            if isinstance(part, _DropoutNd):  # also those of a user's layers
                part.p = 0.0
            if isinstance(part, Local):
                part.draws = False
        norms = [(name, part) for name, part in twin.body.named_modules() if isinstance(part, BatchNorm)]
        context = twin.context()

        def as_learning(_: str, norm: BatchNorm, x: Tensor, __: Any) -> Tensor:
            return norm.by_batch(x, context.rate_of(norm))

        with watched(norms, as_learning):
            yield twin
