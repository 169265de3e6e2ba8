"""A network that has learned a little: its areas exist, and its weights have moved."""

from __future__ import annotations

import torch

from brodmann import Layer, Network


def trained(body: Layer, **options: object) -> Network:
    network = Network(body, **options)
    for _ in range(4):
        network.learn(torch.randn(16, 5), torch.randint(0, 3, (16,)), lr=0.02)
    return network
