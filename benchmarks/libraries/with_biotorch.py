"""BioTorch: a PyTorch network that `BioModule` converts, with the initial weights of the library."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from biotorch.module.biomodule import BioModule
from learner import Task
from with_pytorch import ModuleLearner, perceptron


def build(task: Task) -> ModuleLearner:
    torch.manual_seed(task.seed)
    mode = task.settings["mode"]
    model = BioModule(perceptron(task.sizes), mode=mode, copy_weights=False, output_dim=task.sizes[-1])
    direct = partial(model, loss_function=F.cross_entropy)  # sends down the derivative of this loss
    return ModuleLearner(model, task.lr, direct if mode == "dfa" else None)
