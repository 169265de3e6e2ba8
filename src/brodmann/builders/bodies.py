"""Ready-made bodies: plain, residual, streaming and convolutional networks of areas."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Unpack

from torch import Tensor, nn

from ..checks import check_switch
from ..feedback import Feedback, LeastChange, Shape
from ..layer import Layer
from ..layers import (
    ChannelsLast,
    Images,
    InputOfOnes,
    Local,
    Patches,
    Recomputed,
    Residual,
    RMSNorm,
    Routed,
    Sequential,
)
from ..updates import RLS, UpdateRule
from .common import Common, spelled_out
from .designs import described
from .parts import Parts, activation_of, dropout_of, feedback_path
from .sizes import DEPTH, check_residual, convolution_sizes, dense_size, dense_sizes, depth_of, weights_of


@described
@spelled_out
def mlp(
    in_features: int,
    outputs: int,
    *,
    depth: int = DEPTH,
    width: int | Sequence[int] = 256,
    areas: int = 16,
    feedback: str | Callable[[Shape], Feedback] = "kolen-pollack",
    activation: str | Callable[[Tensor], Tensor] = "relu",
    dropout: float = 0.0,
    readout_scale: float = 0.1,
    lowest: bool = True,
    **common: Unpack[Common],
) -> Sequential | Routed:
    """Builds a plain network: ``depth`` layers of areas with an activation between them.

    Args:
        in_features: Size of a sample (flat).
        outputs: Classes, or targets of a regression.
        depth: Number of linear layers, readout included. Default 2: one hidden layer; or as a list of widths says.
        width: Units of every hidden layer, or a list with the units of each, from below: ``(512, 256)``. Default 256,
            the size named for the paper (docs/method.md says by whom).
        areas: Largest number of areas of every layer. Default 16, likewise.
        feedback: A name in `FEEDBACKS`, or a path as `AreaLinear` takes it. The lowest layer sends nothing down and has
            none.
        activation: ``"relu"`` (default, likewise), ``"gelu"``, ``"tanh"``, or any operation that `Local` takes.
        dropout: Share of hidden units switched off while learning. Default 0.
        readout_scale: ``start_scale`` of the readout, see `AreaLinear`. Default 0.1: what weights and feedback weights
            have learned, which is the same for both, then soon outweighs their initial values, which differ. That
            narrows the gap to transpose feedback, to 0 to 0.5 points depending on the seeds (docs/log.md);
            backpropagation gains nothing.
        lowest: Whether nothing below learns, so that the lowest layer needs no feedback. Default True. False for a body
            that stands on one that learns, or on an encoder of autograd, see `Network.learn_with_error`.
        **common: Settings of all layers: ``update``, ``routing``, ``shared``, ``gated``, ``pooling``, ``router`` and
            ``storage``, see `Common`.

    Returns:
        A body that takes (batch, ..., in_features) and returns (batch, ..., outputs), logits for classes: a `Routed`,
        whose layers have names such as ``body.layers.0``; or, with one area or ``routing="layer"``, a
        `Sequential`, with names such as ``layers.0``.

    Raises:
        BrodmannError: A size is not a positive whole number, the depth is another than that of a list of widths, the
            machine's memory is too small, or a name is unknown.
    """
    check_switch(lowest=lowest)
    parts = Parts(in_features, outputs, areas, feedback, **common)
    depth = depth_of(depth, width)
    parts.check(depth, dense_size(in_features, outputs, depth, width))
    sizes = dense_sizes(in_features, outputs, depth, width)
    layers: list[Layer] = []
    for index in range(depth):
        scale = readout_scale if index == depth - 1 else 1.0
        layers.append(parts.layer(sizes[index], sizes[index + 1], lowest=lowest and index == 0, start_scale=scale))
        if index < depth - 1:
            layers.append(activation_of(activation))
            layers += dropout_of(dropout)
    return parts.wrap(Sequential(*layers))


@described
@spelled_out
def residual_mlp(
    in_features: int,
    outputs: int,
    *,
    depth: int = 8,
    width: int = 256,
    areas: int = 16,
    feedback: str | Callable[[Shape], Feedback] = "kolen-pollack",
    activation: str | Callable[[Tensor], Tensor] = "relu",
    dropout: float = 0.0,
    readout_scale: float = 0.1,
    recompute: bool = False,
    lowest: bool = True,
    **common: Unpack[Common],
) -> Sequential | Routed:
    """Builds a residual network: a stem, ``depth - 2`` blocks ``h + alpha W phi(norm(h))``, a norm and a readout.

    ``alpha = 1 / sqrt(blocks)`` keeps the variance of the sum with depth, so that one learning rate serves any depth.
    Norm and activation lie before the map (He et al. 2016; norm by Zhang and Sennrich 2019, without weights). Weights
    and feedback start independently unless the feedback says ``-equal``. Takes and returns what `mlp` does; blocks are
    named ``body.layers.1`` to ``body.layers.{depth - 2}``.

    Args:
        in_features: Size of a sample (flat).
        outputs: Classes, or targets of a regression.
        depth: Number of linear layers in all, at least 3. Default 8.
        width: Units of every layer but the readout, one number: blocks add to their input. Default 256.
        areas: As in `mlp`.
        feedback: As in `mlp`.
        activation: As in `mlp`.
        dropout: As in `mlp`, before each block's map.
        readout_scale: As in `mlp`.
        recompute: Whether the body is `Recomputed`, which holds the traces of one segment at a time: a seventh of the
            memory with 128 layers (docs/results.md), for one more forward pass. Default False.
        lowest: As in `mlp`.
        **common: As in `mlp`.

    Raises:
        BrodmannError: The depth is below 3, a size is not a positive whole number, the machine's memory is too small,
            or a name is unknown.
    """
    check_residual(depth, width)
    check_switch(recompute=recompute, lowest=lowest)
    parts = Parts(in_features, outputs, areas, feedback, **common)
    parts.check(depth, dense_size(in_features, outputs, depth, width))
    blocks = depth - 2
    layers: list[Layer] = [parts.layer(in_features, width, lowest=lowest)]
    for _ in range(blocks):
        body: list[Layer] = [Local(RMSNorm()), activation_of(activation)]
        body += dropout_of(dropout)
        body.append(parts.layer(width, width))
        layers.append(Residual(Sequential(*body), alpha=blocks**-0.5))
    layers += [Local(RMSNorm()), parts.layer(width, outputs, start_scale=readout_scale)]
    return parts.wrap(Recomputed(*layers) if recompute else Sequential(*layers))


@described
def stream_mlp(
    in_features: int,
    outputs: int,
    *,
    depth: int = DEPTH,
    width: int | Sequence[int] = 256,
    areas: int = 16,
    feedback: str | Callable[[Shape], Feedback] = "kolen-pollack",
    update: UpdateRule | None = None,
    activation: str | Callable[[Tensor], Tensor] = "relu",
    novelty: float = 0.4,
    dimension: int = 128,
) -> Sequential | Routed:
    """Builds a network for streams that change: it learns in one pass, sample by sample, and forgets little.

    Areas are exclusive (no shared part, one frozen route for all layers), so that only the areas whose cells a sample
    hits may change; new samples recruit areas, which start as copies of the nearest; and inside an area `RLS` holds
    what earlier samples determined. How much is forgotten depends on how many areas the stream needs and has: 0 to 5.5
    points on MNIST with 16 to 1024 areas, 5.9 and 8.3 with one (docs/results.md).
    Train it as ``Network(stream_mlp(...))``, whose loss is then `SumOfSquares` and whose rate is 1, on standardised
    inputs.

    Args:
        in_features: Size of a sample (flat).
        outputs: Classes, or targets of a regression.
        depth: As in `mlp`.
        width: As in `mlp`.
        areas: Largest number of areas. Default 16.
        feedback: A name in `FEEDBACKS`, or a path; its errors are scaled by `LeastChange`.
        update: Rule of every weight. Default `RLS`. It moves no biases, which stay 0: so every layer has one more
            input, always 1. Under another rule both move.
        activation: As in `mlp`.
        novelty: See `Recruiting`. Default 0.4, from a search on validation parts (docs/log.md).
        dimension: Size of the router's projection. Default 128: the cosine decides what is new, and a random projection
            preserves it to about ``1 / sqrt(dimension)``.

    Raises:
        BrodmannError: As in `mlp`.
    """
    path: Callable[[Shape], Feedback] = functools.partial(LeastChange, path=feedback_path(feedback, outputs))
    router = {"novelty": novelty, "dimension": dimension}
    parts = Parts(
        in_features, outputs, areas, path, update=RLS() if update is None else update, shared="off", router=router
    )
    depth = depth_of(depth, width)
    parts.check(depth, dense_size(in_features, outputs, depth, width))
    sizes = dense_sizes(in_features, outputs, depth, width)
    layers: list[Layer] = []
    for index in range(depth):
        last = index == depth - 1
        layers.append(Local(InputOfOnes(sizes[index])))  # whose weights are biases: RLS moves no others
        scale = 0.0 if last else 1.0
        layers.append(parts.layer(sizes[index] + 1, sizes[index + 1], lowest=index == 0, start_scale=scale))
        layers += [] if last else [activation_of(activation)]
    return parts.wrap(Sequential(*layers))


@described
@spelled_out
def convnet(
    shape: Sequence[int],
    outputs: int,
    *,
    channels: Sequence[int] = (32, 64),
    size: int = 3,
    pool: int = 2,
    areas: int = 16,
    feedback: str | Callable[[Shape], Feedback] = "kolen-pollack",
    activation: str | Callable[[Tensor], Tensor] = "relu",
    dropout: float = 0.0,
    readout_scale: float = 0.1,
    lowest: bool = True,
    **common: Unpack[Common],
) -> Sequential | Routed:
    """Builds a convolutional network for flat images: convolution, activation and max-pooling in turn, then a readout.

    A `Convolution` is `Patches` and an `AreaLinear`: an area maps all patches of its image by one map. With areas a
    step costs as much as that of a dense network on as many rows, and the patches take ``size^2`` times the memory of
    their images; with one, on the CPU, none are made.

    Args:
        shape: Shape of an image, (channels, height, width); samples come as images or flat in this order,
            (batch, channels * height * width), as data sets of this package do.
        outputs: Classes, or targets of a regression.
        channels: Channels of each convolution. Default 32 and 64.
        size: Height and width of a patch; images are padded by half of it, so that odd sizes keep theirs. Default 3.
        pool: Height and width of the max-pooling window after every convolution; 1 for none. Default 2.
        areas: As in `mlp`.
        feedback: As in `mlp`. The matrices of ``"direct"`` hold outputs times patches times inputs of a patch.
        activation: As in `mlp`.
        dropout: As in `mlp`, before the readout.
        readout_scale: As in `mlp`.
        lowest: As in `mlp`.
        **common: As in `mlp`. ``routing="network"``: one area for a whole image in all layers (default); ``"layer"``:
            every patch chooses an area of its own in every layer. ``pooling`` is that of areas, not of pixels.

    Raises:
        BrodmannError: A size is not a positive whole number, images are too small for that many poolings, the machine's
            memory is too small, or a name is unknown.
    """
    check_switch(lowest=lowest)
    *maps, readout = sizes = convolution_sizes(shape, channels, outputs, size, pool)
    parts = Parts(shape[0] * shape[1] * shape[2], outputs, areas, feedback, **common)
    parts.check(len(sizes), weights_of(sizes))
    layers: list[Layer] = [Local(Images(*shape))]
    for index, map in enumerate(maps):
        patches = Patches(size, padding=size // 2)
        layers.append(parts.convolution(patches, map.inputs, map.outputs, rows=map.rows, lowest=lowest and index == 0))
        layers.append(activation_of(activation))
        layers += [Local(ChannelsLast(nn.MaxPool2d(pool)))] if pool > 1 else []
    layers += [Local(nn.Flatten()), *dropout_of(dropout)]
    layers.append(parts.layer(readout.inputs, readout.outputs, start_scale=readout_scale))
    return parts.wrap(Sequential(*layers))
