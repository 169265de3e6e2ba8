"""Divergence: losses and errors that are no longer finite, have vanished or have exploded."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .errors import DivergenceError
from .learner import Learner

EXPLODED, VANISHED = 1e12, 1e-20
"""Ratios of a layer's error to the output error beyond which training stops: float32 cannot carry more."""


class Watch:
    """Collects the norm of the error at every layer during one step."""

    def __init__(self) -> None:
        """Starts with nothing seen."""
        self.norms: list[tuple[Any, float]] = []

    def observe(self, layer: Any, error: Tensor) -> None:
        """Notes the error that arrives at a layer."""
        self.norms.append((layer, float(error.norm())))

    def check(self, network: Any) -> None:
        """Raises where an error is not finite, or far from the output error, which comes first."""
        if not self.norms:
            return
        top = self.norms[0][1]
        for layer, norm in self.norms:
            if not math.isfinite(norm):
                problem = f"is {norm}"
            elif top > 0 and norm > EXPLODED * top:
                problem = f"has exploded to {norm:.1e} (output error {top:.1e})"
            elif top > VANISHED and norm < VANISHED * top:
                problem = f"has vanished to {norm:.1e} (output error {top:.1e})"
            else:
                continue
            name = next(name for name, part in network.named_modules() if part is layer)
            raise DivergenceError(
                f"The error at layer '{name}' {problem}. "
                "Lower the learning rate, clip the error, or use residual blocks."
            )


def not_finite(network: Learner, loss: float, step: int) -> DivergenceError:
    """Returns the error that says where a loss stopped being finite."""
    state = network.learning_state()
    bad = next((name for name, tensor in state.items() if not torch.isfinite(tensor).all()), None)
    where = f"the first layer whose weights are not finite is '{_layer_of(bad)}'" if bad else "all weights are finite"
    return DivergenceError(
        f"The loss became {loss} at step {step}; {where}. "
        "Lower the learning rate, clip the error, or check the input's scale."
    )


def _layer_of(tensor: str) -> str:
    parts = tensor.split(".")
    last = max((index for index, part in enumerate(parts) if part.isdigit() or part == "router"), default=-1)
    return ".".join(parts[: last + 1]) if last >= 0 else tensor
