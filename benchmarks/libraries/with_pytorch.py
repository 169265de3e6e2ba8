"""PyTorch: autograd and its fused Adam. Also the loop for libraries whose networks are PyTorch modules."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from learner import Task
from torch import Tensor, nn


def perceptron(sizes: tuple[int, ...]) -> nn.Sequential:
    """Returns a network of linear layers with a ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class OfTensors:
    """What learners have in common whose batches are PyTorch tensors."""

    def batch(self, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(x), torch.from_numpy(y)

    def finish(self) -> None:
        pass


class ModuleLearner(OfTensors):
    """A module under autograd; ``logits`` is what a training step computes of samples and classes."""

    def __init__(self, model: nn.Module, lr: float, logits: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        self.model = model
        self.logits = logits or (lambda x, y: model(x))
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr, fused=True)

    def step(self, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        self.optimiser.zero_grad()
        F.cross_entropy(self.logits(x, y), y).backward()
        self.optimiser.step()

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        self.model.eval()
        return self.model(torch.from_numpy(x)).argmax(1).numpy()


def build(task: Task) -> ModuleLearner:
    torch.manual_seed(task.seed)
    return ModuleLearner(perceptron(task.sizes), task.lr)
