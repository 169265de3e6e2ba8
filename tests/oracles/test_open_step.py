"""Oracle: a step whose error comes from elsewhere is the step of `learn`, and of autograd where that computes it."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from brodmann import SGD, AreaLinear, BrodmannError, Captured, DivergenceError, Graph, Network, from_torch, mlp
from brodmann.network import copy_of

from .cases import BODIES, LAYERS, RULES

CASES = [("mlp", name, "adam", path) for name in LAYERS for path in ("kolen-pollack", "direct")]
CASES += [(name, "areas", "sgd momentum", "kolen-pollack") for name in BODIES]
CASES += [("mlp", "one route", name, "transpose") for name in RULES]


@pytest.mark.parametrize(("body", "layer", "rule", "feedback"), CASES)
def test_it_is_the_step_of_learn_bit_for_bit(double, body, layer, rule, feedback):
    torch.manual_seed(0)
    network = Network(BODIES[body](**{**LAYERS[layer], "update": RULES[rule], "feedback": feedback}), clip=1.0)
    other = copy_of(network)
    for number in range(3):
        x, y = torch.randn(12, 5), torch.randint(0, 3, (12,))
        weight = torch.randint(0, 3, (12,)).double() if number else None
        network.learn(x, y, weight)
        step = other.trace(x, weight=weight)
        error, _ = other.output_error(step.output, y, weight)
        step.learn(error)
    for name, tensor in network.learning_state().items():
        assert torch.equal(tensor, other.learning_state()[name]), name


def test_between_an_encoder_and_a_head_of_autograd_it_learns_as_all_of_them_under_autograd(double):
    torch.manual_seed(0)
    encoder, head = nn.Linear(4, 6), nn.Sequential(nn.Tanh(), nn.Linear(5, 3))
    trunk = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 5))
    whole = deepcopy(nn.Sequential(encoder, trunk, head))
    body = from_torch(trunk, (6,), areas=1, feedback="transpose", update=SGD(), lowest=False)
    network = Network(body, lr=0.1)
    outside = torch.optim.SGD([*encoder.parameters(), *head.parameters()], 0.1)
    inside = torch.optim.SGD(whole.parameters(), 0.1)
    for _ in range(10):
        x, y = torch.randn(16, 4), torch.randint(0, 3, (16,))
        hidden = encoder(x)
        step = network.trace(hidden)
        output = step.output.requires_grad_()
        outside.zero_grad()
        loss = functional.cross_entropy(head(output), y)
        loss.backward()
        hidden.backward(step.learn(output.grad))
        outside.step()
        inside.zero_grad()
        expected = functional.cross_entropy(whole(x), y)
        expected.backward()
        inside.step()
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(encoder.weight, whole[0].weight, rtol=0, atol=1e-12)


def test_it_is_made_once():
    network = Network(mlp(4, 3, width=5, areas=2))
    step = network.trace(torch.randn(6, 4))
    assert step.learn(torch.zeros(6, 3)) is None
    with pytest.raises(BrodmannError, match="This step was made already: call trace again"):
        step.learn(torch.zeros(6, 3))


def taken_back(network, x, y):
    network.load_state_dict(deepcopy(network.state_dict()))


CHANGES = {
    "a step": lambda network, x, y: network.learn(x, y),
    "another open step": lambda network, x, y: network.trace(x).learn(torch.ones(6, 3)),
    "weights that were loaded": taken_back,
    "memory for all areas": lambda network, x, y: network.allocate(),
    "a split": lambda network, x, y: network.body.split(0),
    "a tensor that was replaced": lambda network, x, y: network.load_state_dict(network.state_dict(), assign=True),
    "a layer that was replaced": lambda network, x, y: setattr(network.body, "body", deepcopy(network.body.body)),
}


@pytest.mark.parametrize("earlier", [0, 2], ids=["first step", "third step"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_it_is_refused_once_the_network_is_another(change, earlier):
    network = Network(mlp(4, 3, width=5, areas=4, router={"partition": "manual"}))
    x, y = torch.randn(6, 4), torch.randint(0, 3, (6,))
    for _ in range(earlier):
        network.trace(x).learn(torch.ones(6, 3))
    step = network.trace(x)
    change(network, x, y)
    before = deepcopy(network.learning_state())
    with pytest.raises(BrodmannError, match="The network has learned, or was changed, since trace: call trace again"):
        step.learn(torch.ones(6, 3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.learning_state().items())


def test_further_steps_walk_through_no_modules(monkeypatch):
    network, x = Network(mlp(4, 3, width=5, areas=1)), torch.randn(6, 4)
    network.trace(x).learn(torch.zeros(6, 3))
    monkeypatch.setattr(nn.Module, "named_modules", None)  # a walk takes a tenth of a small step
    network.trace(x).learn(torch.zeros(6, 3))


def test_a_copy_knows_its_own_tensors():
    network, x = Network(mlp(4, 3, width=5, areas=1)), torch.randn(6, 4)
    network.trace(x)
    copy = deepcopy(network)
    step, own = copy.trace(x), network.trace(x)
    network.load_state_dict(deepcopy(network.state_dict()))
    step.learn(torch.zeros(6, 3))
    with pytest.raises(BrodmannError, match="The network has learned, or was changed"):
        own.learn(torch.zeros(6, 3))


def test_it_is_refused_after_a_step_of_a_recording():
    network = Network(mlp(4, 3, width=5, areas=2))
    captured, x, y = Captured(network), torch.randn(6, 4), torch.randint(0, 3, (6,))
    for _ in range(3):
        captured.learn(x, y)
    step = network.trace(x)
    captured.learn(x, y)
    with pytest.raises(BrodmannError, match="The network has learned"):
        step.learn(torch.ones(6, 3))


@pytest.mark.parametrize("layer", LAYERS)
def test_inference_and_steps_at_a_rate_of_0_leave_it_open(layer):
    network = Network(BODIES["mlp"](**{**LAYERS[layer], "lowest": False}))
    x, y = torch.randn(6, 5), torch.randint(0, 3, (6,))
    step = network.trace(x)
    network(x)
    network.learn_with_error(x, y, lr=0.0)
    network.trace(x, lr=0.0).learn(torch.ones(6, 3))
    step.learn(torch.ones(6, 3))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.zeros(5, 3), "Expected the error of the output, (6, 3) torch.float32, got (5, 3) torch.float32"),
        (torch.zeros(6, 3).double(), "got (6, 3) torch.float64"),
        (None, "got NoneType: that is dL/d output"),
        (torch.full((6, 3), torch.nan), "The error of the output is not finite"),
    ],
)
def test_an_error_that_does_not_fit_moves_nothing(error, said):
    network = Network(mlp(4, 3, width=5, areas=2))
    before = deepcopy(network.learning_state())
    with pytest.raises((BrodmannError, DivergenceError), match=re.escape(said)):
        network.trace(torch.randn(6, 4)).learn(error)
    for name, tensor in network.learning_state().items():
        assert torch.equal(tensor, before[name])


def test_errors_of_several_outputs_go_by_their_names(double):
    def built() -> Network:
        torch.manual_seed(0)
        heads = {name: (AreaLinear(6, 3, areas=1), "hidden") for name in ("a", "b")}
        body = Graph(
            {"hidden": (AreaLinear(4, 6, areas=1, feedback=None), "input"), **heads}, outputs={"a": "a", "b": "b"}
        )
        return Network(body, lambda output, y: output["a"].sum() - output["b"].sum(), lr=0.1)

    x, one, other = torch.randn(6, 4), torch.randn(6, 3), torch.randn(6, 3)
    networks = built(), built()
    networks[0].trace(x).learn({"a": one, "b": other})
    networks[1].trace(x).learn({"b": other, "a": one})
    for name, tensor in networks[0].learning_state().items():
        assert torch.equal(tensor, networks[1].learning_state()[name])
    for wrong in ({"a": one, "c": other}, {"a": one}, (one, other)):
        with pytest.raises(BrodmannError, match="Expected an error for each output by its name: a, b"):
            networks[0].trace(x).learn(wrong)


def test_samples_must_not_be_written_over_before_it_is_made():
    network, x = Network(mlp(4, 3, width=5, areas=2)), torch.randn(6, 4)
    step = network.trace(x)
    x.copy_(torch.randn(6, 4))
    with pytest.raises(BrodmannError, match="The samples, or the output, were written over since trace took"):
        step.learn(torch.zeros(6, 3))


def test_its_output_must_not_be_written_over_and_may_come_with_its_error_in_a_list():
    network = Network(mlp(4, 3, width=5, areas=2))
    step = network.trace(torch.randn(6, 4))
    step.output[:, 0] = 1.0
    with pytest.raises(BrodmannError, match="The samples, or the output, were written over"):
        step.learn(torch.zeros(6, 3))
    network.trace(torch.randn(6, 4)).learn([torch.zeros(6, 3)])


def test_targets_may_come_from_a_network_under_autograd():
    network, teacher = Network(mlp(4, 3, width=5, areas=2), nn.MSELoss()), nn.Linear(4, 3)
    x = torch.randn(6, 4)
    network.learn(x, teacher(x))
    assert teacher.weight.grad is None


def test_a_loss_that_would_leave_a_head_untrained_is_refused():
    head = nn.Linear(5, 3)
    network = Network(mlp(4, 5, width=5, areas=2), lambda output, y: functional.cross_entropy(head(output), y))
    x, y = torch.randn(6, 4), torch.randint(0, 3, (6,))
    with pytest.raises(BrodmannError, match=re.escape("which nothing would train: train them by the error of an")):
        network.learn(x, y)
    head.requires_grad_(False)
    network.learn(x, y)


class Shifted(torch.autograd.Function):
    """An operation of one's own that remembers something by a name that nodes of leaves have."""

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        ctx.variable = y
        return (output - y).square().sum()

    @staticmethod
    def backward(ctx: Any, error: torch.Tensor) -> Any:
        return torch.ones_like(ctx.variable) * error, None


def test_operations_of_ones_own_in_a_loss_are_no_parameters():
    network = Network(mlp(4, 3, width=5, areas=2), lambda output, y: Shifted.apply(output, y))
    network.learn(torch.randn(6, 4), torch.randn(6, 3))
