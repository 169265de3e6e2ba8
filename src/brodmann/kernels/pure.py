"""The grouped operations in pure PyTorch: the reference, and what runs if nothing is compiled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..updates import Factors, UpdateRule, apply_rule
from .interface import Operations, Target
from .served import Served


class Pure(Operations):
    """Sorts the rows by area, then loops over the areas: each one's work is a dense product over a slice."""

    def forward(
        self, weight: Tensor, bias: Tensor | None, served: Served, x: Tensor, *, beside: Tensor | None = None
    ) -> Tensor:
        """See `Operations.forward`."""
        groups = served.groups
        rows = groups.sort(x)
        out = x.new_empty(len(x), weight.shape[1])
        for index, start, stop in served.segments():
            part, to = rows[start:stop], out[start:stop]
            of_slot = weight[index].to(x.dtype).t()
            if bias is None:
                torch.mm(part, of_slot, out=to)
            else:
                torch.addmm(bias[index].to(x.dtype), part, of_slot, out=to)
        y = groups.unsort(out)
        return y if beside is None else y.add_(beside)

    def add_error(self, weight: Tensor, served: Served, delta: Tensor, below: Tensor) -> None:
        """See `Operations.add_error`."""
        groups = served.groups
        rows = groups.sort(delta)
        if groups.order is None:
            for index, start, stop in served.segments():
                below[start:stop].addmm_(rows[start:stop], weight[index].to(below.dtype))
            return
        for index, start, stop in served.segments():
            part = rows[start:stop] @ weight[index].to(below.dtype)
            below.index_add_(0, groups.order[start:stop], part)

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
        delta, x = served.groups.sort(delta), served.groups.sort(x)
        for index, start, stop in served.segments():
            factors = Factors(delta[start:stop], x[start:stop])
            for target in targets:
                _move_slot(rule, target, index, factors)
            if bias is not None:
                _move_slot(rule, bias, index, Factors(delta[start:stop]))

    def move(self, rule: UpdateRule, target: Target, gradient: Tensor) -> None:
        """See `Operations.move`."""
        _move_slot(rule, target, 0, Factors(gradient[None]))


PURE = Pure()


def _move_slot(rule: UpdateRule, target: Target, index: int, factors: Factors) -> None:
    """Moves one slot of a target, in place, see `apply_rule`."""
    state = {name: tensor[index] for name, tensor in target.state.items()}
    stored = target.weight[index]
    as_stored = stored.dtype == factors.delta.dtype
    moved = stored if as_stored else stored.to(factors.delta.dtype)
    apply_rule(rule, moved, state, factors, target.lr, target.decay)
    if not as_stored:
        stored.copy_(round_stochastically(moved))


def round_stochastically(values: Tensor) -> Tensor:
    """Rounds float32 to bfloat16, up with a probability equal to the share that rounding down would lose.

    So the expected result is the value itself; what is not finite stays as it is.
    """
    bits = values.contiguous().view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32, device=bits.device)
    raised = torch.where(values.isfinite(), bits + noise, bits) & -(1 << 16)
    return raised.view(torch.float32).to(torch.bfloat16)
