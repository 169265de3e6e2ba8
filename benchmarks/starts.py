"""Where feedback weights start: plain networks of several layers, from independent and mirrored starts.

Run: python benchmarks/starts.py [--set digits] [--depths 3 8 16 32] [--epochs 15] [--seeds 5]
Width 64, one area, Adam at 3e-3 without decay, as in the recipe `depth`. Nothing is chosen; the test part is read once
for each row and seed. A training that stops, since an error vanished, counts by what it had learned.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch

from brodmann import DivergenceError, KolenPollack, Network, mlp
from brodmann.data import Split, load
from brodmann.feedback import Shape
from brodmann.training import Schedule, Trainer, evaluate


class Tenth(KolenPollack):
    """Feedback weights that start independently, at a tenth of the size."""

    def __init__(self, shape: Shape) -> None:
        """Draws the weights."""
        super().__init__(shape)
        assert self.shared is not None
        with torch.no_grad():
            self.shared.value.mul_(0.1)


PATHS: dict[str, Any] = {
    "transpose": "transpose",
    "independent start": "kolen-pollack",
    "independent start, a tenth": Tenth,
    "mirrored start": "kolen-pollack-mirrored",
}
"""Name -> feedback path; all but the first are Kolen-Pollack."""


def tested(split: Split, outputs: int, depth: int, path: Any, epochs: int, seed: int) -> tuple[float, bool]:
    """Returns the test accuracy in % of a network once it is trained, and whether the training was stopped."""
    torch.manual_seed(seed)
    network = Network(mlp(split.x_train.shape[1], outputs, depth=depth, width=64, areas=1, feedback=path))
    stopped = False
    try:
        Trainer(network, (split.x_train, split.y_train), None, Schedule(epochs, lr=3e-3, seed=seed)).run()
    except DivergenceError:
        stopped = True
    return 100 * evaluate(network, split.x_test, split.y_test)["accuracy"], stopped


def main() -> None:
    """Prints a row for each depth and path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", default="digits")
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 8, 16, 32])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    data = load(options.set)
    splits = [data.split(0.1, seed) for seed in range(options.seeds)]
    for depth in options.depths:
        for name, path in PATHS.items():
            found = [
                tested(split, data.outputs, depth, path, options.epochs, seed) for seed, split in enumerate(splits)
            ]
            tests, stopped = [test for test, _ in found], sum(stop for _, stop in found)
            each = ", ".join(f"{test:.2f}" for test in tests)
            end = f"  {stopped} stopped" if stopped else ""
            print(f"{depth:3} layers  {name:28} test {statistics.mean(tests):.2f} ({each}){end}", flush=True)


if __name__ == "__main__":
    main()
