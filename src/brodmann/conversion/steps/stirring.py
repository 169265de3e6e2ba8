"""Noise in place of weights of 0, which would hide what is done before them."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def stir(network: nn.Module) -> list[nn.Parameter]:
    """Puts noise, always the same, into parameters that are 0 altogether, and returns these."""
    draws = torch.Generator().manual_seed(0)
    zeros = [held for held in network.parameters() if held.is_floating_point() and not bool(held.any())]
    for parameter in zeros:
        parameter.normal_(std=0.1, generator=draws)
    return zeros
