"""The Triton kernels compute what pure PyTorch does: on a CUDA device where there is one, else in the interpreter."""

from __future__ import annotations

import copy

import pytest
import torch

from brodmann import SGD, Adam, Network, UpdateRule, mlp, residual_mlp
from brodmann.areas import slab
from brodmann.kernels import Groups, Served
from brodmann.kernels.interface import Operations, Target
from brodmann.kernels.pure import Pure

Cuda = pytest.importorskip("brodmann.kernels.cuda", exc_type=ImportError).Cuda
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RULES = {
    "sgd": SGD(),
    "sgd decay": SGD(decay=0.3),
    "sgd momentum": SGD(momentum=0.9, decay=0.1),
    "adam": Adam(),
    "adam decay": Adam(decay=0.3, beta1=0.0),
}
SHAPES = {
    "several tiles": (5, 90, 70, 130),
    "one area": (1, 40, 17, 5),
    "fewer rows than areas": (9, 4, 33, 64),
    "one row": (3, 1, 1, 1),
}
"""Areas, rows, inputs, outputs."""


class Case:
    """Weights, a batch and its areas, on the device."""

    def __init__(self, shape: str) -> None:
        areas, rows, inputs, outputs = SHAPES[shape]
        torch.manual_seed(0)
        area = torch.randint(0, areas, (rows,), device=DEVICE)
        groups = Groups.of(area, areas) if areas > 1 else Groups.single(rows, torch.device(DEVICE))
        self.served = Served(groups, torch.randperm(areas + 2, device=DEVICE)[:areas])
        self.weight = torch.randn(areas + 2, outputs, inputs, device=DEVICE)
        self.bias = torch.randn(areas + 2, outputs, device=DEVICE)
        self.x, self.delta = torch.randn(rows, inputs, device=DEVICE), torch.randn(rows, outputs, device=DEVICE)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_forward_and_error(shape: str, with_bias: bool) -> None:
    case = Case(shape)
    results = []
    for operations in (Pure(), Cuda()):
        bias = case.bias if with_bias else None
        out = operations.forward(case.weight, bias, case.served, case.x)
        below = torch.ones_like(case.x)
        operations.add_error(case.weight, case.served, case.delta, below)
        results.append((out, below))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", RULES)
def test_update(shape: str, rule: str) -> None:
    case, how = Case(shape), RULES[rule]
    results = []
    for operations in (Pure(), Cuda()):
        targets, bias = [target(case.weight, how, lr) for lr in (0.1, 0.2)], target(case.bias, how, 0.3)
        for _ in range(2):
            operations.update(how, targets, case.served, case.delta, case.x, bias=bias)
        results.append([(moved.weight, moved.state) for moved in (*targets, bias)])
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-4)
    untouched = torch.ones(len(case.weight), dtype=torch.bool, device=DEVICE)
    untouched[case.served.slots] = False
    for moved, start in zip(results[1], (case.weight, case.weight, case.bias), strict=True):
        assert torch.equal(moved[0][untouched], start[untouched])


def target(start: torch.Tensor, how: UpdateRule, lr: float) -> Target:
    """A copy of some weights, with fresh state."""
    state = {
        name: torch.zeros((len(start), *size), dtype=torch.int64 if name == "steps" else None, device=DEVICE)
        for name, size in how.state_shapes(tuple(start.shape[1:])).items()
    }
    return Target(start.clone(), state, lr, how.decay)


def test_new_bfloat16_weights_are_rounded_to_a_neighbour_and_right_on_average() -> None:
    rows, outputs, inputs = 1, 64, 64
    weight = torch.ones(1, outputs, inputs, dtype=torch.bfloat16, device=DEVICE)
    x, delta = torch.ones(rows, inputs, device=DEVICE), torch.full((rows, outputs), 1e-3, device=DEVICE)
    groups = Groups.single(rows, torch.device(DEVICE))
    torch.manual_seed(0)
    Cuda().update(SGD(), [Target(weight, {}, 1.0, 0.0)], Served(groups), delta, x)
    assert set(weight.float().unique().tolist()) == {1.0, 1.0 - 2**-8}
    assert float(weight.float().mean()) == pytest.approx(1.0 - 1e-3, abs=2e-4)


@pytest.mark.parametrize("builder", [mlp, residual_mlp])
@pytest.mark.parametrize("options", [{}, {"gated": True}, {"shared": "off", "routing": "network"}])
def test_a_network_learns_the_same(builder: object, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    first = Network(builder(5, 3, depth=3, width=6, areas=4, update=Adam(), **options)).to(DEVICE)
    second = copy.deepcopy(first)
    x, y = torch.randn(40, 5, device=DEVICE), torch.randint(0, 3, (40,), device=DEVICE)
    for network, operations in ((first, Pure()), (second, Cuda())):

        def chosen(weight: torch.Tensor, rows: torch.Tensor, own: Operations = operations) -> Operations:
            return own

        monkeypatch.setattr(slab, "operations", chosen)
        for _ in range(2):
            network.learn(x, y, lr=0.01)
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
