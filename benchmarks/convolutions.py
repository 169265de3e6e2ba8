"""Convolutions: networks of areas beside PyTorch's own convolutions under autograd, accuracy and time of a step.

Run: python benchmarks/convolutions.py [--set mnist] [--channels 16 32] [--epochs 3] [--seeds 2]
Rates are chosen, and steps timed, as `grid.compare` says.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from grid import compare, images

from brodmann import Adam, Network, convnet, mlp
from brodmann.baselines import Backpropagation


def main() -> None:
    """Prints a row per method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", default="digits")
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data = images(parser, options.set)
    shape = data.shape
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
    compare(methods, [data.split(0.1, seed) for seed in range(options.seeds)], options.epochs)


if __name__ == "__main__":
    main()
