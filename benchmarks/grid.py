"""The best of a few learning rates for each network: accuracy on the test part, and time of a step."""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rivals import autograd_step
from torch import Tensor
from turns import ratio, rounds

from brodmann import Captured, Network
from brodmann.baselines import Backpropagation
from brodmann.data import Dataset, Split, load
from brodmann.training import Schedule, Trainer, evaluate

GRID = (1e-3, 3e-3, 1e-2)
RATE = 1e-6
"""Learning rate of steps that are only timed."""
ROUNDS, BLOCK = 9, 4


def images(parser: argparse.ArgumentParser, name: str) -> Dataset:
    """Returns a data set, which must be one of images: of others the parser says so, and ends."""
    data = load(name)
    if len(data.shape) != 3:
        parser.error(f"--set asks for images, and a sample of '{name}' has the shape {data.shape}")
    return data


def stepper(network: Any, x: Tensor, y: Tensor, size: int) -> Callable[[], object]:
    """Returns a captured step on the next batch of so many samples; of dense ones the loop that everybody writes."""
    batches = itertools.cycle(zip(x.split(size), y.split(size), strict=True))  # type: ignore[no-untyped-call]
    if isinstance(network, Backpropagation):
        by_autograd = autograd_step(network.body, "adam", lr=RATE)
        return lambda: by_autograd(*next(batches))
    step = Captured(network, own_parts=True) if isinstance(network, Network) else network
    return lambda: step.learn_with_output(*next(batches), None, lr=RATE)


def show_times(steps: dict[str, Callable[[], object]]) -> None:
    """Prints the median time of each step, and its ratio to the first; all take turns."""
    times = rounds(ROUNDS, *steps.values(), block=BLOCK)
    print(f"time of a step of the trained networks, in turns, {torch.get_num_threads()} threads")
    for name, own in zip(steps, times, strict=True):
        print(f"{name:44} {1e3 * statistics.median(own):.2f} ms  {ratio(own, times[0]):.2f} of the first", flush=True)


def compare(
    methods: dict[str, Callable[[], Any]], splits: Sequence[Split], epochs: int | None, rates: Sequence[float] = GRID
) -> None:
    """Prints a row for each method, once it is known.

    Every method takes the rate, of those of a grid, with the best mean validation accuracy; the test part is read once
    for each row and seed. At the end steps are timed, of the networks of the first seed.
    """
    steps: dict[str, Callable[[], object]] = {}
    for name, build in methods.items():
        scores: dict[float, list[tuple[float, Any]]] = {}
        for lr in rates:
            for seed, split in enumerate(splits):
                torch.manual_seed(seed)
                network = build()
                parts = (split.x_train, split.y_train), (split.x_validation, split.y_validation)
                Trainer(network, *parts, Schedule(epochs, lr=lr, seed=seed)).run()
                scores.setdefault(lr, []).append((evaluate(network, *parts[1])["accuracy"], network))
        best = max(rates, key=lambda lr: statistics.mean(score for score, _ in scores[lr]))
        tests = [
            100 * evaluate(network, split.x_test, split.y_test)["accuracy"]
            for (_, network), split in zip(scores[best], splits, strict=True)
        ]
        each = ", ".join(f"{test:.2f}" for test in tests)
        print(f"{name:44} lr {best:g}  test {statistics.mean(tests):.2f} ({each})", flush=True)
        first = splits[0]
        size = Schedule(epochs).pace(len(first.x_train)).batch_size
        steps[name] = stepper(scores[best][0][1], first.x_train, first.y_train, size)
    show_times(steps)
