"""Maps: which modules of a network stand for what PyTorch's linear layers and convolutions do."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

MAPS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def maps_alike(layer: Any) -> bool:
    """Whether a map has no forward of its own, or one that returns what PyTorch's of its kind does, learning or not.

    Otherwise its forward is followed, like that of any module.
    """
    forward: Any = next(kind.forward for kind in MAPS if isinstance(layer, kind))
    if getattr(layer.forward, "__func__", None) is forward:
        return True
    if {name for name, _ in layer.named_parameters()} - {"weight", "bias"} or any(True for _ in layer.buffers()):
        return False
    if isinstance(layer, nn.Linear):
        sizes = [5, layer.in_features]
    else:
        windows = zip(layer.kernel_size, layer.dilation, strict=True)
        sizes = [layer.in_channels, *(2 + step * size for size, step in windows)]
    with torch.random.fork_rng(devices=[]):
        x = torch.randn(3, *sizes).to(layer.weight)
        try:
            return all(_learn_alike(deepcopy(layer).train(mode), forward, x) for mode in (False, True))
        except Exception:  # from whatever it does with random numbers
            return False


@torch.enable_grad()
def _learn_alike(layer: Any, forward: Any, x: Tensor) -> bool:
    """Whether a map returns the same as a function of it, and has the same derivatives."""
    leaves = [x.clone().requires_grad_(), *layer.requires_grad_().parameters()]
    found = []
    for y in (layer(leaves[0]), forward(layer, leaves[0])):
        found.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    return all(torch.allclose(one, other) for one, other in zip(*found, strict=True))
