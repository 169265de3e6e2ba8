"""What is computed for each row: its nearest prototype, its gate's error, its norm, its loss; whether it has memory."""

from __future__ import annotations

import torch
from torch import Tensor

from ..autograd import followed
from .library import NUMBERS, active, call, supports

_SMALL = 1 << 14  # exponentials of a batch: beyond them PyTorch's vectors and threads are worth their calls


def lacks(area: Tensor, slot: Tensor) -> bool:
    """Whether the area of any row, (rows,) int64 in [0, areas), has slot 0 in the table, (areas,) int64."""
    if not (area.is_cpu and slot.is_cpu and slot.is_contiguous() and active()):
        return 0 in slot.index_select(0, area).tolist()  # a third of the time of a reduction
    return bool(call("lacks", area.contiguous(), len(area), slot))


def nearest(u: Tensor, prototypes: Tensor) -> Tensor:
    """Returns ``argmax_m u . prototypes[m]`` of each row, (rows,) int64, the first of equals.

    Takes u (rows, dimension) and prototypes (cells, dimension). The compiled kernel stores no product, which thousands
    of cells need: 4913 of them for 128 rows take a sixth of the time of a product and its argmax.
    """
    if prototypes.dtype == torch.bfloat16 or not supports(prototypes, u):
        return (u @ prototypes.t()).argmax(1)
    u, prototypes = u.contiguous(), prototypes.contiguous()
    (rows, dimension), cells = u.shape, prototypes.shape[0]
    cell = u.new_empty(rows, dtype=torch.int64)
    call("nearest_" + NUMBERS[u.dtype], torch.get_num_threads(), rows, cells, dimension, u, prototypes, cell)
    return cell


def gate_down(u: Tensor, prototypes: Tensor, cell: Tensor, gate_error: Tensor, temperature: float) -> Tensor | None:
    """Returns ``dL/du`` from ``dL/da``, ``a = softmax(cos(u, prototypes) / temperature)[cell]``, see `Router`.

    Takes u (rows, dimension), prototypes (cells, dimension), cell and gate_error (rows,); returns (rows, dimension), or
    None if that is left to PyTorch: not on the CPU, or not one error for each row.
    """
    taken = (
        gate_error.shape == u.shape[:1]
        and gate_error.dtype == prototypes.dtype != torch.bfloat16
        and gate_error.is_cpu
        and supports(prototypes, u)
    )
    if not taken:
        return None
    u, prototypes, gate_error = u.contiguous(), prototypes.contiguous(), gate_error.contiguous()
    cell = cell.contiguous()
    error = torch.empty_like(u)
    sizes = torch.get_num_threads(), len(u), *prototypes.shape
    call("gate_down_" + NUMBERS[u.dtype], *sizes, u, prototypes, cell, gate_error, temperature, error)
    return error


def cross_entropy(output: Tensor, target: Tensor, smoothing: float) -> tuple[Tensor, Tensor] | None:
    """Returns the mean loss and ``dL/d output``: output (..., classes), target (...).

    None if that is left to PyTorch: not on the CPU, many outputs, or a target that is not a class.
    """
    taken = (
        output.is_cpu
        and 0 < output.numel() <= _SMALL
        and output.dtype in (torch.float32, torch.float64)
        and target.dtype == torch.int64
        and target.shape == output.shape[:-1]
        and target.is_cpu
        and active()
    )
    if not taken:
        return None
    output, target = output.contiguous(), target.contiguous()
    classes = output.shape[-1]
    error, loss = torch.empty_like(output), output.new_empty(())
    fits = call(
        "cross_entropy_" + NUMBERS[output.dtype], target.numel(), classes, output, target, smoothing, error, loss
    )
    return (loss, error) if fits >= 0 else None


def norm(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Returns ``y = s x`` and ``s = 1 / sqrt(mean(x^2) + epsilon)``: x and y (..., n), s (..., 1).

    The compiled kernel goes over a row while it lies in the cache; PyTorch goes through memory four times.
    """
    if followed(x) or not _takes_norm(x):
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)
        return x * scale, scale
    x = x.contiguous()
    y, scale = torch.empty_like(x), x.new_empty((*x.shape[:-1], 1))
    call("norm_" + NUMBERS[x.dtype], torch.get_num_threads(), scale.numel(), x.shape[-1], x, epsilon, y, scale)
    return y, scale


def norm_down(x: Tensor, scale: Tensor, error: Tensor) -> Tensor:
    """Returns ``s (e - y mean(y e))`` for an error e (..., n) of the y that `norm` returned."""
    if not (_takes_norm(x) and x.dtype == error.dtype):
        y = x * scale
        total = (y * error).sum(-1, keepdim=True)
        return torch.addcmul(error, y, total, value=-1 / x.shape[-1]).mul_(scale)
    x, scale, error = x.contiguous(), scale.contiguous(), error.contiguous()
    below, sizes = torch.empty_like(error), (scale.numel(), x.shape[-1])
    call("norm_down_" + NUMBERS[x.dtype], torch.get_num_threads(), *sizes, x, scale, error, below)
    return below


def _takes_norm(x: Tensor) -> bool:
    return x.is_cpu and x.dtype in (torch.float32, torch.float64) and x.numel() > 0 and active()
