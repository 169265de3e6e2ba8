"""The best of a few learning rates for each network: accuracy on the test part, and time of a step."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from brodmann.data import Dataset, Split, load
from brodmann.training import Callback, Schedule, Trainer, evaluate

GRID = (1e-3, 3e-3, 1e-2)


def images(parser: argparse.ArgumentParser, name: str) -> Dataset:
    """Returns a data set, which must be one of images: of others the parser says so, and ends."""
    data = load(name)
    if len(data.shape) != 3:
        parser.error(f"--set asks for images, and a sample of '{name}' has the shape {data.shape}")
    return data


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


def compare(
    methods: dict[str, Callable[[], Any]], splits: Sequence[Split], epochs: int | None, rates: Sequence[float] = GRID
) -> None:
    """Prints a row for each method, once it is known.

    Every method takes the rate, of those of a grid, with the best mean validation accuracy; the test part is read once
    for each row and seed. The time is the median over the steps of all rates and seeds.
    """
    for name, build in methods.items():
        times = StepTimes()
        scores: dict[float, list[tuple[float, Any]]] = {}
        for lr in rates:
            for seed, split in enumerate(splits):
                torch.manual_seed(seed)
                network = build()
                parts = (split.x_train, split.y_train), (split.x_validation, split.y_validation)
                Trainer(network, *parts, Schedule(epochs, lr=lr, seed=seed), callbacks=times).run()
                scores.setdefault(lr, []).append((evaluate(network, *parts[1])["accuracy"], network))
        best = max(rates, key=lambda lr: statistics.mean(score for score, _ in scores[lr]))
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
