"""The grouped operations for GPUs, in Triton. Tested in Triton's interpreter; not yet run on hardware.

Rows are not moved: each program finds the rows of its tile through the groups' order. Legend of the shapes: N rows of a
batch, S slots, O outputs, I inputs; BN, BO, BI the block of a program in each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..updates import UpdateRule
from .groups import Groups
from .interface import Kind, KnownRule, Operations, Target, known_rule, rounding_seed
from .pure import PURE
from .served import Served

_DESCENT, _MOMENTUM = tl.constexpr(int(Kind.DESCENT)), tl.constexpr(int(Kind.MOMENTUM))
BLOCK_ROWS, BLOCK_OUT, BLOCK_IN = 32, 64, 32
"""A program's tile: 16 KB of operands at a time, small enough for every card since Volta."""


@triton.jit
def _forward(
    x,  # (N, I)
    weight,  # (S, O, I)
    bias,  # (S, O), or anything if there is none
    out,  # (N, O)
    order,  # (N,): row at each position
    tile_slot,  # (tiles,): slot of each tile of rows
    tile_start,  # (tiles,): its first position
    tile_stop,  # (tiles,): the end of its group's positions
    inputs,
    outputs,
    HAS_BIAS: tl.constexpr,
    BN: tl.constexpr,
    BO: tl.constexpr,
    BI: tl.constexpr,
):
    """``out[n] = weight[s(n)] x[n] + bias[s(n)]``: one tile of rows (BN) by one of outputs (BO) a program."""
    tile = tl.program_id(0)
    slot, start, stop = tl.load(tile_slot + tile), tl.load(tile_start + tile), tl.load(tile_stop + tile)
    position = start + tl.arange(0, BN)  # (BN,)
    row = tl.load(order + position, mask=position < stop, other=0)
    o = (tl.program_id(1) * BO + tl.arange(0, BO)).to(tl.int64)  # (BO,); times the inputs it may pass 2^31
    total = tl.zeros((BN, BO), dtype=tl.float32)
    for first in range(0, inputs, BI):
        i = first + tl.arange(0, BI)
        part = tl.load(
            x + row[:, None] * inputs + i[None, :], mask=(position < stop)[:, None] & (i < inputs)[None, :], other=0.0
        )  # (BN, BI)
        of_slot = tl.load(
            weight + slot * outputs * inputs + o[None, :] * inputs + i[:, None],
            mask=(o < outputs)[None, :] & (i < inputs)[:, None],
            other=0.0,
        ).to(tl.float32)  # (BI, BO)
        total += tl.dot(part, of_slot, input_precision="ieee")
    if HAS_BIAS:
        total += tl.load(bias + slot * outputs + o, mask=o < outputs, other=0.0)[None, :]
    tl.store(out + row[:, None] * outputs + o[None, :], total, mask=(position < stop)[:, None] & (o < outputs)[None, :])


@triton.jit
def _error(
    below,  # (N, I), added to
    delta,  # (N, O)
    weight,  # (S, O, I)
    order,
    tile_slot,
    tile_start,
    tile_stop,
    inputs,
    outputs,
    BN: tl.constexpr,
    BO: tl.constexpr,
    BI: tl.constexpr,
):
    """``below[n] += delta[n] weight[s(n)]``: a tile of rows (BN) by one of inputs (BI) a program."""
    tile = tl.program_id(0)
    slot, start, stop = tl.load(tile_slot + tile), tl.load(tile_start + tile), tl.load(tile_stop + tile)
    position = start + tl.arange(0, BN)
    row = tl.load(order + position, mask=position < stop, other=0)
    i = tl.program_id(1) * BI + tl.arange(0, BI)
    total = tl.zeros((BN, BI), dtype=tl.float32)
    for first in range(0, outputs, BO):
        o = (first + tl.arange(0, BO)).to(tl.int64)
        part = tl.load(
            delta + row[:, None] * outputs + o[None, :],
            mask=(position < stop)[:, None] & (o < outputs)[None, :],
            other=0.0,
        )  # (BN, BO)
        of_slot = tl.load(
            weight + slot * outputs * inputs + o[:, None] * inputs + i[None, :],
            mask=(o < outputs)[:, None] & (i < inputs)[None, :],
            other=0.0,
        ).to(tl.float32)  # (BO, BI)
        total += tl.dot(part, of_slot, input_precision="ieee")
    here = (position < stop)[:, None] & (i < inputs)[None, :]
    at = below + row[:, None] * inputs + i[None, :]
    tl.store(at, tl.load(at, mask=here, other=0.0) + total, mask=here)


