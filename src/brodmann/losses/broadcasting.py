"""Broadcasting of every output with every target, if one of them lacks the dimension of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ..errors import BrodmannError
from ..recording import Mode
from ..recording.operations import name_of
from ..several import parts_in


class NoBroadcasting(Mode):  # type: ignore[no-untyped-call]
    """Refuses, in what a loss computes, operations on outputs (n, 1) and targets (n,): they make (n, n).

    It knows the outputs and the targets, and what was made of either, number by number, or as one number for each
    output, such as ``output[:, :1]``. Pairs that are asked for, as by ``target[None]``, thus go through, and so do
    outputs that were brought into another shape, as by ``output[:, 0]``.
    """

    def __init__(self, outputs: Any, *targets: Any) -> None:
        """Takes outputs and targets (n, ...), several of each perhaps; weights of samples are as targets."""
        super().__init__()
        self.outputs = {id(part): part for part in parts_in(outputs)}
        self.targets = {id(part): part for several in targets for part in parts_in(several)}
        self.expanded: dict[int, tuple[Tensor, Tensor]] = {}  # expansions of either, and what they are of

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Computes an operation, and looks at what it took and made."""
        made = func(*args, **(kwargs or {}))
        if not isinstance(made, Tensor):
            return made
        taken = [part for part in args if isinstance(part, Tensor)]
        # `functional.mse_loss`, and others like it, first expand both; either alone may be what is meant.
        expansions = [self.expanded[id(part)] for part in taken if id(part) in self.expanded]
        sources = [source for _, source in expansions] or taken
        shape = expansions[0][0].shape if expansions else made.shape
        outputs, targets = ([part for part in sources if id(part) in known] for known in (self.outputs, self.targets))
        for output, target in product(outputs, targets):
            if _are_paired(output, target, shape):
                raise BrodmannError(
                    f"Expected a loss that compares each output with its own target, but {name_of(func)} puts "
                    f"outputs {tuple(output.shape)} and targets or weights {tuple(target.shape)} together as "
                    f"{tuple(shape)}, each with every other: write output[..., 0] for outputs of one number, "
                    "or target[None] if all pairs are meant."
                )
        if any(made.shape in (part.shape, (*part.shape[:-1], 1)) for part in outputs):
            self.outputs[id(made)] = made
        elif any(made.shape == part.shape for part in targets):
            self.targets[id(made)] = made
        elif func is torch.ops.aten.expand.default and (outputs or targets):
            self.expanded[id(made)] = made, taken[0]
        return made


def _are_paired(output: Tensor, target: Tensor, together: torch.Size) -> bool:
    shorter, longer = sorted((output.shape, target.shape), key=len)
    if longer != (*shorter, 1) or together in (shorter, longer):
        return False
    return together == tuple(map(max, longer, (1, *shorter)))  # as PyTorch stretches both
