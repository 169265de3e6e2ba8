"""What options describe: the parts of the data, the learner, the twin it is compared with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..baselines import Backpropagation
from ..builders import design
from ..checks import check_registered
from ..data import Dataset, Split
from ..errors import BrodmannError, unknown_name
from ..losses import LOSSES, CrossEntropy, Loss, as_loss
from ..network import Network
from ..rates import Rates
from .options import BASELINES, DTYPES, RunOptions, options_of


def split_data(options: RunOptions, data: Dataset) -> Split:
    """Returns the parts of a data set as the options ask for them; if inputs are normalised, so are real targets."""
    split = data.split(options.validation, options.seed, normalise=options.normalise, grey=options.grey)
    return split.standardised() if options.scales_targets and not data.is_classification else split


def build_learner(
    options: RunOptions,
    features: int,
    outputs: int,
    classification: bool = True,
    shape: tuple[int, ...] | None = None,
) -> Network | Backpropagation:
    """Returns the untrained learner that the options describe; their seed decides its weights.

    Args:
        options: Options of the training.
        features: Size of a sample (flat).
        outputs: Classes, or targets.
        classification: Whether targets are classes. Default True.
        shape: Shape of an image, (channels, height, width): for convolutions only. Default None.
    """
    torch.default_generator.manual_seed(options.seed)  # the others stay where they are: it is built on the CPU
    loss = loss_of(options, classification)
    if options.rule in BASELINES:
        return _baseline(options, features, outputs, shape, loss)
    rates = Rates(
        shared=options.lr_shared,
        areas=options.lr_areas,
        projection=options.lr_projection,
        feedback=options.lr_feedback,
    )
    description = _design(options, features, outputs, shape)
    return Network.from_design(description, loss, lr=options.lr, rates=rates, clip=options.clip)


def _baseline(
    options: RunOptions, features: int, outputs: int, shape: tuple[int, ...] | None, loss: Loss
) -> Backpropagation:
    return Backpropagation(
        features,
        outputs,
        depth=options.layers,
        width=options.width,
        residual=options.residual,
        activation=options.activation,
        dropout=options.dropout,
        optimiser=options.optimiser,
        momentum=options.momentum,
        decay=options.weight_decay,
        readout_only=options.rule == "last-layer",
        shape=shape,
        channels=options.channels,
        loss=loss,
        lr=options.lr,
    )


def _design(options: RunOptions, features: int, outputs: int, shape: tuple[int, ...] | None) -> dict[str, Any]:
    """Returns the design of a body of areas: a builder's name, and its arguments."""
    common = {"activation": options.activation, "dropout": options.dropout}
    sizes: dict[str, Any]
    if options.builder is not None:
        builder, sizes = options.builder, {"in_features": features}
    elif options.channels is not None:
        builder, sizes = "convnet", {"shape": shape, "channels": options.channels, **common}
    else:
        builder = "residual_mlp" if options.residual else "mlp"
        sizes = {"in_features": features, "depth": options.layers, "width": options.width, **common}
    return design(
        builder,
        options.update_rule,
        **sizes,
        outputs=outputs,
        feedback=options.rule,
        **{name: getattr(options, name) for name in ("areas", "routing", "shared", "gated", "pooling", "storage")},
        router={
            "partition": options.partition,
            "cells": options.cells,
            "temperature": options.temperature,
            "learned": options.learn_projection,
            "balance_rate": options.balance,
            **({} if options.gate_feedback is None else {"feedback": options.gate_feedback}),
        },
    )


def learner_for(options: RunOptions, split: Split) -> Network | Backpropagation:
    """Returns the untrained learner for the samples and targets of a split, see `build_learner`.

    Raises:
        BrodmannError: A size or choice does not fit, or convolutions are asked for and samples are no images.
    """
    features, shape = split.x_train.shape[1], image_shape(options, split.preprocessing.shape)
    return build_learner(options, features, split.outputs, split.is_classification, shape)


def placed_learner(options: RunOptions, split: Split) -> Network | Backpropagation:
    """Returns the untrained learner, see `learner_for`, on the device and in the dtype of the options."""
    learner = learner_for(options, split)
    learner.to(device_of(options))
    if DTYPES[options.dtype] == torch.float64:
        learner.double()
    return learner


def placed(options: RunOptions, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Returns samples and targets on the device of the options, and in the dtype of a run, see `in_dtype_of`."""
    device = device_of(options)
    x, y = in_dtype_of(options, x, y)
    return x.to(device), y.to(device)


def image_shape(options: RunOptions, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Returns the shape of an image as the options ask for it, None if they ask for no convolutions."""
    if options.channels is None:
        return None
    if len(shape) != 3:
        raise BrodmannError(
            f"--channels needs images, but a sample of '{options.dataset}' has the shape {shape}: leave it out."
        )
    return (1, *shape[1:]) if options.grey else shape


def in_dtype_of(options: RunOptions, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Returns samples, and targets that are real, in the dtype in which a run computes."""
    dtype = DTYPES[options.dtype]
    return x.to(dtype), y.to(dtype) if y.is_floating_point() else y


def device_of(options: RunOptions) -> torch.device:
    """Returns the device that the options name; raises a `BrodmannError` if it is not available."""
    try:
        device = torch.zeros(0, device=options.device).device
    except (RuntimeError, AssertionError):
        device = None
    if device is None or device.type == "meta":
        raise BrodmannError(f"The device '{options.device}' is not available here: use cpu, or check the installation.")
    return device


def twin_of(options: RunOptions) -> RunOptions:
    """Returns the options of the dense network by backpropagation that `--compare` trains beside a run."""
    return replace(options, rule="backprop", areas=1, **options_of("areas"))


def loss_of(options: RunOptions, classification: bool) -> Loss:
    """Returns the loss that the options name: by default cross-entropy for classes, the mean squared error else.

    Raises:
        BrodmannError: It is unknown, or does not go with such targets.
    """
    name = options.loss or ("cross-entropy" if classification else "mean-squared-error")
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES, "brodmann.losses.LOSSES")
    if name == "cross-entropy":
        if not classification:
            raise BrodmannError(
                "Cross-entropy works only with classes, but these targets are real numbers: leave it out."
            )
        return CrossEntropy(options.label_smoothing)
    if options.learns_labels and classification:
        raise BrodmannError(
            "Binary cross-entropy works only with labels of 0 and 1 as floats, one for each output, but these targets "
            "are classes: leave it out."
        )
    if options.label_smoothing:
        raise BrodmannError(f"Label smoothing works only with cross-entropy on classes, not with {name}: leave it out.")
    return as_loss(_made_loss(name))


def _made_loss(name: str) -> Any:
    maker, place = LOSSES[name], f"brodmann.losses.LOSSES['{name}']"
    kind = "what makes a loss, called without arguments: its class, or `lambda: loss` for a loss or a function"
    if isinstance(maker, nn.Module):  # which takes any arguments, as far as its signature says
        raise BrodmannError(f"Expected {place} to be {kind}, got {maker!r}, which is a loss already.")
    check_registered(place, maker, kind)
    return maker()