@triton.jit
def _update(
    weight,  # (S, O, I), moved
    first,  # (S, O, I): velocity or first moment, moved; anything if the rule has none
    second,  # (S, O, I): second moment, moved
    size,  # (groups,): rate over the correction of the first moment
    scale,  # (groups,): one over the root of that of the second
    delta,  # (N, O)
    x,  # (N, I)
    order,
    group_slot,  # (groups,)
    bounds,  # (groups + 1,)
    inputs,
    outputs,
    lr,
    keep,  # 1 - lr * decay
    beta1,  # momentum of SGD
    rest1,  # 1 - beta1, which float32 would round away
    beta2,
    rest2,
    epsilon,
    seed,
    KIND: tl.constexpr,
    ROUND: tl.constexpr,
    BN: tl.constexpr,
    BO: tl.constexpr,
    BI: tl.constexpr,
):
    """Moves one tile (BO, BI) of one group's weight by its own gradient, which is never stored."""
    group = tl.program_id(0)
    slot = tl.load(group_slot + group)
    start, stop = tl.load(bounds + group), tl.load(bounds + group + 1)
    o = (tl.program_id(1) * BO + tl.arange(0, BO)).to(tl.int64)
    i = tl.program_id(2) * BI + tl.arange(0, BI)
    gradient = tl.zeros((BO, BI), dtype=tl.float32)
    for base in range(start, stop, BN):
        position = base + tl.arange(0, BN)
        row = tl.load(order + position, mask=position < stop, other=0)
        left = tl.load(
            delta + row[None, :] * outputs + o[:, None],
            mask=(position < stop)[None, :] & (o < outputs)[:, None],
            other=0.0,
        )  # (BO, BN)
        right = tl.load(
            x + row[:, None] * inputs + i[None, :], mask=(position < stop)[:, None] & (i < inputs)[None, :], other=0.0
        )  # (BN, BI)
        gradient += tl.dot(left, right, input_precision="ieee")
    here = (o < outputs)[:, None] & (i < inputs)[None, :]
    at = slot * outputs * inputs + o[:, None] * inputs + i[None, :]
    value = tl.load(weight + at, mask=here, other=0.0).to(tl.float32)
    if KIND == _DESCENT:
        step = gradient
    elif KIND == _MOMENTUM:
        step = beta1 * tl.load(first + at, mask=here, other=0.0) + gradient
        tl.store(first + at, step, mask=here)
    else:
        one = tl.load(first + at, mask=here, other=0.0)
        one += rest1 * (gradient - one)
        two = beta2 * tl.load(second + at, mask=here, other=0.0) + rest2 * gradient * gradient
        tl.store(first + at, one, mask=here)
        tl.store(second + at, two, mask=here)
        lr = tl.load(size + group)
        step = one / (tl.sqrt(two) * tl.load(scale + group) + epsilon)
    value = keep * value - lr * step
    if ROUND:  # to bfloat16, up with a probability equal to the share that rounding down would lose
        bits = value.to(tl.int32, bitcast=True)
        noise = (tl.randint(seed, at.to(tl.int32)) & 0xFFFF).to(tl.int32)
        finite = (bits & 0x7F800000) != 0x7F800000
        value = ((bits + tl.where(finite, noise, 0)) & -65536).to(tl.float32, bitcast=True)
    tl.store(weight + at, value.to(weight.dtype.element_ty), mask=here)


