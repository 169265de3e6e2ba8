"""Convolutions: networks of areas beside PyTorch's own convolutions under autograd, accuracy and time of a step.

Run: python benchmarks/convolutions.py [--set mnist] [--channels 16 32] [--epochs 3] [--seeds 2]
Every method takes the learning rate of the grid with the best mean validation accuracy; the test part is read once per
row. A step is timed inside the trainings: the median over all steps of all rates and seeds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from brodmann import Adam, Network, convnet, mlp
from brodmann.baselines import Backpropagation
from brodmann.data import load
from brodmann.schedule import Schedule
from brodmann.scoring import evaluate
from brodmann.training import Callback, Trainer

GRID = (1e-3, 3e-3, 1e-2)


class StepTimes(Callback):
    """Milliseconds of every step."""

    def __init__(self) -> None:
        """Starts without any."""
        self.found: list[float] = []
        self.last = time.perf_counter()

    def on_step(self, trainer: Trainer, loss: float) -> None:
        """Takes the time since the step before; the first of an epoch also holds what lies between."""
        now = time.perf_counter()
        self.found.append(1e3 * (now - self.last))
        self.last = now


def main() -> None:
    """Prints a row per method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", default="digits")
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data = load(options.set)
    shape = data.shape
    if len(shape) != 3:
        parser.error(f"--set asks for images, and a sample of '{options.set}' has the shape {shape}")
    features, rule = shape[0] * shape[1] * shape[2], Adam(decay=0.2)

    def areas(path: str, count: int, routing: str = "network") -> Callable[[], Network]:
        settings: dict[str, Any] = {"areas": count, "feedback": path, "routing": routing, "update": rule}
        return lambda: Network(convnet(shape, data.outputs, channels=options.channels, **settings))

    methods: dict[str, Callable[[], Any]] = {
        "PyTorch's convolutions, autograd": lambda: Backpropagation(
            features, data.outputs, shape=shape, channels=options.channels, decay=0.2
        ),
        "transpose, 1 area": areas("transpose", 1),
        "Kolen-Pollack, 1 area": areas("kolen-pollack", 1),
        "Kolen-Pollack, 16 areas, one for an image": areas("kolen-pollack", 16),
        "Kolen-Pollack, 16 areas, one for a patch": areas("kolen-pollack", 16, "layer"),
        "fixed random feedback, 1 area": areas("random", 1),
        "sign-symmetric, 1 area": areas("sign", 1),
        "no convolution: mlp of 256 units, 16 areas": lambda: Network(mlp(features, data.outputs, update=rule)),
    }
    splits = [data.split(0.1, seed) for seed in range(options.seeds)]
    for name, build in methods.items():
        times = StepTimes()
        scores: dict[float, list[tuple[float, Any]]] = {}
        for lr in GRID:
            for seed, split in enumerate(splits):
                torch.manual_seed(seed)
                network = build()
                parts = (split.x_train, split.y_train), (split.x_validation, split.y_validation)
                Trainer(network, *parts, Schedule(options.epochs, lr=lr, seed=seed), callbacks=times).run()
                scores.setdefault(lr, []).append((evaluate(network, *parts[1])["accuracy"], network))
        best = max(GRID, key=lambda lr: statistics.mean(score for score, _ in scores[lr]))
        tests = [
            100 * evaluate(network, split.x_test, split.y_test)["accuracy"]
            for (_, network), split in zip(scores[best], splits, strict=True)
        ]
        each = ", ".join(f"{test:.2f}" for test in tests)
        print(
            f"{name:44} lr {best:g}  test {statistics.mean(tests):.2f} ({each})  "
            f"step {statistics.median(times.found):.2f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
