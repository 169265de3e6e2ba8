"""ErrorNorms: how large the errors are that arrive at the layers in a step, and whether they have diverged."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import DivergenceError
from ..routing import Router
from .learner import Learner

EXPLODED, VANISHED = 1e12, 1e-20
"""Ratios of a layer's error to the output error beyond which training stops: float32 cannot carry more. An error of
exactly 0 does not stop it: in a narrow layer, or for equal samples, all units may happen to be off."""


class ErrorNorms:
    """The norm of the error at every layer in one step, from the top layer down.

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

    def check(self, network: Learner, output: Any) -> None:
        """Raises if an error is not finite, or far from the first, the output error, or a router is not finite.

        With several outputs, the largest of all errors takes the place of the first.
        """
        _check_routers(network)
        if not self.norms:
            return
        top = self.norms[0][1] if isinstance(output, Tensor) else max(norm for _, norm in self.norms)
        for layer, norm in self.norms:
            if problem := _problem(norm, top):
                name = next(name for name, part in network.named_modules() if part is layer)
                raise DivergenceError(
                    f"The error at layer '{name}' {problem}. "
                    "Lower the learning rate, clip the error, or use residual blocks."
                )


def _problem(norm: float, top: float) -> str | None:
    """Returns what is wrong with the error at a layer, beside that of the output; None if nothing is."""
    if not math.isfinite(norm):
        return f"is {norm}"
    if top > 0 and norm > EXPLODED * top:
        return f"has exploded to {norm:.1e} (output error {top:.1e})"
    if top > VANISHED and 0 < norm < VANISHED * top:
        return f"has vanished to {norm:.1e} (output error {top:.1e})"
    return None


def _check_routers(network: Learner) -> None:
    """Raises if a projection is not finite: choices stay valid, all of one cell, so that the loss does not show it."""
    for name, part in network.named_modules():
        if isinstance(part, Router) and not torch.isfinite(part.projection.value).all():
            raise DivergenceError(
                f"The projection of '{name}' is not finite. Lower the learning rate, or that of the projection."
            )
