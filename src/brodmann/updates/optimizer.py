"""An update rule under autograd: for controls that learn by backpropagation and move as the layers here do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ..checks import check_real
from ..errors import BrodmannError
from .applied import apply_rule
from .named import check_rule
from .rule import Factors, UpdateRule


class RuleOptimizer(torch.optim.Optimizer):
    """Moves parameters by their gradients from autograd, each under one update rule.

    Takes groups as any `torch.optim.Optimizer` does, each with a ``lr`` and a ``weight_decay`` of its own if wanted.
    """

    def __init__(
        self, params: Iterable[Any], rule: UpdateRule, lr: float | None = None, weight_decay: float | None = None
    ) -> None:
        """Takes parameters of any shape, and the rule.

        Args:
            params: Parameters, or groups of them.
            rule: The rule, such as `Muon()`.
            lr: Learning rate. Default None: the rule's own.
            weight_decay: Decoupled decay. Default None: the rule's own, for biases too, unlike in layers.

        Raises:
            BrodmannError: The rule is none, or one that needs the inputs of a weight, such as `RLS`; a rate or decay is
                negative.
        """
        check_rule(rule)
        if rule.recursive:
            raise BrodmannError(f"{type(rule).__name__} needs the inputs of its weights, which no gradient holds.")
        self.rule = rule
        settings = {
            "lr": rule.default_lr if lr is None else lr,
            "weight_decay": rule.decay if weight_decay is None else weight_decay,
        }
        check_real(**settings)
        super().__init__(params, settings)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what copies and pickles hold."""
        return {**super().__getstate__(), "rule": self.rule}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back what ``state_dict`` returned; counts stay whole numbers, whatever the parameters are."""
        super().load_state_dict(state_dict)
        parameters = [part for group in self.param_groups for part in group["params"]]
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        for parameter, number in zip(parameters, numbers, strict=True):
            steps = state_dict["state"].get(number, {}).get("steps")
            if steps is not None:
                self.state[parameter]["steps"] = steps.to(parameter.device, copy=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Moves every parameter that has a gradient, in place.

        Args:
            closure: Computes loss and gradients anew, as for every optimiser. Default None.

        Returns:
            What the closure returns.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    factors = Factors(parameter.grad[None])
                    state = self._state(parameter)
                    apply_rule(self.rule, parameter, state, factors, group["lr"], group["weight_decay"])
        return loss

    def _state(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            for name, shape in self.rule.state_shapes(tuple(parameter.shape)).items():
                dtype = torch.int64 if name == "steps" else parameter.dtype
                state[name] = torch.zeros(shape, dtype=dtype, device=parameter.device)
        return state
