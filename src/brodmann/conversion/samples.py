"""Samples with which a PyTorch network is followed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy
import torch
from torch import Tensor, nn

from ..checks import check_whole, unwrapped
from ..errors import BrodmannError
from ..several import Several, called_with, of_each, parts_in, rows_of, sample_count
from .convertible import check_convertible

PROBES = 11
"""How many samples go through model and body, to see what comes to each layer and that both return the same: a number
that no other dimension is likely to have."""


class Shown(NamedTuple):
    """A network, and what it is followed with.

    Attributes:
        model: The network, as it was before `torch.compile` or `nn.DataParallel` wrapped it.
        sample: A few samples (samples, ...), or several such tensors.
        dtype: The one that its body computes in.
        device: Where it lies.
    """

    model: Any
    sample: Any
    dtype: torch.dtype
    device: torch.device


def shown(model: Any, shape: Any) -> Shown:
    """Returns a network, once checked, with the samples that were given, or samples of a shape.

    Raises:
        BrodmannError: The network cannot be converted, or does not take such samples.
    """
    model = unwrapped(model)
    check_convertible(model)
    dtype, device = _dtype_and_device(model)
    sample = _samples_for(model, shape, dtype)
    _check_arguments(model, sample)
    return Shown(model, sample, dtype, device)


def _dtype_and_device(model: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Returns the dtype that a network's body computes in, and the network's device."""
    first = next(parameter for parameter in model.parameters() if parameter.is_floating_point())
    return torch.promote_types(first.dtype, torch.get_default_dtype()), first.device


def _samples_for(model: nn.Module, shape: Any, dtype: torch.dtype) -> Any:
    """Returns a few samples: those given, or random ones of a shape, or of what a model's first layer takes.

    Returns several tensors if several samples or shapes are given.
    """
    if shape is None:
        first = next(part for part in model.modules() if not any(True for _ in part.children()))
        if not isinstance(first, nn.Linear):
            raise BrodmannError(
                f"The model begins with {first}: name the shape of a sample, such as shape=(3, 32, 32), or give a few "
                "samples if it takes whole numbers, such as tokens[:2]."
            )
        shape = (first.in_features,)
    draws = torch.Generator().manual_seed(0)
    several = isinstance(shape, Mapping) or (
        isinstance(shape, tuple | list) and any(isinstance(part, Tensor | tuple | list) for part in shape)
    )
    if not several:
        if isinstance(shape, Tensor) and shape.ndim < 2:
            raise _expected_samples(shape)
        return _samples(shape, dtype, draws)
    if isinstance(shape, Mapping) and not all(isinstance(name, str) for name in shape):
        names = ", ".join(map(str, shape))
        raise BrodmannError(
            f"Expected the keys of a dictionary of samples to be names of the model's arguments, got {names}."
        )
    made = of_each(lambda part: _samples(part, dtype, draws), shape)
    given = [part for part in parts_in(shape) if isinstance(part, Tensor)]
    return rows_of(made, slice(sample_count(given) if given else PROBES))


def _samples(shape: Any, dtype: torch.dtype, draws: torch.Generator) -> Tensor:
    """Returns the first of samples, or random ones of a shape."""
    if isinstance(shape, Tensor):
        if not shape.ndim or not len(shape):
            raise _expected_samples(shape)
        sample = shape[:PROBES].detach().cpu()
        return sample.to(dtype) if sample.is_floating_point() else sample
    if isinstance(shape, numpy.ndarray | Mapping):
        raise BrodmannError(f"Expected a shape, or samples as a tensor, got {type(shape).__name__}.")
    try:
        sizes = tuple(shape)
    except TypeError:
        raise BrodmannError(f"Expected the shape of a sample, such as (784,) or (3, 32, 32), got {shape!r}.") from None
    for size in sizes:
        check_whole(shape=size)
    return torch.randn(PROBES, *sizes, generator=draws).to(dtype)


def _expected_samples(came: Tensor) -> BrodmannError:
    return BrodmannError(f"Expected a few samples, (samples, ...), got a tensor of shape {tuple(came.shape)}.")


def _check_arguments(model: nn.Module, sample: Several) -> None:
    """Raises if a model takes more, fewer or other arguments than come."""
    asked = inspect.signature(model.forward)
    try:
        called_with(asked.bind, sample)
    except TypeError as error:
        raise BrodmannError(
            f"{type(model).__name__}.forward({', '.join(map(str, asked.parameters.values()))}) does not accept these "
            f"samples, {error}: give a tuple of shapes or samples in the order of its arguments, or a dictionary of "
            "samples with the arguments' names as keys."
        ) from None


def check_returned(shape: tuple[int, ...], count: int) -> None:
    """Raises if a network returns something else than (samples, ..., outputs) for a number of samples."""
    if len(shape) > 1 and shape[0] == count:
        return
    instead = ""
    if shape == (count,):
        instead = ": keep the last dimension, of one output, as in x[:, None]"
    elif not shape:
        instead = (
            ": return it for each sample, as in x.square().mean(1, keepdim=True), or compute it in the loss, as with "
            "models of Hugging Face that are given no labels"
        )
    raise BrodmannError(
        f"Expected a network that returns (samples, ..., outputs), got {shape} for {count} samples{instead}."
    )
