"""What the tests of captured steps share: a small network, and one that learns beside its captured copy."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from brodmann import Adam, Captured, Network

from ..cases import BODIES

GROWING = {"partition": "growing", "conflict": {"evidence": 32, "opposition": 1e-6, "certainty": 1e-6}}
"""A router whose areas split every few steps."""


class Pair:
    """A network, and a copy of it that is trained by captured steps on the same batches."""

    def __init__(self, network: Network, *, real: bool = False, **options: Any) -> None:
        self.ordinary, self.network = network, deepcopy(network)
        self.step = Captured(self.network, **options)
        self.real = real or network.recursive
        self.generator, self.count = torch.Generator().manual_seed(1), 0

    def learn(self, steps: int = 5, rows: int = 8, features: int = 5, lr: float = 0.03) -> Pair:
        for _ in range(steps):
            self.count += 1
            x = torch.randn(rows, features, generator=self.generator, dtype=self.network.dtype)
            y = torch.randint(3, (rows,), generator=self.generator)
            if self.real:
                y = nn.functional.one_hot(y, 3).to(x)
            rate = lr / self.count
            state = torch.get_rng_state()
            loss, output = self.ordinary.learn_with_output(x, y, lr=rate)
            after = torch.get_rng_state()
            torch.set_rng_state(state)
            again, same = self.step.learn_with_output(x, y, lr=rate)
            assert torch.equal(loss, again)
            assert torch.equal(output, same)
            assert torch.equal(torch.get_rng_state(), after)
            self.check()
        return self

    def check(self) -> None:
        theirs = self.network.state_dict()
        for name, value in self.ordinary.state_dict().items():
            assert torch.equal(value, theirs[name]), name

    def change(self, change: Callable[[Network], object]) -> None:
        change(self.ordinary)
        change(self.network)

    @property
    def captured(self) -> bool:
        return self.step.is_captured


def network_of(body: str = "mlp", **options: Any) -> Network:
    torch.manual_seed(0)
    return Network(BODIES[body](**{"areas": 4, "update": Adam(decay=0.1), **options}))
