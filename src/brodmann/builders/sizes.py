"""Sizes: the layers that a network's sizes result in, how many numbers they hold, and which sizes are invalid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy

from ..checks import check_whole
from ..errors import BrodmannError


def as_ints(value: Any) -> Any:
    """Returns whole numbers of NumPy's as Python's, in lists and dictionaries too: small ones overflow in products."""
    if isinstance(value, numpy.integer):
        return int(value)
    if type(value) in (tuple, list):
        return type(value)(map(as_ints, value))
    return {name: as_ints(part) for name, part in value.items()} if type(value) is dict else value


def check_residual_depth(depth: int) -> None:
    """Checks that there is room for a stem, a block and a readout.

    Raises:
        BrodmannError: There is none.
    """
    check_whole(depth=depth)
    if depth < 3:
        raise BrodmannError(f"A residual network needs a depth of at least 3 (stem, block, readout), got {depth}.")


def dense_size(in_features: int, outputs: int, depth: int, width: int) -> int:
    """Counts the parameters of a dense network, plain or residual: input to width, width to width, width to output."""
    check_whole(in_features=in_features, outputs=outputs, depth=depth, width=width)
    in_features, outputs, depth, width = as_ints((in_features, outputs, depth, width))
    if depth == 1:
        return (in_features + 1) * outputs
    return (in_features + 1) * width + (depth - 2) * (width + 1) * width + (width + 1) * outputs


class MapSize(NamedTuple):
    """Size of a map.

    Attributes:
        inputs: Numbers in a row that it takes.
        outputs: Numbers that it makes of a row.
        rows: Rows of each sample, such as the patches of an image.
    """

    inputs: int
    outputs: int
    rows: int = 1


def convolution_sizes(
    shape: Sequence[int], channels: Sequence[int], outputs: int, size: int = 3, pool: int = 2
) -> list[MapSize]:
    """Returns the maps of a convolutional network: one for each convolution, then the readout's.

    Raises:
        BrodmannError: A size is no positive whole number, or images are too small.
    """
    check_whole(outputs=outputs)
    if not isinstance(shape, Sequence) or len(shape) != 3:
        raise BrodmannError(f"Expected the shape of an image, (channels, height, width), got {shape!r}.")
    for count in shape:
        check_whole(shape=count)
    check_channels(channels)
    check_whole(size=size, pool=pool)
    before, height, width = shape
    maps = []
    for count in channels:
        height, width = (side + 2 * (size // 2) - size + 1 for side in (height, width))
        maps.append(MapSize(size * size * before, count, height * width))
        before = count
        height, width = height // pool, width // pool
        if height < 1 or width < 1:
            raise BrodmannError(
                f"Images of {shape[1]} x {shape[2]} pixels are too small for {len(channels)} convolutions of size "
                f"{size} with poolings of {pool}: use fewer, or smaller ones."
            )
    return [*maps, MapSize(before * height * width, outputs)]


def check_channels(channels: Any) -> None:
    """Checks that there is a number of channels for each convolution; raises a `BrodmannError`."""
    if not isinstance(channels, Sequence) or not channels:
        raise BrodmannError(f"Expected channels to be a list, one number for each convolution, got {channels!r}.")
    for count in channels:
        check_whole(channels=count)


def weights_of(maps: Iterable[MapSize]) -> int:
    """Counts the parameters of maps, biases included."""
    return sum((map.inputs + 1) * map.outputs for map in maps)
