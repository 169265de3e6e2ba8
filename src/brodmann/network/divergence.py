"""Divergence: losses and errors that are no longer finite, have vanished or have exploded."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DivergenceError
from ..layer import Layer
from ..routing import Choice, Route, Router
from ..several import Several, parts_in
from .hooks import watched

EXPLODED, VANISHED = 1e12, 1e-20
"""Ratios of a layer's error to the output error beyond which training stops: float32 cannot carry more. An error of
exactly 0 does not stop it: in a narrow layer, or for equal samples, all units may happen to be off."""


class Watch:
    """Collects the norm of the error at every layer during one step.

    If a network has several outputs, no single error stands for all of them.
    """

    def __init__(self) -> None:
        """Starts with nothing seen."""
        self.norms: list[tuple[Any, float]] = []

    def observe(self, layer: Any, error: Tensor) -> None:
        """Notes the error that arrives at a layer."""
        # The squares of what has vanished are 0 in float32.
        self.norms.append((layer, float(error.norm()) or float(error.abs().sum())))

    def silent(self, output: Any) -> bool:
        """Whether an error left a single output, but none of it arrived at any layer below the top one."""
        if not isinstance(output, Tensor):
            return False
        return len(self.norms) > 1 and self.norms[0][1] > 0 and not any(norm for _, norm in self.norms[1:])

    def check(self, network: Any, output: Any) -> None:
        """Raises if an error is not finite, or far from the first, the output error, or a router is not finite.

        With several outputs, the largest of all errors takes the place of the first.
        """
        for name, part in network.named_modules():
            # Its choices stay valid, all of one cell, so that the loss does not show it.
            if isinstance(part, Router) and not torch.isfinite(part.projection.value).all():
                raise DivergenceError(
                    f"The projection of '{name}' is not finite. Lower the learning rate, or that of the projection."
                )
        if not self.norms:
            return
        top = self.norms[0][1] if isinstance(output, Tensor) else max(norm for _, norm in self.norms)
        for layer, norm in self.norms:
            if not math.isfinite(norm):
                problem = f"is {norm}"
            elif top > 0 and norm > EXPLODED * top:
                problem = f"has exploded to {norm:.1e} (output error {top:.1e})"
            elif top > VANISHED and 0 < norm < VANISHED * top:
                problem = f"has vanished to {norm:.1e} (output error {top:.1e})"
            else:
                continue
            name = next(name for name, part in network.named_modules() if part is layer)
            raise DivergenceError(
                f"The error at layer '{name}' {problem}. "
                "Lower the learning rate, clip the error, or use residual blocks."
            )


def check_loss(network: Any, loss: Tensor, x: Several) -> None:
    """Raises a `DivergenceError` that says where the loss of a batch, x (batch, ...), stopped being finite."""
    if math.isfinite(loss):
        return
    if not all(torch.isfinite(part).all() for part in parts_in(x)):
        raise DivergenceError(f"The loss is {float(loss)}: samples hold NaN or infinite values, remove or fill them.")
    layer = _first_not_finite(network, x)
    if layer is None:
        raise DivergenceError(
            f"The loss is {float(loss)}, but all outputs are finite: look at targets and weights and loss. Of a "
            "function of your own, a mean over targets none of which counts is NaN, as in a batch that is all padding. "
            "Lower the learning rate if outputs have become large."
        )
    where = f"NaN or infinite values first appear in layer '{layer}'"
    if not all(tensor.isfinite().all() for tensor in network.get_submodule(layer).parameters()):
        where += ", whose weights have held them since an earlier step: look at the error that comes down to it, too"
    raise DivergenceError(
        f"The loss is {float(loss)}: {where}. Lower the learning rate, clip the error, or check the input's scale."
    )


@torch.no_grad()
def _first_not_finite(network: Any, x: Several) -> str | None:
    """Returns the name of the first layer or router, the innermost one, whose output is not finite for a batch."""
    found: list[str] = []

    def look(name: str, _: Any, __: Any, output: Any) -> None:
        numbers = output.gate if isinstance(output, Route | Choice) else output
        if isinstance(numbers, Tensor) and not torch.isfinite(numbers).all():  # user-defined parts may return anything
            found.append(name)

    # A baseline is made of PyTorch's own.
    kinds = Layer | Router if isinstance(getattr(network, "body", None), Layer) else nn.Module
    with watched([(name, part) for name, part in network.named_modules() if isinstance(part, kinds)], look):
        network(x)
    return found[0] if found else None
