"""PyTorch's maps and norms: which modules a conversion knows, and what they compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

MAPS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.InstanceNorm1d, nn.InstanceNorm2d)
"""Norms that treat every sample by itself."""


def module_text(module: nn.Module) -> str:
    """Returns a module as it prints itself, or its class if that takes several lines."""
    text = str(module)
    return type(module).__name__ if "\n" in text else text


def is_plain(layer: Any) -> bool:
    """Whether a map has no forward of its own; otherwise its forward is followed, like that of any module."""
    forward: Any = next(kind.forward for kind in MAPS if isinstance(layer, kind))
    return getattr(layer.forward, "__func__", None) is forward


def function_of(conv: _ConvNd) -> tuple[Callable[..., Tensor], dict[str, Any]]:
    """Returns the function of an input, weights and biases that a convolution is, and its settings."""
    name = f"conv{'_transpose' if conv.transposed else ''}{len(conv.kernel_size)}d"
    names = ["stride", "padding", "dilation", "groups", *["output_padding"] * conv.transposed]
    return getattr(functional, name), {setting: getattr(conv, setting) for setting in names}


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Returns a map of these weights, (out, in), and biases, (out,), which it holds where they lie in memory."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    for name, held in (("weight", weight), ("bias", bias)):
        if held is not None and not isinstance(held, nn.Parameter):
            held = nn.Parameter(held.detach(), held.requires_grad)
        setattr(linear, name, held)
    return linear
