"""Initial weights: drawn, taken from a map, or estimated from what a map answers to noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import BrodmannError
from ..storage import computing

MIRROR_ROWS = 8192
"""Rows of noise that a mirror watches: enough for a cosine of 0.95 to the weights of 784 inputs."""
ROWS_AT_A_TIME = 1024
"""Rows of noise at a time."""


def mirrored(answer: Callable[[Tensor], Tensor], like: Tensor, samples: int = MIRROR_ROWS) -> Tensor:
    """Returns ``1/n sum_i y_i^T x_i``, (out, in): an estimate of a map's weights from its answers to noise.

    For rows x (in,) of standard normal noise and answers ``y = x W^T`` its mean is W; an estimate from n rows has a
    cosine of about ``1 / sqrt(1 + in / n)`` with W. Source: Akrout et al. (2019), the weight mirror.

    Args:
        answer: The map, without biases: x (rows, in) -> y (rows, out).
        like: Weights of its shape, (out, in), of the wanted dtype and on the wanted device.
        samples: Rows of noise, n, drawn by PyTorch's own generator.
    """
    number = computing(like.dtype)
    found = torch.zeros_like(like, dtype=number)
    for start in range(0, samples, ROWS_AT_A_TIME):
        x = torch.randn(min(ROWS_AT_A_TIME, samples - start), found.shape[1], dtype=number, device=found.device)
        found.addmm_(answer(x).t(), x, alpha=1.0 / samples)
    return found


def start_of(
    in_features: int, out_features: int, scale: float, linear: nn.Linear | None, *, bias: bool
) -> tuple[Tensor, Tensor | None, float]:
    """Returns weights (out, in), biases (out,) or None, and the size of the weights in units of ``1 / sqrt(in)``.

    Args:
        in_features: Size of a sample.
        out_features: Size of the output.
        scale: Scale of drawn weights, which are normal, from torch's global generator; with 0 they are all zero. Their
            biases are 0.
        linear: A map to start as in place of drawn weights, see `AreaLinear`; None to draw.
        bias: Whether drawn weights come with biases; a map decides this itself.

    Raises:
        BrodmannError: The map has other sizes, is no plain `nn.Linear`, or holds no real numbers.
    """
    weight = torch.zeros(out_features, in_features)
    if linear is not None:
        weight, biases = _values(linear, weight)
        return weight, biases, float(weight.square().mean() * in_features) ** 0.5
    if scale:
        weight.normal_(std=scale * in_features**-0.5)
    return weight, torch.zeros(out_features) if bias else None, scale


def _values(start: nn.Linear, like: Tensor) -> tuple[Tensor, Tensor | None]:
    """Returns weights (out, in) and biases (out,) of a map, or None if it has none."""
    if not isinstance(start, nn.Linear) or type(start).forward is not nn.Linear.forward:
        raise BrodmannError(f"Expected start to be an nn.Linear, got {type(start).__name__}.")
    if isinstance(start.weight, nn.UninitializedParameter) or start.weight.shape != like.shape:
        came = "one that is not initialised" if start.in_features == 0 else f"one with {tuple(start.weight.shape)}"
        raise BrodmannError(f"Expected start to be an nn.Linear with weights of shape {tuple(like.shape)}, got {came}.")
    if not start.weight.is_floating_point() or start.weight.is_meta:
        raise BrodmannError(
            f"Expected start to hold floating-point weights that are not on the meta device, got {start.weight.dtype} "
            f"on {start.weight.device}."
        )
    kind = torch.promote_types(start.weight.dtype, like.dtype)
    weight = start.weight.detach().to(like.device, kind)
    biases: Tensor | None = start.bias
    return weight, None if biases is None else biases.detach().to(weight)
