"""What does not fit, of inputs, outputs, targets or names, is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from brodmann import SGD, BrodmannError, Graph, Network, Residual, from_torch, mlp
from brodmann.telemetry import alignment
from brodmann.training import Trainer, evaluate

from .parts import halves, learner, pairs


def twofold() -> Graph:
    return Graph({"a": (nn.Tanh(), "input"), "b": (nn.ReLU(), "input")}, outputs=("a", "b"))


class Weighing(nn.Module):
    def __init__(self, returned: Callable[..., Any]) -> None:
        super().__init__()
        self.map, self.returned = nn.Linear(4, 3), returned

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.returned(self.map(x), y)


def convert(returned: Callable[..., Any] = lambda x, y: x, samples: Any = ((4,), (3,)), **options: Any) -> None:
    from_torch(Weighing(returned), samples, **{"areas": 1, **options})


NETWORK = (
    "Expected a network that returns a tensor of real numbers, or a tuple or a dictionary of such tensors, each of "
    "them with a name, as in `a, b = x.chunk(2)`; got {} among them."
)
IN_ORDER = "Expected a tuple of 2 tensors for this Graph, left, right, or a dictionary with these names, got "


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: convert(lambda x, y: (x, None)), NETWORK.format("a NoneType")),
        (lambda: convert(lambda x, y: (x, (x, x))), NETWORK.format("a tuple")),
        (lambda: convert(lambda x, y: {"x": x, "y": y}), NETWORK.format("one of its inputs")),
        (lambda: convert(lambda x, y: (x, x.argmax(-1))), NETWORK.format("torch.int64")),
        (lambda: convert(lambda x, y: (x, x.sum())), "Expected a network that returns (samples, ..., outputs), got ()"),
        (
            lambda: convert(samples=(4,)),
            "Weighing.forward(x: 'Tensor', y: 'Tensor') does not accept these samples, missing a required argument: "
            "'y': give a tuple of shapes or samples in the order of its arguments, or a dictionary of samples with "
            "the arguments' names as keys.",
        ),
        (
            lambda: convert(samples={"x": (4,), 3: (3,)}),
            "Expected the keys of a dictionary of samples to be names of the model's arguments, got x",
        ),
        (
            lambda: convert(samples=(torch.randn(5, 4), torch.randn(6, 3))),
            "Expected the same number of samples in all tensors, got 5, 6.",
        ),
        (
            lambda: convert(areas=4),
            "Several inputs have no direction to route them by: choose routing='layer', where every layer routes its "
            "own input, or areas=1.",
        ),
        (
            lambda: convert(lambda x, y: (x, x + y), feedback="direct"),
            "Direct feedback needs one output, but the model has 2: choose another feedback path.",
        ),
        (lambda: learner()(pairs()[0][0]), f"{IN_ORDER}1."),
        (lambda: learner()({"left": pairs()[0][0]}), f"{IN_ORDER}left."),
        (lambda: learner()(dict(zip("ab", pairs()[0], strict=True))), f"{IN_ORDER}a, b."),
        (
            lambda: learner()((pairs()[0][0], 3)),
            "Expected x[1] to be a tensor, got int: convert it with torch.",
        ),
        (
            lambda: learner().learn(pairs()[0], (pairs()[1][0], pairs()[1][1][:3])),
            "Expected as many targets as samples, got 3 for 30.",
        ),
        (
            lambda: learner().learn((pairs()[0][0], pairs()[0][1][:3]), pairs()[1]),
            "Expected the same number of samples in all tensors, got 3, 30.",
        ),
        (
            lambda: Network(learner().body).learn(*pairs()),
            "CrossEntropy takes one output and one target, got 2 and 2: give the network a loss of your own, such as "
            "lambda output, target: cross_entropy(output[0], target[0]) + mse_loss(output[1], target[1]).",
        ),
        (
            lambda: Network(learner().body, nn.L1Loss()).learn(pairs()[0], pairs()[1][0]),
            "L1Loss takes one output and one target, got 2 and 1",
        ),
        (
            lambda: halves(SGD(), inputs=("left", "left")),
            "Expected inputs of a Graph to be a tuple of different names",
        ),
        (
            lambda: halves(SGD(), inputs="left"),
            "Expected inputs of a Graph to be a tuple of different names, got 'left'.",
        ),
        (
            lambda: halves(SGD(), inputs=("left", "right"), outputs=("top", "left")),
            "Expected outputs of this Graph to be among low, beside, sum, middle, bent, top, got top, left.",
        ),
        (lambda: halves(SGD(), inputs=("left", "right"), outputs=()), "middle, bent, top, got none."),
        (
            lambda: halves(SGD(), inputs=("left", "right"), outputs="middle"),
            "Nothing reads top in this Graph: leave out nodes that nothing reads.",
        ),
        (
            lambda: halves(SGD(), inputs=("left", "right", "low")),
            "A node of a Graph cannot be called 'low': choose another name.",
        ),
        (lambda: Graph({"a": (nn.Tanh(), "x")}, inputs=None), "to be a tuple of different names, got None."),  # type: ignore[arg-type]
        (
            lambda: Graph({"inside": (twofold(), "input"), "out": (nn.Tanh(), "inside")})(pairs()[0][0]),
            "Node 'inside' returns 2 values, but other nodes read it as one: make a node for each",
        ),
        (
            lambda: Network(Residual(learner().body)).learn(*pairs()),
            "Expected a residual body to return the shape of its shortcut, tuple, got tuple",
        ),
        (
            lambda: convert(lambda x, y: ()),
            "one or more tensors of real numbers, got one that returns none.",
        ),
        (lambda: convert(lambda x, y: x.chunk(2, 1)), NETWORK.format("a tuple")),
        (lambda: learner()((pairs()[0][0], pairs()[0][1][:1])), "Expected the same number of samples in all tensors"),
        (lambda: learner()(tuple(part.numpy() for part in pairs()[0])), "Expected x[0] to be a tensor, got ndarray"),
        (
            lambda: convert(samples=((4,), numpy.zeros((3, 3)))),
            "Expected a shape, or samples as a tensor, got",
        ),
        (
            lambda: evaluate(Network(learner().body), *pairs()),
            "CrossEntropy takes one output and one target, got 2 and 2",
        ),
        (
            lambda: alignment(Network(learner().body), *pairs()),
            "CrossEntropy takes one output and one target, got 2 and 2",
        ),
        (
            lambda: Network(mlp(4, 2)).learn(pairs()[0][0], (torch.zeros(30).long(),)),
            "CrossEntropy takes one output and one target, got 1 and 1: give the target itself, not a tuple or",
        ),
        (
            lambda: Trainer(learner(), pairs(), transform=lambda x: x[0][:3]).run(),
            "Expected transform to return the 8 samples of the batch, got (3, 4) torch.float32.",
        ),
        (
            lambda: Trainer(learner(), ((pairs()[0][0], pairs()[0][1] / 0), pairs()[1])),
            "The training samples hold NaN or infinite values: remove or fill them first.",
        ),
    ],
)
def test_what_does_not_fit_is_named(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(BrodmannError) as raised:
        wrong()
    assert message in str(raised.value)
