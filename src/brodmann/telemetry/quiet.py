"""A copy of a network, to look into."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.modules.dropout import _DropoutNd

from ..layers import Local
from ..network import Network


@contextmanager
def quiet_copy(network: Network) -> Iterator[Network]:
    """Yields a copy that draws nothing and has no clip, for steps at a rate of 0; generators stay as they were."""
    devices = {parameter.device for parameter in network.parameters() if parameter.is_cuda}
    with torch.inference_mode(False), torch.random.fork_rng(devices=list(devices)):
        twin = copy.deepcopy(network)
        twin.clip = None
        for part in twin.modules():
            if isinstance(part, _DropoutNd):  # of layers of one's own too
                part.p = 0.0
            if isinstance(part, Local):
                part.draws = False
        yield twin
