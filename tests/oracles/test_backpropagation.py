"""Oracle: with transpose feedback, learning equals PyTorch autograd and torch.optim, for every layer and rule."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from brodmann import AreaLinear, Constant, Network, Product, Router

from ..pairs import pairwise
from .cases import BODIES, LAYERS, RULES
from .reference import Reference


@pytest.mark.usefixtures("double")
@pairwise(body=BODIES, rule=RULES, layer=LAYERS)
def test_transpose_feedback_is_backpropagation(body: str, rule: str, layer: str) -> None:
    torch.manual_seed(0)
    network = Network(BODIES[body](feedback="transpose", update=RULES[rule], **LAYERS[layer]))
    reference = Reference(network)
    for step in range(4):
        x, target = torch.randn(12, 5), torch.randint(0, 3, (12,))
        lr = 0.05 / (1 + step)
        torch.testing.assert_close(
            network.learn(x, target, lr=lr), reference.step(x, target, lr), rtol=1e-10, atol=1e-12
        )
    for key, part in reference.parts.items():
        module, name = key[0], key[1]
        if isinstance(module, Router):
            found = module.projection.value[0]
        elif isinstance(module, Constant):
            found = module.value
        elif isinstance(module, Product):
            found = module.weight
        else:
            assert isinstance(module, AreaLinear)
            if name in ("W0", "b0"):
                found = (module.shared if name == "W0" else module.shared.bias).value[0]
            else:
                slot = int(module.areas.slot[key[2]])
                found = (module.areas.weight if name == "D" else module.areas.weight.bias).value[slot]
        torch.testing.assert_close(found.detach(), part.value.detach(), rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("body", ["mlp", "residual_mlp", "convnet"])
@pytest.mark.parametrize("layer", LAYERS)
def test_an_encoder_of_autograd_below_learns_as_if_all_were_autograds(body: str, layer: str) -> None:
    torch.manual_seed(0)
    network = Network(BODIES[body](feedback="transpose", update=RULES["adam decay"], lowest=False, **LAYERS[layer]))
    encoder, reference = nn.Sequential(nn.Linear(7, 5), nn.Tanh()), Reference(network)
    theirs = copy.deepcopy(encoder)
    ours, others = (torch.optim.Adam(part.parameters(), 0.01) for part in (encoder, theirs))
    for _ in range(5):
        x, target = torch.randn(12, 7), torch.randint(0, 3, (12,))
        hidden = encoder(x)
        loss, error = network.learn_with_error(hidden, target, lr=0.05)
        hidden.backward(error)
        torch.testing.assert_close(loss, reference.step(theirs(x), target, 0.05), rtol=1e-10, atol=1e-12)
        for optimiser in (ours, others):
            optimiser.step()
            optimiser.zero_grad()
    for mine, other in zip(encoder.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-11)
