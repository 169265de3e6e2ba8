"""An independent network of areas under PyTorch autograd and torch.optim; shares no code with the learning path.

Every area is its own Parameter with its own optimiser, stepped only when chosen; scores come from ``x.detach()`` unless
they are those of a gate, and their router has feedback.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from brodmann import (
    RLS,
    SGD,
    Adam,
    AreaLinear,
    BatchNorm,
    Constant,
    Convolution,
    Graph,
    Layer,
    Local,
    Muon,
    Network,
    Patches,
    Product,
    Recurrent,
    Residual,
    Routed,
    Sequential,
    TiedProduct,
    TiedWeights,
)
from brodmann.routing import Router
from brodmann.updates import UpdateRule


def optimiser(rule: UpdateRule, parameter: Tensor, decay: float) -> torch.optim.Optimizer:
    if isinstance(rule, SGD):
        # Decoupled decay: torch's own is coupled to the momentum, so `Part.step` applies it by hand.
        return torch.optim.SGD([parameter], lr=1.0, momentum=rule.momentum)
    if isinstance(rule, RLS):
        return torch.optim.SGD([parameter], lr=1.0)
    if isinstance(rule, Muon) and parameter.ndim > 1:
        return EqualSingularValues([parameter], rule.momentum, decay)
    rule = Adam() if isinstance(rule, Muon) else rule
    assert isinstance(rule, Adam)
    return torch.optim.AdamW([parameter], betas=(rule.beta1, rule.beta2), eps=rule.epsilon, weight_decay=decay)


class EqualSingularValues(torch.optim.Optimizer):
    """Muon by its definition: on the singular values themselves."""

    def __init__(self, parameters: list[Tensor], momentum: float, decay: float) -> None:
        super().__init__(parameters, {"lr": 0.0})
        self.momentum, self.decay = momentum, decay

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        lr, (weight,) = self.param_groups[0]["lr"], self.param_groups[0]["params"]
        velocity = self.momentum * self.state[weight].get("velocity", 0.0) + (1 - self.momentum) * weight.grad
        self.state[weight]["velocity"] = velocity
        ahead = self.momentum * velocity + (1 - self.momentum) * weight.grad
        u, s, vh = torch.linalg.svd(ahead.flatten(1), full_matrices=False)
        s = s / s.norm().clamp_min(1e-7)
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        change = 0.2 * max(len(u), vh.shape[1]) ** 0.5 * (u * s) @ vh
        weight.mul_(1 - lr * self.decay).sub_(lr * change.reshape(weight.shape))


class Part:
    """One parameter with an optimiser of its own."""

    def __init__(self, value: Tensor, rule: UpdateRule, decay: float) -> None:
        self.value = value.detach().clone().requires_grad_(True)
        self.rule, self.decay = rule, decay
        self.optimiser = optimiser(rule, self.value, decay)
        self.used = False
        self.gram = torch.zeros(value.shape[-1], value.shape[-1])

    def see(self, x: Tensor) -> None:
        """Adds inputs (rows, in) to the sum of squares that recursive least squares divides by."""
        self.gram += x.detach().t() @ x.detach()

    def step(self, lr: float) -> None:
        if not self.used or self.value.grad is None:
            return
        if isinstance(self.rule, RLS):
            if self.value.ndim == 1:
                return
            ridge = self.rule.ridge * torch.eye(len(self.gram))
            self.value.grad = self.value.grad @ torch.linalg.inv(self.gram + ridge)
        if isinstance(self.rule, SGD | RLS):
            self.value.data.mul_(1 - lr * self.decay)
        self.optimiser.param_groups[0]["lr"] = lr
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.used = False


class Choice:
    """A router's choice for a batch: area, and the gate, a function of the projection alone unless it has feedback.

    Where some of the layers that follow it are gated, the others do not say how useful their areas were.
    """

    def __init__(self, router: Router, projection: Part, x: Tensor, *, some_gated: bool = False) -> None:
        self.some_gated = some_gated
        gates = []
        for seen in (x.detach(), x):
            scores = F.cosine_similarity((seen @ projection.value.T)[:, None, :], router.prototypes[None], dim=-1)
            self.cell = scores.argmax(1)
            gates.append((scores / router.temperature).softmax(1)[torch.arange(len(x)), self.cell])
        self.area = router.partition[self.cell]
        self.usefulness = gates[0]
        self.gate = gates[0 if router.feedback is None else 1]
        projection.used = router.learned
        projection.see(x)

    def repeated(self, times: int) -> Choice:
        found = copy.copy(self)
        for name in ("area", "gate", "usefulness"):
            setattr(found, name, getattr(self, name).repeat_interleave(times))
        return found


def patches(layer: Patches, x: Tensor) -> Tensor:
    """PyTorch's own unfold, which has channels first and outermost."""
    columns = F.unfold(x.permute(0, 3, 1, 2), layer.size, padding=layer.padding, stride=layer.stride)
    by_channel = columns.unflatten(1, (x.shape[3], -1)).permute(0, 3, 2, 1).flatten(2)
    height = (x.shape[1] + 2 * layer.padding[0] - layer.size[0]) // layer.stride[0] + 1
    return by_channel.unflatten(1, (height, -1))


