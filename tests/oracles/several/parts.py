"""What the tests of several inputs and outputs share: a graph of two of each, and what it learns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from brodmann import SGD, AreaLinear, Graph, KolenPollack, Network

SAMPLES = 12


def halves(rule: Any, **form: Any) -> Graph:
    """Two inputs meet; two outputs, one above the other."""
    torch.manual_seed(3)
    common = {"areas": 3, "update": rule}
    seen = {"left": "left", "right": "right"} if form else {"left": "first", "right": "second"}
    cut: dict[str, Any] = {
        "first": (lambda x: x[:, :4], "input"),
        "second": (lambda x: x[:, 4:], "input"),
    }
    nodes: dict[str, Any] = {
        "low": (AreaLinear(4, 6, feedback=None, **common), seen["left"]),
        "beside": (AreaLinear(3, 6, feedback=None, **common), seen["right"]),
        "sum": (lambda x, y: torch.tanh(x + y), "low", "beside"),
        "middle": (AreaLinear(6, 5, feedback=KolenPollack, **common), "sum"),
        "bent": (torch.tanh, "middle"),
        "top": (AreaLinear(5, 2, feedback=KolenPollack, **common), "bent"),
    }
    joined = {"out": (lambda x, y: torch.cat((x, y), -1), "middle", "top")}
    return Graph(nodes, **form) if form else Graph({**cut, **nodes, **joined})


def pairs(count: int = 30) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    x = torch.randn(count, 4), torch.randn(count, 3)
    return x, (torch.randn(count, 5), x[0][:, :2] - x[1][:, :2])


def learner() -> Network:
    def loss(output: Any, target: Any) -> Tensor:
        return functional.mse_loss(output[0], target[0]) + functional.mse_loss(output[1], target[1])

    return Network(halves(SGD(), inputs=("left", "right"), outputs=("middle", "top")), loss, lr=0.1)
