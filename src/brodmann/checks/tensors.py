"""Tensors: whether arguments are tensors, fit a map, and hold numbers in range."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import BrodmannError
from ..recording import replayed
from ..storage import COMPUTING, computing


def check_tensors(**tensors: Any) -> None:
    """Checks that arguments are tensors, given by name; raises a `BrodmannError`."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise BrodmannError(f"Expected {name} to be a tensor, got {kind}: convert it with torch.as_tensor(...).")
        if value.layout is not torch.strided:
            raise BrodmannError(f"Expected {name} to be dense, got {value.layout}: convert it with .to_dense().")


class MisfitError(BrodmannError):
    """An input that does not fit a map, by its size.

    Attributes:
        weight: Weight of the map, by which a network finds the layer's name; None if the message holds it.
    """

    weight: Tensor | None = None


def check_input(x: Tensor, weight: Tensor) -> None:
    """Checks that a map can be applied to an input: x (..., in), weight (..., out, in).

    Raises:
        BrodmannError: The size or the dtype does not fit. Weights stored as bfloat16 take float32.
    """
    if not isinstance(x, Tensor) or x.layout is not torch.strided or x.ndim == 0 or x.shape[-1] != weight.shape[-1]:
        check_tensors(x=x)
        error = MisfitError(f"Expected an input of shape (..., {weight.shape[-1]}), got {tuple(x.shape)}.")
        error.weight = weight
        raise error
    check_dtype(x, computing(weight.dtype))


def check_dtype(x: Tensor, expected: torch.dtype) -> None:
    """Checks that an input has the dtype in which a map computes; raises a `BrodmannError`."""
    if x.dtype != expected:
        raise BrodmannError(
            f"Expected an input of {expected}, the dtype of the weights, got {x.dtype}: convert it with "
            f"x.to({expected}), or the network with .to(...)."
        )


def form_of(value: Any) -> str:
    """Returns shape and dtype of a tensor, or the type of anything else, for a message."""
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def is_real(value: Any) -> bool:
    """Whether a value is a tensor of real numbers."""
    return isinstance(value, Tensor) and value.is_floating_point()


def check_error(error: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Checks that an error is one of an output of this shape and dtype; raises a `BrodmannError`.

    Operations would broadcast one of another shape, and kernels read past its end.
    """
    if not isinstance(error, Tensor) or error.shape != shape or error.dtype != dtype:
        check_tensors(error=error)
        raise BrodmannError(
            f"Expected an error of shape {tuple(shape)} and {dtype}, like the output, got {form_of(error)}."
        )


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite; `torch.isfinite` takes fifteen times as long, and more memory than all."""
    if values.numel() == 0 or not values.is_floating_point():
        return True
    low, high = values.detach().aminmax()  # NaN where there is any
    return math.isfinite(low) and math.isfinite(high)


def all_in(values: Tensor, least: float, most: float) -> bool:
    """Whether all values lie from ``least`` to ``most``: NaN does not."""
    if values.numel() == 0:
        return True
    low, high = values.detach().aminmax()
    return bool(low >= least) and bool(high <= most)


def rows_not_finite(values: Tensor) -> list[int]:
    """Returns the rows of values (rows, ...), counted from 0, in which one is NaN or infinite."""
    if all_finite(values):
        return []
    return (~values.isfinite().reshape(len(values), -1).all(1)).nonzero()[:, 0].tolist()


def check_weights(weight: Any, samples: int, *, on_cpu_alone: bool = False) -> None:
    """Checks that there is a weight for each sample, real, finite and at least 0.

    Args:
        weight: (samples, ...).
        samples: Number of samples.
        on_cpu_alone: Whether its numbers are checked only on the CPU: elsewhere every step would wait for the device.

    Raises:
        BrodmannError: There is not.
    """
    check_tensors(weight=weight)
    if weight.is_complex():
        raise BrodmannError(f"Expected sample weights to be real numbers, got {weight.dtype}.")
    if weight.shape[:1] != (samples,):
        raise BrodmannError(f"Expected a weight for each sample, got {length_of(weight)} for {samples} samples.")
    if weight.is_cpu or not on_cpu_alone:
        replayed(_check_values_of_weights, weight)


def _check_values_of_weights(weight: Tensor) -> None:
    if not bool((weight >= 0).all() & (weight.sum() < math.inf)):  # below 0 they would climb the loss
        raise BrodmannError(
            "Expected sample weights that are finite and at least 0: leave out samples with other weights."
        )


def length_of(values: Tensor) -> str:
    """Returns how many rows values have, for a message."""
    return str(len(values)) if values.ndim else "a single number"


def check_default_dtype() -> None:
    """Checks that new weights have a dtype in which layers compute.

    Raises:
        BrodmannError: They do not: numbers that must not be rounded, such as the state of rules, would be too.
    """
    if (dtype := torch.get_default_dtype()) not in COMPUTING:
        raise BrodmannError(
            f"Layers compute in float32 or float64, but PyTorch's default dtype, that of new weights, is {dtype}: call "
            "torch.set_default_dtype(torch.float32) before you build them, and give them storage='bfloat16' if "
            "weights are to take half of the memory."
        )