class Reference:
    """Follows a network step by step."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.parts: dict[tuple[Any, ...], Part] = {}
        for module in network.modules():
            if isinstance(module, AreaLinear):
                rule, decay = module.update_rule, module.update_rule.decay
                if module.shared is not None and module.shared.bias is not None:
                    self.parts[module, "W0"] = Part(module.shared.value[0], rule, decay)
                    self.parts[module, "b0"] = Part(module.shared.bias.value[0], rule, 0.0)
                if module.areas is not None:
                    assert module.areas.weight.bias is not None
                    for area in range(module.budget):
                        origin, bias = module.areas.weight.value[0], module.areas.weight.bias.value[0]
                        self.parts[module, "D", area] = Part(origin, rule, decay + module.pooling)
                        self.parts[module, "d", area] = Part(bias, rule, 0.0)
            if isinstance(module, Constant) and module.slab is not None:
                self.parts[module, "c"] = Part(module.value, module.slab.update_rule, 0.0)
            if isinstance(module, Product | TiedWeights):
                self.parts[module, "W"] = Part(module.weight, module.update_rule, module.update_rule.decay)
            if isinstance(module, Router):
                self.parts[module, "P"] = Part(module.projection.value[0], module.projection.update_rule, 0.0)

    def __call__(self, x: Tensor) -> Tensor:
        return self.run(self.network.body, x, None)

    def run(self, layer: Layer, x: Tensor, choice: Choice | None) -> Tensor:
        if isinstance(layer, Sequential):
            for part in layer.layers:
                x = self.run(part, x, choice)
            return x
        if isinstance(layer, Residual):
            around = x if layer.shortcut is None else self.run(layer.shortcut, x, choice)
            return around + layer.alpha * self.run(layer.body, x, choice)
        if isinstance(layer, Graph):
            values = {"input": x}
            for name in layer.sources:
                part = layer.layer_of(name)
                read = [values[source] for source in layer.sources[name]]
                joined = isinstance(part, Local | TiedProduct) and len(read) > 1
                values[name] = part.operation(*read) if joined else self.run(part, *(read or [x]), choice)
            return values[name]
        if isinstance(layer, Constant):
            self.parts[layer, "c"].used = True
            return self.parts[layer, "c"].value
        if isinstance(layer, TiedWeights):
            self.parts[layer, "W"].used = not isinstance(layer.update_rule, RLS)
            return self.parts[layer, "W"].value
        if isinstance(layer, Recurrent):
            below = self.run(layer.inputs, x, choice)
            state = (x.new_zeros(len(x), layer.units),) * layer.cell.states
            found = []
            for step in range(x.shape[1]):
                state = layer.cell(below[:, step], self.run(layer.states, state[0], choice), state)
                found.append(state[0])
            return torch.stack(found, 1)
        if isinstance(layer, BatchNorm):
            rows, weights = x.flatten(0, -2), (layer.gain, layer.shift)
            gain, shift = (None if held is None else self.run(held, x, choice) for held in weights)
            return F.batch_norm(rows, None, None, gain, shift, training=True, eps=layer.eps).reshape(x.shape)
        if isinstance(layer, Product):
            self.parts[layer, "W"].used = not isinstance(layer.update_rule, RLS)  # which leaves it alone
            return layer.operation(x, self.parts[layer, "W"].value)
        if isinstance(layer, Routed):
            maps = [part for part in layer.body.modules() if isinstance(part, AreaLinear) and part.routed]
            found = Choice(layer.router, self.parts[layer.router, "P"], x, some_gated=any(map.gated for map in maps))
            return self.run(layer.body, x, found)
        if isinstance(layer, Local):
            return layer.operation(x)
        if isinstance(layer, Convolution):
            return self.run(layer.map, patches(layer.patches, x), choice)
        if isinstance(layer, Patches):
            return patches(layer, x)
        assert isinstance(layer, AreaLinear)
        return self.linear(layer, x, choice)

    def linear(self, layer: AreaLinear, x: Tensor, choice: Choice | None) -> Tensor:
        if x.ndim > 2:  # several rows of each sample, which share its choice unless the layer routes them itself
            rows = x.reshape(-1, x.shape[-1])
            shared = None if choice is None or layer.router is not None else choice.repeated(len(rows) // len(x))
            return self.linear(layer, rows, shared).reshape(*x.shape[:-1], layer.out_features)
        if layer.router is not None:
            choice = Choice(layer.router, self.parts[layer.router, "P"], x)
        out: Tensor | float = 0.0
        if layer.shared is not None:
            weight, bias = self.parts[layer, "W0"], self.parts[layer, "b0"]
            weight.used = bias.used = layer.shared_mode == "learned"
            weight.see(x)
            out = x @ weight.value.T + bias.value
        if layer.areas is None:
            assert isinstance(out, Tensor)
            return out
        rows = []
        for i in range(len(x)):
            area = 0 if choice is None else int(choice.area[i])
            weight, bias = self.parts[layer, "D", area], self.parts[layer, "d", area]
            weight.used = bias.used = True
            weight.see(x[i : i + 1])
            own = x[i] @ weight.value.T + bias.value
            if choice is not None:
                gate = choice.usefulness[i]
                if layer.gated:
                    own = choice.gate[i] * own
                elif not choice.some_gated:
                    # Not gated: the output is the same, the gate learns as if it had multiplied at 1.
                    own = own + (gate - gate.detach()) * own.detach()
            rows.append(own)
        return out + torch.stack(rows)

    def step(self, x: Tensor, target: Tensor, lr: float) -> Tensor:
        loss = self.network.loss(self(x), target, None)
        loss.backward()
        for (module, name, *_), part in self.parts.items():
            slow = name in ("D", "d") and module.shared_mode == "learned" and isinstance(part.rule, Adam | Muon)
            slow &= all(router.conflict is None for router in self.network.modules() if isinstance(router, Router))
            part.step(0.1 * lr if slow else lr)
        for part in self.parts.values():
            part.value.grad = None
        return loss.detach()
