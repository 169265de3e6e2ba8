"""Depth: residual networks of independent starts on digits, the learning rate chosen at 8 layers.

Run: python benchmarks/depth.py [--depth 128] [--areas 16] [--seeds 3]
The learning rate is the one of the grid with the best validation accuracy of the 8-layer Kolen-Pollack net, mean over
the seeds; the deep nets then use it unchanged. The test part is read once per row.
"""

from __future__ import annotations

import argparse
import statistics

import torch

from brodmann import Network, residual_mlp
from brodmann.data import Split, load
from brodmann.telemetry import alignment
from brodmann.training import Schedule, Trainer, evaluate

GRID = (1e-3, 2e-3, 3e-3)
PATHS = ("transpose", "kolen-pollack", "kolen-pollack-equal", "random")


def train(
    split: Split, depth: int, areas: int, feedback: str, lr: float, seed: int, epochs: int
) -> tuple[Network, float]:
    """Returns the trained network and its validation accuracy."""
    torch.manual_seed(seed)
    body = residual_mlp(split.x_train.shape[1], 10, depth=depth, width=64, areas=areas, feedback=feedback)
    network = Network(body)
    train_part, validation = (split.x_train, split.y_train), (split.x_validation, split.y_validation)
    Trainer(network, train_part, validation, Schedule(epochs, lr=lr, seed=seed)).run()
    return network, evaluate(network, *validation)["accuracy"]


def main() -> None:
    """Prints the choice of the learning rate, then a row per feedback path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=128)
    parser.add_argument("--areas", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    data = load("digits")
    splits = [data.split(0.1, seed) for seed in range(options.seeds)]
    scores = {
        lr: statistics.mean(
            train(split, 8, options.areas, "kolen-pollack", lr, seed, options.epochs)[1]
            for seed, split in enumerate(splits)
        )
        for lr in GRID
    }
    best = max(scores, key=lambda lr: scores[lr])
    print(f"8 layers, validation accuracy by learning rate: {scores}; chosen {best}", flush=True)
    for feedback in PATHS:
        tests, lowest, finite = [], [], True
        for seed, split in enumerate(splits):
            network, _ = train(split, options.depth, options.areas, feedback, best, seed, options.epochs)
            tests.append(100 * evaluate(network, split.x_test, split.y_test)["accuracy"])
            rows = alignment(network, split.x_train[:256], split.y_train[:256])
            lowest.append(min(row.cosine for row in rows))
            finite &= all(row.error_norm < float("inf") for row in rows)
        print(
            f"{options.depth} layers, {options.areas} areas, {feedback:20} test {statistics.mean(tests):.2f} "
            f"({', '.join(f'{score:.2f}' for score in tests)}), "
            f"lowest cosine {min(lowest):.3f}, errors finite: {finite}",
            flush=True,
        )


if __name__ == "__main__":
    main()
