"""Maps: which modules of a network stand for what PyTorch's linear layers and convolutions do."""

from __future__ import annotations

from typing import Any

from torch import nn

MAPS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def is_plain(layer: Any) -> bool:
    """Whether a map has no forward of its own; otherwise its forward is followed, like that of any module."""
    forward: Any = next(kind.forward for kind in MAPS if isinstance(layer, kind))
    return getattr(layer.forward, "__func__", None) is forward
