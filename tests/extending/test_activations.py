"""Activations of one's own: any operation of one tensor, by itself or by its registered name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import Adam, AreaLinear, BrodmannError, Context, Local, Network, Sequential, mlp
from brodmann.baselines import Backpropagation
from brodmann.builders import ACTIVATIONS, design

from .parts import X, each_of, message_of


class Remembering(nn.Tanh):
    """An operation with a state that is not a tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}


CASES: list[tuple[Callable[[], object], str]] = [
    (
        lambda: Local(nn.ReLU),
        "Expected an operation of one tensor, such as nn.GELU(), got <class 'torch.nn.modules.activation.ReLU'>.",
    ),
    (
        lambda: Network(Sequential(AreaLinear(6, 3, feedback=None), Local(Remembering()))),
        "Remembering ('layers.1.operation') has extra state, by get_extra_state, which files cannot hold: keep it in a "
        "buffer, with register_buffer.",
    ),
]


@each_of(CASES)
def test_what_users_may_get_wrong(act: Callable[[], object], message: str) -> None:
    assert message_of(act) == message


def test_any_operation_as_an_activation() -> None:
    torch.manual_seed(0)
    named = Network(mlp(6, 3, width=4, activation="gelu"))
    torch.manual_seed(0)
    given = Network(mlp(6, 3, width=4, activation=nn.GELU()))
    assert torch.equal(named(X), given(X))
    with pytest.raises(BrodmannError, match="A design holds only numbers"):
        design("mlp", Adam(), in_features=6, outputs=3, activation=nn.GELU())
    json.dumps(design("mlp", Adam(), in_features=6, outputs=3, activation="gelu"))


def test_an_activation_that_changes_one_of_ours_is_not_taken_for_it() -> None:
    class Leaky(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return functional.leaky_relu(x, 0.3)

    local = Local(Leaky())
    y, trace = local.trace(X, Context())
    assert torch.equal(y, local(X))
    assert torch.equal(local.learn(trace, torch.ones(20, 6), Context()), torch.where(X > 0, 1.0, 0.3))


@pytest.mark.parametrize(
    "made", [nn.SiLU, nn.SiLU(), functional.silu, lambda: nn.SiLU(), lambda x: x * torch.sigmoid(x)]
)
def test_an_activation_is_registered_as_a_class_a_module_or_a_function(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ACTIVATIONS, "mine", made)
    torch.manual_seed(0)
    registered = Network(mlp(6, 3, width=8, areas=2, activation="mine"))
    torch.manual_seed(0)
    given = Network(mlp(6, 3, width=8, areas=2, activation=nn.SiLU()))
    x, y = torch.randn(9, 6), torch.arange(9) % 3
    torch.testing.assert_close(registered.learn(x, y), given.learn(x, y))
    torch.testing.assert_close(registered(x), given(x))
    twin = Backpropagation(6, 3, width=8, activation="mine")
    assert torch.isfinite(twin(x)).all()


@pytest.mark.parametrize("function", [torch.sin, functional.gelu, torch.tanh])
def test_builtin_functions_may_be_activations(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIVATIONS, "own", function)
    torch.manual_seed(0)
    named = Network(mlp(4, 2, areas=1, activation="own"))
    given = Network(mlp(4, 2, areas=1, activation=function))
    given.load_state_dict(named.state_dict())
    x = torch.randn(3, 4)
    torch.testing.assert_close(named(x), given(x))
