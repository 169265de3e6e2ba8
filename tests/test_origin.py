"""Where code comes from."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from brodmann import SGD, mlp
from brodmann.origin import is_foreign, is_ours, package_of


class Mine(SGD):
    """A rule of a user's own."""


def mine(x: torch.Tensor) -> torch.Tensor:
    return x


HERE = mine.__module__.partition(".")[0]
CASES = [
    (mine, HERE),
    (Mine, HERE),
    (Mine(), HERE),
    (functools.lru_cache(mine), HERE),  # what wraps a function says of itself where that comes from
    (lambda x: x, HERE),
    (mlp, "brodmann"),
    (SGD(), "brodmann"),
    (nn.ReLU(), "torch"),
    (torch.nn.functional.relu, "torch"),
    (torch.float32, "torch"),
    (torch.ops.aten.relu.default, "torch"),
    (numpy.add, "numpy"),
    (numpy.zeros(1), "numpy"),
    (math.sin, "math"),
    (operator.add, "_operator"),
    (len, "builtins"),
    (1.0, "builtins"),
    (torch.relu, "torch"),
    (torch.Tensor.add, "builtins"),  # compiled methods do not say
]


@pytest.mark.parametrize(("value", "package"), CASES)
def test_everything_comes_from_a_package(value: Any, package: str) -> None:
    assert package_of(value) == package
    assert is_foreign(value) == (package == HERE)


def test_ours_are_objects_of_classes_of_this_package() -> None:
    assert all(map(is_ours, (SGD(), mlp(3, 2))))
    assert not any(map(is_ours, (Mine(), nn.ReLU(), SGD)))
