"""Grouped linear: the maps of areas as one operation that autograd and compilers know."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..autograd import transformed
from ..kernels import Groups, Served, operations


def grouped_linear(x: Tensor, slot: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Computes ``y[i] = weight[slot[i]] x[i] + bias[slot[i]]``.

    Only the chosen slots compute, except in exported graphs and under the transforms of `torch.func`, which cannot look
    inside a custom operation.

    Args:
        x: (rows, in).
        slot: (rows,) int64.
        weight: (slots, out, in).
        bias: (slots, out).

    Returns:
        (rows, out).
    """
    if torch.compiler.is_exporting() or (not torch.compiler.is_compiling() and transformed()):
        return _every_slot_then_choose(x, slot, weight, bias)
    return torch.ops.brodmann.grouped_linear(x, slot, weight, bias)


# Not by `torch.library.custom_op`, whose first call imports all of torch.compile: over a second, and 150 MB.
torch.library.define(
    "brodmann::grouped_linear",
    "(Tensor x, Tensor slot, Tensor weight, Tensor bias) -> Tensor",
    tags=torch.Tag.pt2_compliant_tag,
)


@torch.library.impl("brodmann::grouped_linear", "CompositeExplicitAutograd")
def _grouped_linear(x: Tensor, slot: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As `grouped_linear`, opaque to torch.compile."""
    return operations(weight, x).forward(weight, bias, Served(Groups.of(slot, len(weight))), x)


def _grouped_linear_fake(x: Tensor, slot: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _grouped_linear_backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None]:
    """For callers that use autograd, such as telemetry: learning never gets here."""
    x, slot, weight = ctx.saved_tensors
    needs_x, _, needs_weight, needs_bias = ctx.needs_input_grad
    # Made from the error, which may hold several errors at once (`torch.func.vmap`).
    below = error.new_zeros(x.shape) if needs_x else None
    of_weight = error.new_zeros(weight.shape, dtype=weight.dtype) if needs_weight else None
    of_bias = error.new_zeros(weight.shape[:2]) if needs_bias else None
    for index in slot.unique().tolist():
        rows = slot == index
        if below is not None:
            below[rows] = error[rows] @ weight[index].to(error.dtype)
        if of_weight is not None:
            of_weight[index] = (error[rows].t() @ x[rows]).to(weight.dtype)
        if of_bias is not None:
            of_bias[index] = error[rows].sum(0)
    return below, None, of_weight, of_bias


torch.library.register_fake("brodmann::grouped_linear", _grouped_linear_fake)
torch.library.register_autograd("brodmann::grouped_linear", _grouped_linear_backward, setup_context=_remember)


def _every_slot_then_choose(x: Tensor, slot: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As `grouped_linear`, in operations that graphs and transforms know: all slots compute, and each row picks one."""
    every = torch.einsum("ni,soi->nso", x, weight.to(x.dtype)) + bias
    choice = slot[:, None, None].expand(-1, 1, weight.shape[1])
    return every.gather(1, choice)[:, 0]
