"""Brodmann: captured steps, as its `Trainer` makes them, and its own defaults but for areas and feedback."""

from __future__ import annotations

import numpy as np
import torch
from learner import Task
from torch import Tensor
from with_pytorch import OfTensors

from brodmann import Captured, Network, mlp


class NetworkLearner(OfTensors):
    def __init__(self, network: Network, lr: float) -> None:
        self.network, self.lr = Captured(network), lr

    def step(self, batch: tuple[Tensor, Tensor]) -> None:
        self.network.learn(*batch, lr=self.lr)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.network(torch.from_numpy(x)).argmax(1).numpy()


def build(task: Task) -> NetworkLearner:
    torch.manual_seed(task.seed)
    inputs, *hidden, outputs = task.sizes
    return NetworkLearner(Network(mlp(inputs, outputs, width=hidden, **task.settings)), task.lr)
