"""What is said of update rules."""

from __future__ import annotations

from collections.abc import Callable

import torch

from brodmann import SGD, Adam, AreaLinear
from brodmann.updates import Factors, UpdateRule, update_rule


class KeepsValue(UpdateRule):
    def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {"value": shape}

    def apply(self, weight: torch.Tensor, state: object, factors: Factors, lr: float, decay: float) -> None:
        weight.sub_(factors.dense(), alpha=lr)


CASES: list[tuple[Callable[[], object], str]] = [
    (lambda: SGD(decay=-1.0), "Expected decay to be a number of at least 0, got -1.0."),
    (lambda: SGD(decay=float("inf")), "Expected decay to be a number of at least 0, got inf."),
    (lambda: SGD(momentum=1.0), "Expected momentum to be a number in [0, 1), got 1.0."),
    (lambda: SGD(momentum=-0.1), "Expected momentum to be a number in [0, 1), got -0.1."),
    (lambda: Adam(decay=-1.0), "Expected decay to be a number of at least 0, got -1.0."),
    (lambda: Adam(beta1=1.0), "Expected beta1 to be a number in [0, 1), got 1.0."),
    (lambda: Adam(beta1=-0.5), "Expected beta1 to be a number in [0, 1), got -0.5."),
    (lambda: Adam(beta2=1.0), "Expected beta2 to be a number in [0, 1), got 1.0."),
    (lambda: Adam(beta2=-0.5), "Expected beta2 to be a number in [0, 1), got -0.5."),
    (lambda: Adam(epsilon=0.0), "Expected epsilon to be a number above 0, got 0.0."),
    (
        lambda: Adam(weight_decay=0.1),
        "Unknown setting of Adam 'weight_decay'. Did you mean 'decay'? Choose one of: beta1, beta2, decay, epsilon.",
    ),
    (
        lambda: update_rule("adamm"),
        "Unknown update rule 'adamm'. Did you mean 'adam'? Choose one of: adam, muon, rls, sgd.",
    ),
    (
        lambda: update_rule("adam", decai=1.0),
        "Unknown setting of adam 'decai'. Did you mean 'decay'? Choose one of: beta1, beta2, decay, epsilon.",
    ),
    (
        lambda: AreaLinear(4, 2, update=KeepsValue()),
        "KeepsValue names a buffer 'value', which is reserved or not a Python identifier: choose another name, such "
        "as 'velocity'.",
    ),
]
