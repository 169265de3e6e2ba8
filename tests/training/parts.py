"""What the tests of training share: three blobs, a small network, data sets, and callbacks that look on."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from brodmann import Local, Network, mlp
from brodmann.training import Callback, Trainer


def blobs(rows: int = 90, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(rows) % 3
    return torch.randn(rows, 5, generator=generator) + 2 * torch.eye(3, 5)[target], target


def network(loss: Any = None, lr: float | None = None, **options: Any) -> Network:
    torch.manual_seed(0)
    return Network(mlp(5, 3, width=8, areas=4, **options), loss, lr=lr)


AS_IT_IS = Local(torch.nn.Identity())


class Remember(Callback):
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.steps = self.ends = 0

    def on_step(self, trainer: Trainer, loss: float) -> None:
        self.steps += 1

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def on_end(self, trainer: Trainer) -> None:
        self.ends += 1


class Spread(Callback):
    """Adds a metric that falls epoch by epoch, and sees how the training begins and ends."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def on_start(self, trainer: Trainer) -> None:
        self.log.append((trainer.progress.step, trainer.rate))

    def on_epoch(self, trainer: Trainer, row: dict[str, Any]) -> None:
        row["spread"] = -float(row["epoch"])

    def on_end(self, trainer: Trainer) -> None:
        self.log.append((trainer.progress.step, type(trainer.failure)))


class Items(torch.utils.data.Dataset):
    """A data set of these items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Any:
        return self.items[row]


class Shifted(torch.utils.data.Dataset):
    """Samples that are made when they are asked for, by the generators of PyTorch, NumPy and Python."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        noise = torch.randn(5) + np.random.normal() + random.gauss(0.0, 1.0)
        return self.x[row] + 0.1 * noise, int(self.y[row])
