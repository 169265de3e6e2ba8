"""Divergence: where the loss of a batch stopped being finite."""

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


def check_loss(network: Any, loss: Tensor, x: Several) -> None:
    """Raises a `DivergenceError` that says where the loss of a batch, x (batch, ...), stopped being finite."""
    if math.isfinite(loss):
        return
    if not all(torch.isfinite(part).all() for part in parts_in(x)):
        raise DivergenceError(f"The loss is {float(loss)}: samples hold NaN or infinite values, remove or fill them.")
    layer = _first_not_finite(network, x)
    if layer is None:
        raise DivergenceError(
            f"The loss is {float(loss)}, but all outputs are finite: look at the targets, the weights of samples and "
            "the loss. A loss of your own that divides by the number of targets that count is NaN for a batch in which "
            "none does, such as one that is all padding. Lower the learning rate if outputs have become large."
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
