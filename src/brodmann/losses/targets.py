"""Targets: what kind they are of, in which shape they come, and what is wrong with them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import BrodmannError


def are_classes(outputs: Tensor, target: Tensor) -> bool:
    """Whether targets are classes: whole numbers, one for each row of several outputs (..., classes)."""
    classes = outputs.shape[-1]
    return not target.is_floating_point() and classes > 1 and target.numel() * classes == outputs.numel()


def like_output(target: Tensor, output: Tensor) -> Tensor:
    """Returns real targets in the shape and the dtype of the output: NumPy's are float64.

    Flat targets may belong to outputs of several dimensions, and the other way round, but not to images: channels come
    last in outputs, and first in flat images.
    """
    shapes = [[size for size in tensor.shape if size > 1] for tensor in (target, output)]
    flattened = target.ndim != output.ndim and output.ndim < 4
    if target.numel() != output.numel() or not (shapes[0] == shapes[1] or flattened):
        problem = f"Expected targets of shape {tuple(output.shape)}, like the output, got {tuple(target.shape)}"
        moved = target.ndim > 2 and target.movedim(1, -1).shape == output.shape
        raise BrodmannError(f"{problem}{': channels come last, give target.movedim(1, -1)' if moved else ''}.")
    return target.reshape(output.shape).to(output.dtype)


def hint_of_place(output: Tensor, target: Tensor) -> str:
    """Returns a hint if classes come second in an output, as PyTorch's losses take them; else nothing."""
    second = output.ndim > 2 and target.shape == output.shape[:1] + output.shape[2:]
    return ": classes come last in an output, so end the network with x.movedim(1, -1)" if second else ""


def check_place(output: Tensor, target: Tensor) -> None:
    """Raises unless targets lie on the device of the output."""
    if target.device != output.device:
        raise BrodmannError(f"Expected targets on {output.device}, where the output is, got some on {target.device}.")


def no_classes(output: Tensor, target: Tensor) -> BrodmannError:
    """Returns the error that says why targets are not classes of the output."""
    *leading, classes = output.shape
    if target.dtype not in (torch.int64, torch.int32):
        problem = (
            f"{target.dtype}: convert class numbers with .long(), use nn.CrossEntropyLoss() for probabilities, "
            "BinaryCrossEntropy for samples of several labels, and MeanSquaredError for real targets"
        )
    elif target.numel() != output.numel() // classes:
        problem = f"shape {tuple(target.shape)}{hint_of_place(output, target)}"
    else:
        problem = f"{int(target.min())} to {int(target.max())}"
        if int(target.min()) == -100:
            problem += "; nn.CrossEntropyLoss() leaves out targets of -100"
    return BrodmannError(
        f"Expected targets of shape {tuple(leading)}, torch.int64, from 0 to {classes - 1}, got {problem}."
    )