class Cuda(Operations):
    """Launches the Triton kernels; float64 and update rules that they do not know are left to pure PyTorch."""

    def forward(
        self, weight: Tensor, bias: Tensor | None, served: Served, x: Tensor, *, beside: Tensor | None = None
    ) -> Tensor:
        """See `Operations.forward`."""
        x = x.contiguous()
        _, outputs, inputs = weight.shape
        out = torch.empty((len(x), outputs), dtype=x.dtype, device=x.device)
        if not len(x):
            return out
        order, tiles = _order(served.groups), _tiles(served)
        grid = (len(tiles[0]), triton.cdiv(outputs, BLOCK_OUT))
        given = weight if bias is None else bias
        with torch.cuda.device_of(x):
            _forward[grid](
                x, weight, given, out, order, *tiles, inputs, outputs, bias is not None, **_blocks()
            )  # fmt: skip
        return out if beside is None else out.add_(beside)

    def add_error(self, weight: Tensor, served: Served, delta: Tensor, below: Tensor) -> None:
        """See `Operations.add_error`."""
        _, outputs, inputs = weight.shape
        if len(delta):
            order, tiles = _order(served.groups), _tiles(served)
            grid = (len(tiles[0]), triton.cdiv(inputs, BLOCK_IN))
            sums = below.contiguous()
            with torch.cuda.device_of(delta):
                _error[grid](sums, delta.contiguous(), weight, order, *tiles, inputs, outputs, **_blocks())
            if sums is not below:
                below.copy_(sums)

    def update(
        self,
        rule: UpdateRule,
        targets: Sequence[Target],
        served: Served,
        delta: Tensor,
        x: Tensor,
        *,
        bias: Target | None = None,
    ) -> None:
        """See `Operations.update`. Each target computes its gradient anew."""
        moved = [*targets] if bias is None else [*targets, bias]
        numbers = (delta.dtype, torch.int64)
        known = known_rule(rule)
        if known is None or any(t.dtype not in numbers for it in moved for t in it.state.values()):
            PURE.update(rule, targets, served, delta, x, bias=bias)
            return
        slots = served.slots
        if not len(slots):  # there are no rows, or all of them are of areas that stay as they are
            return
        delta, x, one = delta.contiguous(), x.contiguous(), delta.new_ones(len(delta), 1)
        with torch.cuda.device_of(delta):
            for target in moved:
                _move(known, target, served.groups, slots, delta, one if target is bias else x)

    def move(self, rule: UpdateRule, target: Target, gradient: Tensor) -> None:
        """See `Operations.move`."""
        PURE.move(rule, target, gradient)


def _move(rule: KnownRule, target: Target, groups: Groups, slots: Tensor, delta: Tensor, x: Tensor) -> None:
    """Moves the slots, (groups,), of one target by the rows of each group: delta (rows, out), x (rows, in)."""
    weight, state = target.weight, target.state
    first, second = state.get("first", state.get("velocity", weight)), state.get("second", weight)
    kind, beta1, beta2, epsilon, _ = rule
    size = scale = weight  # only Adam's
    if "steps" in state:
        state["steps"][slots] += 1
        count = state["steps"][slots].double()
        size, scale = (target.lr / (1.0 - beta1**count)).float(), (1.0 - beta2**count).rsqrt().float()
    outputs, inputs = weight.shape[1], x.shape[1]
    grid = (len(slots), triton.cdiv(outputs, BLOCK_OUT), triton.cdiv(inputs, BLOCK_IN))
    _update[grid](
        weight, first, second, size, scale, delta, x, _order(groups), slots, groups.bounds,
        inputs, outputs, target.lr, 1.0 - target.lr * target.decay, beta1, 1.0 - beta1, beta2, 1.0 - beta2, epsilon,
        rounding_seed(weight), int(kind), weight.dtype == torch.bfloat16,
        **_blocks(),
    )  # fmt: skip


def _blocks() -> dict[str, Any]:
    return {"BN": BLOCK_ROWS, "BO": BLOCK_OUT, "BI": BLOCK_IN}


def _order(groups: Groups) -> Tensor:
    """Returns the row at each position, (rows,)."""
    return torch.arange(groups.rows, device=groups.bounds.device) if groups.order is None else groups.order


def _tiles(served: Served) -> tuple[Tensor, Tensor, Tensor]:
    """Cuts the groups into tiles of rows: returns slot, first position and end of its group's of each, (tiles,).

    Nothing is read back from the device: there are as many tiles as could be needed, and those left over are empty.
    """
    groups, slots = served.groups, served.slots
    needed = torch.div(groups.bounds.diff() + (BLOCK_ROWS - 1), BLOCK_ROWS, rounding_mode="floor")
    ends = needed.cumsum(0)
    tile = torch.arange(groups.rows // BLOCK_ROWS + len(slots), device=slots.device)
    group = torch.searchsorted(ends, tile, right=True)
    spare = group >= len(slots)
    group = group.clamp_max(len(slots) - 1)
    start = groups.bounds[group] + (tile - (ends - needed)[group]) * BLOCK_ROWS
    stop = groups.bounds[group + 1].masked_fill(spare, 0)
    return slots[group], start, stop
