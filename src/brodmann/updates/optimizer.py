"""An update rule under autograd: for controls that learn by backpropagation and move as the layers here do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..checks import check_real
from ..errors import BrodmannError
from .applied import apply_rule
from .named import check_rule
from .rule import Factors, UpdateRule

_NEVER_DECAY = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _NormBase)
"""Modules whose tensors are tables of rows, or gains and shifts, whatever their shape."""


def groups_of(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Returns a model's parameters as groups for an optimiser, of which those decay that do in layers.

    These are the weights of maps: tensors of two or more dimensions, but for those of embeddings and norms. A table
    that a map shares decays; so does a table or a gain that is a bare parameter of two or more dimensions, unlike in a
    converted network. A parameter that holds several maps, such as ``in_proj_weight`` of `nn.MultiheadAttention`, is
    one matrix here; in a converted network each map is one, which `Muon` moves by itself.

    Args:
        model: Any module.
        decay: The ``weight_decay`` of what decays; 0 for the rest.
    """
    modules = [module for module in model.modules() if not isinstance(module, _NEVER_DECAY)]
    maps = {part for module in modules for part in module.parameters(recurse=False) if part.ndim > 1}
    if not (decay and maps):  # else one group is enough, and each is a call of its own
        return [{"params": list(model.parameters()), "weight_decay": 0.0}]
    rest = [part for part in model.parameters() if part not in maps]
    decaying = [part for part in model.parameters() if part in maps]
    return [{"params": decaying, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


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
            weight_decay: Decoupled decay. Default None: the rule's own, for biases too, unlike in layers: see `of`.

        Raises:
            BrodmannError: It is not a rule, or one that needs the inputs of a weight, such as `RLS`; a rate or decay is
                negative.
        """
        check_rule(rule)
        if rule.needs_inputs:
            raise BrodmannError(f"{type(rule).__name__} needs the inputs of its weights, which no gradient holds.")
        self.rule = rule
        settings = {
            "lr": rule.default_lr if lr is None else lr,
            "weight_decay": rule.decay if weight_decay is None else weight_decay,
        }
        check_real(**settings)
        super().__init__(params, settings)

    @classmethod
    def of(cls, model: nn.Module, rule: UpdateRule, lr: float | None = None) -> RuleOptimizer:
        """Returns what moves a model as layers under the rule do: its maps decay, its biases and gains do not.

        Args:
            model: Any module, see `groups_of` for what decays, and for parameters that hold several maps.
            rule: The rule.
            lr: Learning rate. Default None: the rule's own.

        Raises:
            BrodmannError: As for the constructor.
        """
        check_rule(rule)
        return cls(groups_of(model, rule.decay), rule, lr)

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
