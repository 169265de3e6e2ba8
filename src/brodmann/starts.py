"""What the map of a layer starts as: drawn, or taken from another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .errors import BrodmannError


def start_of(
    in_features: int, out_features: int, scale: float, linear: nn.Linear | None
) -> tuple[Tensor, Tensor, float]:
    """Returns weights (out, in), biases (out,), and the size of the weights in units of ``1 / sqrt(in)``.

    Args:
        in_features: Size of a sample.
        out_features: Size of the output.
        scale: Of weights that are drawn, normal from torch's global generator; 0 for none. Their biases are 0.
        linear: A map to start as in place of drawn weights, see `AreaLinear`; None to draw.

    Raises:
        BrodmannError: The map has other sizes, is no plain `nn.Linear`, or holds no real numbers.
    """
    weight, bias = torch.zeros(out_features, in_features), torch.zeros(out_features)
    if linear is not None:
        weight, bias = _values(linear, weight)
        scale = float(weight.square().mean() * in_features) ** 0.5
    elif scale:
        weight.normal_(std=scale * in_features**-0.5)
    return weight, bias, scale


def _values(start: nn.Linear, like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns weights (out, in) and biases (out,) of a map, the latter 0 where it has none."""
    if not isinstance(start, nn.Linear) or type(start).forward is not nn.Linear.forward:
        raise BrodmannError(f"Expected to start as an nn.Linear, got {type(start).__name__}.")
    if isinstance(start.weight, nn.UninitializedParameter) or start.weight.shape != like.shape:
        came = "one that is not initialised" if start.in_features == 0 else f"one of {tuple(start.weight.shape)}"
        raise BrodmannError(f"Expected to start as an nn.Linear with weights {tuple(like.shape)}, got {came}.")
    if not start.weight.is_floating_point() or start.weight.is_meta:
        raise BrodmannError(f"Expected to start as numbers, got {start.weight.dtype} on {start.weight.device}.")
    kind = torch.promote_types(start.weight.dtype, like.dtype)
    weight = start.weight.detach().to(like.device, kind)
    return weight, weight.new_zeros(len(weight)) if start.bias is None else start.bias.detach().to(weight)
