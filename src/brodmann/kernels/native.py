"""The grouped operations compiled for this processor, called through their C interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..updates import UpdateRule
from .groups import Groups
from .interface import KnownRule, Operations, Target, known_rule, rounding_seed
from .library import NUMBERS, call
from .pure import PURE
from .served import Served

_MANY, _WORK = 4096, 50_000_000  # rows and products from which on a BLAS is faster: measured, docs/log.md
_WIDE = 32  # inputs and outputs likewise; in the forward product half of it
_NOTHING = (None, None, None, None, 0.0, 0.0, 0)  # no target


class Native(Operations):
    """Calls the compiled kernels; update rules that they do not know are left to pure PyTorch.

    So are products of thousands of rows by one weight, as in convolutions: those are what a BLAS is best at.
    """

    def forward(
        self, weight: Tensor, bias: Tensor | None, served: Served, x: Tensor, *, beside: Tensor | None = None
    ) -> Tensor:
        """See `Operations.forward`."""
        if _for_blas(served.groups, weight, x, _WIDE // 2):
            return PURE.forward(weight, bias, served, x, beside=beside)
        x = x.contiguous()
        bias = None if bias is None else bias.to(x.dtype).contiguous()
        beside = None if beside is None else beside.contiguous()
        out = x.new_empty((x.shape[0], weight.shape[1]))
        call("forward_" + NUMBERS[weight.dtype], *_arguments(served, weight), x, weight, bias, beside, out, 0)
        return out

    def add_error(self, weight: Tensor, served: Served, delta: Tensor, below: Tensor) -> None:
        """See `Operations.add_error`."""
        if _for_blas(served.groups, weight, delta):
            PURE.add_error(weight, served, delta, below)
            return
        delta, sums = delta.contiguous(), below.contiguous()
        call("error_" + NUMBERS[weight.dtype], *_arguments(served, weight), delta, weight, sums, None)
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
        """See `Operations.update`."""
        weight, known = targets[0].weight, known_rule(rule)
        if known is None or len(targets) > 2 or not _fit(known.state, targets, bias, delta, x):
            PURE.update(rule, targets, served, delta, x, bias=bias)
            return
        if _for_blas(served.groups, weight, x) and served.groups.rows >= 16 * weight.shape[1]:
            _update(known, targets, served, delta.t() @ x)
            if bias is not None:
                _update(known, [bias], served, delta.sum(0))
            return
        _update(known, targets, served, delta, x.contiguous(), bias=bias)

    def move(self, rule: UpdateRule, target: Target, gradient: Tensor) -> None:
        """See `Operations.move`."""
        known = known_rule(rule)
        if known is not None and gradient.is_cpu and _walkable(target, known.state, gradient.dtype):
            _update(known, [target], Served(Groups.single(1)), gradient)
        else:
            PURE.move(rule, target, gradient)


def _update(
    rule: KnownRule,
    targets: Sequence[Target],
    served: Served,
    delta: Tensor,
    x: Tensor | None = None,
    *,
    bias: Target | None = None,
) -> None:
    """Moves weights and biases; without x, delta (out, in) is the gradient itself of the only group's weights."""
    weight = targets[0].weight
    call(
        "update_" + NUMBERS[weight.dtype],
        *_arguments(served, weight),
        delta.contiguous(),
        x,
        *rule[:4],
        *_given(targets[0]),
        *(_given(targets[1]) if len(targets) == 2 else _NOTHING),
        *(_NOTHING if bias is None else _given(bias)),
    )


def _for_blas(groups: Groups, weight: Tensor, rows: Tensor, least: int = _WIDE) -> bool:
    """Whether all rows, which are many, go through one weight that is not tiny: then a BLAS is up to twice as fast."""
    if groups.rows < _MANY or groups.order is not None or weight.dtype != rows.dtype:
        return False
    _, outputs, inputs = weight.shape
    return min(outputs, inputs) >= least and groups.rows * outputs * inputs >= _WORK


def _given(target: Target) -> tuple[Any, ...]:
    """Returns a target as the kernels take it."""
    weight, state = target.weight, target.state
    first, second, steps = state.get("first", state.get("velocity")), state.get("second"), state.get("steps")
    return weight, first, second, steps, target.lr, target.decay, rounding_seed(weight)


def _fit(names: frozenset[str], targets: Sequence[Target], bias: Target | None, delta: Tensor, x: Tensor) -> bool:
    """Whether the kernels can move these: what they hold is of the dtypes that they sum in, and contiguous."""
    stored, summed = targets[0].weight.dtype, delta.dtype
    if x.dtype != summed or not x.is_cpu:
        return False
    for target in targets:
        if target.weight.dtype != stored or not _walkable(target, names, summed):
            return False
    return bias is None or (bias.weight.dtype == summed and _walkable(bias, names, summed))


def _walkable(target: Target, names: frozenset[str], summed: torch.dtype) -> bool:
    state = target.state
    if state.keys() != names or not target.weight.is_contiguous():
        return False
    for name, tensor in state.items():
        if tensor.dtype != (torch.int64 if name == "steps" else summed) or not tensor.is_contiguous():
            return False
    return True


def _arguments(served: Served, weight: Tensor) -> tuple[int | Tensor | None, ...]:
    outputs, inputs = weight.shape[1:] if weight.ndim == 3 else (1, weight[0].numel())
    groups, slot = served
    return torch.get_num_threads(), groups.count, groups.present, groups.bounds, groups.order, slot, inputs, outputs
