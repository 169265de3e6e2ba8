"""What is said of trainings, scores, telemetry and runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from brodmann import Network, mlp
from brodmann.data import load
from brodmann.runs import RunOptions
from brodmann.telemetry import alignment, area_usage, class_conflict
from brodmann.training import Schedule, Trainer, evaluate, outputs_of, score

NO_NETWORK = "Expected a Network, got Routed: put the body into one."

CASES: list[tuple[Callable[[], object], str]] = [
    (lambda: Schedule(epochs=0), "Expected epochs to be a whole number of at least 1, got 0."),
    (lambda: Schedule(batch_size=2.5), "Expected batch_size to be a whole number of at least 1, got 2.5."),  # type: ignore[arg-type]
    (lambda: Schedule(lr=0.0), "Expected lr to be a number above 0, got 0.0."),
    (lambda: Schedule(patience=0), "Expected patience to be a whole number of at least 1, got 0."),
    (lambda: Schedule(warmup=-1), "Expected warmup to be a whole number of at least 0, got -1."),
    (lambda: Schedule(seed=2**64), "Expected seed to be a whole number below 2^62, got 18446744073709551616."),
    (
        lambda: Schedule(shape=[]),  # type: ignore[arg-type]
        "Unknown schedule '[]'. Choose one of: constant, cosine, linear. To use one of your own, register it in "
        "brodmann.training.SCHEDULES, in a file that `brodmann --import FILE` loads. In Python, pass the object itself "
        "where that is accepted: worker processes know only the names of what they import.",
    ),
    (
        lambda: Schedule(shape="cosin"),
        "Unknown schedule 'cosin'. Did you mean 'cosine'? Choose one of: constant, cosine, linear.",
    ),
    (lambda: Schedule(lr=10**400), "Expected lr to be a number above 0, got " + str(10**400) + "."),
    (lambda: Schedule(seed=0.5), "Expected seed to be a whole number of at least 0, got 0.5."),  # type: ignore[arg-type]
    (
        lambda: Schedule(checkpoint_seconds=-1.0),
        "Expected checkpoint_seconds to be a number of at least 0, got -1.0.",
    ),
    (
        lambda: Trainer(mlp(4, 2), (torch.zeros(3, 4), torch.zeros(3))),  # type: ignore[arg-type]
        NO_NETWORK,
    ),
    (
        lambda: Trainer(Network(mlp(4, 2)), (np.zeros((3, 4)), torch.zeros(3))),  # type: ignore[arg-type]
        "Expected samples to be a tensor, got ndarray: convert it with torch.as_tensor(...).",
    ),
    (
        lambda: Trainer(Network(mlp(4, 2)), *[(torch.ones(n, 4), torch.zeros(3)) for n in (3, 2)]),
        "Expected samples with one target each, got 2 samples and 3 targets.",
    ),
    (
        lambda: Trainer(Network(mlp(4, 2)), (torch.ones(3, 4), torch.zeros(3))).resume(),
        "This Trainer has no folder of checkpoints: give it one.",
    ),
    (
        lambda: alignment(Network(mlp(4, 2)), torch.ones(0, 4), torch.zeros(0)),
        "Expected samples with one target each, got 0 samples and 0 targets.",
    ),
    (
        lambda: evaluate(Network(mlp(4, 2)), torch.ones(0, 4), torch.zeros(0)),
        "Expected samples with one target each, got 0 samples and 0 targets.",
    ),
    (
        lambda: evaluate(Network(mlp(4, 2)), torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64), rows=0),
        "Expected rows to be a whole number of at least 1, got 0.",
    ),
    (
        lambda: outputs_of(nn.Identity(), torch.ones(3, 2), rows=0),
        "Expected rows to be a whole number of at least 1, got 0.",
    ),
    (lambda: score([1.0], [1.0]), "Expected outputs to be a tensor, got list: convert it with torch.as_tensor(...)."),  # type: ignore
    *(
        (lambda look=look: look(mlp(4, 2), torch.ones(3, 4), torch.zeros(3)), NO_NETWORK)  # type: ignore[misc]
        for look in (alignment, class_conflict, evaluate, lambda network, x, _: area_usage(network, x))
    ),
    (
        lambda: area_usage(Network(mlp(4, 2)), [[0.0] * 4]),  # type: ignore[arg-type]
        "Expected x to be a tensor, got list: convert it with torch.as_tensor(...).",
    ),
    (
        lambda: area_usage(Network(mlp(4, 2)), torch.zeros(0, 4)),
        "Expected at least one sample to count areas with, got none.",
    ),
    (
        lambda: RunOptions(storage="bfloat16", dtype="float64").check(),
        "storage bfloat16 works only with dtype float32, got dtype float64: leave one of them out.",
    ),
    (
        lambda: RunOptions(rule="backprop", gated=True).check(),
        "--gated cannot be combined with the baseline 'backprop', which has no areas: leave one of them out.",
    ),
    (
        lambda: RunOptions(rule="last-layer", lr_areas=0.5).check(),
        "--lr-areas cannot be combined with the baseline 'last-layer', which has no areas: leave one of them out.",
    ),
    (
        lambda: RunOptions(rule="backprop", learn_projection=False).check(),
        "--no-learn-projection cannot be combined with the baseline 'backprop', which has no areas: leave one of them "
        "out.",
    ),
    (
        lambda: RunOptions(channels=(4,), width=64).check(),
        "--width cannot be combined with --channels: leave one of them out.",
    ),
    (
        lambda: RunOptions(momentum=0.9).check(),
        "Momentum works only with --optimiser sgd: leave one of them out.",
    ),
    (lambda: RunOptions(layers=0).check(), "Expected layers to be a whole number of at least 1, got 0."),
    (lambda: RunOptions(clip=0.0).check(), "Expected clip to be a number above 0, got 0.0."),
    (lambda: RunOptions(lr_areas=-1.0).check(), "Expected lr_areas to be a number of at least 0, got -1.0."),
    (lambda: RunOptions(threads=0).check(), "Expected threads to be a whole number of at least 1, got 0."),
    (
        lambda: RunOptions(residual="no", layers=3).check(),  # type: ignore[arg-type]
        "Expected residual to be True or False, got 'no'.",
    ),
    (lambda: RunOptions(dropout=1.0).check(), "Expected dropout to be a number in [0, 1), got 1.0."),
    (lambda: load(5), "Expected the name of a data set, or the path of a file, got 5."),  # type: ignore[arg-type]
]
