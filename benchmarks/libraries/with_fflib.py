"""fflib: Forward-Forward, as in the library's example of MNIST, but for widths and rates.

Inputs are scaled to between 0 and 1, as there, since the library scales each to length one, and the class stands beside
it as a one. Negative samples have a wrong class, drawn at random. A prediction tries all classes.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from fflib.nn.ff_linear import FFLinear
from fflib.nn.ff_net import FFNet
from fflib.probes.one_hot import TryAllClasses
from learner import Task
from torch import Tensor
from with_pytorch import OfTensors


class ForwardForwardLearner(OfTensors):
    def __init__(self, task: Task) -> None:
        self.classes = task.sizes[-1]
        self.lowest, self.extent = task.range[0], task.range[1] - task.range[0]
        sizes = (task.sizes[0] + self.classes, *task.sizes[1:-1])
        threshold = task.settings["threshold"]
        self.network = FFNet([FFLinear(*size, loss_threshold=threshold, lr=task.lr) for size in pairwise(sizes)], "cpu")
        self.probe = TryAllClasses(lambda x, y: self.network(torch.cat((x, y), 1)), output_classes=self.classes)

    def batch(self, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        return torch.from_numpy((x - self.lowest) / self.extent), torch.from_numpy(y)

    def step(self, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        wrong = (y + torch.randint(1, self.classes, y.shape)) % self.classes
        positive, negative = (torch.cat((x, F.one_hot(label, self.classes)), 1) for label in (y, wrong))
        self.network.run_train_combined(positive, negative)

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        scaled = self.batch(x, np.zeros(len(x), dtype=np.int64))[0]
        return self.probe.predict(scaled).numpy()


def build(task: Task) -> ForwardForwardLearner:
    torch.manual_seed(task.seed)
    return ForwardForwardLearner(task)
