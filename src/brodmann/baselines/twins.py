"""Twins: dense networks and convolutions in PyTorch's own modules, which compute what the builders' networks do."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..builders.parts import activation_named
from ..builders.sizes import (
    MapSize,
    check_residual,
    convolution_sizes,
    dense_size,
    dense_sizes,
    depth_of,
    weights_of,
)
from ..checks import check_memory, check_share, check_whole
from ..errors import BrodmannError
from ..layers import Images, RMSNorm


class _Block(nn.Module):
    def __init__(self, width: int, activation: str, dropout: float, alpha: float) -> None:
        super().__init__()
        self.norm, self.activation, self.dropout = RMSNorm(), activation_named(activation), nn.Dropout(dropout)
        self.linear, self.alpha = nn.Linear(width, width), alpha

    def forward(self, h: Tensor) -> Tensor:
        return h + self.alpha * self.linear(self.dropout(self.activation(self.norm(h))))


class _ChannelsFirst(Images):
    """Takes images as `convnet` does, for modules of PyTorch's: one module, so that names in files stay."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).movedim(-1, 1)


def twin_body(
    in_features: int,
    outputs: int,
    depth: int,
    width: int | Sequence[int],
    residual: bool,
    activation: str,
    dropout: float,
    shape: Sequence[int] | None,
    channels: Sequence[int] | None,
) -> nn.Sequential:
    """Returns the twin of a builder's network, with weights as `Backpropagation` draws them.

    Raises:
        BrodmannError: As `Backpropagation`.
    """
    check_share(dropout=dropout)
    check_whole(in_features=in_features, outputs=outputs)
    if residual:
        check_residual(depth, width)
    depth = depth_of(depth, width)
    image = shape or ()
    maps = [] if channels is None else convolution_sizes(image, channels, outputs)
    if maps and math.prod(image) != in_features:
        raise BrodmannError(f"Expected images of {in_features} numbers, got images of shape {shape}.")
    check_memory(4 * (weights_of(maps) if maps else dense_size(in_features, outputs, depth, width)))
    if channels is not None:
        layers = _convolutions(image, channels, maps[-1], activation, dropout)
    else:
        dense = _residual if residual else _plain
        layers = dense(dense_sizes(in_features, outputs, depth, width), activation, dropout)
    body = nn.Sequential(*layers)
    if channels is not None:  # PyTorch's convolutions then take half to four fifths of the time of a step
        body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in body.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return body


def _plain(sizes: Sequence[int], activation: str, dropout: float) -> list[nn.Module]:
    """Returns what `mlp` computes, from the sizes between its maps."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), activation_named(activation), nn.Dropout(dropout)]
    return layers[:-2]  # nothing behind the readout


def _residual(sizes: Sequence[int], activation: str, dropout: float) -> list[nn.Module]:
    """Returns what `residual_mlp` computes, from the sizes between its maps."""
    in_features, width, *_, outputs = sizes
    blocks = len(sizes) - 3
    inside = [_Block(width, activation, dropout, blocks**-0.5) for _ in range(blocks)]
    return [nn.Linear(in_features, width), *inside, RMSNorm(), nn.Linear(width, outputs)]


def _convolutions(
    shape: Sequence[int], channels: Sequence[int], readout: MapSize, activation: str, dropout: float
) -> list[nn.Module]:
    """Returns what `convnet` computes, in PyTorch's own modules."""
    layers: list[nn.Module] = [_ChannelsFirst(*shape)]
    for before, count in itertools.pairwise([shape[0], *channels]):
        layers += [nn.Conv2d(before, count, 3, padding=1), activation_named(activation), nn.MaxPool2d(2)]
    return [*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(readout.inputs, readout.outputs)]


def matching_width(active: int, in_features: int, outputs: int, depth: int, width: int | Sequence[int] = 1) -> int:
    """Returns the width at which the dense twin, plain or residual, has the number of parameters nearest ``active``.

    Args:
        active: The number of parameters.
        in_features: Size of a sample (flat).
        outputs: Classes, or targets.
        depth: Number of linear layers, see `Backpropagation`.
        width: Widths of the network whose twin it is: of a list, the largest one is returned, see `in_proportion`.
    """

    def size(widest: int) -> int:
        return dense_size(in_features, outputs, depth, in_proportion(width, widest))

    if depth == 1:
        return 1
    widest = max(1, bisect.bisect_right(range(1, active + 1), active, key=size))  # the largest that is not above
    return min(widest, widest + 1, key=lambda candidate: abs(size(candidate) - active))


def in_proportion(width: int | Sequence[int], widest: int) -> int | tuple[int, ...]:
    """Returns a list of widths scaled so that the largest is ``widest``; in place of one width, ``widest`` itself."""
    if not isinstance(width, Sequence):
        return widest
    return tuple(max(1, round(widest * units / max(width))) for units in width)
