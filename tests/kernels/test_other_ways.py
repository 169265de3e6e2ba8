"""What the kernels do not know goes the way of pure PyTorch, and what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from brodmann import SGD, BrodmannError, Network, UpdateRule, mlp
from brodmann.areas import Slab
from brodmann.kernels import Groups, library, operations, pure
from brodmann.updates import Factors


@dataclass(frozen=True)
class SignDescent(UpdateRule):
    """A rule that the kernels do not know."""

    def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {}

    def apply(self, weight: Tensor, state: dict[str, Tensor], factors: Factors, lr: float, decay: float) -> None:
        weight.sub_(lr * factors.dense().sign())


def test_rules_of_ones_own_work_everywhere() -> None:
    torch.manual_seed(0)
    network = Network(mlp(5, 3, width=6, areas=4, update=SignDescent()))
    x, y = torch.randn(60, 5), torch.arange(60) % 3
    before = network.area_layers()[0][1].shared.value.clone()
    network.learn(x, y, lr=0.125)
    moved = (network.area_layers()[0][1].shared.value - before).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.125))


def test_other_kinds_of_number_go_the_way_of_pure_pytorch() -> None:
    assert isinstance(operations(torch.zeros(1, 2, 2, dtype=torch.float16), torch.zeros(1, 2)), pure.Pure)
    assert isinstance(operations(torch.zeros(1, 2, 2, dtype=torch.float64), torch.zeros(1, 2)), pure.Pure)
    with library.switched_off():
        assert isinstance(operations(torch.zeros(1, 2, 2), torch.zeros(1, 2)), pure.Pure)


def test_the_kernels_work_beside_another_default_device() -> None:
    network = Network(mlp(5, 3, width=8, areas=4, update=SGD()))
    x, y = torch.randn(9, 5), torch.randint(0, 3, (9,))
    torch.set_default_device("meta")
    try:
        network.learn(x, y)
        assert network(x).device.type == "cpu"
    finally:
        torch.set_default_device(None)


def learn_slab(slab: Slab, groups: Groups, slot: Tensor | None, delta: Tensor, x: Tensor, **others: Any) -> None:
    slab.learn(delta, x, groups, 0.1, 0.0, slot, **others)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda slab, groups, rows: learn_slab(slab, groups, None, rows[:, :3], rows),
            "Expected (rows, in) of shape (6, 4) for these weights and groups of rows, got (6, 5).",
        ),
        (
            lambda slab, groups, rows: learn_slab(slab, groups, None, rows[:, :4], rows[:, :3]),
            "Expected (rows, out) of shape (6, 3) for these weights and groups of rows, got (6, 4).",
        ),
        (
            lambda slab, groups, rows: slab.product(rows[:4, :4], groups),
            "Expected (rows, in) of shape (6, 4) for these weights and groups of rows, got (4, 4).",
        ),
        (
            lambda slab, groups, rows: slab.add_error(rows[:, :3], rows[:, :3], groups),
            "Expected (rows, in) of shape (6, 4) for these weights and groups of rows, got (6, 3).",
        ),
        (
            lambda slab, groups, rows: Slab(torch.zeros(2, 3, 4), SGD()).product(rows[:, :4], groups),
            "These weights serve 2 areas, but the rows choose among 3: use a router with as many areas as the weights.",
        ),
        (
            lambda slab, groups, rows: learn_slab(
                slab,
                groups,
                None,
                rows[:, :3],
                rows[:, :4],
                follower=Slab(torch.zeros(1, 4, 3), SGD()).target(1, 0),
            ),
            "Expected a follower of shape (1, 3, 4), like the weights that it follows, got (1, 4, 3).",
        ),
    ],
)
def test_what_kernels_would_read_past_its_end_is_refused(act: Callable[..., object], message: str) -> None:
    slab, groups = Slab(torch.zeros(1, 3, 4), SGD()), Groups.of(torch.tensor([0, 2, 2, 0, 1, 0]), 3)
    with pytest.raises(BrodmannError) as caught:
        act(slab, groups, torch.randn(6, 5))
    assert str(caught.value) == message
    assert not slab.value.any()
