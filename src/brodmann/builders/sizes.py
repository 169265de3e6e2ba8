"""Sizes: the layers that a network's sizes result in, how many numbers they hold, and which sizes are invalid."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy

from ..checks import check_whole
from ..errors import BrodmannError

DEPTH = 2
"""Linear layers if no depth is given; beside a list of widths, which determines the depth, it counts as not given."""


def as_ints(value: Any) -> Any:
    """Returns whole numbers of NumPy's as Python's, in lists and dictionaries too: small ones overflow in products.

    Arrays of them, and sequences and mappings of other libraries', such as a configuration's, become lists and
    dictionaries: JSON knows no others.
    """
    if isinstance(value, numpy.ndarray) and value.dtype.kind in "iu":
        return value.tolist()
    if isinstance(value, numpy.integer):
        return int(value)
    if isinstance(value, Mapping):
        return {name: as_ints(part) for name, part in value.items()}
    if type(value) is tuple:
        return tuple(map(as_ints, value))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | tuple):
        return list(map(as_ints, value))
    return value


def check_residual(depth: Any, width: Any) -> None:
    """Checks that there is room for a stem, a block and a readout, and one width for all: blocks add to their input.

    Raises:
        BrodmannError: There is none, or the width is no positive whole number.
    """
    if isinstance(as_ints(width), list | tuple):
        raise BrodmannError(
            f"A residual network has one width, since its blocks add to their input, got {width!r}: give one number, "
            "or leave residual out."
        )
    check_whole(depth=depth, width=width)
    if depth < 3:
        raise BrodmannError(f"A residual network needs a depth of at least 3 (stem, block, readout), got {depth}.")


def depth_of(depth: int, width: int | Sequence[int]) -> int:
    """Returns the number of linear layers of a dense network, readout included, from its depth or its list of widths.

    Args:
        depth: The depth that was given, or `DEPTH`.
        width: Units of every hidden layer, or a list: those of each.

    Raises:
        BrodmannError: A size is no positive whole number, the list is empty, or the depth is another than the list's.
    """
    check_whole(depth=depth)
    width = as_ints(width)
    if not isinstance(width, Sequence) or isinstance(width, str):
        check_whole(width=width)
        return depth
    check_lists("hidden layer", width=width)
    layers = len(width) + 1
    if depth not in (DEPTH, layers):
        raise BrodmannError(
            f"Expected {layers} linear layers, one for each width of {width!r} and the readout, but their number is "
            f"given as {depth}: leave it out."
        )
    return layers


def dense_sizes(in_features: int, outputs: int, depth: int, width: int | Sequence[int]) -> list[int]:
    """Returns the sizes between the layers of a dense network, input and output included; see `depth_of`."""
    hidden = width if isinstance(width, Sequence) else [width] * (depth - 1)
    return [in_features, *hidden, outputs]


def dense_size(in_features: int, outputs: int, depth: int, width: int | Sequence[int]) -> int:
    """Counts the parameters of a dense network, plain or residual; see `depth_of`."""
    check_whole(in_features=in_features, outputs=outputs)
    in_features, outputs, width, depth = as_ints((in_features, outputs, width, depth_of(depth, width)))
    if isinstance(width, Sequence):
        sizes = dense_sizes(in_features, outputs, depth, width)
        return weights_of(itertools.starmap(MapSize, itertools.pairwise(sizes)))
    if depth == 1:  # from here on by formula: a list of all widths might not fit into memory
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
    check_lists("convolution", channels=channels)
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


def check_lists(part: str, **lists: Any) -> None:
    """Checks that lists, given by name, hold a whole number for each part of a network; raises a `BrodmannError`."""
    for name, counts in lists.items():
        if not isinstance(counts, Sequence) or not counts:
            raise BrodmannError(f"Expected {name} to be a list, one number for each {part}, got {counts!r}.")
        for count in counts:
            check_whole(**{name: count})


def weights_of(maps: Iterable[MapSize]) -> int:
    """Counts the parameters of maps, biases included."""
    return sum((map.inputs + 1) * map.outputs for map in maps)
