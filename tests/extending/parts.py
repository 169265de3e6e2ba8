"""What the tests of this folder share: samples, small networks, and how a refusal is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from brodmann import Adam, AreaLinear, BrodmannError, Local, Network, Routed, Router, Sequential, UpdateRule

X, Y = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3


def picking(pick: Callable[[Tensor], Any], kind: type[Router] = Router) -> type[Router]:
    """A router whose choice is `pick`'s."""

    class Picking(kind):  # type: ignore[misc, valid-type]
        def choose(self, x: Tensor) -> Any:
            return pick(x)

    return Picking


def routed(router: type[Router], areas: int = 4, **settings: Any) -> Network:
    torch.manual_seed(0)
    body = Sequential(
        AreaLinear(6, 5, areas=areas, router=None, feedback=None, update=Adam()),
        Local(nn.ReLU()),
        AreaLinear(5, 3, areas=areas, router=None, update=Adam()),
    )
    return Network(Routed(router(6, areas, **settings), body))


def body() -> Sequential:
    return Sequential(AreaLinear(6, 3, areas=1, feedback=None))


@dataclass(frozen=True)
class Downhill(UpdateRule):
    """Gradient descent under another name: it remembers nothing, and says nothing of it."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> None:
        factors.add_to(weight, keep=1.0 - lr * decay, scale=-lr)


def each_of(cases: list[tuple[Callable[[], object], str]]) -> Any:
    """Runs a test over what users may get wrong and what they are told, which names it."""
    return pytest.mark.parametrize(("act", "message"), cases, ids=[message[:50] for _, message in cases])


def message_of(act: Callable[[], object]) -> str:
    """Returns what users are told of what they got wrong."""
    with pytest.raises(BrodmannError) as caught:
        act()
    return str(caught.value)
