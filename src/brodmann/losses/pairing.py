"""Pairing: every output with every target, which PyTorch computes where one of them lacks the dimension of outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import BrodmannError
from ..several import parts_in


class NoPairing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses, in what a loss computes, operations on outputs (n, 1) and targets (n,): they make (n, n).

    It knows the outputs and the targets, and what was made of either, number by number. Pairs that are asked for, as by
    ``target[None]``, thus go through, and so do outputs that were brought into another shape, as by ``output[:, 0]``.
    """

    def __init__(self, outputs: Any, *targets: Any) -> None:
        """Takes outputs and targets (n, ...), several of each perhaps; weights of samples are as targets."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.outputs = {id(part): part for part in parts_in(outputs)}
        self.targets = {id(part): part for several in targets for part in parts_in(several)}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Computes an operation, and looks at what it took and made."""
        made = func(*args, **(kwargs or {}))
        if not isinstance(made, Tensor):
            return made
        taken = [part for part in args if isinstance(part, Tensor)]
        outputs, targets = ([part for part in taken if id(part) in known] for known in (self.outputs, self.targets))
        # `functional.mse_loss`, and others like it, expand first the one and then the other.
        others = list(self.outputs.values()) if func is torch.ops.aten.expand.default else outputs
        for output in others:
            for target in targets:
                if _are_paired(output, target, made):
                    raise BrodmannError(
                        f"Expected a loss that compares each output with its own target, but {_name_of(func)} puts "
                        f"outputs {tuple(output.shape)} and targets or weights {tuple(target.shape)} together as "
                        f"{tuple(made.shape)}, each with every other: write output[..., 0] for outputs of one number, "
                        "or target[None] where all pairs are meant."
                    )
        for parts, known in ((outputs, self.outputs), (targets, self.targets)):
            if any(part.shape == made.shape for part in parts):
                known[id(made)] = made
                break
        return made


def _are_paired(output: Tensor, target: Tensor, made: Tensor) -> bool:
    shorter, longer = sorted((output.shape, target.shape), key=len)
    if longer != (*shorter, 1) or made.shape in (shorter, longer):
        return False
    return made.shape == tuple(map(max, longer, (1, *shorter)))  # as PyTorch stretches both


def _name_of(func: Callable[..., Any]) -> str:
    return str(func).split(".")[1]
